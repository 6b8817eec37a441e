"""test_requiretls.py - RFC 8689, both halves: REQUIRETLS from hop to hop, and TLS-Required: No

The client is Python's smtplib; between it and the last hop stand one or two ringposts.
"""
import re
import smtplib
import ssl
import unittest

import harness
import pki
import test_floor
import test_tls
from harness import free_port
from tls_wire import TlsPeer, server_context

SUBJECT = "Subject: required\r\n\r\nsecret body\r\n"
NO = "TLS-Required: No\r\n" + SUBJECT


class Hop(TlsPeer):
    """A next hop that knows REQUIRETLS, and says so under TLS only."""

    def keywords(self, s):
        return (*super().keywords(s), *(("REQUIRETLS",) if s.tls is not None else ()))


@harness.one_thread("sessions, and what the envelope keeps")
class Required(test_tls.Tls):
    def hop(self, kind=Hop, certificate=None):
        return kind(self, server_context(certificate or self.ecdsa))

    def way(self, *peers, **more):
        """A connector to these hosts; no back-off that a test would sit out."""
        return {"domains": ["*"], "hosts": [p if isinstance(p, str) else p.address for p in peers], "allow-private": True,
                "roots": "test", "tls-name": [test_tls.NAME], **more}

    def client(self, server=None):
        context = ssl.create_default_context(cafile=str(self.roots))
        client = smtplib.SMTP("127.0.0.1", (server or self.server).port, timeout=harness.WAIT_SECONDS)
        self.addCleanup(client.close)
        client._host = test_tls.NAME        # whom starttls() expects
        client.ehlo()
        return client, context

    def submit(self, content=SUBJECT, options=("REQUIRETLS",), sender="sender@example.org",
               recipient="rcpt@example.org"):
        client, context = self.client()
        client.starttls(context=context)
        client.sendmail(sender, [recipient], content, mail_options=list(options))
        client.quit()

    def test_offered_under_tls_only(self):
        self.serve()
        client, context = self.client()
        self.assertFalse(client.has_extn("requiretls"))
        self.assertEqual(client.docmd("MAIL", "FROM:<a@example.org> REQUIRETLS")[0], 530)
        client.starttls(context=context)
        client.ehlo()
        self.assertTrue(client.has_extn("requiretls"))
        self.assertEqual(client.docmd("MAIL", "FROM:<a@example.org> REQUIRETLS=1")[0], 501)
        self.assertEqual(client.docmd("MAIL", "FROM:<a@example.org> REQUIRETLS REQUIRETLS")[0], 501)
        self.assertEqual(client.docmd("MAIL", "FROM:<a@example.org> REQUIRETLS")[0], 250)

    def test_hop_to_hop(self):
        """Through two servers of ours to a third one: who asks for it has it on each hop, who does not
        has not; also where the connector demands less."""
        last = self.hop()
        far = self.serve(outbound={"last": self.way(last, tls="may")}, top={"hostname": "far.flow.test"})
        near = self.serve(outbound={"far": self.way(f"127.0.0.1:{far.port}")})
        self.submit()
        self.assertIn("REQUIRETLS", last.wait(1)[0].mail.split())
        for server in (near, far):
            self.assertTrue(server.wait_log("received")[0]["requiretls"])
            event = server.wait_log("delivered")[0]
            self.assertTrue(event["destination"].endswith("!name+requiretls") or
                            event["destination"].endswith("+requiretls"), event)
            self.assertIn("requiretls", event["policy"])
            self.assertEqual(event["want"], "name")
        self.submit(options=())
        self.assertNotIn("REQUIRETLS", last.wait(2)[1].mail.split())
        self.submit(content=NO)     # REQUIRETLS wins over the field
        self.assertIn("REQUIRETLS", last.wait(3)[2].mail.split())
        self.assertEqual(near.metric("ringpost_smtp_requiretls_total"), 2)
        self.assertEqual(near.metric("ringpost_smtp_tls_optional_total"), 0)

    def test_bounced_at_once(self):
        """T-23. No host offers it: 5.7.30, whatever the retry time. Its bounce asks for the same, goes
        without where it is not offered, and never holds the body."""
        lacks = [self.hop(TlsPeer), self.hop(TlsPeer)]
        home, plain_home = self.hop(), self.hop(TlsPeer)
        server = self.serve(delivery={"retry-initial": "1h", "retry-max": "1h"}, outbound={
            "lacks": self.way(*lacks, domains=["lacks.test"]),
            "home": self.way(home, domains=["example.org"]),
            "plain": self.way(plain_home, domains=["plain.test"])})
        self.submit(recipient="x@lacks.test", options=("REQUIRETLS", "RET=FULL"))
        dsn = home.wait(1)[0]
        self.assertEqual((dsn.sender, "REQUIRETLS" in dsn.mail.split()), ("", True))
        self.assertIn(b"Status: 5.7.30\r\n", dsn.content)
        self.assertIn(b"no host of the destination offers it", dsn.content)
        self.assertIn(b"text/rfc822-headers", dsn.content)
        self.assertNotIn(b"secret body", dsn.content)
        self.assertEqual([p.verbs("MAIL") for p in lacks], [[], []])
        self.assertEqual(server.wait_log("bounced")[0]["status"], "5.7.30")
        self.assertEqual([e["token"] for e in server.wait_log("host_failed", 2)], ["requiretls"] * 2)
        self.submit(recipient="x@lacks.test", sender="a@plain.test")
        dsn = plain_home.wait(1)[0]
        self.assertEqual((dsn.sender, "REQUIRETLS" in dsn.mail.split(), len(plain_home.handshakes)), ("", False, 1))
        self.submit(recipient="x@lacks.test", options=())      # others go there as ever
        lacks[0].wait(1)
        server.wait_empty()

    def test_other_hosts_are_tried(self):
        """One that offers it takes the mail; while one does not answer nothing bounces. A certificate of
        nobody's is none."""
        lacks, has = self.hop(TlsPeer), self.hop()
        nobody = self.hop(certificate=pki.Authority("Nobody").leaf(test_tls.NAME))
        server = self.serve(outbound={
            "two": self.way(lacks, has, domains=["two.test"]),
            "down": self.way(lacks, f"127.0.0.1:{free_port()}", domains=["down.test"]),
            "nobody": self.way(nobody, domains=["nobody.test"], tls="encrypt")})
        self.submit(recipient="x@two.test")
        self.assertIn("REQUIRETLS", has.wait(1)[0].mail.split())
        self.submit(recipient="x@down.test")
        self.submit(recipient="x@nobody.test")
        self.submit(recipient="y@nobody.test", options=())
        nobody.wait(1)
        self.assertNotIn("REQUIRETLS", nobody.messages[0].mail.split())
        failed = {e["destination"]: e["token"] for e in harness.wait_for(
            lambda: [e for e in server.log("destination_failed")
                     if e["destination"].startswith(("outbound:down", "outbound:nobody"))][1:] and server.log("destination_failed"),
            "both destinations to fail")}
        self.assertEqual({re.sub(r"!name", "", key): token for key, token in failed.items()},
                         {"outbound:down+requiretls": "connect", "outbound:nobody+requiretls": "chain"})
        self.assertEqual(server.log("bounced"), [])
        self.assertEqual(lacks.verbs("MAIL"), [])

    def test_rule(self):
        """if-requiretls chooses the connector."""
        safe, usual = self.hop(), self.hop(TlsPeer)
        self.serve(outbound={"safe": self.way(safe, domains=[], scope="rule"), "usual": self.way(usual)},
                   more={'rule "safe"': {"if-requiretls": True, "use": "safe"}})
        self.submit()
        self.submit(options=())
        self.assertIn("REQUIRETLS", safe.wait(1)[0].mail.split())
        usual.wait(1)


