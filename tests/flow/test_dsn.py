"""test_dsn.py - status notifications by RFC 3461 and 3464: who gets which, and what is in it

The next hop is Postfix, with DSN announced and without, and takes, refuses or defers by the
recipient's name. What it sends itself, and what ringpost sends, comes to a Peer, by the sender's
domain. Reports are read by Python's email package, field by field.
"""
import email
import email.utils
import pathlib
import re
import shutil
import tempfile
import unittest

import harness
from harness import Peer, Ringpost
from postfix import Postfix

FAST = {"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"}
ACCESS = "{ {gone@example.org = 550 5.1.1 nobody here} {gone2@example.org = 550 5.1.1 nobody here} " \
         "{later@example.org = 451 4.3.2 not today} }"


class Report:
    """A report as RFC 6522 and 3464 have it, or an AssertionError."""

    def __init__(self, test, message, utf8=False):
        kind = "global-delivery-status" if utf8 else "delivery-status"
        test.assertEqual(message.mail.split()[1], "FROM:<>")
        self.to, = message.recipients
        self.whole = email.message_from_bytes(message.content)
        test.assertEqual(self.whole.defects, [])
        test.assertEqual(self.whole.get_content_type(), "multipart/report")
        test.assertEqual(self.whole.get_param("report-type"), kind)
        for field in ("Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Auto-Submitted"):
            test.assertEqual(len(self.whole.get_all(field, [])), 1, field)
        words, fields, self.original = self.whole.get_payload()
        test.assertEqual(words.get_content_type(), "text/plain")
        test.assertEqual(fields.get_content_type(), f"message/{kind}")
        self.words = words.get_payload(decode=True).decode()
        if utf8:    # a type that the package does not take apart
            text = fields.as_bytes().decode().replace("\r", "").split("\n\n", 1)[1]
            blocks = [email.message_from_string(b + "\n") for b in text.split("\n\n") if b.strip()]
        else:
            blocks = [b for b in fields.get_payload() if b.keys()]
        self.about, self.recipients = blocks[0], blocks[1:]
        test.assertNotEqual(self.recipients, [])
        for block in blocks:
            if self.about["Reporting-MTA"] == "dns; mx.flow.test":
                test.assertEqual([f for f in block.keys() if f.lower().startswith("x-")], [])
            test.assertEqual(len(block.keys()), len({f.lower() for f in block.keys()}), "each field once")
        for date in [self.about["Arrival-Date"], *(r[f] for r in self.recipients for f in r.keys() if
                                                   f in ("Last-Attempt-Date", "Will-Retry-Until"))]:
            test.assertIsNotNone(email.utils.parsedate_to_datetime(date))
        for r in self.recipients:
            klass = {"failed": "5", "delayed": "4", "relayed": "2", "delivered": "2"}[r["Action"]]
            test.assertRegex(r["Status"], rf"^{klass}\.\d+\.\d+$")

    def actions(self):
        return {r["Final-Recipient"].split(";")[1].strip(): r["Action"] for r in self.recipients}

    def of(self, address):
        return next(r for r in self.recipients if r["Final-Recipient"].endswith(f" {address}"))


