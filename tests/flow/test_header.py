"""test_header.py - header fields that only we may set, and those that a connector asks for"""
import re
import unittest

import harness
from harness import Peer, Ringpost

NAME = "mx.flow.test"
OWN = {"type": "own", "state": "enforce", "tls": "optional", "rights": ["relay", "internal"]}
TRUSTED = (b"X-Ringpost-Class: internal\r\n"
           b"Authentication-Results: mx.flow.test;\r\n\tspf=pass smtp.mailfrom=example.com\r\n"
           b"x-corp-checked : by\r\n hand\r\n")
OTHER = (b"Authentication-Results: mx.other.example; none\r\n"
         b"Subject: fields\r\n"
         b"X-Corporate: no\r\n")
BODY = b"\r\nX-Ringpost-Body: stays\r\n.dot\r\n"


@harness.one_thread("a session reads the header")
class Fields(unittest.TestCase):
    def serve(self, outbound=None, peer=None, **connectors):
        self.inner = peer or Peer(self)
        sections = {f'inbound "{title}"': {k: v for k, v in {**OWN, **keys}.items() if v is not None} for title, keys in connectors.items()}
        self.server = Ringpost(self, top={"shards": 1, "hostname": NAME},
                               outbound={"inner": {**self.inner.route(), **(outbound or {})}},
                               **{"inbound-defaults": {"trusted-fields": ["X-Corp-Checked", "X-Site-*"]}},
                               **sections).start()
        self.addCleanup(self.server.stop)
        return self.server

    def submit(self, content, sender="a@example.com", recipients=("b@example.org",), source=None, chunks=0):
        """The last reply; chunks: by BDAT, so many octets each."""
        with self.server.client(source=source) as client:
            client.hello()
            client.begin(sender, recipients)
            if not chunks:
                return client.data(re.sub(rb"(?m)^\.", b"..", content))
            for at in range(0, len(content), chunks):
                piece = content[at:at + chunks]
                last = " LAST" if at + chunks >= len(content) else ""
                client.send(f"BDAT {len(piece)}{last}\r\n".encode() + piece)
                reply = client.reply()
            return reply

    def received(self, count):
        """What arrived, without our own Received field; its size was told exactly."""
        message = self.inner.wait(count)[count - 1]
        self.assertEqual(self.inner.faults, [])
        self.assertEqual(int(re.search(r"SIZE=(\d+)", message.mail).group(1)), len(message.content))
        return re.sub(rb"\AReceived: .*\r\n(?:[ \t].*\r\n)*", b"", message.content)

    def test_taken_out(self):
        """Whoever has no right to them (I-43), however the content comes; the rest is as it was."""
        server = self.serve(site={"addresses": ["127.0.0.3"]})
        for count, (source, chunks) in enumerate(((None, 0), ("127.0.0.3", 0), (None, 1), (None, 7), (None, 4000)), 1):
            with self.subTest(source=source, chunks=chunks):
                self.assertEqual(self.submit(TRUSTED + OTHER + TRUSTED + BODY, source=source, chunks=chunks).code, 250)
                self.assertEqual(self.received(count), OTHER + BODY)
                event = server.wait_log("received", count)[-1]
                self.assertEqual(event["fields_removed"], 6)
        self.assertEqual(server.metric("ringpost_smtp_header_fields_removed_total"), 5 * 6)

    def test_kept_and_stripped(self):
        """With the right they stay here, and leave by connectors that keep them only; SIZE, DATA and
        BDAT tell what is left."""
        self.serve(site={"addresses": ["127.0.0.3"], "rights": ["relay", "headers"]},
                   outbound={"headers": "keep"})
        stripping = Peer(self)
        slow = Peer(self, extensions=("SIZE 50000000", "8BITMIME"))
        self.server.outbound.update({
            "others": {**stripping.route(["others.example"]), "type": "partner"},
            "slow": {**slow.route(["slow.example"]), "headers": "strip"}})
        self.server.write_config()
        self.assertEqual(self.server.cli("reload").returncode, 0)
        large = TRUSTED + OTHER + TRUSTED + BODY + b"line of a large body\r\n" * 50_000
        for count, content in enumerate((TRUSTED + OTHER + BODY, OTHER + BODY + TRUSTED, large,
                                         OTHER + b"X-Site-A: " + b"a" * 900 + b"\r\n" + BODY), 1):
            to = ("b@example.org", "c@others.example", "d@slow.example")
            self.assertEqual(self.submit(content, "a@example.org", to, source="127.0.0.3").code, 250)
            self.inner, kept = self.inner, self.inner
            self.assertEqual(self.received(count), content)
            header, body = content.split(b"\r\n\r\n", 1)
            rest = re.sub(rb"(?:X-Ringpost-Class|Authentication-Results: mx.flow|x-corp-checked|X-Site-A).*\r\n(?:[ \t].*\r\n)*",
                          b"", header + b"\r\n") + b"\r\n" + body
            for self.inner in (stripping, slow):
                self.assertEqual(self.received(count), rest)
            self.inner = kept

    def test_second_factor(self):
        """A shared platform's address, and the field that tells its customers apart."""
        server = self.serve(ours={"addresses": ["127.0.0.3"], "require-header": ["X-OriginatorOrg", "example.org"],
                                  "rights": ["relay", "internal", "headers"]})
        platform = {"source": "127.0.0.3"}
        far = {"sender": "a@example.org", "recipients": ["b@far.example"], **platform}
        right = b"x-originatororg:\r\n example.org \r\n"
        self.assertEqual(self.submit(right + OTHER + BODY, **far).code, 250)
        self.assertEqual(self.received(1), right + OTHER + BODY)
        wrong = (b"", b"X-OriginatorOrg: evil.example\r\n", right + right, right + b"X-OriginatorOrg: evil.example\r\n",
                 b"X-OriginatorOrg: example.org.evil.example\r\n")
        for field in wrong:
            with self.subTest(field=field):
                reply = self.submit(field + OTHER + BODY, **far)
                self.assertEqual(reply.code, 550, reply)
                self.assertRegex(reply.text, r"^5\.7\.1 Relaying denied \[relay-denied\] d=\w{7}$")
        with self.subTest("in the body"):
            self.assertEqual(self.submit(OTHER + b"\r\n" + right, **far).code, 550)
        with self.subTest("one recipient needs the right, so the whole message is refused"):
            self.assertEqual(self.submit(OTHER + BODY, "a@example.org", ["b@example.org", "c@far.example"], **platform).code, 550)
        with self.subTest("nothing depends on it: taken, as a stranger's"):
            self.assertEqual(self.submit(OTHER + BODY, "a@example.com", ["b@example.org"], **platform).code, 250)
            self.assertEqual(server.wait_log("received", 2)[-1]["attributed"], "none")
        with self.subTest("fields that only we may set went through in the belief that it was ours"):
            self.assertEqual(self.submit(TRUSTED + BODY, "a@example.com", ["b@example.org"], **platform).code, 550)
        self.assertEqual(len(self.inner.wait(2)), 2)
        self.assertEqual(server.metric("ringpost_smtp_header_lacking_total"), len(wrong) + 4)

    def test_second_factor_of_a_lockdown(self):
        """Of a restricting partner: another customer of the platform is no better than a stranger. In test
        it is only told."""
        bank = {"type": "partner", "sender-domains": ["bank.example"], "addresses": ["127.0.0.3"], "restrict": True,
                "require-header": ["X-OriginatorOrg", "bank.example"], "rights": None}
        server = self.serve(bank=bank)
        right = b"X-OriginatorOrg: bank.example\r\n"
        bank_mail = {"sender": "a@bank.example", "source": "127.0.0.3"}
        self.assertEqual(self.submit(right + BODY, **bank_mail).code, 250)
        reply = self.submit(OTHER + BODY, **bank_mail)
        self.assertRegex(reply.text, r"\[address-mismatch\]")
        self.assertEqual(reply.code, 550)
        server.sections['inbound "bank"']["state"] = "test"
        server.write_config()
        self.assertEqual(server.cli("reload").returncode, 0)
        for count, (field, would) in enumerate(((right, "accept"), (b"", "reject")), 2):
            self.assertEqual(self.submit(field + BODY, **bank_mail).code, 250)
            self.assertEqual(server.wait_log("received", count)[-1]["would"], would)


if __name__ == "__main__":
    harness.main()
