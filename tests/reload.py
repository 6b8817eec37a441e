#!/usr/bin/env python3
"""reload.py - reloads under load, each of another configuration: no session ends, none sees a mixture

Usage: tests/reload.py [RELOADS] [--connectors N] [--build DIR] [--keep]

Two configurations take turns, `a` and `b`, with N connectors each way. They differ in each thing that
decides about a message, so that a mixture shows:

  a session    the size that EHLO tells, the certificate, how refusals read, who is locked out, who may
               relay; and the generation in its lines of the log
  a delivery   connector and next hop, our name in EHLO, and the generation. Each outbound connector
               wants the label that the inbound one has: with one of `a` and one of `b` there is no way

Sessions go on while the configuration changes, and must keep the one they began with; deliveries may
be by a later one than the session's, whole. At the end what was acknowledged has arrived once, and the
server holds the memory that it held after the first of them, when pools and caches were in use. Exit
status: 0, or 1 and what went wrong.
"""
import argparse
import os
import pathlib
import random
import re
import ssl
import sys
import threading
import time

import under_load

WARM_MESSAGES = 3000    # before memory is looked at
CLIENTS = 6
DOMAINS = 12            # that get mail, of all connectors
GENERATIONS = 4         # that a session lives at most: 16 can be alive
GROWTH_BYTES = 8 << 20
HELD_BYTES = 1 << 20     # of what the allocator says is held: LMDB keeps the pages of its largest commit
# jemalloc: free pages go back at once, and what threads keep of what was freed does not count as held
EXACT = {"MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0,tcache:false"}
SIZE = {"a": 1_000_000, "b": 2_000_000}
SINK = {"a": "127.0.0.2", "b": "127.0.0.3"}
REPLY = {
    ("a", "relay-denied"): "5.7.1 Relaying denied",
    ("b", "relay-denied"): "5.7.64 TenantAttribution; Relay Access Denied",
    ("a", "address-mismatch"): "5.7.1 Sender domain is restricted",
}


class Wrong(Exception):
    """A mixture, or mail that is not where it belongs."""


