#!/usr/bin/env python3
"""crash.py - kill -9 under load, again and again: what was acknowledged must all arrive, whole

Usage: tests/crash.py [--kills N] [--queued N] [--seconds-between S] [--build DIR] [...]

Two kinds of load run all the time: ringpost-bench source (many connections, small messages, into
ringpost-bench sink) and a few clients of this script whose messages, up to some hundred KiB, carry
the hash of their body, which a next hop in here checks. The next hops get two connections each from
all shards. After the last kill the queue drains; then every id that was acknowledged must have been
received. With --queued so many messages wait for a next hop that is dead, all the time: after the last
kill the queue must hold exactly those. Exit status: 0; 1 when something is lost or damaged, when one kill made more than
--duplicates-max duplicates at a next hop, or when the first 220 after a restart took longer than
--first-reply-max seconds.
"""
import argparse
import hashlib
import json
import random
import re
import socket
import threading
import time

import under_load

CONNECTIONS_PER_HOP = 2
BACKLOG_MAX = 100    # hashed messages acknowledged and not yet received: two connections are slow


def parser(description, count, unit):
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(f"--{unit}", type=int, default=count, metavar="N", help=f"how many {unit} (%(default)s)")
    p.add_argument("--seconds-between", type=float, default=0.6, metavar="S",
                   help="load between two of them, give or take a half (%(default)s)")
    p.add_argument("--connections", type=int, default=20, help="of ringpost-bench source (%(default)s)")
    p.add_argument("--rate", type=int, default=500, help="its messages per second, 0: no limit (%(default)s)")
    p.add_argument("--checked", type=int, default=3, help="clients with hashed messages (%(default)s)")
    p.add_argument("--duplicates-max", type=int, default=CONNECTIONS_PER_HOP,
                   help="of one kill at one next hop (%(default)s)")
    p.add_argument("--first-reply-max", type=float, default=1.0, metavar="S",
                   help="until the first 220 after a restart; 0: only report it (%(default)s)")
    p.add_argument("--queued", type=int, default=0, metavar="N",
                   help="messages that wait for a dead next hop all the time (%(default)s)")
    p.add_argument("--drain-seconds", type=float, default=180, help="at the end (%(default)s)")
    p.add_argument("--seed", type=int, default=None, help="of the times of the kills")
    under_load.add_options(p)
    return p


