"""test_explain.py - ringpost explain: reasons in full, and with --online what the running server knows (CONNECTORS 11.3)

What it says of decisions is held against the server's own in test_connectors, DANE in test_dane,
MTA-STS in test_sts.
"""
import json
import unittest

import harness
import pki
from harness import Peer, Ringpost
from test_dns import Nsd
from tls_wire import TlsPeer, scratch, server_context

ZONE = """$TTL 60
@ IN SOA ns.flow.example. admin.flow.example. 1 3600 600 86400 60
  IN NS ns.flow.example.
ns IN A 127.0.0.1
h IN A 127.0.0.1
bank IN MX 10 h.flow.example.
new IN MX 10 h.flow.example.
"""


class Explain(unittest.TestCase):
    def explain(self, *words, status=0):
        done = self.server.cli("explain", *words)
        self.assertEqual((done.returncode, done.stderr), (status, ""))
        return done.stdout

    def objects(self, *words, status=0):
        return json.loads(self.explain(*words, "--json", status=status))["recipients"]


class Online(Explain):
    def way(self, recipient, *words):
        return self.objects("out", "--from", "a@flow.test", "--to", recipient, "--online", *words)[0]["way"]

    def test_what_the_server_knows(self):
        """Floor memory of the host, source, connections of the limit, and what waits before; without a server it is said."""
        authority, base = pki.Authority(), scratch(self)
        (base / "roots.pem").write_text(authority.root.pem)
        peer = TlsPeer(self, server_context(authority.leaf("h.flow.example", "bank.flow.example")))
        keys = {**peer.route(), "hosts": ["mx"], "port": peer.port, "tls": "name", "roots": "test", "max-connections": 7}
        self.server = server = Ringpost(
            self, outbound={"bank": {**keys, "domains": ["bank.flow.example", "new.flow.example"], "ehlo": "out1.flow.test",
                                     "source-addresses": ["127.0.0.5"], "max-rate": 600}},
            relay={"domains": ["*.example", "*.test"]},
            dns={"forwarders": [f"127.0.0.1:{Nsd(self, ZONE).port}"], "timeout": "2s"},
            delivery={"floor-learn": 1, "floor-learn-time": "0s", "idle-timeout": "1m", "private-networks": ["127.0.0.0/8"]},
            **{'roots "test"': {"file": base / "roots.pem"}})
        server.write_config()
        online = self.way("x@bank.flow.example")["online"]
        memory, throttle = online["hosts"][0]["memory"], online["throttle"]
        self.assertEqual((memory["known"], memory["record"], throttle["known"]), (False, None, False))
        for why in (memory["why"], throttle["why"]):
            self.assertEqual(why, f"no server answers at {server.socket}")
        self.assertEqual((throttle["limit"], throttle["rate"], throttle["connections"]), (7, 600, 0))
        text = self.explain("out", "--from", "a@flow.test", "--to", "x@bank.flow.example", "--online")
        self.assertIn(f"memory    not known: no server answers at {server.socket}\n", text)
        self.assertIn("throttle    7 connections at most, 600 messages a minute; in use: not known, no server", text)
        self.assertIn("source      127.0.0.5, ehlo out1.flow.test\n", text)
        server.start()
        self.addCleanup(server.stop)
        online = self.way("x@bank.flow.example")["online"]
        self.assertEqual(online["hosts"][0]["memory"], {"known": True, "why": "", "record": None})
        for _ in range(2):
            server.send(["x@bank.flow.example"], "a@flow.test", "Subject: x\r\n\r\nx\r\n")
        server.wait_log("delivered", count=2)

        def learned():
            return self.way("x@bank.flow.example")["online"]["hosts"][0]["memory"]["record"]
        record = harness.wait_for(learned, lambda: server.cli("tls", "report").stdout)
        self.assertEqual((record["host"], record["domain"]), (f"h.flow.example:{peer.port}", "bank.flow.example"))
        self.assertEqual((record["best"]["version"], record["best"]["chain"], record["best"]["name"]), ("1.3", True, True))
        self.assertIsNone(self.way("x@new.flow.example")["online"]["hosts"][0]["memory"]["record"], "another domain's is its own")
        self.assertEqual(server.cli("connector", "block", "bank", "--reason", "to have mail wait").returncode, 0)
        for number in range(3):
            server.send([f"{number}@bank.flow.example"], "a@flow.test", "Subject: x\r\n\r\nx\r\n")
        throttle = self.way("x@bank.flow.example")["online"]["throttle"]
        self.assertEqual((throttle["known"], throttle["destination"]), (True, "outbound:bank:bank.flow.example"))
        self.assertEqual((throttle["limit"], throttle["rate"], throttle["waiting"], throttle["binds"]), (7, 600, 3, "blocked"))
        self.assertLessEqual(throttle["connections"], 7)
        text = self.explain("out", "--from", "a@flow.test", "--to", "x@bank.flow.example", "--online")
        self.assertRegex(text, r"memory    TLS 1\.3, .*, since 20\d\d-\d\d-\d\d; met \d+ times since 20")
        self.assertRegex(text, r"throttle    \d of 7 connections, 600 messages a minute, 3 messages waiting before this one; blocked: ")
        self.assertEqual(self.way("x@new.flow.example")["online"]["throttle"]["waiting"], 0)
        self.assertEqual(server.cli("connector", "unblock", "bank").returncode, 0)
        server.wait_log("delivered", count=5)
        throttle = self.way("x@bank.flow.example")["online"]["throttle"]
        self.assertEqual(throttle["waiting"], 0)
        self.assertGreaterEqual(throttle["connections"], 1, "they rest, for the next message")

    def test_the_kernels_choice(self):
        peer = Peer(self)
        self.server = Ringpost(self, outbound={"plain": {**peer.route(["plain.test"]), "tls": "none"}})
        self.server.write_config()
        source = self.way("x@plain.test")["online"]["source"]
        self.assertEqual(source, {"ehlo": "mx.flow.test", "ipv4": [], "ipv6": [], "ipv4_now": "127.0.0.1", "ipv6_now": ""})
        self.assertIn("source      127.0.0.1 (the kernel's choice), ehlo mx.flow.test\n",
                      self.explain("out", "--from", "a@flow.test", "--to", "x@plain.test", "--online"))
        self.assertNotIn("source", self.explain("out", "--from", "a@flow.test", "--to", "x@plain.test"))


