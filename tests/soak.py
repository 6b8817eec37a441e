#!/usr/bin/env python3
"""soak.py - the real binary at load for a long time: memory that does not grow, mail that arrives

Usage: tests/soak.py [MINUTES] [--build DIR] [--rate N] [--growth PERCENT] [--keep]

All at once, in both directions by TLS and in clear: ringpost-bench sources (STARTTLS with resumption,
new connections all the time, BDAT, one in clear), a sink and a next hop that speaks TLS, refuses some
mail for a time and some for good (bounces go home), a dead next hop for which mail expires;
and a reload every two seconds between two configurations, and others that are refused. With a build under
ASan+UBSan (the default when build-asan is there) each report of these ends the run.

Memory is sampled: the resident set each second, and what the allocator says is held. What caches and
pools need comes first, in the first third; then the mean of the last third must not be above that of the
middle third, by more than --growth percent of the resident set, nor by more than HELD_SLACK_BYTES held,
about an octet for each message. At the end the queue runs empty, what was acknowledged has arrived, and
the balance is 0. Exit status: 0, or 1 and what went wrong.
"""
import argparse
import os
import pathlib
import time

import under_load

NAME = "mx.soak.test"
SLACK_BYTES = 256 << 10         # of a mean of short runs: the allocator's own ups and downs
HELD_SLACK_BYTES = 256 << 10    # of a mean: sessions under way, configurations that they began with
HELD_SECONDS = 5                # from one look to the next
# ASan's own memory is none of the server's. Of what was freed it keeps little here, so that this is full soon; each
# list of calls that led to an allocation stays for ever, and short ones are few. Of files that are closed it looks
# for the addresses in a table of 4 MiB, a page of it with nearly each: all is in use after thousands.
WARM_REFUSALS = 10              # a second, in the first third: reads of files, of which the others do not grow
ASAN = "abort_on_error=0:exitcode=99:detect_leaks=1:quarantine_size_mb=4:thread_local_quarantine_size_kb=64:malloc_context_size=2"