class Notified(unittest.TestCase):
    def begin(self, postfix_keys="", postfix=True, outbound=None, delivery=None, **config):
        """Ringpost with example.org at Postfix, all else at the Peer, which is Postfix's relay, too."""
        self.back = Peer(self)
        routes = {"back": self.back.route(["*"])}
        if postfix:
            base = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-dsn."))
            base.chmod(0o755)
            self.addCleanup(shutil.rmtree, base, True)
            self.postfix = Postfix(self, base, Postfix.mailboxes(base) +
                                   "smtpd_error_sleep_time = 0\nsmtpd_soft_error_limit = 1000\n"
                                   "smtpd_hard_error_limit = 1000\n"
                                   f"relayhost = [127.0.0.1]:{self.back.port}\n"
                                   f"smtpd_recipient_restrictions = check_recipient_access inline:{ACCESS}\n" + postfix_keys)
            routes["postfix"] = {"domains": ["example.org"], "hosts": [f"127.0.0.1:{self.postfix.port}"],
                                 "allow-private": True}
        self.server = Ringpost(self, outbound={**routes, **(outbound or {})}, delivery={**FAST, **(delivery or {})},
                               **config).start()
        self.addCleanup(lambda: self.server.stop())
        return self.server

    def send(self, rcpts, mail="", sender="sender@example.com", content="Subject: x\r\n\r\nbody\r\n"):
        """rcpts: {address: parameters}"""
        client = self.server.client()
        client.hello()
        client.expect(250, f"MAIL FROM:<{sender}> {mail}".strip())
        for address, parameters in rcpts.items():
            client.expect(250, f"RCPT TO:<{address}> {parameters}".strip())
        self.assertEqual(client.data(content).code, 250)
        client.close()

    def reports(self, count, **options):
        return [Report(self, m, **options) for m in self.back.wait(count)]

    def made(self):
        return self.server.metric('ringpost_delivery_bounces_total{result="made"}')


@harness.one_thread("what a session is told")
class Parameters(unittest.TestCase):
    def test_what_is_not_valid_is_refused(self):
        """RFC 3461 4.1 to 4.5: 501; and after it the session goes on."""
        server = Ringpost(self).start()
        self.addCleanup(server.stop)
        client = server.client()
        self.assertIn("DSN", client.hello().text)
        for bad in ("RET=ALL", "RET=", "RET", "RET=FULL RET=FULL", "RET=FULL RET=HDRS", "ENVID=", "ENVID=a ENVID=b",
                    "ENVID=a=b", "ENVID=a+b", "ENVID=a+2", "ENVID=a+2b", "ENVID=a+0D+0Ab", "ENVID=a+00", "ENVID=+C3+A9",
                    "ENVID=" + "x" * 101):
            reply = client.cmd(f"MAIL FROM:<a@example.com> {bad}")
            self.assertEqual((reply.code, reply.text[:5]), (501, "5.5.4"), bad)
        client.expect(250, "MAIL FROM:<a@example.com> RET=hdrs ENVID=" + "x" * 100)
        client = server.client()        # one that has made no mistakes yet
        client.hello()
        client.expect(250, "MAIL FROM:<a@example.com>")
        for bad in ("NOTIFY=", "NOTIFY=ALWAYS", "NOTIFY=NEVER,FAILURE", "NOTIFY=SUCCESS,NEVER", "NOTIFY=SUCCESS,",
                    "NOTIFY=SUCCESS,SUCCESS", "NOTIFY=DELAY NOTIFY=DELAY", "ORCPT=a@example.net", "ORCPT=rfc822;",
                    "ORCPT=;a", "ORCPT=rfc822;a+0Ab", "ORCPT=rfc822;a ORCPT=rfc822;a", "ORCPT=rfc822;" + "a" * 500):
            reply = client.cmd(f"RCPT TO:<b@example.org> {bad}")
            self.assertEqual((reply.code, reply.text[:5]), (501, "5.5.4"), bad)
        for unknown in ("NOTIFIED=DELAY", "RET=FULL"):
            self.assertEqual(client.cmd(f"RCPT TO:<b@example.org> {unknown}").code, 555)
        client.expect(250, "RCPT TO:<b@example.org> NOTIFY=success,Failure,DELAY ORCPT=rfc822;" + "a" * 493)


