"""test_delivery.py - out to next hops: other people's servers, and ones that do what they should not

Programs of others: smtp-source, swaks and msmtp send; Postfix (an instance of its own), smtp-sink
and Dovecot's LMTP receive. What a next hop may say is played by harness.Peer.
"""
import email
import os
import pathlib
import pwd
import re
import shutil
import subprocess
import tempfile
import time
import unittest

import harness
from harness import Peer, Ringpost, Sink, program
from postfix import Postfix

FAST = {"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"}


def directory(test, mode=0o755):
    path = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-others."))
    path.chmod(mode)
    test.addCleanup(shutil.rmtree, path, True)
    return path


class Delivery(unittest.TestCase):
    def serve(self, peer=None, **config):
        routes = {"peer": peer.route()} if peer else None
        config.setdefault("outbound", routes)
        self.server = Ringpost(self, **config).start()
        self.addCleanup(self.server.stop)
        return self.server

    def bounce(self, peer, count=1):
        """The bounce among what the peer got."""
        def found():
            bounces = [m for m in list(peer.messages) if m.sender == ""]
            return bounces if len(bounces) >= count else None
        return harness.wait_for(found, lambda: f"a bounce; {peer.commands[-10:]}")[-1]


# ---- programs of others ----

@harness.one_thread("clients and sessions, one by one")
class Clients(Delivery):
    def run_program(self, *words, stdin=None):
        done = subprocess.run([str(w) for w in words], input=stdin, capture_output=True, text=True,
                              timeout=harness.WAIT_SECONDS * 2, check=False)
        self.assertEqual(done.returncode, 0, f"{words[0]}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
        return done.stdout

    def test_smtp_source(self):
        sink = Sink(self)
        server = self.serve(outbound={"sink": sink.route()})
        for more in ([], ["-d"], ["-r", "5"], ["-N", "-l", "100000"]):
            self.run_program(program("smtp-source"), "-s", "20", "-m", "200", *more, "-f", "a@example.com",
                             "-t", "b@example.org", f"inet:127.0.0.1:{server.port}")
        server.wait_empty()
        sink.wait(800)
        self.assertEqual(server.metric("ringpost_smtp_messages_total"), 800)
        self.assertEqual(server.metric('ringpost_queue_recipients_out_total{outcome="delivered"}'), 1600)
        numbers = sink.numbers()
        self.assertEqual((numbers["bad_commands"], numbers["bare_newlines"], numbers["early_data"]), (0, 0, 0))

    def test_swaks(self):
        peer = Peer(self)
        server = self.serve(peer)
        text = self.run_program(program("swaks"), "--server", "127.0.0.1", "--port", server.port, "--from",
                                "a@example.com", "--to", "b@example.org,c@example.org", "--pipeline",
                                "--header", "Subject: from swaks", "--body", "line\n.\n..dots\n",
                                "--ehlo", "swaks.example.com")
        self.assertIn("queued as", text)
        peer.wait(1)
        self.assertEqual(peer.messages[0].recipients, ["b@example.org", "c@example.org"])
        self.assertIn(b"\r\n.\r\n..dots\r\n", peer.messages[0].content)

    def test_msmtp(self):
        peer = Peer(self)
        server = self.serve(peer)
        self.run_program(program("msmtp"), "--host=127.0.0.1", f"--port={server.port}", "--auth=off",
                         "--tls=off", "--from=a@example.com", "--domain=msmtp.example.com",
                         "--dsn-notify=failure", "--", "b@example.org", stdin="Subject: from msmtp\n\nGrüße\n")
        peer.wait(1)
        self.assertIn("Grüße\r\n".encode(), peer.messages[0].content)
        self.assertIn("NOTIFY=FAILURE", peer.messages[0].rcpts[0])


@harness.one_thread("sessions with next hops, one by one")
class Servers(Delivery):
    def spawn(self, words, port, **popen):
        log = open(directory(self) / "log", "wb")
        process = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, **popen)

        def end():
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()
        self.addCleanup(end)
        harness.wait_listening("127.0.0.1", port, process)
        return process

    def deliver(self, port, count, sizes=(1000, 200_000), **route):
        """count messages of each size through ringpost to the port, none bounced."""
        hosts = {"domains": ["*"], "hosts": [f"127.0.0.1:{port}"], "allow-private": True, **route}
        server = self.serve(outbound={"next": hosts}, delivery=FAST)
        for size in sizes:
            harness.source("--to", f"127.0.0.1:{server.port}", "--connections", 5, "--messages", count,
                           "--size", size, "--rcpt", "user@example.org", "--from", "sender@example.com")
        server.wait_empty()
        self.assertEqual(server.metric('ringpost_queue_recipients_out_total{outcome="delivered"}'),
                         count * len(sizes))
        self.assertEqual(server.metric('ringpost_queue_recipients_out_total{outcome="bounced"}'), 0)
        return server

    def test_smtp_sink(self):
        port = harness.free_port()
        files = directory(self, 0o777)
        self.spawn([program("smtp-sink"), "-u", "nobody", "-d", f"{files}/%M.", f"127.0.0.1:{port}", "100"], port)
        self.deliver(port, 30)
        found = list(files.iterdir())
        self.assertEqual(len(found), 60)
        for path in found:
            self.assertEqual(path.read_bytes().count(b"X-Bench-Id: "), 1)

    def test_smtp_sink_without_extensions(self):
        """No EHLO at all: HELO, no pipelining."""
        port = harness.free_port()
        self.spawn([program("smtp-sink"), "-u", "nobody", "-e", f"127.0.0.1:{port}", "100"], port)
        self.deliver(port, 20)

    def test_postfix(self):
        base = directory(self)
        postfix = Postfix(self, base, Postfix.mailboxes(base))
        mail = postfix.mail
        server = self.deliver(postfix.port, 20)
        harness.wait_for(lambda: len(list(mail.glob("all/new/*"))) == 40,
                         lambda: f"40 files: {postfix.told()[-1500:]}")
        for path in mail.glob("all/new/*"):
            text = path.read_bytes()
            self.assertEqual(text.count(b"X-Bench-Id: "), 1)
            self.assertIn(b"by mx.flow.test with ESMTP id", text)
        # what it refuses comes back to the sender, who is over there too
        server.send(recipients=["user@nowhere.test"], sender="sender@example.org")
        harness.wait_for(lambda: len(list(mail.glob("all/new/*"))) == 41, "the bounce in its mailbox")

    def test_dovecot_lmtp(self):
        program("dovecot")
        base = directory(self)
        port = harness.free_port()
        user = "nobody"
        mail = base / "mail"
        mail.mkdir()
        entry = pwd.getpwnam(user)
        os.chown(mail, entry.pw_uid, entry.pw_gid)
        (base / "users").write_text("user@example.org:::::::\nother@example.org:::::::\n")
        (base / "dovecot.conf").write_text(
            f"base_dir = {base}/run\nstate_dir = {base}/state\nprotocols = lmtp\nssl = no\n"
            f"log_path = {base}/log\nlisten = 127.0.0.1\nmail_location = maildir:{mail}/%u\n"
            f"first_valid_uid = 1\nmail_uid = {entry.pw_uid}\nmail_gid = {entry.pw_gid}\n"
            f"default_internal_user = dovecot\ndefault_login_user = {user}\n"
            "postmaster_address = postmaster@example.org\nauth_username_format = %Lu\n"
            f"passdb {{\n driver = passwd-file\n args = {base}/users\n}}\n"
            f"userdb {{\n driver = passwd-file\n args = {base}/users\n"
            f" default_fields = uid={entry.pw_uid} gid={entry.pw_gid} home={mail}/%u\n}}\n"
            f"service lmtp {{\n inet_listener lmtp {{\n  address = 127.0.0.1\n  port = {port}\n }}\n}}\n"
            "service anvil {\n chroot =\n}\nservice stats {\n chroot =\n}\n")
        for name in ("run", "state"):
            (base / name).mkdir()
        self.spawn([program("dovecot"), "-F", "-c", base / "dovecot.conf"], port)
        server = self.serve(outbound={"lmtp": {"domains": ["*"], "hosts": [f"127.0.0.1:{port}"],
                                             "protocol": "lmtp", "allow-private": True}}, delivery=FAST)
        server.send(recipients=["user@example.org", "nobody-here@example.org", "other@example.org"],
                    sender="other@example.org", content="Subject: lmtp\r\n\r\n.dot\r\nlast\r\n")
        log = base / "log"
        for name, count in (("user@example.org", 1), ("other@example.org", 2)):
            harness.wait_for(lambda n=name, c=count: len(list((mail / n).glob("new/*"))) == c,
                             lambda: f"mail for {name}: {server.queue()} {log.read_text()[-2000:]}")
        texts = [p.read_bytes() for p in (mail / "other@example.org").glob("new/*")]
        self.assertTrue(any(b"\n.dot\nlast" in t.replace(b"\r\n", b"\n") for t in texts))
        self.assertTrue(any(b"nobody-here@example.org" in t and b"multipart/report" in t for t in texts))
        # a mailbox is the end of the way: RFC 3461 5.2.3 (a)
        client = server.client()
        client.hello()
        client.expect(250, "MAIL FROM:<other@example.org>")
        client.expect(250, "RCPT TO:<user@example.org> NOTIFY=SUCCESS")
        self.assertEqual(client.data("Subject: told\r\n\r\nx\r\n").code, 250)
        harness.wait_for(lambda: len(list((mail / "other@example.org").glob("new/*"))) == 3, "the report")
        self.assertTrue(any(b"\nAction: delivered" in p.read_bytes() for p in (mail / "other@example.org").glob("new/*")))
        server.wait_empty()


