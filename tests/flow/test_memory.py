"""test_memory.py - a ceiling for memory holds: what is over it is refused, and nothing grows
"""
import json
import pathlib
import subprocess
import tempfile
import time
import unittest

import harness
import pki
from harness import Ringpost, Sink, source, wait_for
from tls_wire import TlsPeer, scratch, server_context

HERE = pathlib.Path(__file__).resolve().parent
MESSAGES = 2000     # that the queue is to have room for
MESSAGE_BYTES = 200
SMALL = {"connections": 64, "queue-destinations": 1000}


@harness.one_thread("one shard")
class Memory(unittest.TestCase):
    def serve(self, limits=None, start=True, **launch):
        self.port = harness.free_port()
        self.server = Ringpost(self, top={"shards": 1}, limits={**SMALL, **(limits or {})},
                               delivery={"connections-per-shard": 16},
                               outbound={"next": {"domains": ["*"], "hosts": [f"127.0.0.1:{self.port}"],
                                                  "allow-private": True}})
        return self.server.start(**launch) if start else self.server

    def plan(self):
        return json.loads(self.server.cli("check", "--json").stdout)["memory"]

    def ceiling(self):
        """As much as the smallest of all that has room for MESSAGES."""
        self.serve(start=False)
        plan = self.plan()
        return plan["total"] - plan["queue"] + MESSAGES * MESSAGE_BYTES

    def refused(self, reason):
        return self.server.metric(f'ringpost_smtp_refused_total{{reason="{reason}"}}')

    def test_the_sum_is_told_and_is_what_is_reserved(self):
        for limits in ({}, {"queue-messages": 20000}):
            self.serve(limits)
            reserved = self.server.metric("ringpost_memory_reserved_bytes")
            plan = self.plan()
            # What is estimated has reservations, too: rings, control's own.
            self.assertGreaterEqual(reserved, plan["pools"])
            self.assertLessEqual(reserved, plan["total"])
            self.assertIn("memory at most ", self.server.cli("check").stdout)
            self.server.stop()

    def test_more_than_fits_is_refused_and_nothing_grows(self):
        # A sanitizer's own memory would be over any ceiling: then the queue's own bound alone.
        most = 0 if harness.sanitized() else self.ceiling()
        server = self.serve({"memory-max": most} if most else {"queue-messages": MESSAGES})
        room = self.plan()["shard_messages"]
        self.assertGreaterEqual(room, MESSAGES)
        self.assertLess(room, 2 * MESSAGES)
        self.assertEqual(server.metric("ringpost_memory_max_bytes"), most)
        reserved = server.metric("ringpost_memory_reserved_bytes")
        result = source("--to", f"127.0.0.1:{server.port}", "--connections", 150, "--messages", 4 * MESSAGES,
                        "--size", 20000, "--rcpt", "r%d@example.org", "--ramp", 1)
        self.assertGreater(result["errors"]["reply_4xx"], 0)
        self.assertEqual(result["errors"]["reply_5xx"], 0)
        self.assertEqual(server.metric("ringpost_queue_messages"), result["messages"])
        self.assertLessEqual(result["messages"], room)
        self.assertGreater(result["messages"], room - 64)
        self.assertGreater(server.metric("ringpost_queue_refused_total"), 0)
        with server.client() as client:
            client.hello()
            client.expect(250, "MAIL FROM:<s@example.com>")
            client.expect(452, "RCPT TO:<r@example.org>")
        self.assertEqual(server.metric("ringpost_memory_reserved_bytes"), reserved)
        if most:
            self.assertLessEqual(server.metric("ringpost_memory_used_bytes"), most)
        # What was taken is delivered, and then there is room again.
        Sink(self, port=self.port)
        server.wait_empty()
        server.send()
        server.stop()

    def test_over_the_ceiling_no_mail_is_taken_until_it_is_kept(self):
        if harness.sanitized():
            self.skipTest("a sanitizer has to be loaded first")
        most = self.ceiling()
        directory = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-ballast."))
        self.addCleanup(subprocess.run, ["rm", "-r", str(directory)], check=False)
        library, file = directory / "ballast.so", directory / "here"
        subprocess.run(["cc", "-std=gnu2x", "-shared", "-fPIC", "-O2", "-o", str(library), str(HERE / "ballast.c")],
                       check=True)
        server = self.serve({"memory-max": most},
                            env={"LD_PRELOAD": str(library), "BALLAST": str(file), "BALLAST_BYTES": str(most)})
        client = server.client()
        client.hello()
        client.message()
        file.write_text("")
        wait_for(lambda: server.metric("ringpost_memory_short") == 1, "it is found out")
        server.wait_log("memory", short=True)
        reply = client.cmd("MAIL FROM:<s@example.com>")
        self.assertEqual((reply.code, reply.text.split()[0]), (452, "4.3.1"))
        self.assertEqual(server.client().greeting.code, 421)
        self.assertEqual(self.refused("memory_max"), 2)
        file.unlink()
        wait_for(lambda: server.metric("ringpost_memory_short") == 0, "relief")
        client.message()
        server.send()
        server.stop()

    def test_too_little_for_anything(self):
        server = self.serve({"memory-max": "64M"}, start=False)
        done = server.cli("check")
        self.assertEqual(done.returncode, 1)
        for words in ("limits: memory-max", "sessions ", "deliveries ", "connections-per-shard"):
            self.assertIn(words, done.stdout)
        server.launch()
        self.assertEqual(server.process.wait(harness.WAIT_SECONDS), 1)
        self.assertIn("memory-max", server.words())
        server.process = None

    def test_it_stays_until_the_next_start(self):
        self.serve()
        self.server.write_config(limits={"queue-messages": 5000})
        done = self.server.cli("reload")
        self.assertEqual(done.returncode, 1)
        self.assertIn("queue-messages", done.stderr + done.stdout)
        self.server.stop()


