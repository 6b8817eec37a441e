"""test_connector_ops.py - connectors while they run: what they did, and what an operator does about them"""
import csv
import json
import ssl

import harness
import test_connectors
from clock import Clock
from harness import Peer
from test_connectors import BANK, RELAY
from tls_wire import TlsPeer, server_context

COUNTED = "ringpost_connector_"


class Operated(test_connectors.Connectors):
    def counted(self, name, **labels):
        """A number of the metrics; labels in the order in which they are printed."""
        words = ",".join(f'{key}="{value}"' for key, value in labels.items())
        return self.server.metric(f"{COUNTED}{name}{{{words}}}")

    def messages(self, dir, connector, tls, forced, result):
        return self.counted("messages_total", dir=dir, connector=connector, tls=tls, forced=forced, result=result)

    def reload(self, **connectors):
        """The inbound connectors of the file become these."""
        for title in [t for t in self.server.sections if t.startswith('inbound "')]:
            del self.server.sections[title]
        self.server.sections.update({f'inbound "{title}"': keys for title, keys in connectors.items()})
        self.server.write_config()
        done = self.server.cli("reload")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.server.queue()     # each shard has been asked, behind the new configuration

    def connector(self, *words, status=0):
        done = self.server.cli("connector", *words)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout if status == 0 else done.stderr


