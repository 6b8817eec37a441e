"""test_tls.py - TLS with other people's clients and servers, in both directions

OpenSSL, GnuTLS, Postfix, swaks and Python's ssl module come in; mail goes out to Python's ssl and
to Postfix. Exim and OpenSMTPD are in test_tls_peers.py, what a hostile peer does in test_tls_hostile.py.
"""
import contextlib
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import unittest

import harness
import pki
from harness import Ringpost, program
from postfix import Postfix
from test_dns import Nsd
from tls_wire import Client, Session, TlsPeer, client_context, scratch, server_context

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

one_by_one = harness.one_thread("sessions with peers, one by one")


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
        if "outbound" not in config:
            self.peer = harness.Peer(self)
            config["outbound"] = {"peer": self.peer.route()}
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
        """A message, typed when the server has greeted or taken STARTTLS, its content when that is asked
        for; all that was answered."""
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
            commands, data, content = (said or dialog()).partition("DATA\n")
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write((commands + data).encode())
                process.stdin.flush()
                while content and (line := process.stdout.readline()):
                    heard += line
                    if line.startswith((b"354 ", b"4", b"5")):
                        break
                process.stdin.write(content.encode())
                process.stdin.flush()
            heard += process.stdout.read()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        return heard.decode(errors="replace")

    def received(self, said):
        """The log's line about the message that was taken."""
        return self.server.wait_log("received", msg=re.search(r"queued as (\S+)", said).group(1))[0]

    @one_by_one
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


    @one_by_one
    def test_openssl_refused(self):
        """No key transport, no DHE, no CBC, nothing old; CBC only where a listener says so."""
        cbc, new = (harness.free_port() for _ in range(2))
        self.serve({"in": {}, "cbc": {"addresses": [f"127.0.0.1:{cbc}"], "tls-cbc": True},
                    "new": {"addresses": [f"127.0.0.1:{new}"], "tls-min": "1.3"}})
        for words in REFUSED:
            for port in (self.server.port, cbc, new):
                if port == cbc and "ECDHE-RSA-AES128-SHA" in words:
                    continue
                with self.subTest(words=words, cbc=port == cbc):
                    said = self.s_client(*words, "-cipher" if "-cipher" not in words else "-comp",
                                         *(["ALL:@SECLEVEL=0"] if "-cipher" not in words else []), port=port)
                    self.assertNotIn("queued as", said)
                    self.assertRegex(said, r"alert|no protocols|no cipher match|no ciphers|unsupported")
        for suite, name in SUITES_CBC.items():
            with self.subTest(suite=suite):
                said = self.s_client("-tls1_2", "-cipher", suite, port=cbc)
                self.assertEqual(self.received(said)["suite"], name)
                self.assertNotIn("queued as", self.s_client("-tls1_2", "-cipher", suite))
        with self.subTest("AEAD comes first, also there"):
            said = self.s_client("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-SHA", port=cbc)
            self.assertIn("GCM", self.received(said)["suite"])
        self.assertNotIn("queued as", self.s_client("-tls1_2", port=new))
        self.assertEqual(self.received(self.s_client(port=new))["tls"], "TLSv1.3")

    @one_by_one
    def test_gnutls(self):
        self.serve(top={"early-content": "accept"})     # its input is all there when it begins
        for priority, wanted in (
                ("NORMAL", {"tls": "TLSv1.3"}),
                ("NORMAL:-VERS-ALL:+VERS-TLS1.2", {"tls": "TLSv1.2"}),
                ("NORMAL:-GROUP-ALL:+GROUP-X25519", {"group": "X25519"}),
                ("NORMAL:-GROUP-ALL:+GROUP-SECP256R1", {"group": "P-256"}),
                ("NORMAL:-GROUP-ALL:+GROUP-SECP384R1", {"group": "P-384"}),
                ("NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305", {"suite": "TLS_CHACHA20_POLY1305_SHA256"}),
                ("NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-256-GCM",
                 {"suite": "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"})):
            with self.subTest(priority=priority):
                said = self.run_program(
                    program("gnutls-cli"), "--starttls-proto=smtp", "--port", self.server.port, "127.0.0.1",
                    "--x509cafile", self.roots, "--verify-hostname", NAME, "--sni-hostname", NAME,
                    "--priority", priority, stdin=dialog().replace("\n", "\r\n"))
                event = self.received(said)
                self.assertEqual({k: event[k] for k in wanted}, wanted)

    @one_by_one
    def test_msmtp(self):
        port = harness.free_port()
        self.serve({"in": {}, "smtps": {"addresses": [f"127.0.0.1:{port}"], "tls": "implicit"}},
                   certificates={"t": self.authority.leaf("localhost")})
        for words in ([f"--port={self.server.port}", "--tls-starttls=on"], [f"--port={port}", "--tls-starttls=off"]):
            self.run_program(program("msmtp"), "--host=localhost", *words, "--auth=off", "--tls=on",
                             f"--tls-trust-file={self.roots}", "--from=a@example.com", "--", "b@example.org",
                             stdin="Subject: x\n\nx\n")
        for event in self.server.wait_log("received", 2):
            self.assertEqual((event["proto"], event["sni"]), ("ESMTPS", "localhost"))

    @one_by_one
    def test_swaks(self):
        port = harness.free_port()
        self.serve({"in": {}, "smtps": {"addresses": [f"127.0.0.1:{port}"], "tls": "implicit"}})
        for words in (["--tls", "--port", self.server.port], ["--tls-on-connect", "--port", port],
                      ["--tls", "--tls-protocol", "tlsv1_2", "--port", self.server.port],
                      ["--tls", "--pipeline", "--port", self.server.port]):
            with self.subTest(words=words):
                said = self.run_program(program("swaks"), "--server", "127.0.0.1", *words, "--from", "a@example.com",
                                        "--to", "b@example.org", "--ehlo", "swaks.example.com", "--tls-verify",
                                        "--tls-ca-path", self.roots, "--tls-sni", NAME)
                self.assertEqual(self.received(said)["proto"], "ESMTPS")
                self.assertIn("TLS started with cipher", said)

    @one_by_one
    def test_posttls_finger(self):
        self.serve()
        (self.base / "main.cf").write_text("compatibility_level = 3.6\n")
        finger = [program("posttls-finger"), "-c", "-F", self.roots, "-L", "verbose,summary"]

        def run(*words):
            done = subprocess.run([str(w) for w in (*finger, *words)], capture_output=True, text=True, check=False,
                                  timeout=harness.WAIT_SECONDS, env={**os.environ, "MAIL_CONFIG": str(self.base)})
            return done.stdout + done.stderr
        host = f"[127.0.0.1]:{self.server.port}"
        for protocols, version in ((">=TLSv1.3", "TLSv1.3"), ("<=TLSv1.2", "TLSv1.2")):
            said = run("-l", "secure", "-s", NAME, "-p", protocols, host, NAME)
            self.assertIn("Verified TLS connection established", said)
            self.assertIn(version, said)
        said = run("-l", "secure", host, "mx.other.test")
        self.assertNotIn("Verified TLS", said)
        self.assertIn("hostname mismatch", said)
        said = run("-l", "encrypt", "-m", "2", "-r", "1", host)     # it comes back with its ticket
        self.assertRegex(said, "(?i)reusing old session")

    @one_by_one
    def test_python(self):
        """Long messages and many, by DATA and BDAT: what comes out is what went in."""
        self.serve(limits={"message-size": "20M"})
        body = b"".join(b"%07d 0123456789 abcdefghijklmnopqrstuvwxyz\r\n" % n for n in range(60000))
        content = b"Subject: long\r\n\r\n" + body
        count = 0
        for version in ("TLSv1_3", "TLSv1_2"):
            with Client(self.server.address) as client:
                client.starttls(client_context((version, version), self.authority.root.pem))
                client.message(content=content)
                client.begin()
                for at in range(0, len(content), 100_000):
                    chunk = content[at:at + 100_000]
                    last = b" LAST" if at + 100_000 >= len(content) else b""
                    client.send(b"BDAT %d%s\r\n" % (len(chunk), last) + chunk)
                    self.assertEqual(client.reply().code, 250)
                client.send("".join("MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRSET\r\n"
                                    for _ in range(50)))
                self.assertEqual({client.reply().code for _ in range(150)}, {250})
                for _ in range(20):
                    client.message()
                count += 22
                client.expect(221, "QUIT")
                self.assertEqual(client.socket.recv(1), b"", "a close_notify, else it raises")
        self.peer.wait(count)
        long = [m.content for m in self.peer.messages if b"Subject: long" in m.content]
        self.assertEqual(len(long), 4)
        for got in long:
            self.assertTrue(got.endswith(content))

    @one_by_one
    def test_records_and_segments(self):
        """However the octets are put into records, and these into segments."""
        self.serve()
        content = b"Subject: pieces\r\n\r\n" + b"".join(b"%06d .\r\n..\r\n" % n for n in range(3000))
        for seed in range(6):
            dice = random.Random(seed)
            version = ("TLSv1_3", "TLSv1_2")[seed % 2]
            with self.subTest(seed=seed), harness.Smtp(self.server.address) as client:
                client.hello()
                client.expect(220, "STARTTLS")
                session = Session(versions=(version, version))
                session.shake(client.socket)
                commands = (b"EHLO x.example.com\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
                            b"BDAT %d\r\n" % len(content) + content + b"BDAT 0 LAST\r\nNOOP\r\nQUIT\r\n")
                sealed, at = b"", 0
                while at < len(commands):
                    size = dice.choice((1, 2, 3, 7, 100, 1000, 16384, 16385, 40000)) if at > 20 or seed else 1
                    sealed += session.seal(commands[at:at + size])
                    at += size
                client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                at = 0
                while at < len(sealed):
                    size = dice.choice((1, 4, 5, 6, 1000, 4096, 30000, 100000))
                    client.send(sealed[at:at + size])
                    at += size
                heard = session.until(client.socket, 221)
                self.assertEqual(re.findall(rb"(?m)^(\d+) ", heard), [b"250"] * 6 + [b"221"])
        self.peer.wait(6)
        for message in self.peer.messages:
            self.assertTrue(message.content.endswith(content))

    @one_by_one
    def test_answers_that_are_not_read(self):
        """Megabytes of answers, and no room for them: none is lost, none is out of order."""
        self.serve(limits={"commands": 100_000})
        for version in ("TLSv1_3", "TLSv1_2"):
            with self.subTest(version=version), Client(self.server.address, receive_buffer=4096) as client:
                client.starttls(client_context((version, version)))
                rounds, said = 200, []

                def talk():
                    for number in range(rounds):
                        client.send("EHLO x.example.com\r\n" * 50 + f"MAIL FROM:<a{number}@example.com>\r\nRSET\r\n")
                    said.append(1)
                thread = threading.Thread(target=talk, daemon=True)
                thread.start()
                time.sleep(0.5)     # it may get as far as it can
                for number in range(rounds):
                    replies = [client.reply() for _ in range(52)]
                    self.assertEqual({r.code for r in replies}, {250}, number)
                    self.assertEqual(len([r for r in replies if len(r.lines) > 2]), 50, number)
                thread.join(harness.WAIT_SECONDS)
                self.assertEqual(said, [1])
                client.message()

    @one_by_one
    def test_key_updates(self):
        """TLS 1.3 lets a client change keys as it goes."""
        self.serve()
        words = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{self.server.port}", "-starttls", "smtp",
                 "-tls1_3", "-crlf", "-quiet", "-no_ign_eof"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            def say(text, answer, stream=process.stdout):
                process.stdin.write(text.encode() + b"\n")
                process.stdin.flush()
                while not re.match(answer, line := stream.readline()):
                    self.assertNotEqual(line, b"")
            say("ehlo x.example.com", rb"250 ")
            for line, answer in (("mail from:<a@example.com>", rb"250 "), ("rcpt to:<b@example.org>", rb"250 "),
                                 ("data", rb"354 "), ("subject: x\n\nbody\n.", rb"250 "), ("quit", rb"221 ")):
                for letter in "Kk":     # K asks us for new ones, too; what it reads with it is lost
                    say(letter, rb"KEYUPDATE", process.stderr)
                say(line, answer)
        self.server.wait_log("received")

    @one_by_one
    def test_required(self):
        """530 until there is TLS; what does no harm is answered."""
        self.serve({"in": {"tls": "required"}})
        with Client(self.server.address) as client:
            for line in ("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "DATA", "VRFY x", "BDAT 3 LAST\r\nx"):
                reply = client.cmd(line)
                self.assertEqual(reply.code, 503 if line.startswith("BDAT") else 530, line)
            self.assertIn("STARTTLS", client.hello().lines)
            reply = client.expect(530, "MAIL FROM:<a@example.com>")
            self.assertEqual(reply.text[:5], "5.7.0")
            for line in ("NOOP", "RSET"):
                client.expect(250, line)
            client.expect(220, "STARTTLS")
            client.secure(client_context(), NAME)
            client.hello()
            client.message()
        self.assertGreaterEqual(self.server.metric('ringpost_smtp_refused_total{reason="tls_required"}'), 4)

    def test_names(self):
        """SNI: an exact name before a wildcard, the first certificate for a name that nobody has; and
        ECDSA or RSA by what the client can verify."""
        a = self.authority
        leaves = {
            "first": a.leaf("first.test"), "wild": a.leaf("*.wild.test"), "exact": a.leaf("exact.wild.test"),
            "both": a.leaf("both.test"), "both-rsa": a.leaf("both.test", kind="rsa")}
        self.serve(certificates=leaves)
        versions = (("TLSv1_3", "TLSv1_3"), ("TLSv1_2", "TLSv1_2"))
        for name, title in (("first.test", "first"), ("any.wild.test", "wild"), ("exact.wild.test", "exact"),
                            ("EXACT.wild.TEST", "exact"), ("two.deep.wild.test", "first"), ("wild.test", "first"),
                            ("unknown.test", "first"), (None, "first"), ("both.test", "both")):
            for version in versions:
                with self.subTest(name=name, version=version), Client(self.server.address) as client:
                    client.starttls(client_context(version), name)
                    self.assertEqual(client.socket.getpeercert(True), leaves[title].der)
        for words, title in ((["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"], "both-rsa"),
                             (["-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"], "both"),
                             (["-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256"], "both"),
                             (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "both-rsa"),
                             (["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256"],
                              "both"),
                             (["-tls1_2", "-sigalgs", "RSA+SHA256"], "both-rsa"),
                             # a suite of ours, or a curve that the client knows, is what counts
                             (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256"],
                              "both-rsa"),
                             (["-tls1_2", "-groups", "X25519"], "both-rsa")):
            with self.subTest(words=words):
                said = self.s_client(*words, "-servername", "both.test")
                self.assertIn("queued as", said)
                self.assertIn(leaves[title].pem.split("\n")[3], said)

    @one_by_one
    def test_rsa_first(self):
        """The configuration's order, but for who has no use for its first."""
        leaves = {"rsa": self.rsa, "ec": self.ecdsa}
        self.serve(certificates=leaves)
        for words, title in (([], "rsa"), (["-tls1_2"], "rsa"),
                             (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "ec"),
                             (["-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"], "ec")):
            with self.subTest(words=words):
                said = self.s_client(*words)
                self.assertIn("queued as", said)
                self.assertIn(leaves[title].pem.split("\n")[3], said)

    def test_reload(self):
        """New sessions see the new certificate; those that are open go on. A broken one is refused."""
        for how in ("hup", "command"):
            with self.subTest(how=how):
                self.serve(certificates={"t": self.ecdsa})
                new = self.authority.leaf(NAME, key=pki.KEYS["ec"]())

                def reload():
                    if how == "command":
                        return self.server.cli("reload")
                    before = len(self.server.log("reload"))
                    self.server.process.send_signal(signal.SIGHUP)
                    return self.server.wait_log("reload", before + 1)[-1]

                def presented():
                    with Client(self.server.address) as client:
                        client.starttls(client_context())
                        return client.socket.getpeercert(True)
                with Client(self.server.address) as before:
                    before.starttls(client_context())
                    before.begin()
                    begun = Client(self.server.address)     # in clear still; its TLS comes with the new one
                    begun.hello()
                    chain, key = (self.base / "t.pem", self.base / "t.key")
                    good = chain.read_text(), key.read_text()
                    for path, text in ((key, ""), (chain, ""), (key, self.rsa.key_pem)):    # the last: not its key
                        path.write_text(text)
                        said = reload()
                        if how == "command":
                            self.assertNotEqual(said.returncode, 0)
                            self.assertRegex(said.stdout + said.stderr, r"t\.(pem|key)")
                        else:
                            self.assertEqual(said["level"], "error", said)
                        self.assertEqual(presented(), self.ecdsa.der, "the old one stays")
                        chain.write_text(good[0])
                        key.write_text(good[1])
                    new.write(self.base, "t")
                    reload()
                    harness.wait_for(lambda: presented() == new.der, "the new certificate")
                    self.assertEqual(before.data("Subject: x\r\n\r\n").code, 250)
                    before.message()
                    begun.expect(220, "STARTTLS")
                    begun.secure(client_context(), NAME)
                    begun.hello()
                    begun.message()
                    begun.close()

    # -- resumption --

    def again(self, context, address, session, name=NAME):
        """One more connection with this session; the log's line, and the newest session."""
        with Client(address) as client:
            client.starttls(context, name, session)
            sender = f"n{len(self.server.log('received'))}@example.com"
            client.message(sender=sender)
            event = self.server.wait_log("received", **{"from": sender})[0]
            self.assertEqual(event["resumed"], bool(client.socket.session_reused))
            return event, client.socket.session

    def test_resumption(self):
        """Tickets of TLS 1.3 and 1.2, ids of 1.2; on whichever shard the client comes back."""
        self.serve()
        for version, options in (("TLSv1_3", 0), ("TLSv1_2", 0), ("TLSv1_2", ssl.OP_NO_TICKET)):
            with self.subTest(version=version, tickets=not options):
                context = client_context((version, version))
                context.options |= options
                before = self.server.metrics()
                event, session = self.again(context, self.server.address, None)
                self.assertFalse(event["resumed"])
                shards, count = set(), 0
                while len(shards) < 2 or count < 4:
                    event, session = self.again(context, self.server.address, session)
                    self.assertTrue(event["resumed"], (event, count))
                    shards.add(event["shard"])
                    count += 1
                    self.assertLess(count, 60, "one shard has all connections")
                after = self.server.metrics()
                key = 'ringpost_tls_handshakes_total{side="server",result="resumed"}'
                self.assertEqual(after[key] - before.get(key, 0), count)
                key = 'ringpost_tls_id_cache_lookups_total{result="hit"}' if options else \
                    'ringpost_tls_ticket_opened_total{key="current"}'
                self.assertGreaterEqual(after[key] - before.get(key, 0), count)

    def test_what_is_not_resumed(self):
        """A ticket of another listener, or one that somebody has changed, is no ticket."""
        other = harness.free_port()
        self.serve({"in": {}, "other": {"addresses": [f"127.0.0.1:{other}"]}})
        for version in ("TLSv1_3", "TLSv1_2"):
            context = client_context((version, version))
            _, session = self.again(context, self.server.address, None)
            event, _ = self.again(context, ("127.0.0.1", other), session)
            self.assertFalse(event["resumed"])

    def test_resumption_after_restart(self):
        """A key file is what servers of a fleet share, and what one has after a restart."""
        self.base = scratch(self)
        keys = self.base / "ticket.keys"
        self.serve(tls={"ticket-key-file": keys})
        context = {v: client_context((v, v)) for v in ("TLSv1_3", "TLSv1_2")}
        sessions = {v: self.again(c, self.server.address, None)[1] for v, c in context.items()}
        self.server.stop()
        self.server.start()
        for version, session in sessions.items():
            event, sessions[version] = self.again(context[version], self.server.address, session)
            self.assertTrue(event["resumed"], version)
        text = self.server.cli("tls", "rotate", config=True)
        if "unknown command" in text.stderr:
            self.skipTest("ringpost tls rotate is not there yet")
        self.assertEqual(text.returncode, 0, text.stderr)
        for version, session in sessions.items():
            event, _ = self.again(context[version], self.server.address, session)
            self.assertTrue(event["resumed"], version)
        self.assertGreater(self.server.metric('ringpost_tls_ticket_opened_total{key="previous"}'), 0)

    def test_reload_keeps_tickets(self):
        self.serve()
        context = client_context()
        _, session = self.again(context, self.server.address, None)
        self.assertEqual(self.server.cli("reload").returncode, 0)
        event, _ = self.again(context, self.server.address, session)
        self.assertTrue(event["resumed"])

    # -- certificates of clients --

    def test_client_certificates(self):
        """Asked for where that is said; whatever comes, the session goes on, and the verdict is told."""
        a = self.authority
        self.serve({"in": {"ask-certificate": ["127.0.0.0/29"], "never-ask": ["127.0.0.3"], "client-roots": "test"}})
        shown = {
            "good": (a.leaf("client.test", usage=(pki.CLIENT,)), "valid"),
            "server": (a.leaf("client.test", usage=(pki.SERVER,)), "valid"),
            "self-signed": (pki.make("client.test", pki.shared_key("ec"), names=["client.test"]), "untrusted"),
            "expired": (a.leaf("client.test", days=(-30, -1)), "expired"),
            "long": (a.long_chain("client.test"), "malformed"),
            "none": (None, None),
        }
        for name, (certificate, verdict) in shown.items():
            for version in ("TLSv1_3", "TLSv1_2"):
                for options in (0, ssl.OP_NO_TICKET):
                    with self.subTest(name=name, version=version, options=options):
                        context = client_context((version, version), certificate=certificate)
                        context.options |= options
                        event, session = self.again(context, self.server.address, None)
                        self.assertEqual(event.get("cert_verdict"), verdict, event)
                        if certificate:
                            self.assertEqual(len(event["cert"]), 64)
                            self.assertEqual(session.has_ticket if session else False, False)
                            if session is not None and session.id:
                                event, _ = self.again(context, self.server.address, session)
                                self.assertEqual((event["resumed"], event.get("cert_verdict")), (False, verdict))
                        if verdict not in (None, "valid"):
                            self.assertGreater(len(event["cert_why"]), 5)
        self.assertGreater(self.server.metric('ringpost_tls_certificates_total{side="server",verdict="valid"}'), 0)
        self.assertGreater(self.server.metric('ringpost_tls_certificates_total{side="server",verdict="other"}'), 0)
        good = shown["good"][0]
        for source in ("127.0.0.2", "127.0.0.3", "127.0.0.9"):
            with Client(self.server.address, source=source) as client:
                client.starttls(client_context(certificate=good))
                client.message(sender=f"{source}@example.com")
            event = self.server.wait_log("received", **{"from": f"{source}@example.com"})[0]
            self.assertEqual(event.get("cert_verdict"), "valid" if source == "127.0.0.2" else None, source)


class Outbound(Tls):
    def next_hop(self, context=None, certificate=None, **peer):
        return TlsPeer(self, context or server_context(certificate or self.ecdsa), **peer)

    def post(self, domain="example.org", content=None):
        return self.server.send(recipients=[f"x@{domain}"], content=content or "Subject: x\r\n\r\nx\r\n")

    @one_by_one
    def test_python(self):
        """Each version and group; long content arrives as it was."""
        body = b"Subject: long\r\n\r\n" + b"".join(b"%07d abcdefghijklmnopqrstuvwxyz\r\n" % n for n in range(50000))
        routes, peers = {}, {}
        for version in ("TLSv1_3", "TLSv1_2"):
            for curve, group in (("X25519", "X25519"), ("prime256v1", "P-256"), ("secp384r1", "P-384")):
                # by TLS 1.2 an ECDSA key must be on a curve that is among the groups
                context = server_context(self.ecdsa if curve == "prime256v1" else self.rsa, (version, version))
                if curve != "X25519":       # which is the choice anyway
                    context.set_ecdh_curve(curve)
                domain = f"{version.replace('_', '-')}.{curve}.test".lower()
                chunking = ["CHUNKING"] if curve == "X25519" else []
                peer = self.next_hop(context, extensions=("PIPELINING", "8BITMIME", *chunking))
                peers[domain] = (peer, version.replace("_", "."), group)
                routes[domain.replace(".", "-")] = peer.route([domain], tls="name", roots="test", **{"tls-name": [NAME]})
        self.serve(outbound=routes)
        for domain in peers:
            self.post(domain, body)
        for domain, (peer, version, group) in peers.items():
            with self.subTest(domain=domain):
                peer.wait(1)
                self.assertTrue(peer.messages[0].content.endswith(body))
                event = self.server.wait_log("delivered", to=f"x@{domain}")[0]
                self.assertEqual((event["tls"], event["group"], event["cert_verdict"], event["cert_name"]),
                                 (version, group, "valid", True))
                self.assertEqual(peer.in_clear("Subject"), [])
        self.assertEqual(self.server.metric('ringpost_tls_handshakes_total{side="client",result="full"}'), len(peers))

    @one_by_one
    def test_a_slow_next_hop(self):
        """It reads a little at a time, and answers octet by octet in records of their own."""
        body = b"Subject: long\r\n\r\n" + b"".join(b"%07d abcdefghijklmnopqrstuvwxyz\r\n" % n for n in range(20000))
        routes, peers = {}, {}
        for how, extensions in (("data", ("8BITMIME",)), ("bdat", ("CHUNKING", "PIPELINING"))):
            for version in ("TLSv1_3", "TLSv1_2"):
                peer = self.next_hop(server_context(self.ecdsa, (version, version)), extensions=extensions)
                peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.sip = 3000

                def octets(wire, text):
                    for octet in text:
                        wire.tls.write(bytes([octet]))
                        wire.flush()
                peer.dribble = octets
                name = f"{how}-{version[-1]}"
                peers[name] = peer
                routes[name] = peer.route([f"{name}.test"], tls="encrypt")
        self.serve(outbound=routes)
        for name in peers:
            self.post(f"{name}.test", body)
        for name, peer in peers.items():
            with self.subTest(name=name):
                peer.wait(1)
                self.assertTrue(peer.messages[0].content.endswith(body))
                self.assertEqual(peer.faults, [])

    @one_by_one
    def test_extensions_are_asked_for_again(self):
        """What EHLO told in clear, is forgotten."""
        peer = self.next_hop(extensions=("8BITMIME",))
        clear = ("PIPELINING", "CHUNKING", "SIZE 5", "DSN", "STARTTLS")
        peer.keywords = lambda s: peer.extensions if s.tls else clear
        self.serve(outbound={"peer": peer.route(tls="encrypt")})
        self.post()
        peer.wait(1)
        self.assertEqual(peer.messages[0].how, "DATA")
        self.assertEqual(peer.messages[0].mail, "MAIL FROM:<sender@example.com>")
        self.assertEqual(len(peer.verbs("EHLO")), 2)

    def test_resumption(self):
        """One session for a host and what was verified, no more; seen by both sides."""
        for version in ("TLSv1_3", "TLSv1_2"):
            with self.subTest(version=version):
                peer = self.next_hop(server_context(self.ecdsa, (version, version)))
                route = {"roots": "test", "tls-name": [NAME], "max-per-connection": 1}
                self.serve(top={"shards": 1}, outbound={
                    "one": peer.route(["one.test"], tls="name", **route),
                    "two": peer.route(["two.test"], tls="chain", **route),
                    "three": peer.route(["three.test"], tls="name", **{**route, "tls-name": [NAME, "x.test"]})})
                for number, domain in enumerate(("one", "one", "one", "two", "three", "two", "one")):
                    self.post(f"{domain}.test")
                    self.server.wait_log("delivered", number + 1)
                events = [e["resumed"] for e in self.server.log("delivered")]
                self.assertEqual(events, [False, True, True, False, False, True, True])
                self.assertEqual([h["resumed"] for h in peer.handshakes], events)
                for event in self.server.log("delivered"):
                    self.assertEqual((event["cert_verdict"], event["cert_name"]), ("valid", True))
                metrics = self.server.metrics()
                self.assertEqual(metrics['ringpost_tls_handshakes_total{side="client",result="resumed"}'], 4)
                self.assertEqual(metrics['ringpost_tls_client_cache_lookups_total{result="hit"}'], 4)

    def test_group_is_remembered(self):
        """A second ClientHello is asked for once, and not again."""
        context = server_context(self.ecdsa, ("TLSv1_3", "TLSv1_3"))
        context.set_ecdh_curve("secp384r1")
        context.num_tickets = 0
        peer = self.next_hop(context)
        self.serve(top={"shards": 1}, outbound={"peer": peer.route(tls="encrypt", **{"max-per-connection": 1})})
        for number in range(3):
            self.post()
            peer.wait(number + 1)

        def hellos(wire):
            raw, count = bytes(wire.raw), 0
            at = raw.index(b"STARTTLS\r\n") + 10
            while at < len(raw) and raw[at] in (20, 22):
                count += raw[at] == 22 and raw[at + 5] == 1
                at += 5 + int.from_bytes(raw[at + 3:at + 5], "big")
            return count
        self.assertEqual([hellos(w) for w in peer.wires], [2, 1, 1])

    def test_to_ourselves(self):
        """BoringSSL at both ends: the strongest group that it has, or that --version says it has."""
        self.serve()
        second = type(self)("test_to_ourselves")
        second.authority, second.ecdsa, second.rsa, second._outcome = (
            self.authority, self.ecdsa, self.rsa, self._outcome)
        self.addCleanup(second.doCleanups)
        inner = self.server
        outer = second.serve(outbound={"inner": {
            "domains": ["*"], "hosts": [f"127.0.0.1:{inner.port}"], "allow-private": True, "tls": "name",
            "roots": "test", "tls-name": [NAME]}})
        outer.send()
        self.peer.wait(1)
        words = outer.cli("--version", config=False).stdout
        group = "X25519MLKEM768" if "MLKEM768" in words else "X25519"
        for event in (outer.wait_log("delivered")[0], inner.wait_log("received")[0]):
            self.assertEqual((event["tls"], event["group"]), ("TLSv1.3", group))
        for server, side in ((outer, "client"), (inner, "server")):
            self.assertEqual(server.metric(f'ringpost_tls_groups_total{{side="{side}",group="{group}"}}'), 1)

    @one_by_one
    def test_goodbye(self):
        """QUIT, and a close_notify behind it."""
        peer = self.next_hop()
        self.serve(outbound={"peer": peer.route(tls="encrypt", **{"max-per-connection": 1})})
        self.post()
        peer.wait(1)
        harness.wait_for(lambda: peer.verbs("QUIT") and peer.wires[0].ended == "notify",
                         lambda: f"a close_notify; {peer.commands}, {peer.wires[0].ended!r}")

    @one_by_one
    def test_client_certificate(self):
        """Presented where the route says so, and only when asked."""
        a = self.authority
        own = a.leaf("client.test", usage=(pki.CLIENT,))
        asking = server_context(self.ecdsa, client_roots=a.root.pem)
        peers = {"shown": self.next_hop(asking), "withheld": self.next_hop(asking), "unasked": self.next_hop()}
        routes = {name: peer.route([f"{name}.test"], tls="encrypt",
                                   **({} if name == "withheld" else {"client-certificate": "own"}))
                  for name, peer in peers.items()}
        self.serve(certificates={"t": self.ecdsa, "own": own}, outbound=routes, listeners={"in": {"certificates": ["t"]}})
        for name, peer in peers.items():
            self.post(f"{name}.test")
            peer.wait(1)
            self.assertEqual(peer.handshakes[0]["client"], own.der if name == "shown" else None, name)

    @one_by_one
    def test_postfix(self):
        """Out to Postfix, and by Postfix back in: both ways by TLS, with names."""
        base = scratch(self)
        second = type(self)("test_postfix")
        second.authority, second.ecdsa, second.rsa = self.authority, self.ecdsa, self.rsa
        second._outcome = self._outcome
        self.addCleanup(second.doCleanups)
        inner = second.serve()      # what Postfix relays to
        roots, (chain, key) = second.roots, self.authority.leaf("mx.postfix.test").write(base, "postfix")
        postfix = Postfix(self, base, (
            f"smtpd_tls_security_level = encrypt\nsmtpd_tls_chain_files = {key}, {chain}\nsmtpd_tls_loglevel = 1\n"
            "mynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks, reject\n"
            f"relayhost = [127.0.0.1]:{inner.port}\nsmtp_tls_security_level = secure\n"
            f"smtp_tls_secure_cert_match = {NAME}\nsmtp_tls_CAfile = {roots}\nsmtp_tls_loglevel = 1\n"))
        server = self.serve(outbound={"postfix": {
            "domains": ["*"], "hosts": [f"127.0.0.1:{postfix.port}"], "allow-private": True, "tls": "name",
            "roots": "test", "tls-name": ["mx.postfix.test"]}}, delivery=FAST)
        for _ in range(20):
            self.post()
        harness.wait_for(lambda: len(second.peer.messages) >= 20,
                         lambda: f"{postfix.told()[-2000:]}\n{server.log()[-2:]}\n{inner.log()[-2:]}")
        event = server.log("delivered")[0]
        self.assertEqual((event["tls"], event["cert_verdict"], event["cert_name"]), ("TLSv1.3", "valid", True))
        for event in inner.log("received"):
            self.assertEqual((event["proto"], event["tls"]), ("ESMTPS", "TLSv1.3"))
        self.assertRegex(postfix.told(), "Verified TLS connection established to 127.0.0.1")
        self.assertIn("Anonymous TLS connection established from", postfix.told())

    @one_by_one
    def test_address_literal(self):
        """RFC 6066 3: the name that is sent is never an address, in brackets or not."""
        seen = []
        context = server_context(self.authority.leaf("literal.test"))
        context.sni_callback = lambda _, name, __: seen.append(name)
        peer = TlsPeer(self, context)
        self.serve(relay={"domains": ["[127.0.0.1]"]}, outbound={"literal": {
            "domains": ["[127.0.0.1]"], "hosts": ["mx"], "port": peer.port, "tls": "encrypt", "allow-private": True}})
        self.server.send(recipients=["x@[127.0.0.1]"])
        peer.wait(1)
        self.assertEqual(seen, [None])

    @one_by_one
    def test_names_by_dns(self):
        """SNI is the host's name; what the certificate must bear is the host as configured, or the
        domain whose MX it is, and not what DNS calls its MX."""
        nsd = Nsd(self)
        a = self.authority
        seen = []

        def hop(host, *names):
            context = server_context(a.leaf(*names))
            context.sni_callback = lambda _, name, __: seen.append(name)
            return TlsPeer(self, context, host=host)
        peers = {
            "named": (hop("127.0.0.10", "a.flow.example"), "a.flow.example", True),
            "named-other": (hop("127.0.0.10", "b.flow.example"), "a.flow.example", False),
            "mx": (hop("127.0.0.10", "pref.flow.example"), "mx:pref.flow.example", True),
            "mx-below": (hop("127.0.0.10", "mail.pref.flow.example"), "mx:pref.flow.example", True),
            "mx-host": (hop("127.0.0.10", "a.flow.example"), "mx:pref.flow.example", False)}
        routes = {name: {"domains": [f"{name}.test"], "hosts": [host], "port": peer.port, "tls": "name", "roots": "test",
                         "allow-private": True} for name, (peer, host, _) in peers.items()}
        self.serve(outbound=routes, dns={"forwarders": [f"127.0.0.1:{nsd.port}"], "timeout": "2s"},
                   delivery={**FAST, "private-networks": ["127.0.0.0/8"]})
        for name in peers:
            self.post(f"{name}.test")
        for name, (peer, _, good) in peers.items():
            with self.subTest(name=name):
                if good:
                    peer.wait(1)
                else:
                    harness.wait_for(lambda n=name: [e for e in self.server.log("destination_failed")
                                                     if e["destination"] == f"outbound:{n}"], "a failure")
                    self.assertEqual(peer.messages, [])
        self.assertEqual(set(seen), {"a.flow.example"})


if __name__ == "__main__":
    harness.main()