@harness.one_thread("what a shard writes to senders")
class Offered(Notified):
    """RFC 3461 5.2.1."""

    def test_all_is_passed_on_and_success_is_the_next_hops_to_tell(self):
        self.begin()
        self.send({"user@example.org": "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Old+2Btag@example.net",
                   "other@example.org": "NOTIFY=NEVER", "third@example.org": ""}, "RET=HDRS ENVID=QQ+2B314")
        report, = self.reports(1)
        self.server.wait_empty()
        self.assertEqual(report.about["Reporting-MTA"], "dns; mx.postfix.test")
        self.assertEqual(report.actions(), {"user@example.org": "delivered"})
        self.assertIn(report.about["Original-Envelope-Id"], ("QQ+314", "QQ+2B314"))
        self.assertRegex(report.recipients[0]["Original-Recipient"], r"rfc822; ?Old(\+|\+2B)tag@example.net")
        self.assertEqual(self.made(), 0)
        self.assertEqual(len(self.back.messages), 1)

    def test_failures_are_told_by_who_has_the_mail(self):
        self.begin()
        self.send({"gone@example.org": "NOTIFY=NEVER", "gone2@example.org": "NOTIFY=SUCCESS,DELAY"})
        self.server.wait_log("bounced", 2)
        self.server.wait_log("bounce_not_sent", why="NOTIFY", recipients=2)
        self.send({"gone@example.org": "NOTIFY=FAILURE", "gone2@example.org": "ORCPT=rfc822;a+2Bb@example.net",
                   "user@example.org": "NOTIFY=FAILURE"}, "ENVID=a+20b+2Bc RET=FULL")
        report, = self.reports(1)
        self.server.wait_empty()
        self.assertEqual(report.actions(), {"gone@example.org": "failed", "gone2@example.org": "failed"})
        self.assertEqual(report.about["Reporting-MTA"], "dns; mx.flow.test")
        self.assertEqual(report.about["Original-Envelope-Id"], "a b+c")
        self.assertNotIn("Original-Recipient", report.of("gone@example.org"))
        second = report.of("gone2@example.org")
        self.assertEqual(second["Original-Recipient"], "rfc822;a+b@example.net")
        self.assertEqual(second["Status"], "5.1.1")
        self.assertEqual(second["Remote-MTA"], "dns; 127.0.0.1")
        self.assertRegex(second["Diagnostic-Code"], r"^smtp; 550 5\.1\.1 .*nobody here")
        self.assertIn("Last-Attempt-Date", second)
        self.assertEqual(report.original.get_content_type(), "message/rfc822")
        self.assertEqual(report.to, "sender@example.com")
        line, = self.server.wait_log("bounce")
        self.assertEqual((line["action"], line["recipients"]), ("failed", 2))


@harness.one_thread("what a shard writes to senders")
class NotOffered(Notified):
    """RFC 3461 5.2.2."""

    def test_relayed_is_told_where_it_was_asked_for(self):
        self.begin("smtpd_discard_ehlo_keywords = dsn, silent-discard\n")
        self.send({"user@example.org": "NOTIFY=SUCCESS", "silent@example.org": "", "never@example.org": "NOTIFY=NEVER",
                   "failure@example.org": "NOTIFY=FAILURE", "gone@example.org": "NOTIFY=NEVER",
                   "gone2@example.org": "NOTIFY=FAILURE,SUCCESS ORCPT=rfc822;x@example.net"}, "RET=FULL ENVID=relayed")
        report, = self.reports(1)
        self.server.wait_empty()
        self.assertEqual(report.actions(), {"user@example.org": "relayed", "gone2@example.org": "failed"})
        self.assertEqual(report.about["Original-Envelope-Id"], "relayed")
        self.assertRegex(report.of("user@example.org")["Diagnostic-Code"], r"^smtp; 250 ")
        self.assertEqual(report.of("user@example.org")["Remote-MTA"], "dns; 127.0.0.1")
        self.assertEqual(report.original.get_content_type(), "message/rfc822")
        # with success alone: never the whole message (RFC 3461 6.2)
        self.send({"user@example.org": "NOTIFY=SUCCESS"}, "RET=FULL", content="Subject: second\r\n\r\nbody\r\n")
        report = self.reports(2)[1]
        self.assertEqual(report.actions(), {"user@example.org": "relayed"})
        self.assertEqual(report.original.get_content_type(), "text/rfc822-headers")
        self.assertIn("Subject: second", report.original.get_payload())
        self.assertNotIn("body", report.original.get_payload())
        harness.wait_for(lambda: len(self.postfix.kept()) == 5, "all that Postfix took, in its mailboxes")
        self.assertEqual(self.made(), 2)
        self.assertEqual(len(self.back.messages), 2, "Postfix has nothing to say")
        self.assertEqual([self.server.metric(f'ringpost_delivery_reports_total{{action="{a}"}}')
                          for a in ("failed", "delayed", "relayed", "delivered")], [1, 0, 1, 0])

    def test_the_null_sender_gets_nothing(self):
        self.begin("smtpd_discard_ehlo_keywords = dsn, silent-discard\n")
        self.send({"user@example.org": "NOTIFY=SUCCESS", "gone@example.org": "NOTIFY=FAILURE"}, sender="")
        self.server.wait_log("bounce_not_sent", why="the null sender", recipients=1)
        self.server.wait_empty()
        self.assertEqual((self.made(), self.back.messages), (0, []))


