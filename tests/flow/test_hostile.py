"""test_hostile.py - clients that mean harm or know no better; the server stays in step, and up

Smuggling first: whatever stands where an end of data could be, only CRLF.CRLF ends it, and what is
ambiguous never reaches the next hop.
"""
import contextlib
import pathlib
import resource
import signal
import socket
import struct
import unittest

import harness
from harness import Peer, Ringpost, Smtp

EVIL = (b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\n"
        b"Subject: smuggled\r\n\r\nevil\r\n")
ENDS = {    # published ways to end data for one server and not for the other
    "LF.LF": b"\n.\n", "LF.CRLF": b"\n.\r\n", "CRLF.LF": b"\r\n.\n", "CR.CR": b"\r.\r",
    "CR.CRLF": b"\r.\r\n", "CRLF.CR": b"\r\n.\r", "LF.CR": b"\n.\r", "CR.LF": b"\r.\n",
    "CRLF NUL.CRLF": b"\r\n\0.\r\n", "CRLF.NUL CRLF": b"\r\n.\0\r\n",
    "CRLF.CRCRLF": b"\r\n.\r\r\n", "LFCR.LFCR": b"\n\r.\n\r",
}


def more_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 8192:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))


def resident_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


class Hostile(unittest.TestCase):
    server = peer = None

    def serve(self, extensions=Peer.EXTENSIONS, **config):
        self.peer = Peer(self, extensions=extensions)
        self.server = Ringpost(self, outbound={"peer": self.peer.route()}, **config).start()
        self.addCleanup(self.server.stop)
        return self.server

    def nothing_but(self, count=0):
        """The next hop got `count` messages, then the one sent now, and none of them is evil."""
        marker = self.server.send(content="Subject: marker\r\n\r\nx\r\n")
        self.peer.wait(count + 1)
        self.server.wait_empty()
        self.assertEqual(len(self.peer.messages), count + 1)
        self.assertIn(marker.encode(), b"".join(m.content for m in self.peer.messages))
        self.assertEqual(self.peer.faults, [])
        for message in self.peer.messages:
            self.assertNotIn("evil", message.mail)


