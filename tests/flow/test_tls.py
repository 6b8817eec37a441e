"""test_tls.py - TLS with other people's clients and servers, in both directions

OpenSSL, GnuTLS, Postfix, swaks and Python's ssl module come in; mail goes out to Python's ssl and
to Postfix. What a hostile peer does is in test_tls_hostile.py.
"""
import contextlib
import re
import ssl
import subprocess
import unittest

import harness
import pki
from harness import Ringpost, program
from tls_wire import Client, TlsPeer, client_context, scratch, server_context

FAST = {"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"}
NAME = "mx.good.test"
# As `openssl s_client -cipher` names them, and as the standard does.
SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305": "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384": "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305": "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
}
SUITES_CBC = {
    "ECDHE-ECDSA-AES128-SHA": "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "ECDHE-RSA-AES256-SHA": "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
}
SUITES_13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
REFUSED = [     # forward secrecy always, AEAD unless a listener says otherwise
    ["-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"], ["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
    ["-tls1_2", "-cipher", "AES128-SHA"], ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA"],
    ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"], ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256"],
    ["-tls1_2", "-cipher", "NULL-SHA256"], ["-tls1_2", "-cipher", "ADH-AES128-GCM-SHA256"],
    ["-tls1_1"], ["-tls1"],
]


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.authority = pki.Authority()
        cls.ecdsa = cls.authority.leaf(NAME, "*.wild.test")
        cls.rsa = cls.authority.leaf(NAME, kind="rsa")

    def serve(self, listeners=None, certificates=None, more=None, **config):
        """A server with ECDSA and RSA certificates; the first listener has STARTTLS."""
        self.base = scratch(self)
        certificates = certificates or {"ec": self.ecdsa, "rsa": self.rsa}
        sections = {}
        for title, certificate in certificates.items():
            chain, key = certificate.write(self.base, title)
            sections[f'certificate "{title}"'] = {"chain": chain, "key": key}
        self.roots = self.base / "roots.pem"
        self.roots.write_text(self.authority.root.pem)
        sections['roots "test"'] = {"file": self.roots}
        listeners = {name: {"certificates": list(certificates), **keys}
                     for name, keys in (listeners or {"in": {}}).items()}
        if "routes" not in config:
            self.peer = harness.Peer(self)
            config["routes"] = {"peer": self.peer.route()}
        self.server = Ringpost(self, listeners=listeners, **{**sections, **(more or {})}, **config)
        self.server.start()
        self.addCleanup(self.server.stop)
        return self.server

    def run_program(self, *words, stdin=None, status=0, seconds=None):
        done = subprocess.run([str(w) for w in words], input=stdin, capture_output=True, text=True,
                              timeout=seconds or harness.WAIT_SECONDS * 2, check=False)
        if status is not None:
            self.assertEqual(done.returncode, status,
                             f"{words}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
        return done.stdout + done.stderr


def dialog(*commands, recipient="rcpt@example.org"):
    """What an openssl s_client says once TLS is there: a message, lines as they are typed."""
    return "".join(line + "\n" for line in (
        *commands, "EHLO s-client.example.com", "MAIL FROM:<sender@example.com>",
        f"RCPT TO:<{recipient}>", "DATA", "Subject: x", "", "body", ".", "QUIT"))


class Inbound(Tls):
    def s_client(self, *words, port=None, starttls=True, said=None):
        """A message, typed when the server has greeted or taken STARTTLS; all that was answered."""
        options = ["-starttls", "smtp"] if starttls else []
        words = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{port or self.server.port}", *options,
                 "-servername", NAME, "-CAfile", self.roots, "-crlf", "-nocommands", "-ign_eof", *words]
        heard = b""
        with subprocess.Popen([str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) as process:
            # who is greeted under TLS waits for it: what comes before is sent away
            while not re.search(rb"(?m)^250 " if starttls else rb"(?m)^220 ", heard):
                line = process.stdout.readline()
                heard += line
                if not line:
                    break
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write((said or dialog()).encode())
                process.stdin.flush()
            heard += process.stdout.read()
        return heard.decode(errors="replace")

    def received(self, said):
        """The log's line about the message that was taken."""
        return self.server.wait_log("received", msg=re.search(r"queued as (\S+)", said).group(1))[0]

    def test_openssl(self):
        """Every version, group and suite that we say we have; a message on each."""
        implicit = harness.free_port()
        self.serve({"in": {}, "smtps": {"addresses": [f"127.0.0.1:{implicit}"], "tls": "implicit"}})
        cases = [(["-tls1_3", "-ciphersuites", suite], {"tls": "TLSv1.3", "suite": suite}) for suite in SUITES_13]
        cases += [(["-tls1_2", "-cipher", suite], {"tls": "TLSv1.2", "suite": name}) for suite, name in SUITES.items()]
        groups = {"X25519": "X25519", "prime256v1": "P-256", "secp384r1": "P-384"}
        cases += [([version, "-groups", group if version == "-tls1_3" else group if group == "prime256v1" else f"{group}:prime256v1"],
                   {"group": name}) for group, name in groups.items() for version in ("-tls1_3", "-tls1_2")]
        count = 0
        for words, wanted in cases:
            for port, starttls in ((self.server.port, True), (implicit, False)):
                if not starttls and "-ciphersuites" not in words and "-cipher" not in words:
                    continue
                with self.subTest(words=words, starttls=starttls):
                    count += 1
                    said = self.s_client(*words, port=port, starttls=starttls)
                    self.assertRegex(said, "queued as")
                    self.assertIn("Verify return code: 0 (ok)", said)
                    event = self.received(said)
                    self.assertEqual({k: event[k] for k in wanted}, wanted)
                    self.assertEqual((event["proto"], event["resumed"], event["sni"]), ("ESMTPS", False, NAME))
                    self.assertEqual(event["listener"], "in" if starttls else "smtps")
        metrics = self.server.metrics()
        self.assertEqual(metrics['ringpost_tls_handshakes_total{side="server",result="full"}'], count)
        for name in ('sessions_total{side="server",version="1.2"}', 'sessions_total{side="server",version="1.3"}',
                     'groups_total{side="server",group="X25519"}', 'groups_total{side="server",group="P-256"}',
                     'groups_total{side="server",group="P-384"}'):
            self.assertGreater(metrics["ringpost_tls_" + name], 0, name)
        self.peer.wait(count)
        for message in self.peer.messages:
            self.assertRegex(message.content.decode(), r"with ESMTPS "
                             r"\(TLSv1\.[23] TLS_[A-Z0-9_]+ (X25519|P-256|P-384)\) id ")


if __name__ == "__main__":
    harness.main()