# ---- what may be answered ----

class Outcomes(Delivery):
    def test_per_recipient(self):
        seen = {}

        def rcpt(_peer, line):
            name = re.search(r"<(\w+)", line).group(1)
            seen[name] = seen.get(name, 0) + 1
            if name == "never":
                return "550 5.1.1 no such user"
            return "450 4.2.1 later" if name == "later" and seen[name] == 1 else None
        peer = Peer(self, answers={"RCPT": rcpt})
        server = self.serve(peer, delivery=FAST)
        queue_id = server.send(recipients=[f"{n}@example.org" for n in ("good", "never", "later", "fine")])
        server.wait_empty()
        self.assertEqual({k: v for k, v in seen.items() if k != "sender"},
                         {"good": 1, "never": 1, "later": 2, "fine": 1})
        server.wait_log("delivered", to="later@example.org")
        events = {e["to"].split("@")[0]: e["event"] for e in server.log()
                  if e.get("msg") == queue_id and "destination" in e}
        self.assertEqual(events, {"good": "delivered", "fine": "delivered", "never": "bounced", "later": "delivered"})
        self.assertEqual(self.bounce(peer).recipients, ["sender@example.com"])

    def test_retry_after_4xx_at_every_stage(self):
        for stage in ("GREET", "EHLO", "MAIL", "RCPT", "DATA", "END"):
            with self.subTest(stage=stage):
                said = []

                def once(_peer, _line, said=said):
                    said.append(1)
                    return "451 4.3.0 not now" if len(said) == 1 else None
                answers = {stage: once}
                if stage == "EHLO":
                    answers["HELO"] = lambda _p, _l, s=said: "451 4.3.0 not now" if len(s) < 2 else None
                peer = Peer(self, answers=answers, extensions=("PIPELINING", "8BITMIME"))
                server = self.serve(peer, delivery=FAST)
                server.send()
                peer.wait(1)
                server.wait_empty()
                self.assertEqual(len(peer.messages), 1)
                server.stop()

    def test_dropped_connections_lose_nothing(self):
        for stage in ("GREET", "EHLO", "MAIL", "RCPT", "DATA", "END", "BDAT"):
            with self.subTest(stage=stage):
                said = []

                def once(_peer, _line, said=said):
                    said.append(1)
                    return "drop" if len(said) == 1 else None
                extensions = ("PIPELINING", "8BITMIME") + (("CHUNKING",) if stage == "BDAT" else ())
                peer = Peer(self, answers={stage: once}, extensions=extensions)
                server = self.serve(peer, delivery=FAST)
                server.send(content="Subject: d\r\n\r\n" + "x" * 70 + "\r\n")
                peer.wait(1)
                server.wait_empty()
                server.stop()

    def test_bad_sink_and_crowd(self):
        """Errors and cut connections at random; all that is not refused for good arrives."""
        sink = Sink(self, "--errors", "0.1", "--error-code", "451", "--drop", "0.1")
        server = self.serve(outbound={"sink": sink.route()}, delivery=FAST)
        acked = self.server.directory / "acked"
        result = harness.source("--to", f"127.0.0.1:{server.port}", "--connections", 10, "--messages", 300,
                                "--rcpt", "x@example.org", "--acked", acked)
        self.assertEqual(result["messages"], 300)
        server.wait_empty()
        self.assertLessEqual(set(acked.read_text().split()), set(sink.ids()))
        self.assertEqual(server.metric('ringpost_queue_recipients_out_total{outcome="delivered"}'), 300)

    def test_malformed_replies(self):
        for answer in ("nonsense", "250-\r\n251 two codes", "99 too short", "250 bare\nlf"):
            with self.subTest(answer=answer):
                said = []

                def once(_peer, _line, said=said, answer=answer):
                    said.append(1)
                    return answer if len(said) == 1 else None

                class Rude(Peer):
                    def say(self, s, text):
                        if text in ("nonsense",) or not text[:3].isdigit():
                            s.sendall(text.encode() + b"\r\n")
                            return 0
                        return super().say(s, text)
                peer = Rude(self, answers={"MAIL": once})
                server = self.serve(peer, delivery=FAST)
                server.send()
                peer.wait(1)
                server.wait_empty()
                server.stop()

    def test_lmtp_partial(self):
        def end(_peer, line):
            return "550 5.2.2 mailbox full" if "full@" in line else \
                "452 4.2.2 over quota" if "quota@" in line and len(end.tries) < 1 and not end.tries.append(1) else None
        end.tries = []
        peer = Peer(self, lmtp=True, answers={"END": end})
        server = self.serve(peer, delivery=FAST)
        server.send(recipients=["a@example.org", "full@example.org", "quota@example.org"])
        server.wait_empty()
        # a, then quota again alone, then the bounce
        taken = sorted(r for m in peer.messages for r in m.recipients)
        self.assertEqual(taken, ["a@example.org", "quota@example.org", "sender@example.com"])
        self.assertTrue(peer.verbs("LHLO"))
        self.assertFalse(peer.verbs("EHLO"))

    def test_second_host_when_the_first_is_down(self):
        peer = Peer(self)
        dead = harness.free_port()
        server = self.serve(outbound={"two": {"domains": ["*"], "allow-private": True,
                                            "hosts": [f"127.0.0.1:{dead}", peer.address]}}, delivery=FAST)
        server.send()
        peer.wait(1)
        server.wait_empty()

    def test_next_hop_comes_up_later(self):
        port = harness.free_port()
        server = self.serve(outbound={"one": {"domains": ["*"], "allow-private": True,
                                            "hosts": [f"127.0.0.1:{port}"]}}, delivery=FAST)
        ids = {server.send() for _ in range(5)}
        server.wait_log("destination_failed")
        self.assertEqual({m["id"] for m in server.queue()}, ids)
        peer = Peer(self, port=port)
        peer.wait(5)
        server.wait_empty()

    def test_connections_are_reused(self):
        peer = Peer(self)
        server = self.serve(outbound={"peer": peer.route(**{"max-connections": 2})}, top={"shards": 1},
                            delivery={"idle-timeout": "10s"})
        client = server.client()
        client.hello()
        for _ in range(50):
            client.message()
        peer.wait(50)
        server.wait_empty()
        self.assertLessEqual(peer.connections, 2)
        self.assertGreaterEqual(server.metric("ringpost_client_transactions_reused_total"), 48)

    def test_messages_per_connection(self):
        peer = Peer(self)
        server = self.serve(outbound={"peer": peer.route(**{"max-connections": 1, "max-per-connection": 5})},
                            top={"shards": 1})
        client = server.client()
        client.hello()
        for _ in range(20):
            client.message()
        peer.wait(20)
        counts = {}
        for message in peer.messages:
            counts[message.connection] = counts.get(message.connection, 0) + 1
        self.assertLessEqual(max(counts.values()), 5)