@harness.one_thread("a session reads what a client sends")
class Smuggling(Hostile):
    def test_ends_that_are_none(self):
        server = self.serve()
        for name, end in ENDS.items():
            with self.subTest(end=name), Smtp(server.address) as client:
                client.hello()
                client.begin()
                client.expect(354, "DATA")
                client.send(b"Subject: outer\r\n\r\nouter" + end + EVIL + b".\r\n")
                reply = client.reply()
                self.assertEqual((reply.code, reply.text[:5]), (554, "5.6.0"), name)
                client.expect(250, "NOOP")
        self.assertEqual([e for e in server.log("received") if "evil" in e["from"]], [])
        self.nothing_but()

    def test_the_same_in_chunks(self):
        server = self.serve()
        for name, end in ENDS.items():
            with self.subTest(end=name), Smtp(server.address) as client:
                client.hello()
                client.begin()
                content = b"Subject: outer\r\n\r\nouter" + end + EVIL
                client.send(b"BDAT %d LAST\r\n" % len(content) + content)
                self.assertEqual(client.reply().code, 554, name)
                client.expect(250, "NOOP")
        self.nothing_but()

    def test_bdat_content_is_stuffed_for_a_peer_without_bdat(self):
        """The true end of data inside a chunk is content; sent on by DATA it must not end there."""
        self.serve(extensions=("PIPELINING", "8BITMIME"))
        content = b"Subject: chunk\r\n\r\nouter\r\n.\r\n" + EVIL
        client = self.server.client()
        client.hello()
        client.begin()
        client.send(b"BDAT %d LAST\r\n" % len(content) + content)
        self.assertEqual(client.reply().code, 250)
        self.peer.wait(1)
        self.assertTrue(self.peer.messages[0].content.endswith(content))
        self.nothing_but(1)

    def test_cr_and_lf_in_two_chunks(self):
        self.serve()
        client = self.server.client()
        client.hello()
        client.begin()
        client.send(b"BDAT 3\r\nab\r")
        client.reply()
        client.send(b"BDAT 3 LAST\r\n\n\r\n")      # CR LF over the border, then a whole one: fine
        self.assertEqual(client.reply().code, 250)
        client.begin()
        client.send(b"BDAT 3 LAST\r\nab\r")
        self.assertEqual(client.reply().code, 554)

    def test_normalized_is_one_message(self):
        for extensions in (Peer.EXTENSIONS, ("PIPELINING", "8BITMIME")):
            self.serve(extensions=extensions, top={"bare-newline": "normalize"})
            ends = [e for e in ENDS.values() if b"\0" not in e]
            for end in ends:
                with Smtp(self.server.address) as client:
                    client.hello()
                    client.begin()
                    client.expect(354, "DATA")
                    client.send(b"Subject: outer\r\n\r\nouter" + end + EVIL + b".\r\n")
                    self.assertEqual(client.reply().code, 250)
            self.peer.wait(len(ends))
            for message in self.peer.messages:
                self.assertIn(b"MAIL FROM:<evil@example.com>\r\n", message.content)
            self.nothing_but(len(ends))
            self.server.stop()

    def test_nul_is_refused_even_when_normalizing(self):
        self.serve(top={"bare-newline": "normalize"})
        client = self.server.client()
        client.hello()
        client.begin()
        self.assertEqual(client.data(b"Subject: x\r\n\r\na\0b\r\n").code, 554)
        self.nothing_but()

    def test_bare_newlines_in_commands(self):
        self.serve()
        for line in (b"NOOP\nNOOP\r\n", b"NOOP\rNOOP\r\n", b"MAIL FROM:<a@example.com>\nRCPT TO:<b@example.org>\r\n",
                     b"MAIL FROM:<a\rb@example.com>\r\n", b"NO\0OP\r\n", b"EHLO a\nb\r\n"):
            with self.subTest(line=line), Smtp(self.server.address) as client:
                client.hello()
                client.send(line + b"QUIT\r\n")
                self.assertIn(client.reply().code, (500, 501))
                rest = client.rest()
                self.assertNotIn(b"250", rest)


@harness.one_thread("a session reads what a client sends")
class OutOfTurn(Hostile):
    def test_early_talk(self):
        server = self.serve()
        server.process.send_signal(signal.SIGSTOP)  # so that talk and connection arrive together
        client = Smtp(server.address, greet=False)
        client.send(b"EHLO early.example.com\r\n" + EVIL + b".\r\nQUIT\r\n")
        server.process.send_signal(signal.SIGCONT)
        answer = client.rest()
        self.assertTrue(answer.startswith(b"421 4.7.0") or answer.startswith(b"421 "), answer)
        self.assertEqual(answer.count(b"\r\n"), 1)
        self.nothing_but()

    def test_http(self):
        server = self.serve()
        for verb in ("GET / HTTP/1.1", "POST /x HTTP/1.1", "PUT / HTTP/1.0", "CONNECT mx:25 HTTP/1.1",
                     "HEAD / HTTP/1.1", "OPTIONS * HTTP/1.1"):
            with self.subTest(verb=verb), Smtp(server.address) as client:
                with contextlib.suppress(ConnectionError):
                    client.send(verb.encode() + b"\r\nHost: mx\r\n\r\nEHLO x.example\r\n" + EVIL + b".\r\n")
                answer = client.rest()
                self.assertTrue(answer.startswith(b"421 "), answer)
                self.assertEqual(answer.count(b"\r\n"), 1, answer)
        self.nothing_but()

    def test_content_behind_refused_data(self):
        server = self.serve()
        for before in (b"", b"MAIL FROM:<a@example.com>\r\nRCPT TO:<x@example.com>\r\n"):
            with self.subTest(before=before), Smtp(server.address) as client:
                client.hello()
                client.send(before + b"DATA\r\nSubject: x\r\n\r\n" + EVIL + b".\r\nQUIT\r\n")
                answer = client.rest()
                self.assertIn(b"421 ", answer)
                self.assertNotIn(b"354", answer)
        self.nothing_but()

    def test_content_that_does_not_wait(self):
        """In one segment with DATA: a client that waits for 354 cannot have sent it so."""
        server = self.serve()
        begin = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<rcpt@example.org>\r\nDATA\r\n"
        for what in (b"Subject: x\r\n\r\nx\r\n.\r\n" + EVIL + b".\r\n", b"S", b".\r\n", b"QUIT\r\n"):
            with self.subTest(what=what), Smtp(server.address) as client:
                client.hello()
                client.send(begin + what)
                self.assertEqual([client.reply().code for _ in range(2)], [250, 250])
                self.assertTrue(client.rest().startswith(b"503 5.5.0 "))
        self.assertEqual(server.metric('ringpost_smtp_refused_total{reason="early_content"}'), 4)
        told = server.wait_log("refused", 4)
        self.assertEqual({(e["code"], e["text"]) for e in told}, {(503, "Content before the reply to DATA")})
        self.nothing_but()

    def test_content_that_does_not_wait_may_be_allowed(self):
        server = self.serve(top={"early-content": "accept"})
        with Smtp(server.address) as client:
            client.hello()
            client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<rcpt@example.org>\r\nDATA\r\nSubject: x\r\n\r\nx\r\n.\r\n")
            self.assertEqual([client.reply().code for _ in range(4)], [250, 250, 354, 250])
        self.nothing_but(1)