class Metrics(Operated):
    def test_inbound(self):
        """What a connector did is counted under its name, and goes on counting over reloads; idle
        ones have no series."""
        server = self.serve({"bank": BANK, "idle": {**BANK, "sender-domains": ["idle.example"]}})
        leaf = self.leaf("mx.bank.example")
        self.client(leaf, version=ssl.TLSVersion.TLSv1_3).message("a@bank.example")
        self.assertEqual(self.refusal(self.client(), "a@bank.example")[2], "cert-none")
        self.client(tls=False).message("a@elsewhere.example")
        self.assertEqual(self.messages("in", "bank", "1.3", 1, "accept"), 1)
        self.assertEqual(self.messages("in", "bank", "1.3", 1, "reject"), 1)
        self.assertEqual(self.messages("in", "", "none", 0, "accept"), 1)
        self.assertEqual(self.counted("refusals_total", connector="bank", token="cert-none", state="enforce"), 1)
        self.assertEqual(self.counted("identified_total", connector="bank", how="cert"), 1)
        self.assertGreater(self.counted("bytes_total", dir="in", connector="bank"), 0)
        self.assertEqual([m for m in server.metrics() if 'connector="idle"' in m], [])
        self.reload(a=BANK, b=BANK)     # neither has the other's numbers
        self.client(leaf).message("a@bank.example")
        self.assertEqual(self.counted("identified_total", connector="a", how="cert"), 1)
        self.assertEqual(self.counted("identified_total", connector="bank", how="cert"), 1)
        self.reload(bank=BANK)
        self.client(leaf).message("a@bank.example")
        self.assertEqual(self.counted("identified_total", connector="bank", how="cert"), 2)

    def test_test_mode(self):
        self.serve({"bank": {**BANK, "state": "test"}})
        self.client().message("a@bank.example")
        self.client(self.leaf("mx.bank.example")).message("a@bank.example")
        self.assertEqual(self.counted("refusals_total", connector="bank", token="cert-none", state="test"), 1)
        self.assertEqual(self.counted("would_accept_total", connector="bank"), 1)

    def test_outbound(self):
        """Attempts by their protection and result, plain text and failures by their reasons."""
        good = TlsPeer(self, server_context(self.public.leaf("mx.good.test")))
        plain = Peer(self)
        server = self.serve({}, outbound={
            "good": good.route(["good.test"], roots="public-test", tls="name", **{"tls-name": ["mx.good.test"]}),
            "plain": plain.route(["plain.test"], tls="may"),
            "never": plain.route(["never.test"], tls="encrypt")})
        for domain in ("good", "plain", "never"):
            server.send(recipients=[f"x@{domain}.test"])
        good.wait(1)
        plain.wait(1)
        harness.wait_for(lambda: self.messages("out", "good", "1.3", 1, "delivered") == 1, "the good one's outcome")
        harness.wait_for(lambda: self.messages("out", "plain", "none", 0, "delivered") == 1, "the plain one's outcome")
        self.assertEqual(self.counted("cleartext_total", connector="plain", reason="no-offer"), 1)
        harness.wait_for(lambda: self.counted("tls_failures_total", connector="never", token="starttls-none") > 0,
                         "the failure")
        self.assertEqual(self.counted("bytes_total", dir="out", connector="never"), 0)

    def test_waiting(self):
        """What waits, by connector; events when it is much, and when some of it is old where TLS is demanded."""
        clock = Clock(self)

        now = 0

        def forward_until(condition, words, seconds=0):
            """A quarter of a minute passes, and each shard's loop turns, until it is so."""
            nonlocal now
            now += seconds

            def again():
                nonlocal now
                now += 15
                clock.set(now)
                server.queue()
                return condition()
            return harness.wait_for(again, words)
        peer, nobody = Peer(self), f"127.0.0.1:{harness.free_port()}"
        dead = {"hosts": [nobody], "allow-private": True}
        server = self.serve({}, env=clock.env, outbound={
            "strict": {**dead, "domains": ["strict.test"], "tls": "encrypt"},
            "loose": {**dead, "domains": ["loose.test"], "tls": "may"}, "works": peer.route(["works.test"])})
        server.send(recipients=[f"x{i}@strict.test" for i in range(3)])
        server.send(recipients=[f"x{i}@loose.test" for i in range(150)])
        server.send(recipients=[f"y{i}@loose.test" for i in range(51)] + ["x@works.test"])
        server.wait_log("delivered")
        forward_until(lambda: (self.counted("queue_recipients", connector="loose", forced=0),
                               self.counted("queue_recipients", connector="strict", forced=1),
                               self.counted("queue_recipients", connector="works", forced=0)) == (201, 3, 0), "201 and 3 recipients")
        event, = forward_until(lambda: server.log("connector_queue"), "an event")
        self.assertEqual((event["connector"], event["what"], event["recipients"], event["forced"]), ("loose", "many", 201, False))
        event, = forward_until(lambda: [e for e in server.log("connector_queue") if e["what"] == "old"], "another one", 3600)
        self.assertEqual((event["connector"], event["recipients"], event["forced"]), ("strict", 3, True))
        self.assertGreater(event["oldest_s"], 3600)
        self.assertEqual(len(server.log("connector_queue")), 2)
        server.outbound["loose"]["hosts"] = [peer.address]
        server.write_config()
        done = server.cli("reload")
        self.assertEqual(done.returncode, 0, done.stderr)
        event, = forward_until(lambda: server.log("connector_queue_over"), "its end", 7200)
        self.assertEqual((event["connector"], event["what"], event["recipients"] <= 150), ("loose", "many", True))
        forward_until(lambda: self.counted("queue_recipients", connector="loose", forced=0) == 0, "nothing by loose")
        self.assertGreater(self.counted("queue_oldest_seconds", connector="strict", forced=1), 10800)

    def test_thousands(self):
        """A reload with thousands of connectors, and none of them is in the way of a scrape."""
        server = self.serve({"bank": BANK})
        many = {f"c{i}": {**BANK, "sender-domains": [f"d{i}.example"]} for i in range(3000)}
        self.reload(bank=BANK, **many)
        self.client(self.leaf("mx.bank.example")).message("a@d2999.example")
        self.assertEqual(self.counted("identified_total", connector="c2999", how="cert"), 1)
        harness.wait_for(lambda: self.messages("out", "inner", "none", 0, "delivered") == 1, "its outcome")
        self.assertEqual({m.partition('connector="')[2].partition('"')[0] for m in server.metrics() if "connector=" in m},
                         {"c2999", "inner"})


