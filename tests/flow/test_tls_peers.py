"""test_tls_peers.py - TLS with Exim in both directions, and from OpenSMTPD

Exim has GnuTLS at both ends: here a server of GnuTLS is met, and its sessions are resumed. GnuTLS's
command line client is in test_tls.py. Without root all of this is skipped (peers.py).
"""
import re
import unittest

import harness
import pki
from harness import Peer, Ringpost, Smtp
from peers import HOST, Exim, OpenSmtpd, skip_unless_possible
from tls_wire import scratch

EXIM = "mx.exim.test"
# More than some records; dots, long lines and octets above 127.
CONTENT = b"From: <a@example.com>\r\nDate: Mon, 2 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\n" + \
    b"".join(b"%04d .\r\n.\r\n..\r\n\xc3\xa4 %b\r\n" % (n, b"x" * n) for n in range(900))
V12, V13 = "NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"
CASES = {   # what Exim is told, and what our log tells in either direction
    "default": ("NORMAL", {"tls": "TLSv1.3"}),
    "aes13": (f"{V13}:-GROUP-ALL:+GROUP-X25519:-CIPHER-ALL:+AES-128-GCM",
              {"tls": "TLSv1.3", "suite": "TLS_AES_128_GCM_SHA256", "group": "X25519"}),
    "chacha13": (f"{V13}:-GROUP-ALL:+GROUP-SECP256R1:-CIPHER-ALL:+CHACHA20-POLY1305",
                 {"tls": "TLSv1.3", "suite": "TLS_CHACHA20_POLY1305_SHA256", "group": "P-256"}),
    "p384": (f"{V13}:-GROUP-ALL:+GROUP-SECP384R1:-CIPHER-ALL:+AES-256-GCM",
             {"tls": "TLSv1.3", "suite": "TLS_AES_256_GCM_SHA384", "group": "P-384"}),
    "ecdsa12": (f"{V12}:-KX-ALL:+ECDHE-ECDSA:-GROUP-ALL:+GROUP-SECP256R1:-CIPHER-ALL:+AES-256-GCM",
                {"tls": "TLSv1.2", "suite": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "group": "P-256"}),
    "rsa12": (f"{V12}:-KX-ALL:+ECDHE-RSA:-GROUP-ALL:+GROUP-X25519:-CIPHER-ALL:+CHACHA20-POLY1305",
              {"tls": "TLSv1.2", "suite": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "group": "X25519"}),
}


