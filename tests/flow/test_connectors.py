"""test_connectors.py - inbound connectors of the real server: who is believed, and what is said to the others

Clients are Python's ssl (OpenSSL) with certificates of a test's own, and Postfix as a partner both ways.
"""
import hashlib
import json
import re
import ssl
import unittest

import harness
import pki
from harness import Peer, Ringpost
from postfix import Postfix
from tls_wire import scratch

NAME = "mx.flow.test"
BANK = {"type": "partner", "state": "enforce", "sender-domains": ["bank.example", "*.bank.example"],
        "cert-name": ["mx.bank.example"], "cert-roots": "public-test", "restrict": True}
RELAY = {"type": "own", "state": "enforce", "cert-name": ["*.relay.example.org"], "cert-roots": "private",
         "rights": ["relay", "internal"]}
TLS = {"type": "partner", "state": "enforce", "sender-domains": ["tls.example"]}


class Connectors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.public, cls.private, cls.strange = (pki.Authority(n) for n in ("Public", "Private", "Strange"))

    def serve(self, connectors, outbound=None, port=None, env=None, **sections):
        self.base = scratch(self)
        self.inner = Peer(self)
        chain, key = self.public.leaf(NAME).write(self.base, "server")
        for title, authority in (("public-test", self.public), ("private", self.private)):
            file = self.base / f"{title}.pem"
            file.write_text(authority.root.pem)
            sections[f'roots "{title}"'] = {"file": file}
        for title, keys in connectors.items():
            sections[f'inbound "{title}"'] = keys
        self.server = Ringpost(self, top={"shards": 1, "hostname": NAME},
                               listeners={"in": {"certificates": ["t"]}},
                               outbound={"inner": {**self.inner.route(), "domains": ["*"]}, **(outbound or {})},
                               **{'certificate "t"': {"chain": chain, "key": key}}, port=port, **sections).start(env=env)
        self.addCleanup(self.server.stop)
        return self.server

    def client(self, certificate=None, tls=True, session=None, version=None):
        """A session after EHLO; by STARTTLS, showing a certificate if there is one."""
        client = self.server.client()
        client.hello()
        if not tls:
            return client
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if version:
            context.minimum_version = context.maximum_version = version
        if certificate:
            context.load_cert_chain(*map(str, certificate.write(self.base, "client")))
        client.expect(220, "STARTTLS")
        client.socket = context.wrap_socket(client.socket, server_hostname=NAME, session=session)
        client.hello()
        return client

    def leaf(self, *names, authority=None, **more):
        return (authority or self.public).leaf(*names, usage=(pki.CLIENT, pki.SERVER), **more)

    def refusal(self, client, sender, recipient="rcpt@example.org", at="RCPT"):
        """(code, status, token, decision) of the reply."""
        reply = client.cmd(f"MAIL FROM:<{sender}>")
        if at == "RCPT":
            self.assertEqual(reply.code, 250, reply)
            reply = client.cmd(f"RCPT TO:<{recipient}>")
        found = re.search(r"^(\d\.\d+\.\d+) .* \[([a-z-]+)\] d=([0-9A-Z]{7})$", reply.text)
        self.assertIsNotNone(found, reply)
        return (reply.code, *found.groups())

    def refusals(self, token, state="enforce"):
        return self.server.metric(f'ringpost_connector_refusals_total{{token="{token}",state="{state}"}}')


