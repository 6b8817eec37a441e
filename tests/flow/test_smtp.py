"""test_smtp.py - the inbound protocol as a client sees it: every verb, every extension announced"""
import re
import unittest

import harness
from harness import Peer, Ringpost, Smtp

BIG = 100_000


class SmtpTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """One server for all: what a test leaves behind must not matter to the next."""
        cls.holder = unittest.TestCase()
        cls.holder._outcome = None
        cls.peer = Peer(cls.holder)
        cls.server = Ringpost(cls.holder, outbound={"peer": cls.peer.route()},
                              limits={"recipients": 100, "message-size": BIG,
                                      "messages-per-connection": 5, "bad-commands": 12,
                                      "refused-messages": 3}).start()

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop()
        finally:
            cls.holder.doCleanups()

    def client(self, hello=True, **options):
        client = Smtp(self.server.address, **options)
        self.addCleanup(client.close)
        if hello:
            client.hello()
        return client

    def delivered(self, queue_id):
        """What reached the next hop, without our Received field."""
        def found():
            for message in list(self.peer.messages):
                if b"id " + queue_id.encode() in message.content:
                    return message
            return None
        message = harness.wait_for(found, f"{queue_id} at the next hop")
        self.assertEqual(self.peer.faults, [])
        fields, rest = re.match(rb"(Received: .*?\r\n(?:[ \t].*?\r\n)*)(.*)", message.content, re.S).groups()
        message.trace, message.body = fields.decode(), rest
        return message


@harness.one_thread("a session and its replies")
class Greeting(SmtpTest):
    def test_banner_then_silence(self):
        client = self.client(hello=False)
        self.assertEqual(client.greeting.code, 220)
        self.assertTrue(client.greeting.text.startswith("mx.flow.test ESMTP"))

    def test_commands_before_hello(self):
        client = self.client(hello=False)
        client.expect(503, "MAIL FROM:<a@example.com>")
        client.expect(503, "RCPT TO:<a@example.org>")
        client.expect(503, "DATA")
        client.expect(250, "NOOP")
        client.expect(250, "RSET")

    def test_hello_needs_a_name(self):
        client = self.client(hello=False)
        client.expect(501, "EHLO")
        client.expect(501, "HELO")
        client.expect(501, "EHLO exa mple")
        client.expect(250, "EHLO [192.0.2.1]")
        client.expect(250, "EHLO [IPv6:2001:db8::1]")

    def test_ehlo_keywords(self):
        lines = self.client(hello=False).expect(250, "EHLO client.example.com").lines
        self.assertEqual(lines[0].split()[0], "mx.flow.test")
        offered = {line.split()[0]: line for line in lines[1:]}
        for keyword in ("PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES",
                        "CHUNKING", "DSN", "LIMITS", "HELP"):
            self.assertIn(keyword, offered)
        self.assertNotIn("STARTTLS", offered)   # what is not there is not promised
        self.assertNotIn("BINARYMIME", offered)
        self.assertEqual(offered["SIZE"], f"SIZE {BIG}")
        self.assertIn("RCPTMAX=100", offered["LIMITS"])
        self.assertIn("MAILMAX=5", offered["LIMITS"])

    def test_helo_offers_nothing_and_has_no_enhanced_codes(self):
        client = self.client(hello=False)
        reply = client.expect(250, "HELO client.example.com")
        self.assertEqual(len(reply.lines), 1)
        self.assertNotRegex(client.expect(250, "MAIL FROM:<a@example.com>").text, r"^\d\.\d")
        client.expect(250, "RCPT TO:<b@example.org>")
        queue_id = client.data("Subject: helo\r\n\r\nx\r\n").text.split()[-1]
        self.assertIn("with SMTP id", self.delivered(queue_id).trace)

    def test_verbs_in_any_case(self):
        client = self.client(hello=False)
        client.expect(250, "ehlo client.example.com")
        client.expect(250, "mAiL fRoM:<a@example.com>")
        client.expect(250, "rcpt to:<b@example.org>")
        client.expect(250, "rset")
        self.assertEqual(client.cmd("quit").code, 221)


