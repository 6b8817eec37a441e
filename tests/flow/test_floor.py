"""test_floor.py - floor memory: what a next hop's TLS was capable of, and what follows when it is less

Learned here from two observations over a second instead of three over a day (floor-learn,
floor-learn-time); everything else is as it is in the field. Stripping is what a peer does that no
longer offers STARTTLS, or breaks each handshake.
"""
import datetime
import json
import pathlib
import subprocess
import time
import unittest

import harness
import test_tls
from harness import Ringpost
from tls_wire import TlsPeer, scratch, server_context

# Back-off is long: what goes soon goes for another reason.
SLOW = {"retry-initial": "1h", "retry-max": "1h", "floor-learn": "2", "floor-learn-time": "1s"}
QUICK = {**SLOW, "retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"}
REGRESSIONS = "ringpost_floor_regressions_total"
HERE = pathlib.Path(__file__).resolve().parent
SECRET = "not for everybody"


class Floor(test_tls.Tls):
    def next_hop(self, context=None, **peer):
        return TlsPeer(self, context or server_context(self.ecdsa), **peer)

    def start(self, action=None, delivery=None, **route):
        """A server with one next hop, whose TLS it has learned."""
        self.peer = self.next_hop()
        self.host = self.peer.address
        delivery = {**(delivery or SLOW), **({"floor-memory": action} if action else {})}
        self.serve(delivery=delivery, outbound={"peer": self.peer.route(**{
            "roots": "test", "tls-name": [test_tls.NAME], "max-per-connection": 1, **route})})
        self.learn()

    def post(self, marker="x"):
        return self.server.send(recipients=["x@example.org"], content=f"Subject: x\r\n\r\n{marker}\r\n")

    def record(self, host=None):
        done = self.server.cli("tls", "report", "--json", host or self.host)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertLessEqual(len(records), 1)
        return records[0] if records else None

    def wait_record(self, **fields):
        """What a shard has seen is soon on record."""
        def there():
            record = self.record()
            return record if all(record[key] == value for key, value in fields.items()) else None
        return harness.wait_for(there, lambda: f"{fields}; {self.record()}")

    def learn(self, peer=None):
        """Mail, until something is remembered of the host."""
        peer = peer or self.peer

        def learned():
            count = len(peer.messages)
            self.post()
            peer.wait(count + 1)
            record = self.record(peer.address)
            return record and record["best"]
        return harness.wait_for(learned, lambda: f"something learned; {self.record(peer.address)}")

    def strip(self):
        """Someone takes STARTTLS out of the answer to EHLO."""
        harness.wait_for(lambda: not self.peer.open, "the end of connections so far")
        self.peer.offers = False
        with self.peer.lock:
            self.peer.commands.clear()

    def floor(self, *words, status=0):
        done = self.server.cli("tls", "floor", *words)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout if status == 0 else done.stderr

    def found(self):
        """What the lines of all messages that were taken say of the memory."""
        return [line.get("memory") for line in self.server.wait_log("delivered", len(self.peer.messages))]

    def wait_downgrade(self, count=1, **fields):
        return self.server.wait_log("downgrade", count, host=self.host, **fields)

    def regressions(self, action):
        return self.server.metric(f'{REGRESSIONS}{{action="{action}"}}')