@harness.one_thread("each session decides by itself")
class Inbound(Connectors):
    def test_lockdown(self):
        """Only who shows the bank's certificate sends the bank's mail; each other one hears why, and
        so does the log, under the same decision."""
        server = self.serve({"bank": BANK})
        shown = self.leaf("mx.bank.example")
        client = self.client(shown)
        client.message("a@bank.example")
        event = server.wait_log("received")[0]
        key = shown.key.public_key().public_bytes(pki.serialization.Encoding.DER, pki.serialization.PublicFormat.SubjectPublicKeyInfo)
        self.assertEqual((event["cert"], event["spki"]), (hashlib.sha256(shown.der).hexdigest(), hashlib.sha256(key).hexdigest()))
        self.assertEqual([event[k] for k in ("attributed", "connector", "how", "cert_name", "cert_verdict")],
                         ["partner", "bank", "cert", "mx.bank.example", "valid"])
        self.assertEqual(self.inner.wait(1)[0].sender, "a@bank.example")
        cases = {
            "cert-none": None,
            "cert-name": self.leaf("mx.other.example"),
            "cert-untrusted": self.leaf("mx.bank.example", authority=self.strange),
            "cert-expired": self.leaf("mx.bank.example", days=(-30, -1))}
        for token, certificate in cases.items():
            with self.subTest(token=token):
                code, status, said, decision = self.refusal(self.client(certificate), "a@sub.bank.example")
                self.assertEqual((code, status, said), (550, "5.7.1", token))
                event = server.wait_log("refused", token=token)[0]
                self.assertEqual((event["connector"], event["decision"], event["what"]),
                                 ("bank", decision, "rcpt@example.org"))
                self.assertEqual(self.refusals(token), 1)
        self.client().message("a@elsewhere.example")    # not the bank's business
        self.assertEqual(server.wait_log("received", 2)[1]["attributed"], "none")

    def test_floor(self):
        """TLS before MAIL; and what was said before STARTTLS is forgotten behind it (I-45)."""
        self.serve({"tls": TLS, "strong": {**TLS, "sender-domains": ["strong.example"], "tls-min": "1.3",
                                           "on-missing-tls": "reject"}})
        plain = self.client(tls=False)
        self.assertEqual(self.refusal(plain, "a@tls.example", at="MAIL")[:3], (451, "4.7.0", "tls-required"))
        self.assertEqual(self.refusal(plain, "a@strong.example", at="MAIL")[:3], (530, "5.7.0", "tls-required"))
        old = self.client(version=ssl.TLSVersion.TLSv1_2)
        self.assertEqual(self.refusal(old, "a@strong.example", at="MAIL")[:3], (550, "5.7.0", "tls-too-weak"))
        old.message("a@tls.example")
        self.client().message("a@strong.example")
        early = self.server.client()
        early.hello()
        early.expect(250, "MAIL FROM:<a@elsewhere.example>")
        early.expect(220, "STARTTLS")
        context = ssl._create_unverified_context()
        early.socket = context.wrap_socket(early.socket, server_hostname=NAME)
        early.hello()
        early.expect(503, "RCPT TO:<rcpt@example.org>")
        early.message("a@tls.example")
        self.assertEqual([e["connector"] for e in self.server.wait_log("received", 3)], ["tls", "strong", "tls"])

    def test_own(self):
        """Our own servers are known by another bundle, and may send anywhere; others may not."""
        server = self.serve({"bank": BANK, "site": RELAY})
        own = self.leaf("a.relay.example.org", authority=self.private)
        self.client(own).message("a@bank.example", ["b@far.example"])
        event = server.wait_log("received")[0]
        self.assertEqual([event[k] for k in ("attributed", "connector", "how", "cert_name")],
                         ["own", "site", "cert", "a.relay.example.org"])
        self.assertEqual(self.inner.wait(1)[0].recipients, ["b@far.example"])
        self.client(own).message("a@example.org")
        self.assertTrue(server.wait_log("received", 2)[1]["internal"])
        for certificate in (None, self.leaf("a.relay.example.org"), self.leaf("relay.example.org", authority=self.private)):
            code, status, token, _ = self.refusal(self.client(certificate), "a@far.example", "b@far.example")
            self.assertEqual((code, status, token), (550, "5.7.1", "relay-denied"))
        self.assertEqual(self.refusals("relay-denied"), 3)

    def test_not_resumed(self):
        """A session with a client's certificate gets no ticket, so no verdict outlives it (I-37)."""
        self.serve({"bank": BANK})
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with self.subTest(version=version):
                first = self.client(self.leaf("mx.bank.example"), version=version)
                first.message("a@bank.example")
                self.assertFalse(first.socket.session is not None and first.socket.session.has_ticket)

    def test_test_mode(self):
        """In test it changes nothing, and tells what it would have done; enforced by a reload it does,
        but not in the middle of a session."""
        server = self.serve({"bank": {**BANK, "state": "test"}})
        client = self.client()
        client.message("a@bank.example")
        event = server.wait_log("received")[0]
        self.assertEqual([event[k] for k in ("attributed", "would", "would_connector", "would_token")],
                         ["none", "reject", "bank", "cert-none"])
        self.assertEqual(self.refusals("cert-none", "test"), 1)
        self.client(self.leaf("mx.bank.example")).message("a@bank.example")
        self.assertEqual(server.wait_log("received", 2)[1]["would"], "accept")
        server.sections['inbound "bank"'] = BANK
        server.write_config()
        self.assertEqual(server.cli("reload").returncode, 0)
        client.message("a@bank.example")
        self.assertEqual(self.refusal(self.client(), "a@bank.example")[2], "cert-none")

    def test_explain(self):
        """`ringpost explain` gives the server's reply, to the decision's id."""
        server = self.serve({"bank": BANK, "site": RELAY, "tls": TLS})
        for words, tls, sender, recipient, at in (
                (["--tls", "1.3"], True, "a@bank.example", "b@example.org", "RCPT"),
                (["--tls", "1.3"], True, "a@far.example", "b@far.example", "RCPT"),
                ([], False, "a@tls.example", "b@example.org", "MAIL")):
            with self.subTest(sender=sender):
                code, status, token, decision = self.refusal(self.client(tls=tls), sender, recipient, at)
                if "MLKEM" in server.wait_log("refused", decision=decision)[-1].get("group", ""):
                    words.append("--hybrid")
                done = server.cli("explain", "--ip", "127.0.0.1", "--from", sender, "--to", recipient, "--json", *words)
                self.assertEqual(done.returncode, 1, done.stderr)
                told = json.loads(done.stdout)
                told = told["mail"] if at == "MAIL" else told["recipients"][0]
                self.assertEqual(told["token"], token)
                self.assertRegex(told["reply"], rf"^{code} {re.escape(status)} .* \[{token}\] d={decision}$")
        done = server.cli("explain", "--from", "a@bank.example", "--to", "b@example.org", "--tls", "1.3",
                          "--cert", "mx.bank.example")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"bank +partner +enforce +decides; identified by certificate")
        self.assertRegex(done.stdout, r"site +own +enforce +not identified; cert-name")

    def test_postfix(self):
        """Postfix as the bank: it takes mail from nobody but us, by our certificate, and passes it back
        under its own name, which nobody else may use; what it sends without its certificate comes back."""
        base, port = scratch(self), harness.free_port()
        ours = self.leaf(NAME, kind="rsa")
        chain, key = ours.write(base, "ours")
        bank_chain, bank_key = self.leaf("mx.bank.example").write(base, "bank")
        roots, clients = base / "roots.pem", base / "clients"
        roots.write_text(self.public.root.pem)
        clients.write_text(":".join(f"{n:02X}" for n in hashlib.sha256(ours.der).digest()) + " us\n")
        postfix = Postfix(self, base, Postfix.mailboxes(base) + (
            "myhostname = mx.bank.example\nvirtual_mailbox_domains = bank.example\n"
            "virtual_alias_maps = inline:{ {back@bank.example=b@example.org} {bare@bank.example=b@bare.example.org} }\n"
            "sender_canonical_maps = inline:{ {a@example.com=a@bank.example} }\nsender_canonical_classes = envelope_sender\n"
            "smtpd_tls_security_level = encrypt\nsmtpd_tls_req_ccert = yes\nsmtpd_tls_received_header = yes\n"
            f"smtpd_tls_chain_files = {bank_key}, {bank_chain}\nsmtpd_tls_CAfile = {roots}\n"
            "smtpd_tls_fingerprint_digest = sha256\n"
            f"relay_clientcerts = texthash:{clients}\nsmtpd_relay_restrictions = permit_tls_clientcerts, reject\n"
            f"relayhost = [127.0.0.1]:{port}\ntransport_maps = inline:{{ {{bare.example.org=bare:[127.0.0.1]:{port}}} }}\n"
            f"smtp_tls_security_level = secure\nsmtp_tls_secure_cert_match = {NAME}\nsmtp_tls_CAfile = {roots}\n"
            f"smtp_tls_chain_files = {bank_key}, {bank_chain}\n"),
            "bare unix - - n - - smtp -o smtp_tls_chain_files=\n")
        way = {"type": "partner", "hosts": [f"127.0.0.1:{postfix.port}"], "allow-private": True, "tls": "name",
               "roots": "public-test", "tls-name": ["mx.bank.example"]}
        server = self.serve({"bank": BANK}, port=port, relay={"domains": ["*.example", "example.org", "*.example.org"]},
                            outbound={"bank": {**way, "domains": ["bank.example"], "client-certificate": "us"},
                                      "nameless": {**way, "domains": ["nameless.example"]}},
                            **{'certificate "us"': {"chain": chain, "key": key}})
        server.send(["back@bank.example"], "a@example.com")
        event = server.wait_log("received", attributed="partner")[0]
        self.assertEqual([event[k] for k in ("from", "connector", "how", "cert_name", "cert_verdict")],
                         ["a@bank.example", "bank", "cert", "mx.bank.example", "valid"])
        message = self.inner.wait(1)[0]
        self.assertEqual((message.sender, message.recipients), ("a@bank.example", ["b@example.org"]))
        self.assertRegex(message.content, rb'\(Client CN "leaf", Issuer "Public Intermediate" \(verified OK\)\)')
        server.send(["bare@bank.example"], "a@example.com")
        refused = server.wait_log("refused", token="cert-none")[0]
        bounce = harness.wait_for(postfix.kept, lambda: postfix.told()[-2000:])[0].read_text()
        self.assertIn(f"550 5.7.1 Sender domain is restricted [cert-none] d={refused['decision']}", " ".join(bounce.split()))
        server.send(["b@nameless.example"], "a@example.com")
        self.assertIn("No client certificate presented",
                      server.wait_log("destination_failed", destination="outbound:nameless")[0]["why"])
        self.assertEqual(len(self.inner.messages), 1)

    def test_exchange_replies(self):
        self.serve({"bank": BANK}, **{"inbound-defaults": {"replies": "exchange", "own-sender-anonymous": "reject"}})
        self.assertEqual(self.refusal(self.client(), "a@bank.example")[:3], (550, "5.7.51", "cert-none"))
        self.assertEqual(self.refusal(self.client(), "a@example.org")[:3], (550, "5.7.68", "own-sender"))


if __name__ == "__main__":
    harness.main()