@harness.one_thread("a session and its replies")
class Verbs(SmtpTest):
    def test_unknown_and_malformed(self):
        client = self.client()
        for line, code in (("", 500), ("XYZZY", 500), ("MAIL", 501), ("MAIL FROM", 501),
                           ("MAIL FROM:", 501), ("MAIL TO:<a@b.org>", 501), ("RSET now", 501),
                           ("QUIT now", 501)):
            reply = client.cmd(line)
            self.assertEqual(reply.code, code, f"{line!r}: {reply}")
            self.assertRegex(reply.text, r"^5\.\d+\.\d+ ")

    def test_noop_help_vrfy_expn(self):
        client = self.client()
        client.expect(250, "NOOP")
        client.expect(250, "NOOP words are allowed")
        client.expect(214, "HELP")
        client.expect(214, "HELP MAIL")
        client.expect(252, "VRFY somebody")
        client.expect(501, "VRFY")
        client.expect(502, "EXPN list")

    def test_starttls_and_auth_are_not_there(self):
        client = self.client()
        self.assertIn(client.cmd("STARTTLS").code, (500, 502))
        self.assertIn(client.cmd("AUTH PLAIN AGEAYg==").code, (500, 502, 503, 504))
        client.expect(250, "NOOP")

    def test_order(self):
        client = self.client()
        client.expect(503, "RCPT TO:<a@example.org>")
        client.expect(503, "DATA")
        client.expect(250, "MAIL FROM:<a@example.com>")
        client.expect(503, "MAIL FROM:<b@example.com>")
        client.expect(554, "DATA")      # no valid recipients
        client.expect(250, "RCPT TO:<a@example.org>")
        client.expect(250, "RSET")
        client.expect(503, "RCPT TO:<a@example.org>")

    def test_ehlo_resets(self):
        client = self.client()
        client.begin()
        client.hello()
        client.expect(503, "DATA")

    def test_quit(self):
        client = self.client()
        self.assertEqual(client.cmd("QUIT").code, 221)
        self.assertEqual(client.rest(), b"")

    def test_too_many_bad_commands(self):
        client = self.client()
        for _ in range(12):
            client.expect(500, "XYZZY")
        self.assertEqual(client.cmd("XYZZY").code, 421)
        client.rest()

    def test_refused_messages(self):
        """A prober is told to go; a queue with one bad recipient in each message is taken."""
        client = self.client()
        for _ in range(3):
            client.expect(250, "MAIL FROM:<a@example.com>")
            self.assertIn("[relay-denied]", client.expect(550, "RCPT TO:<b@far.example>").text)
            client.expect(250, "RSET")
        client.expect(250, "MAIL FROM:<a@example.com>")
        self.assertEqual(client.cmd("RCPT TO:<b@far.example>").code, 421)
        client.rest()
        client = self.client()
        for _ in range(5):
            client.expect(250, "MAIL FROM:<a@example.com>")
            client.expect(550, "RCPT TO:<b@far.example>")
            client.expect(250, "RCPT TO:<b@example.org>")
            self.assertEqual(client.data("Subject: x\r\n\r\nx\r\n").code, 250)

    def test_messages_per_connection(self):
        client = self.client()
        for _ in range(5):
            client.message()
        self.assertEqual(client.cmd("MAIL FROM:<a@example.com>").code, 421)


