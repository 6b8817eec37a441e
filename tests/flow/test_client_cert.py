"""test_client_cert.py - who asks for a certificate, and what becomes of it

  Refused  hosts that ask for ours and do not take what they get (CONNECTORS 9, client-cert): by an
           alert in the handshake (TLS 1.2) or behind it (1.3), or by a reply to the mail. Postfix
           and OpenSSL's s_server. What says so: the log, the numbers, the report to the sender.
  BySni    names for which our clients are asked (4.1, request-on-sni)
"""
import ssl
import subprocess
import unittest

import harness
import pki
from harness import Peer, Ringpost, program
from postfix import Postfix
from tls_wire import Client, TlsPeer, client_context, scratch, server_context

MX = "mx.postfix.test"
WORDS = b"it refuses our client certificate, or us for want of one"


class Refused(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.authority, cls.other = pki.Authority(), pki.Authority("Other")

    def setUp(self):
        self.base = scratch(self)
        self.outbound, self.sections = {}, {}
        (self.base / "roots.pem").write_text(self.authority.root.pem)
        (self.base / "middle.pem").write_text(self.authority.middle.pem)
        self.sections['roots "test"'] = {"file": self.base / "roots.pem"}
        self.host = self.authority.leaf(MX).write(self.base, "host")
        for title, issuer in (("ours", self.authority), ("strange", self.other)):
            chain, key = issuer.leaf("us.test", usage=(pki.CLIENT,)).write(self.base, title)
            self.sections[f'certificate "{title}"'] = {"chain": chain, "key": key}

    def postfix(self, name, more):
        base = self.base / name
        base.mkdir()
        base.chmod(0o755)
        chain, key = self.host
        return Postfix(self, base, Postfix.mailboxes(base) +
                       f"smtpd_tls_cert_file = {chain}\nsmtpd_tls_key_file = {key}\nsmtpd_tls_loglevel = 1\n"
                       f"smtpd_tls_CAfile = {self.base}/roots.pem\n{more}")

    def s_server(self, version, *words):
        """TLS from the first octet; it refuses before it would have to speak SMTP."""
        port = harness.free_port()
        chain, key = self.host
        process = subprocess.Popen(
            [program("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert", chain, "-key", key, f"-{version}",
             "-cert_chain", self.base / "middle.pem", "-CAfile", self.base / "roots.pem", "-quiet", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        harness.wait_listening("127.0.0.1", port, process)
        return port

    def way(self, title, port, certificate=None, **keys):
        self.outbound[title] = {"domains": [f"{title}.example"], "hosts": [f"127.0.0.1:{port}"], "tls": "name",
                                "tls-name": [MX], "roots": "test",
                                **({"client-certificate": certificate} if certificate else {}), **keys}

    def serve(self, **delivery):
        self.reports = Peer(self)
        self.outbound["back"] = self.reports.route(["back.test"])
        self.server = Ringpost(
            self, top={"shards": 1}, outbound=self.outbound, relay={"domains": ["*.example", "*.test", "example.org"]},
            delivery={"retry-initial": "1h", "retry-max": "1h", **delivery}, **self.sections).start()
        self.addCleanup(self.server.stop)

    def post(self, title, to=None):
        return self.server.send([to or f"x@{title}.example"], f"{title}@back.test", "Subject: x\r\n\r\nx\r\n")

    def failures(self, title):
        return [e for e in self.server.log("host_failed") if e["destination"].split(":")[1].split("!")[0] == title]

    def report(self, title):
        found = harness.wait_for(lambda: next((m for m in self.reports.messages if m.recipients == [f"{title}@back.test"]), None),
                                 lambda: f"the report of {title}; {self.server.log()[-3:]}")
        return b" ".join(found.content.split())

    def expire(self, *titles):
        for title in titles:
            self.server.outbound[title]["max-age"] = "1s"
        self.server.write_config()
        done = self.server.cli("reload")
        self.assertEqual(done.returncode, 0, done.stderr)

    def check_refused(self, titles, none, refused, status="4.7.5"):
        """Each of them by one connection, with nothing less tried, and the mail waits. none, refused: words."""
        for title in titles:
            harness.wait_for(lambda t=title: self.failures(t), lambda t=title: f"{t}: {self.server.log()[-4:]}")
        harness.wait_for(lambda: len(self.server.queue()) == len(titles), lambda: self.server.queue())
        self.expire(*titles)
        for title in titles:
            with self.subTest(title=title):
                text = self.report(title)
                self.assertEqual([(e["token"], e["status"]) for e in self.failures(title)], [("client-cert", status)], self.failures(title))
                words = refused if "client-certificate" in self.outbound[title] else none
                self.assertIn(words, self.failures(title)[0]["why"])
                self.assertIn(b"Status: 5.7.5", text)
                self.assertRegex(text, b"client-cert: .*" + words.encode())
                self.assertEqual(self.server.metric(
                    f'ringpost_connector_tls_failures_total{{connector="{title}",token="client-cert"}}'), 1)
                event = self.server.wait_log("destination_failed", destination=f"outbound:{title}")[0]
                self.assertEqual(event["token"], "client-cert")
        self.assertEqual(self.server.metric('ringpost_delivery_host_failures_total{token="client-cert"}'), len(titles))
        self.assertEqual(self.server.log("tls_step"), [], "less was tried, as if that were what is wrong")

    def test_postfix_that_demands_one(self):
        """It takes the handshake and ends the session by a 421 (with none, and with a stranger's). With ours mail goes."""
        refused = []
        for version in ("TLSv1.2", "TLSv1.3"):
            name = version.removeprefix("TLSv1.")
            host = self.postfix(name, "smtpd_tls_security_level = encrypt\nsmtpd_tls_req_ccert = yes\n"
                                      f"smtpd_tls_mandatory_protocols = {version}\n"
                                      f"virtual_mailbox_domains = ours{name}.example\n")
            self.way(f"none{name}", host.port)
            self.way(f"strange{name}", host.port, "strange")
            self.way(f"ours{name}", host.port, "ours")
            refused += [f"none{name}", f"strange{name}"]
        self.serve()
        for title in (*refused, "ours2", "ours3"):
            self.post(title)
        for title in ("ours2", "ours3"):
            self.assertEqual(self.server.wait_log("delivered", to=f"x@{title}.example")[0]["want"], "name")
        self.check_refused(refused, "No client certificate presented", "Client certificate not trusted", status="4.7.1")

    def test_s_server(self):
        for version in ("tls1_2", "tls1_3"):
            port = self.s_server(version, "-Verify", "1", "-verify_return_error")
            self.way(f"none-{version}", port, **{"tls-implicit": True})
            self.way(f"strange-{version}", port, "strange", **{"tls-implicit": True})
        self.serve()
        titles = [t for t in self.outbound if t != "back"]
        for title in titles:
            self.post(title)
        self.check_refused(titles, "a client certificate is asked for, and we have none: ", "our client certificate is refused: ")
        self.assertEqual(self.server.metric('ringpost_client_tls_faults_total{fault="client-cert"}'), len(titles))

    def test_a_reply(self):
        """Bounced as answered, and told what it is about; the same words of a host that never asked are but words."""
        reply = "550 5.7.51 TenantInboundAttribution; restricted to a certificate"
        for name, asks in (("asks", "yes"), ("quiet", "no")):
            host = self.postfix(name, f"smtpd_tls_security_level = may\nsmtpd_tls_ask_ccert = {asks}\n"
                                      f"virtual_mailbox_domains = {name}.example\n"
                                      f"smtpd_recipient_restrictions = check_recipient_access static:{{{reply}}}\n")
            self.way(name, host.port, "ours")
        self.serve()
        for name, token, words in (("asks", "client-cert", True), ("quiet", None, False)):
            self.post(name)
            event = self.server.wait_log("bounced", to=f"x@{name}.example")[0]
            self.assertEqual((event["status"], event["code"], event.get("token")), ("5.7.51", 550, token))
            text = self.report(name)
            self.assertIn(b"Status: 5.7.51", text)
            self.assertEqual(b"That is: " + WORDS in text, words)
            self.assertEqual([(e["token"], e["status"]) for e in self.failures(name)], [(token, "5.7.51")] if token else [])
            self.assertEqual(self.server.metric(
                f'ringpost_connector_tls_failures_total{{connector="{name}",token="client-cert"}}') or 0, int(words))

    def test_in_clear_where_that_is_allowed(self):
        """At may a handshake that fails so is one that fails: plain text, not before the second attempt."""
        context = server_context(self.authority.leaf(MX), versions=("TLSv1_3", "TLSv1_3"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.authority.root.pem)
        peer = TlsPeer(self, context)
        self.outbound["may"] = {**peer.route(["may.example"]), "tls": "may", "roots": "test"}
        self.serve(**{"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"})
        self.post("may")
        event = self.server.wait_log("delivered", to="x@may.example")[0]
        self.assertEqual(event["clear"], "the TLS handshake failed before")
        self.assertEqual([e["token"] for e in self.failures("may")], ["client-cert"])
        self.assertEqual(peer.connections, 2)


class BySni(unittest.TestCase):
    def test_names_that_are_reserved(self):
        """A partner without known addresses is asked by the name that it uses; the world is not."""
        authority, base = pki.Authority(), scratch(self)
        (base / "roots.pem").write_text(authority.root.pem)
        chain, key = authority.leaf("mx.flow.test", "*.partners.test").write(base, "us")
        shows = client_context(certificate=authority.leaf("mx.bank.example", usage=(pki.CLIENT,)))
        server = Ringpost(
            self, outbound={"sink": Peer(self).route()}, top={"shards": 1},
            listeners={"in": {"certificates": ["us"], "request-on-sni": ["bank.partners.test", "*.more.partners.test"],
                              "never-ask": ["127.0.0.3"], "client-roots": "test"}},
            **{'certificate "us"': {"chain": chain, "key": key}, 'roots "test"': {"file": base / "roots.pem"},
               'inbound "bank"': {"type": "partner", "state": "enforce", "sender-domains": ["bank.example"],
                                  "cert-name": ["mx.bank.example"], "cert-roots": "test", "restrict": True,
                                  "identify": "either", "addresses": ["192.0.2.1"]}}).start()
        self.addCleanup(server.stop)
        checked = server.cli("check").stdout
        self.assertIn("no certificate of this listener bears *.more.partners.test", checked)
        self.assertNotIn("bears bank.partners.test", checked)
        for number, (name, source, asked) in enumerate((
                ("mx.flow.test", "127.0.0.1", False), ("bank.partners.test", "127.0.0.1", True),
                ("a.more.partners.test", "127.0.0.1", True), ("other.partners.test", "127.0.0.1", False),
                ("bank.partners.test", "127.0.0.3", False))):
            with self.subTest(name=name, source=source), Client(server.address, source=source) as client:
                client.starttls(shows, name)
                client.expect(250, f"MAIL FROM:<{number}@bank.example>")
                code = client.cmd("RCPT TO:<x@example.org>").code
                self.assertEqual(code, 250 if asked else 550)
                if asked:
                    client.data("Subject: x\r\n\r\nx\r\n")
                    event = server.wait_log("received", **{"from": f"{number}@bank.example"})[0]
                    self.assertEqual((event["connector"], event["how"], event["cert_verdict"]), ("bank", "cert", "valid"))


if __name__ == "__main__":
    harness.main()
