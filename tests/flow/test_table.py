"""test_table.py - the table of CONNECTORS 16.4, row by row: what the host shows, what is said about it

Each row is a connector and a next hop of its own, in one server. A row has its lines in the log, its
numbers, and, when the mail may not go, the report to the sender: for that a reload lets it expire.

Rows that need a past, a zone or a policy host are elsewhere:
  T-02 test_floor.Actions.test_alert_is_the_default    T-03 test_floor.Life.test_over_days
  T-24 test_tls_hostile.NextHops.test_cuts, and here its second attempt
  T-11, T-12, T-14, T-15, T-17 test_dane    T-18, T-19, T-21, T-30 test_sts    T-23 test_requiretls
"""
import re
import unittest

import harness
import pki
from harness import Peer, Ringpost
from test_dns import Nsd
from tls_wire import TlsPeer, scratch, server_context

MX = "mx.provider.example"
ZONE = """$TTL 60
@ IN SOA ns.flow.example. admin.flow.example. 1 3600 600 86400 60
  IN NS ns.flow.example.
ns IN A 127.0.0.1
h IN A 127.0.0.1
t07 IN MX 10 h.flow.example.
t08 IN MX 10 h.flow.example.
"""
SECRET = "not for everybody"


@harness.one_thread("the shard that delivers decides")
class Table(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.authority = pki.Authority()

    def context(self, *names, certificate=None, versions=("TLSv1_2", "TLSv1_3"), curve=None):
        context = server_context(certificate or self.authority.leaf(*names), versions)
        if curve:
            context.set_ecdh_curve(curve)
        return context

    def hop(self, title, *names, tls="may", host="127.0.0.1", offers=True, answers=None, starttls=None, **keys):
        """A next hop for x@TITLE.flow.example; names: of its certificate."""
        context = {name: keys.pop(name) for name in ("certificate", "versions", "curve") if name in keys}
        peer = TlsPeer(self, self.context(*names, **context) if offers else None, starttls=starttls, offers=offers,
                       host=host, answers=answers)
        self.peers.setdefault(title, []).append(peer)
        self.outbound[title] = {**peer.route([f"{title}.flow.example"]), "tls": tls, "roots": "test", **keys}
        return peer

    def begin(self):
        self.peers, self.outbound = {}, {}
        self.base = scratch(self)

    def serve(self, **delivery):
        (self.base / "roots.pem").write_text(self.authority.root.pem)
        chain, key = self.authority.leaf("mx.flow.test").write(self.base, "us")
        self.reports = Peer(self)
        self.outbound["back"] = self.reports.route(["back.test"])
        for keys in self.outbound.values():
            keys["type"] = "own"
        self.server = Ringpost(
            self, top={"shards": 1}, outbound=self.outbound, relay={"domains": ["*.example", "*.test"]},
            dns={"forwarders": [f"127.0.0.1:{Nsd(self, ZONE).port}"], "timeout": "2s"},
            delivery={"retry-initial": "1h", "retry-max": "1h", "private-networks": ["127.0.0.0/8"], **delivery},
            **{'roots "test"': {"file": self.base / "roots.pem"}, 'certificate "us"': {"chain": chain, "key": key}}).start()
        self.addCleanup(self.server.stop)

    def post(self, title):
        return self.server.send([f"x@{title}.flow.example"], f"{title}@back.test", f"Subject: x\r\n\r\n{SECRET}\r\n")

    def sent(self, title, clear=None, **fields):
        """Delivered, and how; then no word of a failure."""
        event = self.server.wait_log("delivered", to=f"x@{title}.flow.example")[0]
        self.assertEqual({k: event.get(k) for k in ("destination", "clear", *fields)},
                         {"destination": f"outbound:{title}" + (f":{title}.flow.example" if self.by_mx(title) else ""),
                          "clear": clear, **fields})
        self.assertEqual(self.failures(title), [])
        peer = self.peers[title][0]
        self.assertEqual([SECRET.encode() in m.content for m in peer.messages], [True])
        self.assertEqual(peer.in_clear(SECRET) == [], clear is None)

    def by_mx(self, title):
        return self.outbound[title]["hosts"] == ["mx"]

    def failures(self, title):
        return [e for e in self.server.log("host_failed") if e["destination"].split(":")[1].split("!")[0] == title]

    def expire(self, *failed):
        """Once it has failed at so many hosts, and the rest is on its way."""
        for title, hosts in failed:
            harness.wait_for(lambda t=title, n=hosts: len(self.failures(t)) >= n, lambda t=title: f"{t}: {self.server.log()[-4:]}")
        harness.wait_for(lambda: len(self.server.queue()) == len(failed), lambda: self.server.queue())
        for title in self.peers:
            self.server.outbound[title]["max-age"] = "1s"
        self.server.write_config()
        done = self.server.cli("reload")
        self.assertEqual(done.returncode, 0, done.stderr)

    def refused(self, title, token, status, want, hosts=1):
        """Nothing was taken; log, numbers, report."""
        report = harness.wait_for(lambda: next((m for m in self.reports.messages if m.recipients == [f"{title}@back.test"]), None),
                                  lambda: f"the report of {title}; {self.server.log()[-3:]}")
        told = self.failures(title)
        self.assertEqual([(e["token"], e["status"], e["want"]) for e in told], [(token, "4" + status[1:], want)] * hosts)
        self.assertEqual(self.server.metric(f'ringpost_delivery_host_failures_total{{token="{token}"}}'),
                         len([e for e in self.server.log("host_failed") if e["token"] == token]))
        text = b" ".join(report.content.split())
        self.assertIn(b"Status: " + status.encode(), text)
        self.assertEqual(self.server.metric(
            f'ringpost_connector_tls_failures_total{{connector="{title}",token="{token}"}}'), hosts)
        for peer in self.peers[title]:
            self.assertGreaterEqual(peer.connections, 1)
            self.assertEqual(peer.messages, [])
            self.assertTrue(peer.in_clear(SECRET) == [] or want == "may")
        return text

    def test_rows(self):
        self.begin()
        self_signed = pki.make("self", pki.shared_key("ec"), names=["self.example"])

        def broken(peer, wire, _):
            peer.say(wire, "220 2.0.0 go on")
            raise EOFError
        self.hop("t01", offers=False)
        first, second = (self.hop("t04", offers=False, tls="encrypt") for _ in range(2))
        self.outbound["t04"]["hosts"] = [first.address, second.address]
        self.hop("t05", certificate=self_signed, tls="encrypt")
        self.hop("t06", "other.example", tls="chain", **{"tls-name": ["mx.wanted.example"]})
        for title, keys in (("t07", {}), ("t08", {"tls-name": [MX]})):
            peer = self.hop(title, MX, tls="name", **keys)
            self.outbound[title].update(hosts=["mx"], port=peer.port)
        peer = self.hop("t09", "h.flow.example", tls="name")
        self.outbound["t09"]["hosts"] = [f"h.flow.example:{peer.port}"]
        self.hop("t25", MX, starttls=broken, cleartext="no-offer")
        self.hop("t26", MX, versions=("TLSv1_2", "TLSv1_2"), tls="internal",
                 **{"client-certificate": "us", "tls-name": [MX]})
        self.hop("t28", MX, curve="X25519", tls="encrypt", **{"min-group": "hybrid"})
        self.serve()
        for title in self.peers:
            self.post(title)
        self.expire(("t04", 2), ("t07", 1), ("t25", 1), ("t26", 1), ("t28", 1))
        with self.subTest(row="T-01"):
            self.sent("t01", clear="STARTTLS is not offered", want="may")
            self.assertEqual(self.server.metric('ringpost_connector_cleartext_total{connector="t01",reason="no-offer"}'), 1)
        with self.subTest(row="T-04"):
            self.refused("t04", "starttls-none", "5.7.0", "encrypt", hosts=2)
        with self.subTest(row="T-05"):
            self.sent("t05", cert_verdict="untrusted", want="encrypt")
        with self.subTest(row="T-06"):
            self.sent("t06", cert_verdict="valid", cert_name=False, want="chain")
        with self.subTest(row="T-07"):
            self.assertIn(MX.encode(), self.refused("t07", "name", "5.7.5", "name"))
        with self.subTest(row="T-08"):
            self.sent("t08", cert_verdict="valid", cert_name=True, want="name")
        with self.subTest(row="T-09"):
            self.sent("t09", cert_verdict="valid", cert_name=True, want="name")
        with self.subTest(row="T-25"):
            self.refused("t25", "handshake", "5.7.5", "may")
        with self.subTest(row="T-26"):
            self.refused("t26", "too-weak", "5.7.5", "internal")
        with self.subTest(row="T-28"):
            self.refused("t28", "too-weak", "5.7.5", "encrypt")

    def test_as_exchange_online_says_it(self):
        """replies = exchange is about what could not be delivered, too."""
        self.begin()
        self.hop("clear", offers=False, tls="encrypt")
        self.hop("name", "other.example", tls="name", **{"tls-name": [MX]})
        self.serve()
        self.server.sections["inbound-defaults"] = {"replies": "exchange"}
        self.server.write_config()
        self.assertEqual(self.server.cli("reload").returncode, 0)
        for title in self.peers:
            self.post(title)
        self.expire(("clear", 1), ("name", 1))
        self.refused("clear", "starttls-none", "5.4.317", "encrypt")
        self.refused("name", "name", "5.7.320", "name")

    def test_t10(self):
        """T-10. A host without a name, and no name that its certificate could bear: not even loaded."""
        server = Ringpost(self, outbound={"t10": {"domains": ["x.test"], "hosts": ["[192.0.2.1]"], "tls": "name"}})
        done = server.cli("check")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout + done.stderr, r'outbound "t10": tls-name: .*\(L-04\)')

    def test_t24(self):
        """T-24. The first attempt is deferred; the second one is in clear, on a connection without STARTTLS."""
        self.begin()

        def broken(peer, wire, _):
            peer.say(wire, "220 2.0.0 go on")
            raise EOFError
        peer = self.hop("t24", MX, starttls=broken, cleartext="handshake-failed")
        self.serve(**{"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"})
        self.post("t24")
        event = self.server.wait_log("delivered", to="x@t24.flow.example")[0]
        self.assertEqual((event["clear"], event["want"]), ("the TLS handshake failed before", "may"))
        failure = self.server.wait_log("destination_failed", token="handshake")[0]
        self.assertLess(failure["t"], event["t"])
        self.assertEqual(peer.in_clear(SECRET), [peer.connections])
        self.assertEqual(re.findall("STARTTLS", peer.wires[-1].raw.decode()), [])
        self.assertEqual(self.server.metric(
            'ringpost_connector_cleartext_total{connector="t24",reason="handshake-failed"}'), 1)

    def test_t29(self):
        """T-29. In clear, and it demands TLS that it does not offer: no bounce, but a wait, and an event."""
        self.begin()
        peer = self.hop("t29", offers=False, answers={"MAIL": "530 5.7.0 Must issue a STARTTLS command first"})
        self.serve(**{"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"})
        self.post("t29")
        event = self.server.wait_log("deferred", to="x@t29.flow.example")[0]
        self.assertEqual((event["stage"], event["code"], event["status"]), ("MAIL", 530, "4.7.0"))
        self.expire(("t29", 1))
        text = self.refused("t29", "peer-demands-tls", "5.7.0", "may", hosts=len(peer.verbs("MAIL")))
        self.assertIn(b"it demands TLS, and does not offer it to us", text)


if __name__ == "__main__":
    harness.main()