@harness.one_thread("sessions, and what the envelope keeps")
class NotRequired(test_floor.Floor):
    def post_no(self):
        return self.server.send(recipients=["x@example.org"], content=NO)

    def test_memory_does_not_count(self):
        """Mail that says TLS-Required: No goes although the host offers less than it did; no other does."""
        self.start("hold")
        self.strip()
        held = self.post()
        self.wait_downgrade()
        count = len(self.peer.messages)
        self.post_no()
        self.assertIn(b"TLS-Required: No", self.peer.wait(count + 1)[count].content)
        self.server.wait_log("received", tls_optional=True)
        harness.wait_for(lambda: [m["id"] for m in self.server.queue()] == [held],
                         lambda: f"only the other one to wait: {self.server.queue()}")

    def test_what_the_connector_demands_stays(self):
        self.peer = self.next_hop()
        self.peer.offers = False
        self.serve(delivery=test_floor.SLOW, outbound={"peer": self.peer.route(**{
            "roots": "test", "tls-name": [test_tls.NAME], "tls": "encrypt"})})
        self.post_no()
        event = self.server.wait_log("host_failed")[0]
        self.assertEqual((event["token"], event["destination"]), ("starttls-none", "outbound:peer+tls-optional"))
        self.assertEqual(self.peer.verbs("MAIL"), [])


if __name__ == "__main__":
    harness.main()