@harness.one_thread("what a session says to a next hop")
class Extensions(Delivery):
    """Peers that lack what a message needs; RFC 6152 3, 6531 3.2, 1870 5, 3030."""

    def test_plain_smtp_peer(self):
        peer = Peer(self, extensions=())
        server = self.serve(peer)
        server.send(content="Subject: x\r\n\r\n.dot\r\n", mail_parameters=" RET=HDRS ENVID=x")
        message = peer.wait(1)[0]
        self.assertEqual((message.how, message.mail), ("DATA", "MAIL FROM:<sender@example.com>"))
        self.assertIn(b"\r\n.dot\r\n", message.content)

    def test_bdat_where_offered(self):
        peer = Peer(self)
        server = self.serve(peer)
        body = b"Subject: x\r\n\r\n" + (b"z" * 76 + b"\r\n") * 20_000
        client = server.client()
        client.hello()
        client.begin()
        self.assertEqual(client.data(body).code, 250)
        message = peer.wait(1)[0]
        self.assertEqual(message.how, "BDAT")
        self.assertTrue(message.content.endswith(body))
        self.assertRegex(message.mail, r"SIZE=\d+")

    def test_big_message_by_data(self):
        peer = Peer(self, extensions=("PIPELINING",))
        server = self.serve(peer)
        body = b"Subject: x\r\n\r\n" + (b"." + b"z" * 75 + b"\r\n") * 20_000
        client = server.client()
        client.hello()
        client.begin()
        self.assertEqual(client.data(body.replace(b"\r\n.", b"\r\n..")).code, 250)
        self.assertTrue(peer.wait(1)[0].content.endswith(body))

    def refused(self, peer, parameters, content, recipient="x@example.org", status=None):
        """Not sent to the peer; a bounce goes to another one."""
        back = Peer(self)
        server = self.serve(outbound={"peer": peer.route(["example.org"]), "back": back.route(["*"])}, delivery=FAST)
        server.send(recipients=[recipient], content=content, mail_parameters=parameters)
        bounce = self.bounce(back)
        server.wait_empty()
        self.assertEqual(peer.messages, [])
        if status:
            self.assertIn(f"Status: {status}".encode(), bounce.content)

    def test_8bit_to_a_peer_without(self):
        self.refused(Peer(self, extensions=("PIPELINING",)), " BODY=8BITMIME",
                     "Subject: x\r\n\r\nGrüße\r\n".encode(), status="5.6.3")

    def test_smtputf8_to_a_peer_without(self):
        self.refused(Peer(self, extensions=("PIPELINING", "8BITMIME")), " SMTPUTF8",
                     b"Subject: x\r\n\r\nx\r\n", "fränk@example.org", status="5.6.7")

    def test_ascii_under_smtputf8_may_go_anywhere(self):
        """RFC 6531 3.2: the parameter may be left out when nothing needs it."""
        peer = Peer(self, extensions=("PIPELINING", "8BITMIME"))
        server = self.serve(peer)
        server.send(mail_parameters=" SMTPUTF8")
        self.assertNotIn("SMTPUTF8", peer.wait(1)[0].mail)

    def test_size_limit_of_the_peer(self):
        self.refused(Peer(self, extensions=("PIPELINING", "SIZE 1000")), "",
                     b"Subject: x\r\n\r\n" + (b"x" * 70 + b"\r\n") * 50, status="5.3.4")

    def test_seven_bits_need_nothing(self):
        peer = Peer(self, extensions=("PIPELINING",))
        server = self.serve(peer)
        server.send(mail_parameters=" BODY=8BITMIME")
        self.assertNotIn("BODY", peer.wait(1)[0].mail)