class Reloads:
    """test: of unittest, or a stand-in for its clean-ups."""

    def __init__(self, test, connectors, build_keep=False):
        import harness
        import pki
        self.harness = harness
        self.connectors = connectors
        self.random = random.Random(1)
        self.active = [n * connectors // DOMAINS for n in range(DOMAINS)]
        self.acked = {}         # queue id: letter of the session
        self.refused = {}       # decision: letter of the session
        self.arrived = []       # (queue id, letter of the sink, letter in EHLO)
        self.sessions = 0
        self.faults = []
        self.stopping = threading.Event()
        self.pausing = threading.Event()
        self.threads = []
        self.done = 0           # reloads
        self.waited = 0
        self.slowest = 0.0
        self.sinks = {letter: self.make_sink(test, letter) for letter in SINK}
        authority = pki.Authority()
        self.server = harness.Ringpost(test, top={"shards": 2}, listeners={"in": {"certificates": ["own"]}})
        texts = {}
        for letter in SINK:
            certificate = authority.leaf(f"{letter}.flow.test").write(self.server.directory, letter)
            self.server.sections, self.server.outbound = self.sections(letter, certificate)
            texts[letter] = self.server.config_text()
        self.texts = texts

    def make_sink(self, test, letter):
        load = self

        class Sink(self.harness.Peer):
            def answer(self, verb, line, usual):
                if verb == "EHLO":
                    threading.current_thread().ehlo = line.split()[1][0]
                return usual

            def end(self, s, mail, rcpts, content, how, number):
                load.arrived.append((re.search(rb"\n?Received: .* id (\w+)", content.replace(b"\r\n\t", b" ")).group(1).decode(),
                                     letter, threading.current_thread().ehlo))
                self.commands.clear()
                self.say(s, "250 2.0.0 taken")
        return Sink(test, host=SINK[letter])

    def sections(self, letter, certificate):
        other = letter == "b"
        sections = {
            "spool": {"cache": "1M"},     # mail is not what is measured
            "limits": {"message-size": str(SIZE[letter]), "bad-commands": 100000},
            "inbound-defaults": {"replies": "exchange" if other else "plain"},
            'certificate "own"': {"chain": certificate[0], "key": certificate[1]},
            'inbound "site"': {"type": "own", "state": "enforce", "sender-domains": ["site.example"],
                               "addresses": ["127.0.0.1" if other else "192.0.2.1"], "rights": ["relay"],
                               "relay-senders": "any", "tls": "optional"},
            'inbound "locked"': {"type": "partner", "state": "enforce", "sender-domains": ["locked.example"],
                                 "addresses": ["127.0.0.1" if other else "192.0.2.1"], "restrict": True, "tls": "optional"}}
        outbound = {}
        for n in range(self.connectors):
            sections[f'inbound "in-{n}"'] = {
                "type": "partner", "state": "enforce", "sender-domains": [f"s{n}.example", f"*.s{n}.example"],
                "addresses": ["127.0.0.1", f"10.{n >> 8}.{n & 255}.0/24"], "restrict": True, "tls": "optional", "label": letter}
            outbound[f"{letter}-{n}"] = {
                "type": "partner", "domains": [f"d{n}.test", f"*.d{n}.test"], "hosts": [self.sinks[letter].address],
                "allow-private": True, "ehlo": f"{letter}.out.test", "from-labels": [letter]}
        return sections, outbound

    # -- sessions --

    def expect(self, what, is_so, said):
        if not is_so:
            raise Wrong(f"{what}: {said}")

    def refusal(self, client, letter, sender, recipient, token):
        """What this generation says to it; None: takes it."""
        client.expect(250, f"MAIL FROM:<{sender}>")
        reply = client.cmd(f"RCPT TO:<{recipient}>")
        text = REPLY.get((letter, token)) if token else None
        if text is None:
            self.expect(f"{sender} to {recipient} in {letter}", reply.code == 250, reply)
        else:
            found = re.fullmatch(rf"{re.escape(text)} \[{token}\] d=(\w+)", reply.text)
            self.expect(f"{sender} to {recipient} in {letter}", found, reply)
            self.refused[found.group(1)] = letter
        client.expect(250, "RSET")

    def hello(self, client, secured):
        reply = client.hello()
        letter = next(l for l, size in SIZE.items() if f"SIZE {size}" in reply.lines)
        if secured:
            client.expect(220, "STARTTLS")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client.socket = context.wrap_socket(client.socket)
            self.expect("certificate", f"{letter}.flow.test".encode() in client.socket.getpeercert(True), letter)
            self.expect("EHLO by TLS", f"SIZE {SIZE[letter]}" in client.hello().lines, letter)
        return letter

    def session(self, rng):
        began = self.done
        with self.harness.Smtp(self.server.address) as client:
            letter = self.hello(client, rng.random() < 0.3)
            while not (self.stopping.is_set() or self.pausing.is_set()) and self.done - began < GENERATIONS:
                number = rng.choice(self.active)
                domain = rng.choice(self.active)
                self.acked[client.message(f"x@s{number}.example", [f"y@d{domain}.test"])] = letter
                self.refusal(client, letter, "x@elsewhere.example", "y@far.example", "relay-denied")
                self.refusal(client, letter, "x@locked.example", "y@d0.test", "address-mismatch")
                self.refusal(client, letter, "x@site.example", "y@far.example", "relay-denied" if letter == "a" else None)
                if rng.random() < 0.1:
                    break
                time.sleep(0.02 + rng.random() / 50)
            client.expect(221, "QUIT")
        self.sessions += 1

    def client(self, number):
        rng = random.Random(number)
        try:
            while not self.stopping.is_set():
                if self.pausing.is_set():
                    time.sleep(0.02)
                    continue
                self.session(rng)
        except Exception as e:      # whatever it was, it is told at the end
            self.faults.append(f"client {number}: {type(e).__name__}: {e}")

    # -- reloads --

    def letter_of(self, generation):
        return "ab"[(generation - self.first) % 2]

    def write(self, letter):
        new = self.server.config_path.with_suffix(".new")
        new.write_text(self.texts[letter])
        new.rename(self.server.config_path)

    def reload(self):
        self.write("ab"[(self.done + 1) % 2])
        while True:
            begun = time.monotonic()
            status, words = self.server.http("/v1/reload", "POST", unix=True)
            if status == 200:
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self.done += 1
                return
            if "generations are still in use" not in words:
                raise Wrong(f"reload {self.done}: {words}")
            self.waited += 1
            time.sleep(0.05)

    def memory(self):
        """What it holds of its own; mapped files are the kernel's."""
        status = pathlib.Path(f"/proc/{self.server.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) << 10

    def held(self):
        return self.server.metric('ringpost_memory_heap_bytes{kind="allocated"}')

    def settled(self, seconds):
        """What it holds when nothing goes on."""
        self.harness.wait_for(lambda: self.server.metric("ringpost_smtp_connections") == 0, "the sessions to end")
        self.server.wait_empty()
        least, held = self.memory(), self.held()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.25)
            least, held = min(least, self.memory()), min(held, self.held())
        return least, held

    def turns(self, reloads, tell):
        begun, first = time.monotonic(), self.done
        while self.done < reloads and not self.faults:
            self.reload()
            seen = len(self.acked)
            # something happens between two of them, however quick they are
            self.harness.wait_for(lambda: len(self.acked) > seen or self.faults, "a message between two reloads")
            if self.done % 50 == 0:
                tell(f"{self.done} reloads, {self.sessions} sessions, {len(self.acked)} messages, "
                     f"{self.memory() >> 20} MiB, {(time.monotonic() - begun) / (self.done - first):.2f} s each")

    def run(self, reloads, settle_seconds=2, warm_messages=WARM_MESSAGES, tell=lambda words: None):
        """Memory (before, after); what more is held is in held_growth."""
        self.write("a")
        self.server.start(env=EXACT)
        self.first = int(self.server.metric("ringpost_config_generation"))
        self.threads = [threading.Thread(target=self.client, args=(n,), daemon=True) for n in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        self.turns(2, tell)
        self.harness.wait_for(lambda: len(self.acked) >= warm_messages or self.faults, "messages", 600)
        self.pausing.set()
        before, held_before = self.settled(settle_seconds)
        self.pausing.clear()
        self.turns(reloads, tell)
        self.stopping.set()
        for thread in self.threads:
            thread.join(self.harness.WAIT_SECONDS)
        if self.faults:
            raise Wrong("\n".join(self.faults))
        after, held_after = self.settled(settle_seconds)
        self.held_growth = held_after - held_before
        self.check(reloads)
        return before, after

    # -- what it must come to --

    def check(self, reloads):
        server, harness = self.server, self.harness
        harness.wait_for(lambda: len(self.arrived) >= len(self.acked), "all mail to arrive")
        log = server.log()
        of = {name: [e for e in log if e["event"] == name] for name in ("received", "refused", "delivered", "reload")}
        for event in log:
            self.expect("event", event["event"] not in ("unroutable", "deferred", "bounced", "expired", "destination_failed",
                                                        "log_dropped"), event)
        self.expect("reloads", [e["result"] for e in of["reload"] if e["result"] == "done"] == ["done"] * reloads, len(of["reload"]))
        sessions, later = {}, 0
        for event in of["received"]:
            generation = event["generation"]
            sessions[event["msg"]] = generation
            self.expect("received", self.acked[event["msg"]] == self.letter_of(generation), event)
        for event in of["refused"]:
            if event["decision"] in self.refused:
                self.expect("refused", self.refused[event["decision"]] == self.letter_of(event["generation"]), event)
        for event in of["delivered"]:
            letter = self.letter_of(event["generation"])
            self.expect("delivered", re.fullmatch(rf"outbound:{letter}-\d+", event["destination"]) and
                        event["addr"].startswith(SINK[letter]) and event["generation"] >= sessions[event["msg"]], event)
            later += event["generation"] > sessions[event["msg"]]
        ids = [each[0] for each in self.arrived]
        self.expect("arrived", sorted(ids) == sorted(self.acked), f"{len(ids)} of {len(self.acked)}, {len(set(ids))} different")
        for each in self.arrived:
            self.expect("next hop", each[1] == each[2], each)
        self.later = later
        replaced = {e["generation"] - 1: e["t"] for e in of["reload"]}
        self.crossed = sum(1 for e in of["received"] if e["t"] > replaced.get(e["generation"], "9"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("reloads", type=int, nargs="?", default=100, help="how many (%(default)s)")
    p.add_argument("--connectors", type=int, default=1000, help="each way (%(default)s)")
    p.add_argument("--build", default=os.environ.get("RINGPOST_BUILD"), help="where the binaries are (build/)")
    options = p.parse_args()
    if options.build:
        os.environ["RINGPOST_BUILD"] = options.build
    os.environ.setdefault("RINGPOST_WAIT", "300")
    holder = under_load.Holder()
    load = Reloads(holder, options.connectors)
    try:
        before, after = load.run(options.reloads, tell=lambda words: print(words, flush=True))
        load.server.stop()
    except (Wrong, AssertionError) as e:
        print(e)
        return 1
    finally:
        load.stopping.set()
        holder.clean()
    print(f"{load.done} reloads of {options.connectors} connectors each way, the slowest {load.slowest:.2f} s; "
          f"{load.sessions} sessions, {len(load.acked)} messages, {load.crossed} of them in a session older than the "
          f"configuration, {load.later} delivered by a later one; {before >> 20} MiB before, {after >> 20} MiB after; held: {load.held_growth / 1024:+.0f} KiB")
    if load.held_growth > HELD_BYTES:
        print("memory is held for ever")
        return 1
    if after > before + GROWTH_BYTES:
        print("memory grew")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