@harness.one_thread("what a shard writes to senders")
class Delays(Notified):
    """RFC 3461 5.2.5."""

    def deferrals(self, count):
        harness.wait_for(lambda: self.server.metric("ringpost_queue_deferrals_total") >= count, "deferrals")

    def test_told_once_with_what_the_next_hop_says(self):
        self.begin(delivery={"delay-warning": "2s", "age-max": "1d"})
        self.send({"later@example.org": "ORCPT=rfc822;x@example.net", "gone@example.org": "NOTIFY=NEVER",
                   "user@example.org": ""}, "RET=FULL ENVID=late")
        report, = self.reports(1)
        self.assertEqual(report.actions(), {"later@example.org": "delayed"})
        fields = report.recipients[0]
        self.assertEqual(fields["Status"], "4.3.2")
        self.assertRegex(fields["Diagnostic-Code"], r"^smtp; 451 4\.3\.2 .*not today")
        self.assertEqual(fields["Remote-MTA"], "dns; 127.0.0.1")
        self.assertEqual(fields["Original-Recipient"], "rfc822;x@example.net")
        arrival, last, until = (email.utils.parsedate_to_datetime(d) for d in (
            report.about["Arrival-Date"], fields["Last-Attempt-Date"], fields["Will-Retry-Until"]))
        self.assertGreaterEqual((last - arrival).total_seconds(), 1)
        self.assertEqual(round((until - arrival).total_seconds() / 86400, 3), 1)
        self.assertEqual(report.original.get_content_type(), "text/rfc822-headers", "no failure, no content")
        self.assertIn("will be tried again", report.words)
        so_far = self.server.metric("ringpost_queue_deferrals_total")
        self.deferrals(so_far + 2)
        self.server.kill()
        self.server.start()
        self.deferrals(2)
        self.assertEqual(len(self.back.messages), 1)
        self.assertEqual(self.made(), 0, "since the restart")

    def test_who_does_not_want_it_is_not_told(self):
        self.begin(delivery={"delay-warning": "2s"})
        plain = "Subject: x\r\n"
        cases = {       # ENVID: (NOTIFY, sender, header, told)
            "plain": ("", "s@example.com", plain, True),
            "asked": ("NOTIFY=DELAY", "s@example.com", plain, True),
            "failure": ("NOTIFY=FAILURE", "s@example.com", plain, False),
            "success": ("NOTIFY=SUCCESS,FAILURE", "s@example.com", plain, False),
            "never": ("NOTIFY=NEVER", "s@example.com", plain, False),
            "null": ("", "", plain, False),
            "nullasked": ("NOTIFY=DELAY", "", plain, False),
            "list": ("", "s@example.com", plain + "List-Id: <a.example.com>\r\n", False),
            "bulk": ("", "s@example.com", plain + "Precedence: bulk\r\n", False),
            "auto": ("", "s@example.com", plain + "Auto-Submitted: auto-generated\r\n", False),
            "byhand": ("", "s@example.com", plain + "Auto-Submitted: no\r\n", True),
            "owner": ("", "owner-news@example.com", plain, False),
            "listasked": ("NOTIFY=DELAY", "owner-news@example.com", plain + "List-Id: <a.b>\r\n", True),
        }
        for envid, (notify, sender, header, _) in cases.items():
            self.send({"later@example.org": notify}, f"ENVID={envid}", sender, header + "\r\nbody\r\n")
        told = sorted(envid for envid, (*_, told) in cases.items() if told)
        self.back.wait(len(told))
        so_far = self.server.metric("ringpost_queue_deferrals_total")
        self.deferrals(so_far + 2 * len(cases))
        self.assertEqual(sorted(r.about["Original-Envelope-Id"] for r in self.reports(len(told))), told)

    def test_told_though_nobody_answers(self):
        """The destination backs off as a whole: no message of it is tried. The report names the host, and what binds."""
        closed = harness.free_port()
        strict = {"domains": ["strict.test"], "allow-private": True, "tls": "encrypt"}
        self.begin(outbound={"dead": {"domains": ["dead.test"], "hosts": [f"127.0.0.1:{closed}"], "allow-private": True},
                             "strict": {**strict, "hosts": [f"127.0.0.1:{harness.free_port()}"]}},
                   delivery={"delay-warning": "3s", "retry-max": "1h", "retry-initial": "5s"}, postfix=False)
        clear = Peer(self)
        self.server.outbound["strict"] = {**strict, "hosts": [clear.address]}
        self.server.write_config()
        self.assertEqual(self.server.cli("reload").returncode, 0)
        self.send({"a@dead.test": "", "b@dead.test": "NOTIFY=DELAY"})
        self.send({"a@strict.test": ""}, content="Subject: strict\r\n\r\nbody\r\n")
        found = {}
        for report in self.reports(2):
            found.update({a: (report.of(a), report) for a in report.actions()})
        self.assertEqual(sorted(found), ["a@dead.test", "a@strict.test", "b@dead.test"])
        fields = found["a@dead.test"][0]
        self.assertEqual((fields["Action"], fields["Status"]), ("delayed", "4.4.1"))
        self.assertIn("127.0.0.1", fields["Diagnostic-Code"])
        self.server.wait_log("destination_failed", destination="outbound:dead")
        fields = found["a@strict.test"][0]
        self.assertRegex(fields["Status"], r"^4\.7\.")
        failed = harness.wait_for(lambda: [e for e in self.server.log("destination_failed") if "strict" in e["destination"]],
                                  "the event of the strict one")
        tokens = {e["token"] for e in failed}
        self.assertEqual(len(tokens), 1)
        self.assertIn(tokens.pop(), fields["Diagnostic-Code"])