@harness.one_thread("a session reads what a client sends")
class TooMuch(Hostile):
    def test_long_commands(self):
        server = self.serve()
        client = server.client()
        client.hello()
        client.expect(500, "NOOP " + "x" * 5000)
        client.expect(250, "NOOP")
        client.send(b"y" * 300_000)
        client.send(b"\r\nNOOP\r\n")
        codes = [client.reply().code]
        with contextlib.suppress(EOFError, ConnectionError):
            codes.append(client.reply().code)
        self.assertIn(codes, ([500, 250], [421], [500]))
        server.send()

    def test_long_text_lines_stay_whole(self):
        server = self.serve()
        body = b"Subject: long\r\n\r\n" + b"." + (b"x" * 997 + b".") * 200 + b"\r\n.\r\n"
        client = server.client()
        client.hello()
        client.begin()
        client.send(b"BDAT %d LAST\r\n" % len(body) + body)
        reply = client.reply()
        if reply.code == 250:
            self.peer.wait(1)
            self.assertTrue(self.peer.messages[0].content.endswith(body))
        else:
            self.assertEqual(reply.code // 100, 5)
        self.assertEqual(self.peer.faults, [])

    def test_huge_header(self):
        server = self.serve()
        client = server.client()
        client.hello()
        client.begin()
        reply = client.data((b"X-Field: " + b"x" * 900 + b"\r\n") * 1000 + b"\r\nbody\r\n")
        self.assertEqual(reply.code, 552)
        client.message()

    def test_five_thousand_recipients(self):
        server = self.serve(limits={"recipients": 1000})
        client = server.client()
        client.hello()
        client.expect(250, "MAIL FROM:<a@example.com>")
        codes = {}
        for at in range(0, 5000, 500):
            client.send("".join(f"RCPT TO:<r{n}@example.org>\r\n" for n in range(at, at + 500)))
            for _ in range(500):
                code = client.reply().code
                codes[code] = codes.get(code, 0) + 1
        self.assertEqual(codes, {250: 1000, 452: 4000})
        queue_id = client.data("Subject: many\r\n\r\nx\r\n").text.split()[-1]
        harness.wait_for(lambda: sum(len(m.rcpts) for m in self.peer.messages) == 1000,
                         "1000 recipients at the next hop")
        self.assertEqual(len({r for m in self.peer.messages for r in m.recipients}), 1000)
        self.assertIn(queue_id.encode(), self.peer.messages[0].content)

    def test_slow_and_silent_clients_do_not_matter(self):
        more_files()
        server = self.serve()
        crowd = []
        self.addCleanup(lambda: [s.close() for s in crowd])
        for number in range(1200):
            client = Smtp(server.address, greet=number >= 1000)     # the greeting comes first
            s = client.socket
            crowd.append(s)
            if number >= 1000:
                client.hello("slow.example")
                client.begin("slow@example.com", ["a@example.org"])
                client.expect(354, "DATA")
                s.sendall(b"Subject: s")
        server.wait_metric("ringpost_smtp_connections", 1200)
        for round_number in range(20):
            for s in crowd[1000:]:
                s.sendall(b"x")
            server.send(content=f"Subject: ordinary {round_number}\r\n\r\nx\r\n")
        self.peer.wait(20)
        for s in crowd[1000:]:
            s.sendall(b"\r\n\r\nat last\r\n.\r\nQUIT\r\n")
        self.peer.wait(220)

    def test_never_reading_client(self):
        server = self.serve()

        def crowd(count):
            clients = [Smtp(server.address, receive_buffer=2048) for _ in range(count)]
            for client in clients:
                self.addCleanup(client.close)
                client.socket.settimeout(0.3)
                with contextlib.suppress(OSError):
                    for _ in range(2000):
                        client.socket.sendall(b"EHLO never.reads.example\r\n" * 200)
            server.send()
            return clients
        # So that what is measured is what these clients hold, and not memory that is used for the first
        # time: receive buffers take turns, so each shard is sent as many pieces as it has of them.
        for _ in range(8):
            with Smtp(server.address) as client:
                for _ in range(520):
                    client.expect(250, "NOOP")
        for client in crowd(20):
            client.close()
        harness.wait_for(lambda: server.metric("ringpost_smtp_connections") == 0, "closed sessions")
        before = resident_kib(server.process.pid)
        crowd(20)
        self.assertLess(resident_kib(server.process.pid) - before, 20 * 256 * harness.memory_factor())

    def test_resets_at_every_place(self):
        server = self.serve(top={"early-content": "accept"})    # so that content is a place, too
        text = (b"EHLO reset.example\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
                b"Subject: x\r\n\r\nbody\r\n.")     # never whole
        for size in range(0, len(text), 3):
            s = socket.create_connection(server.address)
            s.sendall(text[:size])
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
        harness.wait_for(lambda: server.metric("ringpost_smtp_connections") == 0, "closed sessions")
        self.nothing_but()


class Limits(Hostile):
    def codes(self, address, count, source=None):
        clients = [Smtp(address, source=source) for _ in range(count)]
        for client in clients:
            self.addCleanup(client.close)
        return [client.greeting.code for client in clients], clients

    def test_per_address(self):
        server = self.serve(top={"shards": 1}, limits={"per-address": 5})
        codes, clients = self.codes(server.address, 7)
        self.assertEqual(codes, [220] * 5 + [421] * 2)
        self.assertEqual(self.codes(server.address, 1, "127.0.0.2")[0], [220])
        clients[0].cmd("QUIT")
        clients[0].close()
        harness.wait_for(lambda: self.codes(server.address, 1)[0] == [220], "a free place again")

    def test_per_network(self):
        server = self.serve(top={"shards": 1}, limits={"per-v4-24": 4})
        codes = [self.codes(server.address, 1, f"127.0.0.{n}")[0][0] for n in range(2, 8)]
        self.assertEqual(codes, [220] * 4 + [421] * 2)
        self.assertEqual(self.codes(server.address, 1, "127.0.1.2")[0], [220])

    def test_rate(self):
        server = self.serve(top={"shards": 1}, limits={"rate-per-minute": 1, "rate-burst": 3})
        self.assertEqual(self.codes(server.address, 5)[0], [220] * 3 + [421] * 2)

    def test_exempt(self):
        server = self.serve(top={"shards": 1}, limits={"per-address": 2, "exempt": ["127.0.0.9"]})
        self.assertEqual(self.codes(server.address, 6, "127.0.0.9")[0], [220] * 6)

    def test_shard_full(self):
        server = self.serve(top={"shards": 1}, limits={"connections": 16})
        codes, _ = self.codes(server.address, 20)
        self.assertEqual(codes, [220] * 16 + [421] * 4)

    def test_command_timeout(self):
        server = self.serve(limits={"command-timeout": "1s"})
        client = server.client()
        client.hello()
        self.assertEqual(client.reply().code, 421)  # said without being asked
        client.rest()

    def test_transaction_timeout(self):
        server = self.serve(limits={"transaction-timeout": "1s"})
        client = server.client()
        client.hello()
        client.begin()
        client.expect(354, "DATA")
        client.socket.settimeout(0.2)
        answer = b""
        with contextlib.suppress(ConnectionError):
            for _ in range(int(harness.WAIT_SECONDS * 5)):
                client.send(b"drop\r\n")
                with contextlib.suppress(TimeoutError):
                    answer += client.socket.recv(1000)
                    break
        self.assertTrue(answer.startswith(b"421"), answer)


def v2(command=1, family=0x11, addresses=b"", length=None):
    length = len(addresses) if length is None else length
    return b"\r\n\r\n\0\r\nQUIT\n" + bytes([0x20 | command, family]) + struct.pack("!H", length) + addresses


@harness.one_thread("a session reads what a proxy sends")
class Proxy(Hostile):
    V4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 4711, 25)
    V6 = (socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
          + struct.pack("!HH", 4711, 25))

    def listen(self):
        return self.serve(listeners={"in": {"proxy-from": ["127.0.0.1"]}})

    def through(self, header, source=None):
        client = Smtp(self.server.address, greet=False, source=source)
        self.addCleanup(client.close)
        client.send(header)
        return client

    def test_told_addresses(self):
        self.listen()
        cases = ((b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n", "192.0.2.7"),
                 (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n", "2001:db8::7"),
                 (b"PROXY UNKNOWN\r\n", "127.0.0.1"), (v2(1, 0x11, self.V4), "192.0.2.7"),
                 (v2(1, 0x21, self.V6), "2001:db8::7"), (v2(0, 0, b""), "127.0.0.1"),
                 (v2(1, 0x11, self.V4 + b"\x04\0\3abc"), "192.0.2.7"))
        for header, address in cases:
            with self.subTest(header=header):
                client = self.through(header)
                self.assertEqual(client.reply().code, 220)
                client.hello()
                queue_id = client.message()
                event = self.server.wait_log("received", msg=queue_id)[0]
                self.assertEqual(event["client"].split(":4711")[0].strip("[]"), address)

    def test_header_in_pieces(self):
        self.listen()
        """The specification recommends to be tolerant to partial headers."""
        for header in (v2(1, 0x11, self.V4), b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n"):
            client = self.through(b"")
            for octet in header:
                client.send(bytes([octet]))
            self.assertEqual(client.reply().code, 220)

    def test_listed_peer_without_header(self):
        self.listen()
        for talk in (b"EHLO x.example\r\n", b"PROXY TCP4 nonsense\r\n", b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 1\r\n",
                     v2(1, 0x11, b"abc"), v2(7, 0x11, self.V4), b"PROXY " + b"x" * 200 + b"\r\n"):
            with self.subTest(talk=talk):
                self.assertEqual(self.through(talk).rest(), b"")    # not even a greeting

    def test_unlisted_peer_with_header(self):
        self.listen()
        client = Smtp(self.server.address, source="127.0.0.2")
        self.addCleanup(client.close)
        self.assertEqual(client.greeting.code, 220)
        self.assertEqual(client.cmd("PROXY TCP4 192.0.2.7 192.0.2.1 4711 25").code // 100, 5)
        client.hello()
        queue_id = client.message()
        self.assertTrue(self.server.wait_log("received", msg=queue_id)[0]["client"].startswith("127.0.0.2"))

    def test_limits_count_the_client_behind_it(self):
        self.serve(top={"shards": 1}, limits={"per-address": 2}, listeners={"in": {"proxy-from": ["127.0.0.1"]}})
        header = b"PROXY TCP4 192.0.2.%d 192.0.2.1 4711 25\r\n"
        codes = [self.through(header % n).reply().code for n in (7, 7, 7, 8)]
        self.assertEqual(codes, [220, 220, 421, 220])


if __name__ == "__main__":
    harness.main()