class Readiness(Operated):
    def test_who_would_be_refused(self):
        """By network, domain and token, the most frequent first, over all shards; nobody in enforce."""
        server = self.serve({"bank": {**BANK, "state": "test"}, "other": {**BANK, "sender-domains": ["other.example"]}})
        for sender, times in (("a@bank.example", 3), ("a@sub.bank.example", 1)):
            for _ in range(times):
                self.client().message(sender)
        self.client(self.leaf("mx.other.example")).message("a@bank.example")
        self.client(self.leaf("mx.bank.example")).message("a@bank.example")
        self.refusal(self.client(), "a@other.example")
        told = json.loads(self.connector("readiness", "bank", "--json"))
        self.assertEqual((told["state"], told["accept"], told["refuse"]), ("test", 1, 5))
        self.assertEqual([(row["network"], row["domain"], row["token"], row["count"], row["over"]) for row in told["rows"]][0],
                         ("127.0.0.0/24", "bank.example", "cert-none", 3, 0))
        self.assertEqual({(row["domain"], row["token"], row["count"]) for row in told["rows"][1:]},
                         {("bank.example", "cert-name", 1), ("sub.bank.example", "cert-none", 1)})
        self.assertRegex(self.connector("readiness", "bank"), r"(?m)^ +3  127\.0\.0\.0/24 +bank\.example +cert-none$")
        self.assertEqual(json.loads(self.connector("readiness", "other", "--json"))["rows"], [])
        self.connector("readiness", "nobody", status=1)
        self.assertEqual(server.http("/v1/connectors/readiness?name=nobody")[0], 404)


class Probes(Operated):
    """Outbound connectors in test: their hosts are met, and get no mail."""

    def readiness(self, name):
        return json.loads(self.connector("readiness", name, "--json"))

    def test_a_day(self):
        clock, now = Clock(self), 0
        certificates = {"good": server_context(self.public.leaf("mx.good.test")),
                        "other": server_context(self.public.leaf("mx.other.test"))}
        peers = {name: TlsPeer(self, context) for name, context in certificates.items()}
        clear = Peer(self, extensions=Peer.EXTENSIONS)
        keys = {"state": "test", "allow-private": True, "roots": "public-test", "tls": "name", "tls-name": ["mx.good.test"]}
        server = self.serve({}, env=clock.env, outbound={
            "probed": {**keys, "domains": ["probed.test"], "hosts": [peers["good"].address, peers["other"].address]},
            "clear": {**keys, "domains": ["clear.test"], "hosts": [clear.address]},
            "enforced": {**keys, "state": "enforce", "domains": ["enforced.test"], "hosts": [clear.address]}})

        def met():
            return sum(self.counted("probes_total", result=result) for result in ("good", "bad"))

        def forward(seconds, probes=0):
            """And so many more hosts have been met."""
            nonlocal now
            before = met()
            now += seconds
            clock.set(now)
            harness.wait_for(lambda: met() >= before + probes, lambda: f"{probes} probes more than {before}: {met()}")
        server.send(recipients=["x@probed.test"])
        self.inner.wait(1)
        forward(10, probes=3)
        event, = server.wait_log("connector_probe", connector="probed", good=True)
        self.assertEqual((event["tls"], event["why"]), ("TLSv1.3", ""))
        event, = server.wait_log("connector_probe", connector="probed", good=False)
        self.assertIn("mx.other.test", event["why"])
        server.wait_log("connector_probe", connector="clear", good=False)
        told = self.readiness("probed")
        self.assertEqual((told["state"], told["ready"], [h["good"] for h in told["hosts"]].count(True)), ("test", False, 1))
        self.assertIn("not ready", self.connector("readiness", "probed"))
        self.assertEqual(self.readiness("enforced")["hosts"], [])

        forward(300)            # not before ten minutes are over, whatever time passes
        server.queue()
        server.queue()
        self.assertEqual((met(), peers["good"].connections, peers["other"].connections), (3, 1, 1))
        peers["other"].context = certificates["good"]
        forward(400, probes=3)
        told = self.readiness("probed")
        self.assertEqual((told["ready"], [h["good"] for h in told["hosts"]]), (False, [True, True]))
        self.assertGreater(told["left_s"], 80000)
        for _ in range(7):
            forward(14000, probes=3)
        self.assertTrue(self.readiness("probed")["ready"])
        self.assertIn("ready: all hosts", self.connector("readiness", "probed"))
        self.assertEqual(self.counted("ready", connector="probed"), 1)
        self.assertEqual(self.counted("ready", connector="clear"), 0)
        self.assertEqual(len(server.log("connector_probe")), 4)      # when something is new, or other than before

        server.stop()
        server.start(env=clock.env)
        self.assertTrue(self.readiness("probed")["ready"])
        server.outbound["probed"]["tls-name"] = ["mx.elsewhere.test"]
        server.write_config()
        self.assertEqual(server.cli("reload").returncode, 0)
        self.assertEqual((self.readiness("probed")["ready"], self.readiness("probed")["hosts"]), (False, []))
        for peer in peers.values():
            self.assertEqual({c.split()[0].upper() for c in peer.commands}, {"EHLO", "STARTTLS", "QUIT"})
        self.assertLessEqual({c.split()[0].upper() for c in clear.commands}, {"EHLO", "QUIT"})