class Growth(unittest.TestCase):
    """What a server does all its life takes no memory for good: when all is done, and done again, the allocator
    says what it said."""

    MESSAGES = 100      # of each kind in a round, every one on a connection of its own, in and out
    RELOADS = 10
    ROUNDS = 3
    SLACK_BYTES = 48 << 10      # pages that LMDB keeps; below an object of 64 octets for each connection
    EXACT = {"MALLOC_CONF": "tcache:false"}     # jemalloc: what threads keep of what was freed counts as held

    def setUp(self):
        authority = pki.Authority()
        certificate = authority.leaf("mx.flow.test")
        base = scratch(self)
        chain, key = certificate.write(base, "own")
        hops = {"sink": Sink(self).route(["sink.test"]),
                "peer": TlsPeer(self, server_context(certificate), answers={"RCPT": self.moody}).route(["peer.test"], tls="encrypt"),
                "home": Sink(self).route(["home.test"])}
        self.server = Ringpost(self, listeners={"in": {"certificates": ["own"]}}, bounce={"per-minute": 0},
                               delivery={"messages-per-connection": 1, "idle-timeout": "100ms", "retry-initial": "1s", "retry-max": "1s"}, outbound=hops,
                               **{'certificate "own"': {"chain": chain, "key": key}})
        self.reloads = 0

    @staticmethod
    def moody(_, line):
        return "550 5.1.1 nobody" if "<r7" in line else None

    def held(self):
        """When nothing goes on: sessions are over, and the configurations that they began with."""
        self.server.wait_empty()
        wait_for(lambda: self.server.metric("ringpost_smtp_connections") == 0, "the sessions to end")
        least = float("inf")
        for _ in range(3):      # it looks once a second, and a question of ours may be under way then
            time.sleep(1)
            least = min(least, self.server.metric('ringpost_memory_heap_bytes{kind="allocated"}'))
        return least

    def round(self):
        server = self.server
        for domain, more in (("sink.test", ("--tls", "starttls", "--tls-resume", 0.5)), ("peer.test", ("--bdat", "--size", "40K")),
                             ("sink.test", ("--pipeline",))):
            source("--to", f"127.0.0.1:{server.port}", "--connections", 6, "--per-connection", 1, "--messages", self.MESSAGES,
                   "--from", "s@home.test", "--rcpt", f"r%d@{domain}", *more)
        for _ in range(self.RELOADS):
            self.reloads += 1
            server.write_config(limits={"recipients": 1000 + self.reloads % 2})
            self.assertEqual(server.http("/v1/reload", "POST", unix=True)[0], 200)
            self.assertEqual(server.http("/v1/queue", unix=True)[0], 200)
        self.assertEqual(server.http("/v1/tls/rotate", "POST", unix=True)[0], 200)

    def test_what_goes_on_takes_no_memory(self):
        self.server.start(env=self.EXACT)
        for _ in range(2):      # caches, and tables that grow to what is needed
            self.round()
        before = self.held()
        for _ in range(self.ROUNDS):
            self.round()
        after = self.held()
        self.assertGreater(self.server.metric('ringpost_queue_recipients_out_total{outcome="bounced"}'), 0)
        self.assertLess(after - before, self.SLACK_BYTES)
        self.server.stop()


if __name__ == "__main__":
    harness.main()
