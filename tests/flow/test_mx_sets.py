"""test_mx_sets.py - what domains with the same MX hosts share, and what shards share: a real NSD, one mail host

Domains dN.sets.example have one MX host, 127.0.0.20. Its certificate bears its own name and those of some
of them.
"""
import time
import unittest

import harness
import pki
from harness import Ringpost
from nsd import Nsd
from tls_wire import TlsPeer, scratch, server_context

ZONE = "sets.example"
DEAD = "dead.example"   # SERVFAIL
DOMAINS = 50
NAMED = 40      # of these the certificate bears the names


def slowly(_peer, _line):
    time.sleep(0.02)    # so that mail is there before a connection has nothing to do


class MxSets(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = unittest.TestCase()
        lines = ["$TTL 3600", "@ SOA ns hostmaster 1 3600 600 86400 60", "@ NS ns", "ns A 127.0.0.1", "mx A 127.0.0.20"]
        lines += [f"d{number} MX 10 mx" for number in range(DOMAINS)]
        cls.nsd = Nsd(cls.holder, {ZONE: f"$ORIGIN {ZONE}.\n" + "\n".join(lines) + "\n", DEAD: None})
        cls.authority = pki.Authority()
        cls.context = server_context(cls.authority.leaf(f"mx.{ZONE}", *(f"d{n}.{ZONE}" for n in range(NAMED))))

    @classmethod
    def tearDownClass(cls):
        cls.holder.doCleanups()

    def serve(self, sections=None, answers=None, top=None, retry="1h", **connector):
        self.peer = TlsPeer(self, self.context, host="127.0.0.20", answers={"END": slowly} if answers is None else answers)
        roots = scratch(self) / "roots.pem"
        roots.write_text(self.authority.root.pem)
        self.server = Ringpost(
            self, relay={"domains": ["*.example"]}, top=top,
            outbound={"mx": {"domains": ["*"], "hosts": ["mx"], "port": self.peer.port, "roots": "test", **connector}},
            delivery={"retry-initial": retry, "retry-max": retry, "retry-jitter": "0", "private-networks": ["127.0.0.0/8"]},
            dns={"forwarders": [f"127.0.0.1:{self.nsd.port}"], "timeout": "5s"},
            **{'roots "test"': {"file": roots}, **(sections or {})}).start()
        self.addCleanup(self.server.stop)

    def send(self, *numbers):
        for number in numbers:
            self.server.send(recipients=[f"r@d{number}.{ZONE}"])

    def connection_of(self, number):
        got, = [m for m in self.peer.messages if m.recipients == [f"r@d{number}.{ZONE}"]]
        return got.connection

    def test_fewer_connections_than_domains(self):
        self.serve(**{"max-connections": 4})
        self.send(*range(DOMAINS))
        self.server.wait_log("delivered", count=DOMAINS)
        self.assertEqual(len(self.peer.messages), DOMAINS)
        self.assertLess(self.peer.connections, DOMAINS // 2)
        self.assertGreaterEqual(self.server.metric("ringpost_delivery_connections_passed_total"), DOMAINS // 2)
        for number in range(DOMAINS):
            event, = [e for e in self.server.log("delivered") if e["to"] == f"r@d{number}.{ZONE}"]
            self.assertEqual((event["got"], event["want"]), ("name" if number < NAMED else "chain", "may"), event)

    def test_a_stricter_domain_has_its_own(self):
        """A rule demands TLS of one of them. What was made without the demand is none for it; what was
        made with it is one for all."""
        self.serve({'rule "strict"': {"if-recipient-domain": [f"d7.{ZONE}"], "require": "encrypt"}}, answers={},
                   top={"shards": 1})
        for number in (1, 7, 2):
            self.send(number)
            self.server.wait_log("delivered", to=f"r@d{number}.{ZONE}")
        self.assertNotEqual(self.connection_of(7), self.connection_of(1))
        self.assertIn(self.connection_of(2), (1, 2))
        self.assertEqual(self.peer.connections, 2)

    def test_a_name_is_looked_for_in_the_certificate_for_each(self):
        """What was verified for one of them says nothing of another, whom the certificate does not name."""
        self.serve(answers={}, top={"shards": 1}, tls="name")
        self.send(1)
        self.server.wait_log("delivered", to=f"r@d1.{ZONE}")
        self.send(NAMED)
        self.assertEqual(self.server.wait_log("host_failed")[0]["token"], "name")
        self.send(2)
        event = self.server.wait_log("delivered", to=f"r@d2.{ZONE}")[0]
        self.assertEqual((event["want"], event["got"]), ("name", "name"))
        self.assertEqual(self.connection_of(2), self.connection_of(1))
        self.assertEqual(len(self.peer.messages), 2)

    def failures(self):
        return (self.server.metric("ringpost_delivery_destination_failures_total"),
                self.server.metric("ringpost_lease_failures_total"))

    def one_probe_per_back_off(self, domain):
        """Mail on both shards; each that has some finds out once, from then on one looks for both."""
        for number in range(12):
            self.server.send(recipients=[f"r{number}@{domain}"])
        self.server.wait_metric("ringpost_lease_failures_total", 6)
        found, shared = self.failures()
        self.assertLessEqual(found, shared + 2, "destination_failed beside the lease's")

    def test_dead_dns_is_looked_at_by_one_shard(self):
        self.serve(retry="1s")
        self.one_probe_per_back_off(DEAD)
        self.nsd.change(DEAD, f"$ORIGIN {DEAD}.\n$TTL 1\n@ SOA ns.{ZONE}. hostmaster 1 3600 600 86400 1\n"
                        f"@ NS ns.{ZONE}.\n@ MX 10 mx.{ZONE}.\n")
        self.server.wait_log("delivered", count=12)

    def test_a_domain_without_tls_is_looked_at_by_one_shard(self):
        """And the site is none the worse for it."""
        self.serve({'rule "strict"': {"if-recipient-domain": [f"d7.{ZONE}"], "require": "encrypt"}}, retry="1s")
        self.peer.offers = False
        self.one_probe_per_back_off(f"d7.{ZONE}")
        self.send(1)
        self.server.wait_log("delivered", to=f"r@d1.{ZONE}")
        self.peer.offers = True
        self.server.wait_log("delivered", count=13)


if __name__ == "__main__":
    harness.main()