@harness.one_thread("the command line")
class Report(Operated):
    def test_days(self):
        """Sums of today, in three forms, and over a restart; other tokens than messages."""
        server = self.serve({"bank": BANK})
        self.connector("report", status=1)
        self.client(self.leaf("mx.bank.example"), version=ssl.TLSVersion.TLSv1_2).message("a@bank.example")
        stranger = self.client()
        self.refusal(stranger, "a@bank.example")
        stranger.close()
        self.inner.wait(1)
        server.wait_empty()
        server.stop()
        server.start()
        self.client(self.leaf("mx.bank.example"), version=ssl.TLSVersion.TLSv1_2).message("a@bank.example")
        record, = [json.loads(line) for line in self.connector("report", "--json", "bank").splitlines()]
        self.assertEqual((record["direction"], record["forced"]["1.2"], record["refused"], record["tokens"]),
                         ("in", 2, 1, {"cert-none": 1}))
        self.assertEqual(sum(record["messages"].values()), 0)
        table = list(csv.DictReader(self.connector("report", "--csv", "--days", "1").splitlines()))
        self.assertEqual({(row["direction"], row["connector"]) for row in table}, {("in", "bank"), ("out", "inner")})
        row, = [row for row in table if row["connector"] == "bank"]
        self.assertEqual((row["messages"], row["demanded_tls_1_2"], row["refused"], row["tokens"]),
                         ("2", "2", "1", "cert-none=1"))
        self.assertGreater(int(row["bytes"]), 0)
        self.assertRegex(self.connector("report"), r"(?m)^\d{4}-\d\d-\d\d +in +bank +2 .* cert-none=1$")
        self.connector("report", "nobody", status=1)
        self.connector("report", "--days", "0", status=2)