class Life(Floor):
    def test_from_end_to_end(self):
        """Learned; stripped; held back, over a restart too; released by the operator."""
        self.start("defer")
        record = self.record()
        self.assertEqual((record["best"]["level"], record["best"]["version"]), ("name", "1.3"))
        self.assertEqual((record["less"], record["regressions"]), ("", 0))
        self.assertEqual(self.server.log("downgrade"), [])
        good = len(self.peer.messages)

        self.strip()
        self.post(SECRET)
        # The event and the number are of the attempt that found it out, the first one.
        failure = self.server.wait_log("destination_failed")[0]
        self.assertEqual(failure["failures"], 1)
        event = self.wait_downgrade(action="defer")[0]
        self.assertEqual((event["less"], event["is"]), ("tls", "no TLS"))
        self.assertEqual(event["was"], record["best"]["text"])
        self.assertLessEqual(event["since"], event["last"])
        self.assertEqual(self.regressions("defer"), 1)
        self.assertIn(": memory: 4.7.0 ", failure["why"])
        message, = self.server.queue()
        self.assertIn(": memory: 4.7.0 ", message["units"][0]["destination_error"])
        harness.wait_for(lambda: self.peer.verbs("QUIT"), "the end of that connection")
        self.assertEqual([c.split()[0] for c in self.peer.commands], ["EHLO", "QUIT"])

        # It is on disk: a server that starts anew holds it back too.
        self.server.stop()
        self.server.start()
        self.server.wait_metric(f'{REGRESSIONS}{{action="defer"}}', 1)
        harness.wait_for(lambda: len(self.peer.verbs("QUIT")) >= 2, "the second try")
        record = self.wait_record(less="tls", regressions=1, kept=False)
        text = self.server.cli("tls", "report", self.host).stdout
        for words in (self.host, record["best"]["text"], "no TLS", "LESS", "less: tls"):
            self.assertIn(words, text)

        self.assertIn("stays", self.floor("keep", self.host))
        self.assertTrue(self.record()["kept"])
        self.assertEqual(len(self.server.queue()), 1)
        self.assertEqual(len(self.peer.messages), good)
        self.assertEqual(self.peer.in_clear("MAIL FROM"), [])
        self.assertEqual(self.peer.in_clear(SECRET), [])

        self.assertIn("1 record", self.floor("accept", self.host))     # the back-off is an hour
        self.peer.wait(good + 1)
        self.assertIn(SECRET.encode(), self.peer.messages[-1].content)
        self.server.wait_empty()
        record = self.record()
        self.assertEqual((record["best"], record["less"], record["ever"]["level"]), (None, "", "name"))
        self.post()
        self.peer.wait(good + 2)
        self.assertEqual(len(self.server.log("downgrade")), 1)

        self.floor("forget", self.host)
        self.assertIsNone(self.record())
        self.assertEqual(self.server.cli("tls", "report", self.host).returncode, 1)
        self.assertIn("nothing is remembered", self.floor("accept", self.host, status=1))

    def test_restart_remembers_the_shape_of_it(self):
        """A crash takes at most what was not committed; what was decided is there."""
        self.start()
        before = self.record()
        self.floor("keep", self.host)
        self.server.kill()
        self.server.start()
        record = self.record()
        self.assertTrue(record["kept"])
        self.assertEqual(record["best"], before["best"])
        self.assertEqual(self.server.metric("ringpost_floor_records"), 1)

    def test_over_days(self):
        """The rules as they are in the field: three observations over a day, here by a server that is
        started again with the clock of three days ago, of two, of one, and of now."""
        self.peer = self.next_hop(server_context(self.authority.leaf(test_tls.NAME, days=(-4, 90))))
        self.host = self.peer.address
        self.serve(delivery={"retry-initial": "1h", "retry-max": "1h"}, outbound={"peer": self.peer.route(**{
            "roots": "test", "tls": "may", "tls-name": [test_tls.NAME], "floor-memory": "defer"})})
        shift = scratch(self) / "clock_shift.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(shift), str(HERE / "clock_shift.c")], check=True)
        for count, days in enumerate((3, 2, 1), 1):
            self.server.stop()
            self.server.start(env={"LD_PRELOAD": str(shift), "CLOCK_SHIFT": str(-days * 86400)})
            self.post()
            self.peer.wait(count)
            record = self.wait_record(observations=count)
            self.assertAlmostEqual(record["last"], time.time() - days * 86400, delta=3600)
            self.assertEqual(record["best"] is not None, count == 3)
        self.assertEqual((record["best"]["level"], record["best"]["version"]), ("name", "1.3"))
        self.assertEqual([e["what"] for e in record["events"]], ["learned"])
        self.server.stop()
        self.server.start()
        self.strip()
        self.post(SECRET)
        self.server.wait_log("destination_failed", token="memory", failures=1)
        event = self.wait_downgrade(action="defer", less="tls", was=record["best"]["text"])[0]
        since = datetime.datetime.fromisoformat(event["since"].replace("Z", "+00:00")).timestamp()
        self.assertAlmostEqual(since, time.time() - 3 * 86400, delta=3600)
        self.assertEqual(self.server.metrics()['ringpost_connector_memory_regressions_total{connector="peer",action="defer"}'], 1)
        self.assertEqual(self.peer.in_clear(SECRET), [])
        self.assertIn("1 record", self.floor("accept", self.host))
        self.peer.wait(4)
        self.assertIn(SECRET.encode(), self.peer.messages[-1].content)
        self.server.wait_empty()

    def test_damaged(self):
        """Moved aside, told, and begun anew; mail never waits for that."""
        self.start()
        self.server.stop()
        path = self.server.spool / "floor.mdb"
        good = path.read_bytes()
        path.write_bytes(good[:8192] + b"?" * (len(good) - 8192))
        self.server.start()
        event, = self.server.wait_log("floor_damaged")
        self.assertEqual(event["file"], str(path))
        self.assertIn(b"????", pathlib.Path(event["moved_to"]).read_bytes())
        self.assertIsNone(self.record())
        self.assertEqual(self.server.metric("ringpost_floor_damaged_total"), 1)
        self.learn()