@harness.one_thread("sessions with peers, one by one")
class Peers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.authority, cls.other = pki.Authority(), pki.Authority("Other")

    def setUp(self):
        skip_unless_possible(self)
        self.base = scratch(self)
        self.inner = Peer(self)

    def both(self, name):
        return [self.authority.leaf(name, kind=kind) for kind in ("ec", "rsa")]

    def exim(self, listens, relays=()):
        return Exim(self, self.base / "exim", self.authority.root.pem, self.inner.port, self.both(EXIM), listens,
                    relays)

    def serve(self, routes):
        sections = {}
        for title, certificate in zip(("ec", "rsa"), self.both(HOST)):
            chain, key = certificate.write(self.base, title)
            sections[f'certificate "{title}"'] = {"chain": chain, "key": key}
        for title, authority in (("test", self.authority), ("other", self.other)):
            file = self.base / f"{title}.pem"
            file.write_text(authority.root.pem)
            sections[f'roots "{title}"'] = {"file": file}
        self.server = Ringpost(self, top={"shards": 1}, listeners={"in": {"certificates": ["ec", "rsa"]}},
                               outbound=routes, **sections).start()
        self.addCleanup(self.server.stop)

    @staticmethod
    def route(title, port, **keys):
        return {"domains": [f"{title}.test"], "hosts": [f"127.0.0.1:{port}"], "allow-private": True, "roots": "test",
                "tls-name": [EXIM], "max-per-connection": 1, **keys}

    def hand_in(self, port, title, sender="sender@example.com"):
        with Smtp(("127.0.0.1", port)) as client:
            client.hello()
            return client.message(sender, [f"x@{title}.test"], CONTENT)

    def check_inner(self, count):
        """All have arrived, and are what they were."""
        for message in self.inner.wait(count):
            self.assertTrue(message.content.endswith(CONTENT))
        self.assertEqual(len(self.inner.messages), count)
        self.assertEqual(self.inner.faults, [])

    def test_to_exim(self):
        """Each version, suite and group; then the session is resumed, as both sides see it."""
        exim = self.exim({title: priority for title, (priority, _) in CASES.items()})
        self.serve({title: self.route(title, port, tls="name") for title, port in exim.ports.items()})
        for title, (_, wanted) in CASES.items():
            for resumed in (False, True):
                with self.subTest(title=title, resumed=resumed):
                    sender = f"{title}-{resumed}@example.com"
                    self.hand_in(self.server.port, title, sender)
                    event = self.server.wait_log("delivered", **{"from": sender})[0]
                    self.assertEqual({k: event.get(k) for k in wanted}, wanted)
                    self.assertEqual((event["resumed"], event["cert_verdict"], event["cert_name"]),
                                     (resumed, "valid", True))
                    told = exim.line(f"<= {sender}")
                    self.assertIn(f" X={wanted['tls'].replace('v', '')}:", told)
                    self.assertEqual("* CV=" in told, resumed, told)
        self.check_inner(2 * len(CASES))

    def test_from_exim(self):
        """The same the other way: it asks for us by name, and verifies us."""
        self.serve({"inner": self.inner.route()})
        exim = self.exim({"in": "NORMAL"},
                         {title: (self.server.port, priority) for title, (priority, _) in CASES.items()})
        for title, (_, wanted) in CASES.items():
            for resumed in (False, True):
                with self.subTest(title=title, resumed=resumed):
                    sender = f"{title}-{resumed}@example.com"
                    self.hand_in(exim.ports["in"], title, sender)
                    event = self.server.wait_log("received", **{"from": sender})[0]
                    self.assertEqual({k: event.get(k) for k in wanted}, wanted)
                    self.assertEqual((event["proto"], event["sni"], event["resumed"]), ("ESMTPS", HOST, resumed))
                    told = exim.line(f"queued as {event['msg']}")
                    self.assertIn(" CV=yes ", told)
                    self.assertEqual("* CV=" in told, resumed, told)
                    exim.line(f"{told.split()[2]} Completed")   # then its session is kept
        self.check_inner(2 * len(CASES))

    def test_levels(self):
        """Whom we do not trust, or who is not the one we want, does not even hear of a sender."""
        exim = self.exim({"in": "NORMAL"})
        good = {"chain": {"tls": "chain", "tls-name": ["mx.other.test"]}, "name": {"tls": "name"}}
        bad = {"untrusted-chain": ({"tls": "chain", "roots": "other"}, "neither presented nor among the roots"),
               "untrusted-name": ({"tls": "name", "roots": "other"}, "neither presented nor among the roots"),
               "misnamed": ({"tls": "name", "tls-name": ["mx.other.test"]}, f"presents {EXIM}; wanted mx.other.test")}
        self.serve({title: self.route(title, exim.ports["in"], **keys)
                    for title, keys in (*good.items(), *((title, keys) for title, (keys, _) in bad.items()))})
        ids = {title: self.hand_in(self.server.port, title, f"{title}@example.com") for title in (*bad, *good)}
        for title in good:
            event = self.server.wait_log("delivered", to=f"x@{title}.test")[0]
            self.assertEqual((event["cert_verdict"], event["cert_name"]), ("valid", title == "name"))
        for title, (_, why) in bad.items():
            for event in self.server.wait_log("destination_failed", 2, destination=f"outbound:{title}"):
                self.assertIn(why, event["why"])
        self.assertLessEqual({ids[title] for title in bad}, {message["id"] for message in self.server.queue()})
        self.assertEqual(sorted(re.findall("MAIL FROM:<(.*)@.*> by (.*)", exim.told())),
                         [("chain", "TLS1.3"), ("name", "TLS1.3")])
        self.check_inner(len(good))

    def test_from_opensmtpd(self):
        self.serve({"inner": self.inner.route()})
        for version in ("TLSv1.3", "TLSv1.2"):
            with self.subTest(version=version):
                smtpd = OpenSmtpd(self, self.base / version, self.authority.root.pem, self.inner.port,
                                  (version, version), {"out": self.server.port})
                self.hand_in(smtpd.port, "out", f"{version}@example.com")
                event = self.server.wait_log("received", **{"from": f"{version}@example.com"})[0]
                self.assertEqual((event["proto"], event["tls"], event["helo"]),
                                 ("ESMTPS", version, "mx.opensmtpd.test"))
                smtpd.line('server-cert-check result="success"')
                smtpd.line(f'result="Ok" stat="250 2.0.0 Ok: queued as {event["msg"]}"')
        self.check_inner(2)


if __name__ == "__main__":
    harness.main()
