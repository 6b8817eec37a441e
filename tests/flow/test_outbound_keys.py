"""test_outbound_keys.py - keys of an outbound connector: pins, groups, the name in the ClientHello, rate, age"""
import hashlib
import unittest

from cryptography.hazmat.primitives import serialization

import harness
from harness import Peer, Ringpost
from pki import Authority, KEYS
from tls_wire import TlsPeer, scratch, server_context

NAME = "mx.good.test"
FAST = {"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"}


def pin(key):
    spki = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256:" + hashlib.sha256(spki).hexdigest()


@harness.one_thread("the shard that delivers decides")
class OutboundKeys(unittest.TestCase):
    def serve(self, outbound, **config):
        config.setdefault("delivery", FAST)
        server = Ringpost(self, outbound=outbound, **config).start()
        self.addCleanup(server.stop)
        return server

    def test_pins(self):
        """The key alone at encrypt, by an authority that nobody knows; besides chain and name at name."""
        authority, stranger = Authority(), Authority("Stranger")
        roots = scratch(self) / "roots.pem"
        roots.write_text(authority.root.pem)
        known, other = KEYS["ec"](), KEYS["ec"]()
        alone = TlsPeer(self, server_context(stranger.leaf("else.test", key=known)))
        both = TlsPeer(self, server_context(authority.leaf(NAME, key=known)))
        wrong = TlsPeer(self, server_context(authority.leaf(NAME, key=other)))
        untrusted = TlsPeer(self, server_context(stranger.leaf(NAME, key=known)))
        pins = {"tls-pin": [pin(KEYS["ec"]()), pin(known)]}
        name = {"tls": "name", "tls-name": [NAME], "roots": "test", **pins}
        server = self.serve({"alone": alone.route(["alone.test"], tls="encrypt", **pins),
                             "both": both.route(["both.test"], **name),
                             "wrong": wrong.route(["wrong.test"], **name),
                             "bare": wrong.route(["bare.test"], tls="encrypt", **pins),
                             "untrusted": untrusted.route(["untrusted.test"], **name)},
                            **{'roots "test"': {"file": roots}})
        for domain in ("alone", "both", "wrong", "bare", "untrusted"):
            server.send(recipients=[f"x@{domain}.test"])
        alone.wait(1)
        both.wait(1)
        for destination, fault in (("wrong", "pinned"), ("bare", "pinned"), ("untrusted", "untrusted|not trusted|root")):
            event = server.wait_log("destination_failed", destination=f"outbound:{destination}")[0]
            self.assertRegex(event["why"], fault)
        server.wait_metric('ringpost_client_tls_faults_total{fault="pin"}', 2)
        self.assertEqual((wrong.messages, untrusted.messages), ([], []))

    def test_a_host_without_a_hybrid_is_too_weak_for_who_wants_one(self):
        peer = TlsPeer(self, server_context(Authority().leaf(NAME)))
        server = self.serve({"bank": peer.route(tls="encrypt", **{"min-group": "hybrid"})})
        server.send(recipients=["x@bank.test"])
        event = server.wait_log("destination_failed", destination="outbound:bank")[0]
        self.assertIn("hybrid", event["why"])
        server.wait_metric('ringpost_client_tls_faults_total{fault="too-weak"}', 1)
        self.assertEqual(peer.messages, [])

    def test_the_name_in_the_hello(self):
        seen = {}

        def peer(label):
            context = server_context(Authority().leaf(NAME))
            context.sni_callback = lambda s, name, c: seen.setdefault(label, []).append(name)
            return TlsPeer(self, context)

        peers = {"host": peer("host"), "none": peer("none"), "named": peer("named")}
        sni = {"host": "host", "none": "none", "named": "inner.good.test"}
        server = self.serve({label: p.route([f"{label}.test"], tls="encrypt", sni=sni[label])
                             for label, p in peers.items()})
        for label, p in peers.items():
            server.send(recipients=[f"x@{label}.test"])
            p.wait(1)
        self.assertEqual(seen, {"host": [None], "none": [None], "named": ["inner.good.test"]})

    def test_mail_of_a_connector_expires_by_its_own_age(self):
        rest = Peer(self)
        dead = {"domains": ["dead.test"], "hosts": [f"127.0.0.1:{harness.free_port()}"], "allow-private": True}
        server = self.serve({"short": {**dead, "max-age": "2s"}, "long": {**dead, "domains": ["slow.test"]},
                             "rest": rest.route(["*"])})
        server.send(recipients=["x@dead.test", "y@slow.test"], sender="s@example.com")
        bounce = rest.wait(1)[0]
        self.assertIn(b"Final-Recipient: rfc822; x@dead.test", bounce.content)
        self.assertIn(b"Status: 5.4.7", bounce.content)
        server.wait_log("expired", to="x@dead.test")
        self.assertEqual(server.log("expired")[1:], [])

    def test_mail_that_only_tls_holds_back_expires_earlier_and_says_so(self):
        clear, rest = Peer(self), Peer(self)
        server = self.serve({"strict": clear.route(["strict.test"], tls="encrypt", **{"tls-max-age": "2s"}),
                             "rest": rest.route(["*"])})
        server.send(recipients=["x@strict.test"], sender="s@example.com")
        bounce = rest.wait(1)[0]
        self.assertIn(b"Final-Recipient: rfc822; x@strict.test", bounce.content)
        self.assertIn(b"Status: 5.7.0", bounce.content)
        self.assertEqual(clear.messages, [])


if __name__ == "__main__":
    harness.main()