class Actions(Floor):
    def deliver(self, count=1):
        before = len(self.peer.messages)
        for _ in range(count):
            self.post(SECRET)
            self.peer.wait(before := before + 1)

    def test_alert_is_the_default(self):
        self.start()
        self.deliver()
        found = self.found()
        self.assertEqual((found[0], found[-1], set(found)), ("new", "same", {"new", "same"}))
        self.strip()
        self.deliver(3)
        self.assertEqual(self.found()[-3:], ["less"] * 3)
        events = self.wait_downgrade(action="alert")     # the same again is told once an hour,
        self.assertLessEqual(len(events), 2)             # or by each shard that has not heard of it yet
        self.assertEqual(events[0]["destination"], "outbound:peer")
        self.assertEqual(self.regressions("alert"), 3)
        self.assertEqual(self.server.metrics()['ringpost_connector_memory_regressions_total{connector="peer",action="alert"}'], 3)
        self.assertEqual(self.server.log("destination_failed"), [])
        self.server.wait_log("delivered", 3, clear="STARTTLS is not offered")
        self.peer.offers = True
        self.deliver()
        self.server.wait_log("downgrade_over", host=self.host)
        self.wait_record(less="")
        self.assertEqual(self.found()[-1], "same")

    def test_better(self):
        """More than is remembered is told; it becomes what is remembered by a run of it."""
        self.peer = self.next_hop(server_context(self.ecdsa, ("TLSv1_2", "TLSv1_2")))
        self.host = self.peer.address
        self.serve(delivery=SLOW, outbound={"peer": self.peer.route(**{
            "roots": "test", "tls-name": [test_tls.NAME], "max-per-connection": 1})})
        self.learn()
        self.assertEqual(self.record()["best"]["version"], "1.2")
        harness.wait_for(lambda: not self.peer.open, "the end of connections so far")
        self.peer.context = server_context(self.ecdsa)
        self.deliver()
        self.assertEqual(self.found()[-1], "better")
        harness.wait_for(lambda: self.deliver() or self.record()["best"]["version"] == "1.3", "TLS 1.3 learned")
        self.deliver()
        self.assertEqual(self.found()[-1], "same")

    def test_observe(self):
        self.start("observe")
        self.strip()
        self.deliver(2)
        self.assertEqual(self.regressions("observe"), 2)
        self.assertEqual(self.found()[-2:], ["less"] * 2)
        self.assertEqual(self.server.log("downgrade"), [])
        self.wait_record(regressions=1)

    def test_the_sender_is_told(self):
        """T-03, when its time is up: that the host is capable of more, and what it offers."""
        self.start("defer")
        self.strip()
        self.server.send(["x@example.org"], "s@back.test", f"Subject: x\r\n\r\n{SECRET}\r\n")
        self.server.wait_log("destination_failed", token="memory")
        reports = harness.Peer(self)
        self.server.outbound["back"] = reports.route(["back.test"])
        self.server.outbound["peer"]["max-age"] = "1s"
        self.server.write_config()
        self.assertEqual(self.server.cli("reload").returncode, 0)
        reports.wait(1)
        text = b" ".join(reports.messages[0].content.split()).decode()
        self.assertIn("Status: 5.7.0 ", text)
        self.assertIn("less than remembered", text)
        self.assertIn("is no TLS", text)
        self.assertEqual(self.peer.in_clear(SECRET), [])

    def test_off(self):
        self.peer = self.next_hop()
        self.host = self.peer.address
        self.serve(delivery={**SLOW, "floor-memory": "hold"},
                   outbound={"peer": self.peer.route(**{"floor-memory": "off", "max-per-connection": 1})})
        self.deliver(3)
        self.strip()
        self.deliver()
        self.assertIsNone(self.record())
        self.assertEqual(self.found(), [None] * 4)
        self.assertEqual(self.server.metric("ringpost_floor_observations_total"), 0)

    def test_hold_ends_when_the_host_is_well_again(self):
        self.start("hold", QUICK)
        good = len(self.peer.messages)
        self.strip()
        self.post(SECRET)
        self.server.wait_log("destination_failed", 3)
        self.assertGreaterEqual(self.regressions("hold"), 3)
        self.peer.offers = True
        self.peer.wait(good + 1)
        self.assertEqual(self.peer.in_clear(SECRET), [])
        self.server.wait_log("downgrade_over")

    def test_defer_gives_in_after_the_hold(self):
        self.start("defer", {**QUICK, "floor-hold": "3s"})
        good = len(self.peer.messages)
        self.strip()
        self.post()
        self.wait_downgrade(action="defer")
        self.peer.wait(good + 1)
        self.wait_downgrade(action="alert")
        record = self.wait_record(best=None, less="")
        self.assertEqual([e["what"] for e in record["events"]][-2:], ["less", "relearning"])

    def test_forget_lets_it_go(self):
        self.start("hold")
        good = len(self.peer.messages)
        self.strip()
        self.post()
        self.server.wait_log("destination_failed")
        self.floor("forget", self.host)
        self.peer.wait(good + 1)