@harness.one_thread("a session and its replies")
class Addresses(SmtpTest):
    def test_malformed(self):
        client = self.client()
        for path in ("a@example.com", "<a@example.com", "<a b@example.com>", "<a@>", "<@example.com>",
                     "<a@exa_mple..com>", "<a@-x.com>", "<" + "l" * 65 + "@example.com>"):
            reply = client.cmd(f"MAIL FROM:{path}")
            self.assertEqual(reply.code // 100, 5, f"{path}: {reply}")

    def test_relay_denied(self):
        client = self.client()
        client.expect(250, "MAIL FROM:<a@example.org>")
        for recipient in ("a@example.com", "a%example.com@example.net", "a@example.org.example.com",
                          "@example.org:a@example.com", "a@[127.0.0.1]", "a@notexample.org"):
            reply = client.cmd(f"RCPT TO:<{recipient}>")
            self.assertEqual((reply.code, reply.text.split()[0]), (550, "5.7.1"), recipient)
        client.expect(250, "RCPT TO:<a@example.org>")
        client.expect(250, "RCPT TO:<a@deep.below.example.org>")
        client.expect(250, "RCPT TO:<a@EXAMPLE.ORG>")

    def test_percent_and_bang_stay_local(self):
        client = self.client()
        queue_id = client.message(recipients=["other.example!user%example.com@example.org"])
        self.assertEqual(self.delivered(queue_id).recipients,
                         ["other.example!user%example.com@example.org"])

    def test_source_route_is_dropped(self):
        client = self.client()
        queue_id = client.message(recipients=["@relay.example.com:user@example.org"])
        self.assertEqual(self.delivered(queue_id).recipients, ["user@example.org"])

    def test_postmaster(self):
        client = self.client()
        queue_id = client.message(recipients=["Postmaster"])
        self.assertEqual(self.delivered(queue_id).recipients, ["Postmaster@example.org"])

    def test_null_sender(self):
        client = self.client()
        queue_id = client.message(sender="")
        self.assertEqual(self.delivered(queue_id).sender, "")

    def test_quoted_local_part(self):
        client = self.client()
        queue_id = client.message(recipients=['"a b\\"c"@example.org'])
        self.assertIn('"a b\\"c"@example.org', self.delivered(queue_id).rcpts[0])

    def test_recipient_limit(self):
        client = self.client()
        client.expect(250, "MAIL FROM:<a@example.com>")
        for number in range(100):
            client.expect(250, f"RCPT TO:<r{number}@example.org>")
        reply = client.expect(452, "RCPT TO:<r100@example.org>")
        self.assertTrue(reply.text.startswith("4.5.3"))
        queue_id = client.data("Subject: many\r\n\r\nx\r\n").text.split()[-1]
        self.assertEqual(len(self.delivered(queue_id).rcpts), 100)


@harness.one_thread("a session and its replies")
class Data(SmtpTest):
    def test_content_unchanged_and_traced(self):
        content = b"From: a@example.com\r\nSubject: dots\r\n\r\n.\x01 line\r\n..\r\n. x\r\n\r\nend\r\n"
        client = self.client()
        client.begin()
        client.expect(354, "DATA")
        client.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        message = self.delivered(client.reply().text.split()[-1])
        self.assertEqual(message.body, content)
        self.assertRegex(message.trace, r"^Received: from client\.example\.com \(\[127\.0\.0\.1\]\)\r\n"
                         r"\tby mx\.flow\.test with ESMTP id \w{13}\r\n\tfor <rcpt@example\.org>;\r\n"
                         r"\t\w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d \+0000\r\n$")

    def test_recipients_do_not_learn_of_each_other(self):
        client = self.client()
        message = self.delivered(client.message(recipients=["a@example.org", "b@example.org"]))
        self.assertNotIn("for <", message.trace)

    def test_empty_content(self):
        client = self.client()
        client.begin()
        self.assertEqual(self.delivered(client.data("").text.split()[-1]).body, b"")

    def test_size_refused_early(self):
        client = self.client()
        reply = client.expect(552, f"MAIL FROM:<a@example.com> SIZE={BIG + 1}")
        self.assertTrue(reply.text.startswith("5.3.4"))
        client.expect(501, "MAIL FROM:<a@example.com> SIZE=x")
        client.expect(250, f"MAIL FROM:<a@example.com> SIZE={BIG}")

    def test_size_refused_late(self):
        client = self.client()
        client.begin()
        reply = client.data(b"Subject: big\r\n\r\n" + b"x" * 70 * 10 + (b"y" * 78 + b"\r\n") * 1300)
        self.assertEqual(reply.code, 552)
        client.message()    # and framing is in step

    def test_eight_bits(self):
        client = self.client()
        content = "Subject: x\r\n\r\nGrüße\r\n".encode()
        client.begin(parameters=" BODY=8BITMIME")
        message = self.delivered(client.data(content).text.split()[-1])
        self.assertEqual(message.body, content)
        self.assertIn("BODY=8BITMIME", message.mail)
        client.expect(250, "MAIL FROM:<a@example.com> BODY=7BIT")
        client.expect(250, "RSET")
        client.expect(555, "MAIL FROM:<a@example.com> BODY=BINARYMIME")
        client.expect(501, "MAIL FROM:<a@example.com> BODY=9BIT")

    def test_smtputf8(self):
        client = self.client()
        self.assertEqual(client.cmd("MAIL FROM:<jürgen@example.com>").code, 550)
        client.expect(250, "MAIL FROM:<a@example.com>")
        self.assertEqual(client.cmd("RCPT TO:<jürgen@example.org>").code, 553)
        client.expect(250, "RSET")
        queue_id = client.message("jürgen@example.com", ["fränk@example.org"],
                                  "Subject: ünï\r\n\r\nx\r\n".encode(), " SMTPUTF8")
        message = self.delivered(queue_id)
        self.assertIn("SMTPUTF8", message.mail)
        self.assertEqual(message.recipients, ["fränk@example.org"])
        self.assertIn("with UTF8SMTP id", message.trace)

    def test_eight_bit_header_needs_smtputf8(self):
        client = self.client()
        client.begin(parameters=" BODY=8BITMIME")
        reply = client.data("Subject: ünï\r\n\r\nx\r\n".encode())
        self.assertEqual((reply.code, reply.text[:5]), (554, "5.6.7"))

    def test_dsn_parameters(self):
        client = self.client()
        client.expect(501, "MAIL FROM:<a@example.com> RET=SOME")
        client.expect(501, "MAIL FROM:<a@example.com> ENVID=a+b")
        client.expect(250, "MAIL FROM:<a@example.com> RET=HDRS ENVID=QQ+2B314159")
        client.expect(501, "RCPT TO:<b@example.org> NOTIFY=NEVER,FAILURE")
        client.expect(501, "RCPT TO:<b@example.org> NOTIFY=SOMETIMES")
        client.expect(250, "RCPT TO:<b@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@example.org")
        message = self.delivered(client.data("Subject: dsn\r\n\r\nx\r\n").text.split()[-1])
        self.assertIn("RET=HDRS", message.mail)
        self.assertIn("ENVID=QQ+2B314159", message.mail)
        self.assertIn("NOTIFY=SUCCESS,FAILURE", message.rcpts[0])
        self.assertIn("ORCPT=rfc822;Bob@example.org", message.rcpts[0])

    def test_unknown_and_double_parameters(self):
        client = self.client()
        client.expect(555, "MAIL FROM:<a@example.com> XPARAM=1")
        client.expect(501, "MAIL FROM:<a@example.com> SIZE=1 SIZE=2")
        client.expect(250, "MAIL FROM:<a@example.com>")
        client.expect(555, "RCPT TO:<b@example.org> XPARAM")

    def test_loop(self):
        """RFC 5321 6.3: a hundred are no loop yet."""
        client = self.client()
        for count, answer in ((99, (250, "2.0.0")), (101, (554, "5.4.6"))):
            client.begin()
            reply = client.data("Received: from a by b; now\r\n" * count + "\r\nx\r\n")
            self.assertEqual((reply.code, reply.text[:5]), answer)


@harness.one_thread("a session and its replies")
class Pipelining(SmtpTest):
    def test_replies_in_order(self):
        client = self.client()
        client.send("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.com>\r\n"
                    "NOOP\r\nRCPT TO:<d@example.org>\r\nDATA\r\n")
        self.assertEqual([client.reply().code for _ in range(6)], [250, 250, 550, 250, 250, 354])
        client.send("Subject: p\r\n\r\nx\r\n.\r\nMAIL FROM:<x@example.com>\r\nRSET\r\nQUIT\r\n")
        self.assertEqual([client.reply().code for _ in range(4)], [250, 250, 250, 221])

    def test_any_split(self):
        client = self.client()
        text = ("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n")
        for octet in text:
            client.send(octet)
        self.assertEqual([client.reply().code for _ in range(3)], [250, 250, 354])
        for octet in "Subject: split\r\n\r\n..dot\r\n.\r\n":
            client.send(octet)
        queue_id = client.reply().text.split()[-1]
        self.assertEqual(self.delivered(queue_id).body, b"Subject: split\r\n\r\n.dot\r\n")

    def test_thousand_commands_at_once(self):
        client = self.client()
        client.send("NOOP\r\n" * 1000)
        for _ in range(1000):
            self.assertEqual(client.reply().code, 250)


@harness.one_thread("a session and its replies")
class Chunking(SmtpTest):
    def test_one_chunk(self):
        client = self.client()
        client.begin()
        body = b"Subject: b\r\n\r\n.no stuffing\r\n..\r\n"
        client.send(b"BDAT %d LAST\r\n" % len(body) + body)
        reply = client.reply()
        self.assertEqual(reply.code, 250)
        self.assertEqual(self.delivered(reply.text.split()[-1]).body, body)

    def test_many_chunks_and_zero_last(self):
        client = self.client()
        client.begin()
        body = b"Subject: b\r\n\r\n" + b"0123456789abcdef\r\n" * 200
        for at in range(0, len(body), 333):
            chunk = body[at:at + 333]
            client.send(b"BDAT %d\r\n" % len(chunk) + chunk)
            self.assertEqual(client.reply().code, 250)
        reply = client.cmd("BDAT 0 LAST")
        self.assertEqual(reply.code, 250)
        self.assertEqual(self.delivered(reply.text.split()[-1]).body, body)

    def test_pipelined_transaction(self):
        client = self.client()
        body = b"Subject: b\r\n\r\nx\r\n"
        client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nBDAT %d\r\n%sBDAT 3 LAST\r\ny\r\n"
                    b"NOOP\r\n" % (len(body), body))
        self.assertEqual([client.reply().code for _ in range(5)], [250] * 5)

    def test_chunk_reply_counts_octets(self):
        client = self.client()
        client.begin()
        client.send(b"BDAT 5\r\nab\r\nc")
        self.assertIn("5", client.reply().text)

    def test_errors_keep_framing(self):
        client = self.client()
        client.send(b"BDAT 6 LAST\r\nQUIT\r\n")     # no transaction: the octets are no command
        self.assertEqual(client.reply().code, 503)
        client.expect(250, "MAIL FROM:<a@example.com>")
        client.send(b"BDAT 6\r\nQUIT\r\n")          # no recipient
        self.assertIn(client.reply().code, (503, 554))
        client.expect(250, "RSET")
        client.begin()
        client.send(b"BDAT 3\r\na\r\n")
        self.assertEqual(client.reply().code, 250)
        client.expect(503, "DATA")                  # not amid chunks
        client.expect(503, "RCPT TO:<c@example.org>")
        client.expect(503, "MAIL FROM:<c@example.com>")
        client.send(b"BDAT 3 LAST\r\nb\r\n")
        self.assertEqual(client.reply().code, 250)
        client.expect(250, "NOOP")

    def test_reset_amid_chunks(self):
        client = self.client()
        client.begin()
        client.send(b"BDAT 3\r\na\r\n")
        self.assertEqual(client.reply().code, 250)
        client.expect(250, "RSET")
        client.expect(503, "DATA")
        client.message()

    def test_too_big(self):
        client = self.client()
        client.begin()
        chunk = b"x" * 998 + b"\r\n"
        client.send(b"BDAT %d\r\n" % (120 * 1000) + chunk * 120)
        first = client.reply().code
        client.send(b"BDAT 0 LAST\r\n")
        self.assertEqual(client.reply().code, 552)
        self.assertIn(first, (250, 552))
        client.message()

    def test_malformed_bdat_closes(self):
        for line in ("BDAT", "BDAT x", "BDAT -1", "BDAT 5 FIRST", "BDAT 99999999999999999999 LAST"):
            client = self.client()
            client.begin()
            self.assertEqual(client.cmd(line).code, 501, line)
            client.rest()


if __name__ == "__main__":
    harness.main()