class Blocked(Operated):
    def shown(self, name):
        return [json.loads(line) for line in self.connector("show", name, "--json").splitlines()]

    def test_I_34_and_a_restart(self):
        """Blocked in the middle of a session, at its next MAIL; still so after a restart; until it is
        unblocked, for the session that is open too."""
        server = self.serve({"site": RELAY, "bank": BANK})
        leaf = self.leaf("a.relay.example.org", authority=self.private)
        client = self.client(leaf)
        client.message("a@example.org", ["b@far.example"])
        self.assertIn("refused from the next MAIL on", self.connector("block", "site", "--reason", "key stolen"))
        self.assertEqual(self.refusal(client, "a@example.org", at="MAIL")[:3], (550, "5.7.1", "connector-blocked"))
        event = server.wait_log("connector_blocked")[0]
        self.assertEqual([event[k] for k in ("connector", "dir", "reason")], ["site", "in", "key stolen"])
        self.assertNotEqual(event["by"], "unknown")
        self.client().message("a@elsewhere.example")    # nobody else is
        self.assertEqual(self.counted("refusals_total", connector="site", token="connector-blocked", state="enforce"), 1)
        self.assertEqual(self.counted("state", dir="in", connector="site"), 3)
        client.close()
        server.stop()
        server.start()
        client = self.client(leaf)
        self.assertEqual(self.refusal(client, "a@example.org", at="MAIL")[2], "connector-blocked")
        self.reload(bank=BANK)      # gone, and its mark is kept
        self.assertEqual(server.wait_log("connector_mark_unused")[0]["reason"], "key stolen")
        self.assertEqual([(c["state"], c["blocked"]["reason"]) for c in self.shown("site")], [("gone", "key stolen")])
        self.reload(bank=BANK, site=RELAY)
        client = self.client(leaf)
        self.assertEqual(self.refusal(client, "a@example.org", at="MAIL")[2], "connector-blocked")
        self.assertRegex(self.connector("show", "site"), r"(?s)inbound site: own blocked.*BLOCKED .* by .*: key stolen")
        self.assertRegex(self.connector("list"), r"in +site +blocked +own")
        self.connector("unblock", "site")
        client.message("a@example.org", ["b@far.example"])
        self.assertEqual(self.shown("site")[0]["blocked"], None)
        self.assertIn("no such connector is blocked", self.connector("unblock", "site", status=1))

    def test_exchange_words(self):
        self.serve({"bank": BANK}, **{"inbound-defaults": {"replies": "exchange"}})
        self.connector("block", "bank", "--reason", "x")
        self.assertEqual(self.refusal(self.client(self.leaf("mx.bank.example")), "a@bank.example", at="MAIL")[:3],
                         (550, "5.7.711", "connector-blocked"))

    def test_what_is_not_blocked(self):
        server = self.serve({"inner": BANK})
        self.assertIn("no such connector", self.connector("block", "nobody", "--reason", "x", status=1))
        self.assertIn("--direction", self.connector("block", "inner", "--reason", "x", status=1))
        self.assertIn("a reason is needed", self.connector("block", "inner", "--reason", "", status=1))
        self.assertIn("--reason", self.connector("block", "inner", status=2))
        self.assertEqual(server.http("/v1/connectors/block?name=inner&reason=x", "POST")[0], 403)
        self.connector("show", "nobody", status=1)
        self.assertEqual(server.log("connector_blocked"), [])

    def test_outbound(self):
        """Mail waits, over a restart too, and over connections that are open; others' goes."""
        one, two = Peer(self), Peer(self)
        server = self.serve({}, outbound={"one": one.route(["one.test"]), "two": two.route(["two.test"])})
        server.send(recipients=["x@one.test"])
        one.wait(1)
        self.connector("block", "one", "--reason", "wrong host", "--direction", "out")
        server.send(recipients=["y@one.test", "y@two.test"])
        two.wait(1)
        self.assertEqual(len(server.queue()), 1)
        server.stop()
        server.start()
        server.send(recipients=["z@two.test"])
        two.wait(2)
        self.assertEqual(len(one.messages), 1)
        connections = one.connections
        self.connector("unblock", "one")
        one.wait(2)
        self.assertEqual(one.connections, connections + 1)
        server.wait_empty()

    def test_a_damaged_file_keeps_it_down(self):
        server = self.serve({"bank": BANK})
        self.connector("block", "bank", "--reason", "x")
        server.stop()
        file = server.spool / "connector-marks.json"
        text = file.read_text()
        file.write_text(text[:-20])
        done = server.cli("serve")
        self.assertEqual(done.returncode, 1)
        self.assertIn("connector-marks.json", done.stderr)
        file.write_text(text)
        server.start()
        self.assertEqual(self.shown("bank")[0]["blocked"]["reason"], "x")

    def test_pages(self):
        """More than a page, each once, in the order of the server."""
        self.serve({f"c{i}": {**BANK, "sender-domains": [f"d{i}.example"]} for i in range(1100)})
        lines = [json.loads(line) for line in self.connector("list", "--json").splitlines()]
        names = [(c["direction"], c["name"]) for c in lines]
        self.assertEqual(len(names), 1101)
        self.assertEqual(set(names), {("out", "inner"), *(("in", f"c{i}") for i in range(1100))})