@harness.one_thread("the shard that delivers compares")
class Less(Floor):
    def test_handshakes_that_break(self):
        """cleartext = handshake-failed would let it go in clear; the memory does not."""
        self.start("hold", QUICK)
        good = len(self.peer.messages)

        def broken(peer, wire, _):
            peer.say(wire, "220 2.0.0 go on")
            raise EOFError
        self.peer.behave = broken
        self.post(SECRET)
        self.wait_downgrade(action="hold", less="tls")
        self.server.wait_log("tls_step", next="clear")
        self.assertEqual(self.peer.in_clear("MAIL FROM"), [])
        self.peer.behave = None     # from the top again, and not in clear for hours
        self.peer.wait(good + 1)
        self.assertEqual(self.peer.in_clear(SECRET), [])

    def test_version_and_certificate(self):
        self.start()
        self.peer.context = server_context(self.authority.leaf("mx.other.test"), ("TLSv1_2", "TLSv1_2"))
        self.post()
        self.wait_downgrade(less="version, name", action="alert")
        other = test_tls.pki.Authority("Other").leaf(test_tls.NAME, days=(-2, 30))
        self.peer.context = server_context(other)
        self.post()
        self.wait_downgrade(less="chain", action="alert")
        self.server.wait_log("issuer_changed", host=self.host)
        record = self.wait_record(regressions=2, less="chain")
        self.assertAlmostEqual(record["expires"], time.time() + 30 * 86400, delta=3600)
        expires = datetime.datetime.fromtimestamp(record["expires"], datetime.timezone.utc)
        self.assertIn(f"expires     {expires:%Y-%m-%d %H:%M} UTC", self.server.cli("tls", "report", self.host).stdout)

    def test_forced_tls_is_told_too(self):
        """The mail would wait anyway; that the host was capable of it is what the operator learns."""
        self.start(tls="encrypt")
        self.strip()
        self.post(SECRET)
        self.wait_downgrade(less="tls")
        self.server.wait_log("destination_failed")
        self.assertEqual(self.peer.in_clear("MAIL FROM"), [])

    def test_the_next_host_takes_it(self):
        first, second = self.next_hop(), self.next_hop()
        self.peer, self.host = first, first.address
        self.serve(delivery={**SLOW, "floor-memory": "hold"}, outbound={"both": {
            "domains": ["*"], "hosts": [first.address, second.address], "allow-private": True,
            "max-per-connection": 1}})
        self.learn()
        self.strip()
        self.post(SECRET)
        second.wait(1)
        self.wait_downgrade(action="hold")
        self.assertEqual(self.server.log("destination_failed"), [])
        self.assertEqual(first.in_clear("MAIL FROM"), [])