@harness.one_thread("what a shard writes to senders")
class Ends(Notified):
    def test_a_message_that_lives_for_one_attempt(self):
        self.begin(delivery={"age-max": "0"}, outbound={
            "dead": {"domains": ["dead.test"], "hosts": [f"127.0.0.1:{harness.free_port()}"], "allow-private": True}})
        self.send({"user@example.org": "", "later@example.org": "", "a@dead.test": ""})
        actions = {}
        for report in self.reports(2):
            actions.update({a: (r["Action"], r["Status"]) for a, r in ((a, report.of(a)) for a in report.actions())})
        self.server.wait_empty()
        self.assertEqual(actions["later@example.org"], ("failed", "5.4.7"))
        self.assertEqual(actions["a@dead.test"][0], "failed")
        self.assertEqual(sorted(actions), ["a@dead.test", "later@example.org"])
        self.assertEqual([e["attempts"] for e in self.server.wait_log("expired", to="later@example.org")], [1])
        harness.wait_for(lambda: len(self.postfix.kept()) == 1, "the one that was taken")

    def test_the_class_of_notifications(self):
        self.begin(bounce={"class": "reports"}, **{'class "reports"': {"priority": "bulk"}})
        self.send({"gone@example.org": ""})
        report, = self.reports(1)
        self.assertEqual(report.actions(), {"gone@example.org": "failed"})
        line, = self.server.wait_log("delivered", to="sender@example.com")
        self.assertEqual((line["class"], line["from"]), ("reports", ""))

    def test_limits_of_a_sender(self):
        self.begin(bounce={"per-sender": 4}, top={"shards": 1})
        for i in range(8):
            self.send({"gone@example.org": ""}, f"ENVID=one{i}", "one@example.com")
        self.send({"gone@example.org": ""}, "ENVID=two", "two@example.com")
        harness.wait_for(lambda: any(m.recipients == ["two@example.com"] for m in list(self.back.messages)), "two's report")
        self.server.wait_metric('ringpost_delivery_bounces_total{result="delayed"}', 1)
        self.assertLessEqual(self.made(), 9, "the minute may have turned once")
        self.assertGreaterEqual(self.made(), 5)
        self.server.wait_log("bounce_postponed", why="over the limit: sender")
        later = self.server.wait_log("deferred", to="gone@example.org", code=550)
        self.assertTrue(all("no report" in line["why"] for line in later))
        self.server.wait_log("bounced", int(self.made()))
        self.assertLessEqual(len(self.server.log("bounced")), self.made(), "once for each, when it is so")

    def test_full_has_a_limit_and_requires_a_failure(self):
        self.begin()
        body = "".join(f"{i:070}\r\n" for i in range(1000))
        self.send({"gone@example.org": ""}, "RET=FULL", content="Subject: big\r\n\r\n" + body)
        self.send({"gone@example.org": ""}, "RET=FULL BODY=8BITMIME", content="Subject: small\r\n\r\nGrüße\r\n")
        self.send({"gone@example.org": ""}, content="Subject: unsaid\r\n\r\nbody\r\n")
        found = {}
        for report in self.reports(3):
            found[re.search(r"Subject: (\w+)", report.original.as_string()).group(1)] = report
        self.assertEqual({k: r.original.get_content_type() for k, r in found.items()},
                         {"big": "text/rfc822-headers", "small": "message/rfc822", "unsaid": "text/rfc822-headers"})
        self.assertEqual((found["small"].whole["Content-Transfer-Encoding"],
                          found["small"].original["Content-Transfer-Encoding"]), ("8bit", "8bit"))
        self.assertEqual(found["small"].original.get_payload(0).get_payload(decode=True).decode("utf-8", "replace").strip(),
                         "Grüße")

    def test_reports_of_rfc_6533(self):
        peer = Peer(self, answers={"RCPT": "550 5.1.1 nobody"})
        self.begin(postfix=False, outbound={"peer": peer.route(["example.org"])})
        client = self.server.client()
        client.hello()
        client.expect(250, "MAIL FROM:<sender@example.com> SMTPUTF8")
        client.expect(250, "RCPT TO:<fränk@example.org> ORCPT=utf-8;fr\\x{E4}nk@example.net")
        client.expect(250, "RCPT TO:<plain@example.org>")
        self.assertEqual(client.data("Subject: Grüße\r\n\r\nbody\r\n").code, 250)
        report, = self.reports(1, utf8=True)
        self.assertIn("SMTPUTF8", self.back.messages[0].mail)
        self.assertEqual([r["Final-Recipient"] for r in report.recipients],
                         ["utf-8; fränk@example.org", "rfc822; plain@example.org"])
        self.assertEqual(report.recipients[0]["Original-Recipient"], "utf-8;fr\\x{E4}nk@example.net")
        self.assertEqual(report.original.get_content_type(), "message/global-headers")


if __name__ == "__main__":
    harness.main()