class Limits(Operated):
    def site(self, **limits):
        """A server that knows our site, with these limits; who comes from there."""
        self.serve({"site": {**RELAY, **{key.replace("_", "-"): value for key, value in limits.items()}}})
        return self.leaf("a.relay.example.org", authority=self.private)

    def refused(self, token):
        return self.counted("refusals_total", connector="site", token=token, state="enforce")

    def test_size(self):
        """At MAIL when it is told, else when the content is there; others may send as much as ever."""
        client = self.client(self.site(max_size="2K"))
        reply = client.cmd("MAIL FROM:<a@example.org> SIZE=5000")
        self.assertEqual(reply.code, 552)
        self.assertRegex(reply.text, r"^5\.3\.4 .* \[size\] d=")
        client.begin("a@example.org", ["b@far.example"])
        self.assertEqual(client.data("Subject: x\r\n\r\n" + "x" * 70 + "\r\n" * 2500).code, 552)
        client.message("a@example.org")
        self.assertEqual(self.refused("size"), 2)
        self.client().message("a@elsewhere.example", content="Subject: x\r\n\r\n" + ("x" * 70 + "\r\n") * 100)

    def test_recipients(self):
        client = self.client(self.site(max_recipients=100))
        client.begin("a@example.org", [f"r{i}@far.example" for i in range(100)])
        for i in range(30):     # more than bad-commands, and it may go on
            reply = client.cmd(f"RCPT TO:<s{i}@far.example>")
            self.assertEqual((reply.code, "[recipients]" in reply.text), (452, True), reply)
        self.assertEqual(client.data("Subject: x\r\n\r\n").code, 250)
        self.assertEqual(len(self.server.wait_log("received")[0]["to"]), 100)

    def test_rate(self):
        """So many a minute, whatever connections they come by."""
        leaf = self.site(max_rate=1)
        self.client(leaf).message("a@example.org")
        client = self.client(leaf)
        self.assertEqual(self.refusal(client, "a@example.org", at="MAIL")[:3], (450, "4.7.28", "rate"))
        self.client().message("a@elsewhere.example")

    def test_connections(self):
        """Counted from the first MAIL that it is attributed; given back when the session ends."""
        leaf = self.site(max_connections=2)
        one, two, three = (self.client(leaf) for _ in range(3))
        one.message("a@example.org")
        two.message("a@example.org")
        two.message("a@example.org")
        self.assertEqual(self.refusal(three, "a@example.org", at="MAIL")[:3], (421, "4.3.2", "connections"))
        self.assertEqual(three.rest(), b"")
        one.expect(221, "QUIT")

        def goes():
            client = self.client(leaf)
            return client.cmd("MAIL FROM:<a@example.org>").code == 250
        harness.wait_for(goes, "the place of the one that has left")

    def test_abuse(self):
        """The outside refuses what came by it, more often than it may: it blocks itself, until an
        operator has looked."""
        leaf = self.site(abuse_limit=3)
        self.inner.answers["RCPT"] = "550 5.7.1 spam"
        client = self.client(leaf)
        for i in range(4):
            client.message("a@example.org", [f"b{i}@far.example"])
        event = self.server.wait_log("connector_blocked")[0]
        self.assertEqual((event["connector"], event["dir"], event["by"]), ("site", "in", "abuse-limit"))
        self.assertIn("3 answers 5yz", event["reason"])
        self.assertEqual(self.refusal(client, "a@example.org", at="MAIL")[2], "connector-blocked")
        self.connector("unblock", "site")
        client.message("a@example.org", ["c@far.example"])
        self.server.wait_log("bounced", 5)
        client.message("a@example.org", ["d@far.example"])
        self.assertEqual(len(self.server.log("connector_blocked")), 1)


if __name__ == "__main__":
    harness.main()
