"""test_dane.py - DANE for SMTP (RFC 7672): a real NSD serves a signed zone, peers present what fits or not

Hosts are 127.0.0.20 and up, all on one port. The zone dane.example is signed, and its key is the trust
anchor; plain.dane.example below it is delegated without a DS record.
"""
import base64
import hashlib
import json
import re
import unittest

import harness
import pki
from harness import Ringpost
from nsd import Nsd
from tls_wire import TlsPeer, server_context

FAST = {"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0", "private-networks": ["127.0.0.0/8"]}
ZONE = "dane.example"
# host: its address; what is at _PORT._tcp of it
HOSTS = {"ee": 20, "ta": 21, "mismatch": 22, "pkix": 23, "bogus": 24, "bare": 25, "misnamed": 26, "none": 27,
         "clear": 28, "malformed": 29}


def spki(certificate):
    return certificate.key.public_key().public_bytes(pki.serialization.Encoding.DER,
                                                     pki.serialization.PublicFormat.SubjectPublicKeyInfo)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@harness.one_thread("the shard that delivers asks, and decides")
class Dane(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = unittest.TestCase()
        cls.port = harness.free_port()
        cls.make_peers()
        cls.nsd = Nsd(cls.holder, cls.zones(), [ZONE], cls.spoil)
        bounces = harness.Peer(cls.holder)
        cls.bounces = bounces
        mx = {"hosts": ["mx"], "port": cls.port}
        cls.server = Ringpost(
            cls.holder, relay={"domains": ["*.example"]}, delivery=FAST,
            dns={"forwarders": [f"127.0.0.1:{cls.nsd.port}"], "timeout": "5s", "trust-anchor": str(cls.nsd.anchor)},
            outbound={"mx": {"domains": ["*"], **mx},
                      "must": {"domains": [f"none.{ZONE}", f"must-ee.{ZONE}", f"must-pkix.{ZONE}"], **mx, "dane": "must"},
                      "off": {"domains": [f"off-mismatch.{ZONE}"], **mx, "dane": "none"},
                      "strict": {"domains": [f"strict-ee.{ZONE}"], **mx, "tls": "name"},
                      "smart": {"domains": ["smart.example"], "hosts": [f"mx.ee.{ZONE}:{cls.port}"]},
                      "brief": {"domains": [f"brief-{host}.{ZONE}" for host in ("mismatch", "clear", "bogus")], **mx, "max-age": "1s"},
                      "brief-must": {"domains": [f"brief-none.{ZONE}"], **mx, "dane": "must", "max-age": "1s"},
                      "back": bounces.route(["example.com"])}).start()
        cls.holder.addCleanup(cls.server.stop)
        cls.server.wait_log("dnssec", works=True, zone=ZONE)    # a mail may be as early as it likes

    @classmethod
    def tearDownClass(cls):
        cls.holder.doCleanups()

    @classmethod
    def make_peers(cls):
        cls.peers = {}
        cls.authority = pki.Authority()
        cls.certificates = {}
        for host, address in HOSTS.items():
            name = f"mx.{host}.{ZONE}" if host != "misnamed" else "mx.other.test"
            key = pki.KEYS["ec"]()
            certificate = cls.authority.leaf(name, key=key) if host in ("ta", "bare", "misnamed") else \
                pki.make("nobody", key, days=(-20, -10) if host == "ee" else (-1, 90))
            certificate.issuers = [] if host == "bare" else certificate.issuers
            cls.certificates[host] = certificate
            cls.peers[host] = TlsPeer(cls.holder, server_context(certificate), offers=host != "clear",
                                      host=f"127.0.0.{address}", port=cls.port)

    @classmethod
    def zones(cls):
        of = {host: cls.certificates[host] for host in HOSTS}
        middle = cls.authority.middle
        tlsa = {"ee": f"3 1 1 {sha256(spki(of['ee']))}", "ta": f"2 1 1 {sha256(spki(middle))}",
                "misnamed": f"2 0 1 {sha256(middle.der)}", "bare": f"2 1 0 {spki(middle).hex()}",
                "mismatch": f"3 1 1 {'00' * 32}", "pkix": f"1 1 1 {sha256(spki(of['pkix']))}",
                "clear": f"0 1 1 {'00' * 32}", "bogus": f"3 1 1 {sha256(spki(of['bogus']))}",
                "malformed": "3 1 1 00ff"}
        lines = ["@ SOA ns hostmaster 1 3600 600 86400 60", "@ NS ns", "ns A 127.0.0.1"]
        for host, address in HOSTS.items():
            lines += [f"{host} MX 10 mx.{host}", f"mx.{host} A 127.0.0.{address}"]
            if host in tlsa:
                lines.append(f"_{cls.port}._tcp.mx.{host} TLSA {tlsa[host]}")
        for name in ("must-ee", "strict-ee", "off-mismatch", "must-pkix", "brief-mismatch", "brief-clear", "brief-bogus",
                     "brief-none"):
            lines.append(f"{name} MX 10 mx.{name.split('-')[1]}")
        lines += ["next MX 10 mx.bogus", "next MX 20 mx.mismatch", "next MX 30 mx.ee",
                  "alias MX 10 mx.alias", "mx.alias CNAME mx.ee",
                  "own MX 10 mx.own", f"mx.own CNAME mx.none.plain.{ZONE}.",
                  f"_{cls.port}._tcp.mx.own TLSA 3 1 1 {sha256(spki(of['none']))}",
                  "plain NS ns.plain", "ns.plain A 127.0.0.1"]
        below = ["@ SOA ns hostmaster 1 3600 600 86400 60", "@ NS ns", "ns A 127.0.0.1", "mail MX 10 mx.none",
                 "mx.none A 127.0.0.27", f"_{cls.port}._tcp.mx.none TLSA 3 1 1 {'00' * 32}"]
        head = "$ORIGIN {}.\n$TTL 60\n"
        return {ZONE: head.format(ZONE) + "\n".join(lines) + "\n",
                f"plain.{ZONE}": head.format(f"plain.{ZONE}") + "\n".join(below) + "\n"}

    @classmethod
    def spoil(cls, _, line):
        """The signature over one TLSA record is of somebody else."""
        if line.startswith(f"_{cls.port}._tcp.mx.bogus.") and "\tRRSIG\tTLSA" in line:
            words = line.split()
            words[-1] = base64.b64encode(bytes(64)).decode()
            line = " ".join(words) + "\n"
        return line

    def delivered(self, domain, host, got, policy):
        peer = self.peers[host]
        before = len(peer.messages)
        self.server.send(recipients=[f"x@{domain}"])
        event = self.server.wait_log("delivered", to=f"x@{domain}")[-1]
        self.assertEqual((event["got"], event["policy"]), (got, policy), event)
        self.assertEqual(len(peer.messages), before + 1)
        return event

    def refused(self, domain, host, token, status):
        """Deferred; no content went out. The token is in the log, a metric and the queue's report."""
        peer = self.peers[host]
        metric = f'ringpost_delivery_host_failures_total{{token="{token}"}}'
        before = self.server.metric(metric)
        messages = len(peer.messages)
        queue_id = self.server.send(recipients=[f"x@{domain}"])
        name = f"mx.{host}.{ZONE}"
        ours = re.compile(rf".*:{re.escape(domain)}($|!)")     # and not that of another domain with the same hosts
        failed = harness.wait_for(lambda: [e for e in self.server.log("host_failed") if ours.match(e["destination"])],
                                  f"a host of {domain} that failed")[0]
        destination = failed["destination"]
        self.assertEqual((failed["host"], failed["token"]), (name, token))
        self.assertEqual((failed["status"], "dane" in failed["policy"]), (status, True), failed)
        self.assertEqual(self.server.wait_log("destination_failed", destination=destination)[0]["token"], token)
        self.assertGreater(self.server.metric(metric), before)
        message, = [m for m in self.server.queue() if m["id"] == queue_id]
        self.assertIn(f"{name}: {token}: ", message["units"][0]["destination_error"])
        self.assertEqual(len(peer.messages), messages)
        return failed

    def test_usage_3(self):
        """T-11: self-signed, expired, without a name."""
        self.delivered(f"ee.{ZONE}", "ee", "dane-ee", "connector,dane")
        metric = 'ringpost_dane_lookups_total{result="usable"}'
        self.server.wait_metric(metric, 1)

    def test_usage_2(self):
        self.delivered(f"ta.{ZONE}", "ta", "dane-ta", "connector,dane")

    def test_usage_2_by_a_bare_key(self):
        self.delivered(f"bare.{ZONE}", "bare", "dane-ta", "connector,dane")

    def test_usage_2_asks_for_a_name(self):
        self.refused(f"misnamed.{ZONE}", "misnamed", "name", "4.7.5")

    def test_mismatch(self):
        """T-12"""
        failed = self.refused(f"mismatch.{ZONE}", "mismatch", "tlsa", "4.7.5")
        self.assertIn("none of its 1 TLSA records fits", failed["why"])

    def test_usage_1_only_asks_for_tls(self):
        """T-14, and with TLS it goes."""
        event = self.delivered(f"pkix.{ZONE}", "pkix", "encrypt", "connector,dane")
        self.assertEqual(event["want"], "encrypt")
        self.refused(f"clear.{ZONE}", "clear", "starttls-none", "4.7.0")

    def test_bogus(self):
        """T-15: nobody is even connected to."""
        self.refused(f"bogus.{ZONE}", "bogus", "dnssec", "4.4.3")
        self.assertEqual(self.peers["bogus"].connections, 0)

    def test_next_host(self):
        """T-15: one is skipped, one does not fit, the third has it."""
        self.delivered(f"next.{ZONE}", "ee", "dane-ee", "connector,dane")
        tokens = [e["token"] for e in self.server.log("host_failed") if e["destination"].endswith(f":next.{ZONE}")]
        self.assertEqual(tokens, ["dnssec", "tlsa"])

    def test_malformed(self):
        self.refused(f"malformed.{ZONE}", "malformed", "tlsa-bad", "4.7.5")

    def test_cname(self):
        """Signed all the way: records of the name at its end; else those of the host's own name."""
        self.delivered(f"alias.{ZONE}", "ee", "dane-ee", "connector,dane")
        self.delivered(f"own.{ZONE}", "none", "dane-ee", "connector,dane")

    def test_insecure_delegation(self):
        """Its TLSA record would not fit: what is not signed does not count."""
        self.delivered(f"mail.plain.{ZONE}", "none", "encrypt", "connector")

    def test_must(self):
        """T-17"""
        self.refused(f"none.{ZONE}", "none", "dane-required", "4.7.5")
        self.delivered(f"must-ee.{ZONE}", "ee", "dane-ee", "connector,dane")
        self.server.send(recipients=[f"x@must-pkix.{ZONE}"])
        self.server.wait_log("host_failed", host=f"mx.pkix.{ZONE}", token="dane-required")

    def test_the_sender_is_told(self):
        """T-12, T-14, T-15, T-17 when their time is up: what the host lacked, and who asked for it."""
        for host, status, words in (
                ("mismatch", "5.7.5", "none of its 1 TLSA records fits what it presents; wanted: encrypt, by connector,dane"),
                ("clear", "5.7.0", "STARTTLS is not offered; wanted: encrypt, by connector,dane"),
                ("bogus", "5.4.3", "validation failed; wanted: "), ("none", "5.7.5", "dane-required: ")):
            with self.subTest(host=host):
                self.server.send([f"x@brief-{host}.{ZONE}"], f"brief-{host}@example.com")
                report = harness.wait_for(lambda h=host: next(
                    (m for m in self.bounces.messages if m.recipients == [f"brief-{h}@example.com"]), None), f"the report of {host}")
                text = b" ".join(report.content.split()).decode()
                self.assertIn(f"Status: {status} ", text)
                self.assertIn(f"mx.{host}.{ZONE}", text)
                self.assertIn(words, text)
                self.assertNotIn("1970", text)

    def test_none(self):
        self.delivered(f"off-mismatch.{ZONE}", "mismatch", "encrypt", "connector")

    def test_connector_and_dane_must_both_pass(self):
        self.server.send(recipients=[f"x@strict-ee.{ZONE}"])
        failed = self.server.wait_log("host_failed", destination=f"outbound:strict:strict-ee.{ZONE}")[0]
        self.assertEqual((failed["token"], failed["want"], failed["policy"]), ("chain", "name", "connector,dane"))

    def test_named_host(self):
        """The subject is the smart host's own domain."""
        self.delivered("smart.example", "ee", "dane-ee", "connector,dane")

    def test_probe(self):
        """What a delivery would find, said before there is one."""
        for domain, ok, state, match in ((f"ee.{ZONE}", True, "usable", "dane-ee"),
                                         (f"alias.{ZONE}", True, "usable", "dane-ee"),
                                         (f"mismatch.{ZONE}", False, "usable", "none"),
                                         (f"bogus.{ZONE}", False, "bogus", None),
                                         (f"none.{ZONE}", False, "absent", None),
                                         (f"mail.plain.{ZONE}", True, "insecure", None)):
            with self.subTest(domain=domain):
                done = self.server.cli("tls", "probe", "--mx", domain, "--json")
                host, = json.loads(done.stdout)["hosts"]
                self.assertEqual((done.returncode == 0, host["ok"]), (ok, ok), done.stdout)
                self.assertEqual((host["tlsa"]["state"], host.get("dane")), (state, match))
        told = self.server.cli("tls", "probe", "--mx", f"ta.{ZONE}").stdout
        self.assertRegex(told, r"TLSA +usable\n +records +2 1 1 [0-9a-f]{64}")
        self.assertRegex(told, r"DANE +dane-ta\n")

    def test_validation_that_does_not_work(self):
        """With the key of somebody else nothing is believed; without one, nothing is validated."""
        self.assertEqual(self.server.metric("ringpost_dnssec_works"), 1)
        wrong = self.server.directory / "wrong.key"
        words = self.nsd.anchor.read_text().split("\t")
        key = words[-1].split()
        key[3] = base64.b64encode(bytes(64)).decode()
        wrong.write_text("; not the zone's\n" + "\t".join(words[:-1]) + "\t" + " ".join(key[:4]) + "\n")
        for anchor, why in ((str(wrong), "validation failed"), (None, "trust-anchor")):
            with self.subTest(anchor=anchor):
                dns = {"forwarders": [f"127.0.0.1:{self.nsd.port}"], "timeout": "5s"}
                server = Ringpost(self, relay={"domains": ["*.example"]}, delivery=FAST,
                                  dns={**dns, **({"trust-anchor": anchor} if anchor else {})},
                                  outbound={"mx": {"domains": ["*"], "hosts": ["mx"], "port": self.port}}).start()
                self.addCleanup(server.stop)
                self.assertIn(why, server.wait_log("dnssec", works=False)[0]["why"])
                self.assertEqual(server.metric("ringpost_dnssec_works"), 0)
                server.send(recipients=[f"x@none.{ZONE}"])
                if anchor:
                    self.assertEqual(server.wait_log("destination_failed")[0]["token"], "dnssec")
                else:
                    event, = server.wait_log("delivered")
                    self.assertEqual((event["got"], event["policy"]), ("encrypt", "connector"))

    def test_check_online(self):
        """What `dane = must` finds now, told by check when the network may be asked (L-21)."""
        done = self.server.cli("check", "--online")
        self.assertEqual(done.returncode, 0, done.stderr)
        told = [line.partition('outbound "')[2] for line in done.stdout.splitlines() if "(L-21)" in line]
        self.assertEqual(sorted(line.partition(" has no usable")[0] for line in told),
                         [f'brief-must": dane: must, and mx.none.{ZONE}', f'must": dane: must, and mx.none.{ZONE}', f'must": dane: must, and mx.pkix.{ZONE}'])
        self.assertNotIn("L-21", self.server.cli("check").stdout)

    def test_explain_online(self):
        """Hosts, TLSA records and what each would have to show, as they are now."""
        def online(name):
            done = self.server.cli("explain", "--from", "a@flow.test", "--to", f"x@{name}.{ZONE}", "--ip", "127.0.0.1", "--online", "--json")
            found = json.loads(done.stdout)["recipients"][0]["way"]["online"]
            return found["hosts"][0]
        host = online("ee")
        self.assertEqual((host["host"], host["dnssec"], host["dane"], host["must_dane"]), (f"mx.ee.{ZONE}", True, "usable", True))
        self.assertRegex(host["tlsa"][0], "^3 1 1 [0-9a-f]{64}$")
        self.assertIn("dane", host["by"])
        host = online("none")
        self.assertEqual((host["dnssec"], host["dane"], host["must_dane"], host["tlsa"]), (True, "absent", False, []))
        words = self.server.cli("explain", "--from", "a@flow.test", "--to", f"x@ee.{ZONE}", "--ip", "127.0.0.1", "--online").stdout
        self.assertRegex(words, rf"mx\.ee\.{ZONE} at 127\.0\.0\.\d+:\d+, secure")
        self.assertNotIn("secure", self.server.cli("explain", "--from", "a@flow.test", "--to", f"x@ee.{ZONE}", "--ip", "127.0.0.1").stdout)


if __name__ == "__main__":
    harness.main()