def resident(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def means(samples):
    """Of the middle third and of the last."""
    third = len(samples) // 3
    if third == 0:
        raise AssertionError("too short to say anything")
    return [sum(samples[k * third:(k + 1) * third]) / third for k in (1, 2)]


class Soak(under_load.Load):
    def __init__(self, options):
        import pki
        import tls_wire
        super().__init__("soak", options)
        harness = self.harness
        self.samples = []
        self.held = []
        self.reloads = 0
        self.refusals = 0
        authority = pki.Authority()
        self.certificate = authority.leaf(NAME)
        chain, key = self.certificate.write(self.base, "soak")
        roots = self.base / "roots.pem"
        roots.write_text(authority.root.pem)
        self.sink = harness.Sink(self.holder)
        self.peer = tls_wire.TlsPeer(self.holder, tls_wire.server_context(self.certificate), answers={"RCPT": self.moody})
        self.home = harness.Sink(self.holder)
        dead = f"127.0.0.1:{harness.free_port()}"
        self.server = harness.Ringpost(
            self.holder, listeners={"in": {"certificates": ["soak"]}},
            outbound={"sink": self.sink.route(["*"]), "peer": self.peer.route(["peer.test"], tls="encrypt"),
                      "home": self.home.route(["home.test"]),
                      "dead": {"domains": ["dead.test"], "hosts": [dead], "allow-private": True}},
            delivery={"age-max": "20s", "retry-initial": "2s", "retry-max": "5s"}, bounce={"per-minute": 0},
            **{'certificate "soak"': {"chain": chain, "key": key}, 'roots "soak"': {"file": roots}})

    def moody(self, peer, line):
        """A next hop as they are: some later, some never."""
        number = len(peer.commands)
        if len(peer.commands) > 10_000:
            del peer.commands[:5_000]
            del peer.messages[:]
        return "451 4.3.0 later" if number % 7 == 0 else "550 5.1.1 nobody" if number % 31 == 0 else None

    def mail(self, name, rate, *words, domain="sink.test"):
        self.source(name, "--from", f"{name}@home.test", "--rcpt", f"r%d@{domain}", "--rate", rate, "--seconds", 1_000_000,
                    "--timeout", 60, "--give-up", 60, *words)

    def begin(self):
        self.server.start(env={"ASAN_OPTIONS": ASAN})
        r = max(self.options.rate // 10, 1)
        self.mail("tls", 4 * r, "--connections", "20", "--per-connection", "20", "--tls", "starttls", "--tls-resume", "0.5")
        self.mail("bdat", 2 * r, "--connections", "10", "--per-connection", "5", "--tls", "starttls", "--bdat", "--size", "40K")
        self.mail("clear", 2 * r, "--connections", "10", "--per-connection", "50", "--pipeline")
        self.mail("peer", r, "--connections", "4", "--per-connection", "10", "--tls", "starttls", domain="peer.test")
        self.mail("dead", max(r // 4, 1), "--connections", "2", domain="dead.test")

    def reload(self):
        self.reloads += 1
        self.server.write_config(limits={"recipients": 1000 + self.reloads % 2, "per-address": 0, "per-v4-24": 0,
                                         "per-v6-64": 0, "connections": 2048})
        done = self.server.cli("reload")
        if done.returncode != 0:
            raise AssertionError(f"a reload was refused: {done.stderr}")

    def refuse(self):
        """Read, found wrong, forgotten."""
        self.refusals += 1
        self.server.write_config(limits={"recipients": 1 + self.refusals % 9})
        status, words = self.server.http("/v1/reload", "POST", unix=True)
        if status != 409 or "recipients" not in words:
            raise AssertionError(f"a reload was not refused: {status} {words}")

    def look(self):
        if self.server.process.poll() is not None:
            raise AssertionError(f"the server ended with {self.server.process.returncode}:\n{self.server.words()[-4000:]}")
        for name, process in self.sources:
            if process.poll() is not None:
                raise AssertionError(f"source {name} ended with {process.returncode}: {self.log_path.read_text()[-500:]}")
        self.samples.append(resident(self.server.process.pid))

    def run(self):
        told = begun = time.monotonic()
        end = begun + 60 * self.options.minutes
        while time.monotonic() < end:
            time.sleep(1)
            self.look()
            if len(self.samples) % HELD_SECONDS == 0:
                self.held.append(self.server.metric('ringpost_memory_heap_bytes{kind="allocated"}'))
            for _ in range(WARM_REFUSALS if 3 * (time.monotonic() - begun) < end - begun else 1):
                self.refuse()
            if len(self.samples) % 2 == 0:
                self.reload()
            if time.monotonic() - told > 60:
                told = time.monotonic()
                print(f"{len(self.samples) // 60} min: {self.samples[-1] / (1 << 20):.1f} MiB, held {self.held[-1] / (1 << 20):.2f} MiB, "
                      f"{self.reloads} reloads, "
                      f"{self.server.metric('ringpost_smtp_messages_total'):.0f} messages", flush=True)

    def end(self):
        self.end_sources(120)
        self.harness.wait_for(lambda: self.server.metric("ringpost_queue_messages") == 0,
                              lambda: f"an empty queue: {self.server.queue()[:3]}", 180)
        numbers = self.server.metrics()
        passes = numbers["ringpost_queue_scans_total"]
        self.harness.wait_for(lambda: self.server.metric("ringpost_queue_scans_total") >= passes + 4, "another count", 60)
        numbers = self.server.metrics()
        for name in ('ringpost_mail_balance{by="counters"}', 'ringpost_mail_balance{by="scan"}', "ringpost_mail_unlisted",
                     "ringpost_queue_overdue", "ringpost_queue_scan_rescued_total"):
            if numbers.get(name, 1) != 0:
                raise AssertionError(f"{name} is {numbers.get(name)}")
        arrived = set(self.sink.ids())
        lost = [i for name in ("tls", "bdat", "clear") for i in self.acked(name)
                if i not in arrived]
        if lost:
            raise AssertionError(f"{len(lost)} acknowledged messages have not arrived: {lost[:5]}")
        for name in ("tls", "bdat", "clear", "peer", "dead"):
            if not self.acked(name):
                raise AssertionError(f"source {name} had nothing taken: nothing was shown")
        self.server.stop()
        return numbers

    def verdict(self, numbers):
        middle, last = means(self.samples)
        held_middle, held_last = means(self.held)
        growth = 100 * (last - middle) / middle
        print(f"{numbers['ringpost_smtp_messages_total']:.0f} messages in, "
              f"{numbers['ringpost_queue_recipients_out_total']:.0f} recipients out, {self.reloads} reloads, "
              f"{self.refusals} refused; resident "
              f"{middle / (1 << 20):.1f} MiB in the middle third, {last / (1 << 20):.1f} MiB in the last: {growth:+.2f} %; "
              f"held {held_middle / 1024:.0f} KiB, {held_last / 1024:.0f} KiB: {(held_last - held_middle) / 1024:+.0f} KiB")
        if last - middle > SLACK_BYTES and growth > self.options.growth:
            raise AssertionError(f"memory grows: by more than {self.options.growth} %")
        if held_last - held_middle > HELD_SLACK_BYTES:
            raise AssertionError(f"memory is held for ever: {(held_last - held_middle) / 1024:.0f} KiB more")


def work(options):
    soak = Soak(options)
    try:
        soak.begin()
        soak.run()
        soak.verdict(soak.end())
    finally:
        soak.clean()
    print("nothing grew, nothing was lost")
    return 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("minutes", type=float, nargs="?", default=30, metavar="MINUTES", help="(%(default)s)")
    p.add_argument("--rate", type=int, default=300, help="messages per second in all, about (%(default)s)")
    p.add_argument("--growth", type=float, default=1.0, metavar="PERCENT", help="of memory that is allowed (%(default)s)")
    under_load.add_options(p, "build-asan/, or build/")
    options = p.parse_args()
    asan = under_load.TESTS.parent / "build-asan"
    under_load.use_build(options.build or (asan if (asan / "ringpost").exists() else under_load.TESTS.parent / "build"))
    under_load.finish(lambda: work(options))


if __name__ == "__main__":
    main()