@harness.one_thread("the command line")
class CommandLine(Floor):
    def test_usage(self):
        server = Ringpost(self)
        for words in (["report", "a", "b"], ["floor"], ["floor", "accept"], ["floor", "raise", "host"],
                      ["floor", "accept", "a", "b", "c"], ["report", "--no-such-option"]):
            done = server.cli("tls", *words)
            self.assertEqual((done.returncode, done.stdout), (2, ""), words)
        for words in (["report"], ["floor"]):
            done = server.cli("tls", *words, "--help", config=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("Exit status", done.stdout)
        done = server.cli("tls", "report")
        self.assertEqual(done.returncode, 1)
        self.assertIn("is `ringpost serve` running", done.stderr)

    def test_worst(self):
        """Who offers less now, the longest so, before who did so once; who never did is not among them."""
        peers = [self.next_hop() for _ in range(4)]
        names = [f"n{i}.example" for i in range(4)]
        self.serve(delivery=SLOW, relay={"domains": ["*.example"]}, outbound={name.replace(".", "-"): {
            **peer.route([name]), "roots": "test", "tls-name": [test_tls.NAME], "max-per-connection": 1}
            for name, peer in zip(names, peers)})

        def post(number):
            count = len(peers[number].messages)
            self.server.send([f"x@{names[number]}"])
            peers[number].wait(count + 1)

        def told(*words):
            return [json.loads(line)["host"] for line in self.server.cli("tls", "report", "--worst", "--json", *words).stdout.splitlines()]
        for number, peer in enumerate(peers):
            harness.wait_for(lambda n=number, p=peer: post(n) or (self.record(p.address) or {}).get("best"), "something learned")
        self.assertEqual(told(), [])
        for number in (2, 0, 1):
            harness.wait_for(lambda n=number: not peers[n].open, "the end of connections so far")
            peers[number].offers = False
            post(number)
            harness.wait_for(lambda n=number: self.record(peers[n].address)["less"], "less on record")
            if number != 1:     # a second is what the order is by
                began = self.record(peers[number].address)["less_since"]
                harness.wait_for(lambda t=began: time.time() >= t + 1, "the next second")
        peers[2].offers = True
        post(2)
        harness.wait_for(lambda: not self.record(peers[2].address)["less"], "well again")
        wanted = [peers[n].address for n in (0, 1, 2)]
        self.assertEqual((told(), told("--max", "1"), told("--max", "2")), (wanted, wanted[:1], wanted[:2]))
        self.assertEqual(told(peers[1].address), [peers[1].address])
        self.assertIn("LESS", self.server.cli("tls", "report", "--worst").stdout)
        self.assertEqual(self.server.cli("tls", "report", "--worst", "--max", "1001").returncode, 2)

    def test_decisions_are_local(self):
        self.start()
        self.assertEqual(self.server.http(f"/v1/tls/floor/forget?host={self.host}", "POST")[0], 403)
        self.assertEqual(self.server.http("/v1/tls/floor/burn?host=x", "POST", unix=True)[0], 409)
        self.assertEqual(self.server.http("/v1/tls/floor/accept", "POST", unix=True)[0], 409)
        status, page = self.server.http(f"/v1/tls/report?name={self.host.split(':')[0]}")
        self.assertEqual((status, json.loads(page)["records"][0]["host"]), (200, self.host))
        self.assertEqual(json.loads(self.server.http("/v1/tls/report?name=other.test")[1]), {"records": []})
        self.assertIsNotNone(self.record())


if __name__ == "__main__":
    harness.main()