class Load(under_load.Load):
    """Server, next hops and clients; counts what was acknowledged and what arrived."""

    def __init__(self, options, spool_directory=None):
        super().__init__("crash", options)
        harness = self.harness
        self.random = random.Random(options.seed)
        self.damaged = []
        self.checked_arrived = []   # ids in order
        self.checked_acked = set()
        self.marks = []             # (received by the sink, by the checker) at each kill
        self.first_replies = []
        self.stopping = threading.Event()
        self.checker = self.make_checker()
        self.sink = harness.Sink(self.holder)
        per_hop = {"max-connections": CONNECTIONS_PER_HOP}
        self.server = harness.Ringpost(
            self.holder, spool_directory=spool_directory,
            outbound={"sink": self.sink.route(["*"], **per_hop),
                    "checker": self.checker.route(["checked.test"], **per_hop),
                    "dead": {"domains": ["dead.test"], "hosts": [f"127.0.0.1:{harness.free_port()}"],
                             "allow-private": True}},
            spool={"segment-size": "8M", "reserve": "32M"})
        self.threads = []

    def make_checker(self):
        load = self

        class Checker(self.harness.Peer):
            def end(self, s, mail, rcpts, content, how, number):
                head, _, body = content.partition(b"\r\n\r\n")
                said = re.search(rb"(?m)^X-Check: (\w+)\r?$", head)
                name = re.search(rb"(?m)^X-Name: (\S+)\r?$", head)
                if said is None or name is None or hashlib.sha256(body).hexdigest() != said.group(1).decode():
                    load.damaged.append(head[:300])
                else:
                    load.checked_arrived.append(name.group(1).decode())
                self.commands.clear()
                self.say(s, "250 2.0.0 taken")
        return Checker(self.holder)

    def fill(self):
        """Mail that nobody takes."""
        begun = time.monotonic()
        status = self.source("waiting", "--connections", 50, "--rcpt", "r%d@dead.test", "--size", "1K",
                             "--messages", self.options.queued).wait()
        count = len(set(self.acked("waiting")))
        if status != 0 or count != self.options.queued:
            raise AssertionError(f"{count} of {self.options.queued} messages were taken to wait")
        print(f"{count} messages wait for a dead next hop, after {time.monotonic() - begun:.1f} s", flush=True)

    def still_waiting(self):
        """Messages in the queue, all of them for the dead next hop."""
        done = self.server.cli("queue", "list", "--json", "--max", str(2 * self.options.queued + 1))
        found = [json.loads(line) for line in done.stdout.splitlines()]
        others = [m for m in found if not m["recipients"][0].endswith("@dead.test")]
        if others:
            raise AssertionError(f"in the queue: {others[:3]}")
        return len({m["id"] for m in found})

    def begin(self):
        self.server.start()
        if self.options.queued:
            self.fill()
        self.source("load", "--connections", self.options.connections, "--per-connection", 100, "--rcpt", "r%d@crash.test",
                    "--size", "2K", "--timeout", 10, "--give-up", 600, "--seconds", 1_000_000, "--rate", self.options.rate)
        self.threads = [threading.Thread(target=self.send_checked, args=(n,)) for n in range(self.options.checked)]
        for thread in self.threads:
            thread.start()

    def send_checked(self, thread):
        number = 0
        rng = random.Random(thread)
        while not self.stopping.is_set():
            try:
                with self.harness.Smtp(self.server.address, timeout=20) as client:
                    client.hello()
                    while not self.stopping.is_set():
                        if len(self.checked_acked) - len(self.checked_arrived) > BACKLOG_MAX:
                            self.stopping.wait(0.01)
                            continue
                        number += 1
                        name = f"{thread}.{number}"
                        size = int(2 ** rng.uniform(4, 18.3))
                        body = rng.randbytes(size).hex(" ", 30).replace(" ", "\r\n.").encode() + b"\r\n"
                        client.message(
                            recipients=["x@checked.test"],
                            content=f"X-Name: {name}\r\nX-Check: {hashlib.sha256(body).hexdigest()}\r\n\r\n".encode()
                            + body)
                        self.checked_acked.add(name)
            except (OSError, EOFError, AssertionError):
                self.stopping.wait(0.02)

    def count(self):
        with open(self.acked_path("load"), "rb") as f:
            return sum(1 for _ in f)

    def progress(self):
        """Load goes on: something more was acknowledged."""
        before = self.count()
        self.harness.wait_for(lambda: self.count() > before, "another acknowledgement", 60)

    def pause(self):
        time.sleep(self.options.seconds_between * self.random.uniform(0.5, 1.5))

    def mark(self):
        """After the server is dead: what arrived so far cannot be a second copy made by this kill."""
        time.sleep(0.05)    # what it had sent before it died is still on its way to the sink
        self.marks.append((len(self.sink.ids()), len(self.checked_arrived)))

    def restart(self):
        begun = time.monotonic()
        self.server.launch()
        while True:
            if self.server.process.poll() is not None:
                raise AssertionError(f"it does not start any more:\n{self.server.words()[-3000:]}")
            try:
                with self.harness.Smtp(self.server.address, timeout=60) as client:
                    if client.greeting.code == 220:
                        break
            except (OSError, EOFError):
                time.sleep(0.002)
            if time.monotonic() - begun > 120:
                raise AssertionError("no greeting within 120 s")
        self.first_replies.append(time.monotonic() - begun)
        self.server.wait_ready()

    def end(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        self.end_sources(30)
        queued = self.options.queued
        self.harness.wait_for(lambda: self.server.metric("ringpost_queue_messages") == queued,
                              lambda: f"a queue of {queued}: it has {self.server.metric('ringpost_queue_messages')}, "
                              f"such as {self.server.queue()[:3]}", self.options.drain_seconds)
        if queued and self.still_waiting() != queued:
            raise AssertionError(f"{self.still_waiting()} messages wait, not {queued}")
        self.server.stop()

    def clean(self):
        self.stopping.set()
        super().clean()

    def duplicates(self, arrived, which):
        """Second and further copies, by the kill that made them: the next one after the copy before.
        Number 0 has those between whose copies nobody was killed."""
        copy_before, per_kill = {}, [0] * (len(self.marks) + 1)
        kills = 0
        for place, name in enumerate(arrived):
            while kills < len(self.marks) and place >= self.marks[kills][which]:
                kills += 1
            before = copy_before.get(name)
            if before is not None:
                per_kill[before + 1 if before < kills else 0] += 1
            copy_before[name] = kills
        return per_kill

    def verdict(self, unit):
        """Prints the comparison; the exit status."""
        acked = set(self.acked("load"))
        arrived = self.sink.ids()
        lost = acked - set(arrived)
        lost_checked = self.checked_acked - set(self.checked_arrived)
        per_kill = [self.duplicates(arrived, 0), self.duplicates(self.checked_arrived, 1)]
        worst = max(max(p[1:], default=0) for p in per_kill)
        total = sum(map(sum, per_kill))
        together = max((a + b for a, b in zip(per_kill[0][1:], per_kill[1][1:])), default=0)
        first = sorted(self.first_replies)
        slow = self.options.first_reply_max and first and first[-1] > self.options.first_reply_max
        fine = len(self.marks)
        print(f"{unit} {fine}, acknowledged {len(acked) + len(self.checked_acked)}, "
              f"received {len(arrived) + len(self.checked_arrived)}")
        print(f"lost {len(lost) + len(lost_checked)}, damaged {len(self.damaged)}, duplicates {total} "
              f"(at most {worst} of one of the {unit} at one next hop, {together} at both; {per_kill[0][0] + per_kill[1][0]} without one)")
        if first:
            print(f"first 220 after a restart: median {first[len(first) // 2] * 1000:.0f} ms, "
                  f"worst {first[-1] * 1000:.0f} ms")
        bad = []
        if lost or lost_checked:
            bad.append(f"lost: {sorted(lost | lost_checked)[:10]}")
        if self.damaged or self.checker.faults:
            bad.append(f"damaged: {(self.damaged + self.checker.faults)[:3]}")
        if worst > self.options.duplicates_max or per_kill[0][0] or per_kill[1][0]:
            bad.append("too many duplicates")
        if slow:
            bad.append(f"a first 220 took more than {self.options.first_reply_max} s")
        if not acked or (self.options.checked and not self.checked_acked):
            bad.append("there was no load: nothing was shown")
        print("\n".join(bad) or "nothing acknowledged was lost or damaged")
        return 1 if bad else 0


def run(options):
    load = Load(options)
    try:
        load.begin()
        for number in range(options.kills):
            load.progress()
            load.pause()
            load.server.kill()
            load.mark()
            load.restart()
            if (number + 1) % 10 == 0 or number + 1 == options.kills:
                print(f"{number + 1} kills, {load.count()} + {len(load.checked_acked)} acknowledged, "
                      f"last 220 after {load.first_replies[-1] * 1000:.0f} ms", flush=True)
        load.progress()
        load.end()
        return load.verdict("kills")
    finally:
        load.clean()


def main():
    options = parser(__doc__, 100, "kills").parse_args()
    under_load.use_build(options.build)
    socket.setdefaulttimeout(60)
    under_load.finish(lambda: run(options))


if __name__ == "__main__":
    main()