@harness.one_thread("what a shard writes to senders")
class Bounces(Delivery):
    def refuse(self, **config):
        answers = {"RCPT": lambda _p, line: "550 5.1.1 <>: no such user, sorry" if "gone" in line else None}
        peer = Peer(self, answers=answers)
        self.serve(peer, delivery=FAST, **config)
        return peer

    def report(self, message):
        """The parsed bounce: (whole, per-message fields, [per-recipient fields], third part)"""
        self.assertEqual(message.mail.split()[1], "FROM:<>")
        whole = email.message_from_bytes(message.content)
        self.assertEqual(whole.get_content_type(), "multipart/report")
        self.assertEqual(whole.get_param("report-type"), "delivery-status")
        self.assertEqual(whole["Auto-Submitted"], "auto-replied")
        for field in ("Date", "From", "To", "Subject", "Message-ID", "MIME-Version"):
            self.assertEqual(len(whole.get_all(field, [])), 1, field)
        self.assertEqual(whole.defects, [])
        parts = whole.get_payload()
        self.assertEqual([p.get_content_type() for p in parts][:2], ["text/plain", "message/delivery-status"])
        self.assertEqual(len(parts), 3)
        blocks = parts[1].get_payload()
        return whole, blocks[0], [b for b in blocks[1:] if b.keys()], parts[2]

    def test_contents(self):
        peer = self.refuse()
        self.server.send(recipients=["gone@example.org", "here@example.org", "gone2@example.org"],
                         content="Subject: lost\r\nX-Mark: 17\r\n\r\nsecret body\r\n",
                         mail_parameters=" ENVID=my+2Bid")
        whole, about, recipients, original = self.report(self.bounce(peer))
        self.assertEqual(whole["To"].strip("<>"), "sender@example.com")
        self.assertIn("MAILER-DAEMON@", whole["From"])
        self.assertEqual(about["Reporting-MTA"], "dns; mx.flow.test")
        self.assertIn(about["Original-Envelope-Id"], ("my+id", "my+2Bid"))
        self.assertIsNotNone(email.utils.parsedate_to_datetime(about["Arrival-Date"]))
        self.assertEqual([r["Final-Recipient"] for r in recipients],
                         ["rfc822; gone@example.org", "rfc822; gone2@example.org"])
        for fields in recipients:
            self.assertEqual(fields["Action"], "failed")
            self.assertEqual(fields["Status"], "5.1.1")
            self.assertTrue(fields["Diagnostic-Code"].startswith("smtp; 550 5.1.1"))
            self.assertTrue(fields["Remote-MTA"].startswith("dns; "))
        self.assertIn(original.get_content_type(), ("text/rfc822-headers", "message/rfc822"))
        self.assertIn("X-Mark: 17", original.as_string())
        self.assertNotIn("here@example.org", whole.get_payload()[0].get_payload())

    def test_ret_full_and_hdrs(self):
        for ret, type_, body in (("FULL", "message/rfc822", True), ("HDRS", "text/rfc822-headers", False)):
            peer = self.refuse()
            self.server.send(recipients=["gone@example.org"], content="Subject: l\r\n\r\nsecret body\r\n",
                             mail_parameters=f" RET={ret}")
            _, _, _, original = self.report(self.bounce(peer))
            self.assertEqual(original.get_content_type(), type_)
            self.assertEqual("secret body" in original.as_string(), body)

    def test_orcpt_and_notify_never(self):
        peer = self.refuse()
        client = self.server.client()
        client.hello()
        client.expect(250, "MAIL FROM:<sender@example.com>")
        client.expect(250, "RCPT TO:<gone@example.org> NOTIFY=NEVER")
        client.expect(250, "RCPT TO:<gone2@example.org> NOTIFY=FAILURE ORCPT=rfc822;old@example.net")
        self.assertEqual(client.data("Subject: x\r\n\r\nx\r\n").code, 250)
        _, _, recipients, _ = self.report(self.bounce(peer))
        self.assertEqual(len(recipients), 1)
        self.assertEqual(recipients[0]["Original-Recipient"].replace(" ", ""), "rfc822;old@example.net")

    def test_none_for_the_null_sender_or_never(self):
        peer = self.refuse()
        self.server.send(recipients=["gone@example.org"], sender="")
        client = self.server.client()
        client.hello()
        client.expect(250, "MAIL FROM:<sender@example.com>")
        client.expect(250, "RCPT TO:<gone@example.org> NOTIFY=NEVER")
        self.assertEqual(client.data("Subject: x\r\n\r\nx\r\n").code, 250)
        self.server.wait_log("bounced", 2)
        self.server.wait_empty()
        self.assertEqual(peer.messages, [])

    def test_a_bounce_that_cannot_be_delivered_ends_there(self):
        peer = Peer(self, answers={"RCPT": "550 5.1.1 nobody"})
        server = self.serve(peer, delivery=FAST)
        server.send()
        server.wait_log("bounced", 2)
        server.wait_empty()
        self.assertEqual(peer.messages, [])
        self.assertEqual(server.metric('ringpost_delivery_bounces_total{result="made"}'), 1)

    def test_injection_by_the_next_hop(self):
        """What a next hop says stands in the bounce, but it makes no header field of its own."""
        peer = Peer(self, answers={"RCPT": lambda _p, l: "550-5.1.1 one\x07\r\n550 5.1.1 X-Evil: yes\x1b[2J" if "gone" in l else None})
        server = self.serve(peer, delivery=FAST)
        server.send(recipients=["gone@example.org"])
        whole, _, recipients, _ = self.report(self.bounce(peer))
        self.assertNotIn("X-Evil", whole)
        self.assertNotIn("X-Evil", recipients[0])
        self.assertNotIn("\x1b", whole.as_string())

    def test_expiry(self):
        peer = Peer(self, answers={"RCPT": lambda _p, line: "451 4.7.1 never today" if "late" in line else None})
        server = self.serve(peer, delivery={**FAST, "age-max": "2s"})
        begun = time.monotonic()
        server.send(recipients=["late@example.org"])
        _, _, recipients, _ = self.report(self.bounce(peer))
        self.assertGreaterEqual(time.monotonic() - begun, 1)
        self.assertRegex(recipients[0]["Status"], r"^[45]\.\d\.\d$")
        self.assertEqual(recipients[0]["Action"], "failed")
        server.wait_log("expired")
        server.wait_empty()
        self.assertGreaterEqual(len([c for c in peer.verbs("RCPT") if "late" in c]), 2)


if __name__ == "__main__":
    harness.main()