class Reasons(Explain):
    def setUp(self):
        partner = {"type": "partner", "state": "enforce", "restrict": True}
        store = {"hosts": ["192.0.2.9"], "type": "own", "state": "enforce"}
        base = scratch(self)
        chain, key = pki.Authority().leaf("mx.flow.test").write(base, "us")
        self.server = Ringpost(
            self, relay={"domains": ["corp.example"], "networks": ["192.0.2.128/25"]},
            listeners={"in": {"certificates": ["us"]}},
            outbound={"bank": {**store, "domains": ["*.bank.example"], "tls": "encrypt", "min-group": "hybrid"},
                      "store": {**store, "domains": ["all-own"]}, "journal": {**store, "scope": "rule"}},
            **{'certificate "us"': {"chain": chain, "key": key},
               'inbound "datacentre"': {"type": "own", "state": "enforce", "cert-name": ["*.relay.corp.example"],
                                        "rights": ["relay"], "tls-min": "1.3"},
               'inbound "scanner"': {**partner, "sender-domains": ["*"], "addresses": ["192.0.2.0/28"]},
               'inbound "bank"': {**partner, "state": "test", "sender-domains": ["bank.example"],
                                  "cert-name": ["mx.bank.example"]},
               'rule "journals"': {"if-recipient-domain": ["journal.example"], "use": "journal"}})
        self.server.write_config()

    def test_at_the_door(self):
        words = ("in", "--peer", "192.0.2.7", "--cert", "mx.bank.example", "--tls", "1.3", "--from", "a@bank.example",
                 "--to", "b@corp.example")
        told, = self.objects(*words)
        self.assertNotIn("way", told)
        by = {c["connector"]: c["by"] for c in told["considered"]}
        self.assertEqual(by, {"datacentre": "", "scanner": "covers by *, restricting; network 192.0.2.0/28",
                              "bank": "covers by bank.example, restricting; name mx.bank.example"})
        self.assertEqual((told["relay"], told["floor"]),
                         ("own", {"connector": "scanner", "tls": "required", "tls_min": "1.2", "min_group": "any", "met": True,
                                  "have": "1.3", "have_hybrid": False}))
        text = self.explain(*words)
        for line in ("floor       required, 1.2 (scanner); met: TLS 1.3", "rcpt        an own domain, no right to relay is needed"):
            self.assertIn(line + "\n", text)
        self.assertNotIn("way out", text)
        clear, = self.objects("in", "--peer", "192.0.2.7", "--from", "a@far.example", "--to", "b@corp.example", status=1)
        self.assertEqual((clear["token"], clear["floor"]["met"], clear["floor"]["have"]), ("tls-required", False, "none"))

    def test_who_may_relay(self):
        for words, relay, line in (
                (("--ip", "192.0.2.200"), "submission", "relayed: the client may send anywhere (relay { networks })"),
                (("--tls", "1.3", "--cert", "a.relay.corp.example"), "connector", "relayed by the right of datacentre"),
                (("--peer", "192.0.2.7", "--tls", "1.3"), "none", "no own domain, and no right to relay")):
            with self.subTest(relay):
                told = ("in", *words, "--from", "a@far.example", "--to", "c@y.example")
                status = int(relay == "none")
                self.assertEqual(self.objects(*told, status=status)[0]["relay"], relay)
                self.assertIn(f"rcpt        {line}\n", self.explain(*told, status=status))

    def test_on_the_way_out(self):
        for recipient, connector, pattern, group in (
                ("a@sales.bank.example", "bank", "*.bank.example", "hybrid"), ("a@corp.example", "store", "all-own", "any"),
                ("a@journal.example", "journal", "rule journals", "any"), ("a@far.example", None, "", "any")):
            with self.subTest(recipient):
                # who may not relay is asked about the way out all the same
                way = self.objects("out", "--from", "b@corp.example", "--to", recipient)[0]["way"]
                self.assertEqual((way["connector"], way["pattern"], way["min_group"]), (connector, pattern, group))
        text = self.explain("out", "--from", "b@corp.example", "--to", "a@sales.bank.example")
        self.assertIn("way out     connector bank by *.bank.example, at least encrypt, hybrid group\n", text)
        self.assertRegex(text, r"journal +own +enforce +no rule names it")
        self.assertNotIn("reply", text)
        for words in (("sideways",), ("in", "out")):
            done = self.server.cli("explain", *words, "--from", "a@b.example", "--to", "c@corp.example")
            self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn("[in|out]", self.server.cli("explain", "--help").stdout)


if __name__ == "__main__":
    harness.main()
