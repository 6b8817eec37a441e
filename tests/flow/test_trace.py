"""test_trace.py - `ringpost trace`: one message from log, queue and spool; sessions on the wire"""
import gzip
import itertools
import json
import signal
import ssl
import subprocess
import unittest

import harness
import pki
from harness import Peer, Ringpost, wait_for

ESCAPE = "\x1b"


class Trace(unittest.TestCase):
    def serve(self, answers=None, **config):
        self.peer = Peer(self, answers=answers)
        config.setdefault("outbound", {"peer": self.peer.route()})
        self.server = Ringpost(self, **config).start()
        self.addCleanup(self.server.stop)
        return self.server

    def trace(self, *words, status=0):
        done = self.server.cli("trace", *words)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout

    def trace_json(self, *words, status=0):
        return [json.loads(line) for line in self.trace(*words, "--json", status=status).splitlines()]


@harness.one_thread("the command line, and what it reads")
class Message(Trace):
    def test_delivered(self):
        count = itertools.count()
        server = self.serve({"END": lambda peer, _: f"250 2.0.0 Ok: queued as Q{next(count)}Z{ESCAPE}[31m"})
        ids = [server.send(recipients=[f"a{n}@example.org", "b@example.org"]) for n in range(3)]
        server.wait_empty()
        server.wait_log("delivered", 6)
        text = self.trace(ids[1])
        for word in ("received from <sender@example.com>", "<a1@example.org>", "delivered <b@example.org>",
                     "queued as Q", "destination=", "not in the queue"):
            self.assertIn(word, text)
        self.assertNotIn("a0@", text)
        self.assertNotIn(ESCAPE, text)
        (found,) = self.trace_json(ids[1].lower())
        self.assertEqual(found["id"], ids[1])
        self.assertEqual([e["event"] for e in found["events"]], ["received", "delivered", "delivered"])
        self.assertEqual({a: r["outcome"] for a, r in found["recipients"].items()},
                         {"a1@example.org": "delivered", "b@example.org": "delivered"})
        self.assertIsNone(found["queue"])
        reply = found["events"][1]["reply"]
        word = reply[reply.index("Q"):].split("Z")[0] + "Z"
        (by_reply,) = self.trace_json(word)
        self.assertEqual(by_reply["id"], ids[1], reply)
        server.send(content="Subject: x\r\nMessage-ID:\r\n <one.\x1b%2@mail.example>\r\n\r\nx\r\n")
        server.wait_log("received", 4)
        third = server.send(content="Message-ID: <two\\3@mail.example>\r\nSubject: x\r\n\r\nx\r\n")
        server.wait_log("received", 5)
        fourth = server.send(content="Message-ID: <four-4@mail.example> (x)\r\nSubject: x\r\n\r\nx\r\n")
        server.wait_log("received", 6)
        self.assertEqual([e.get("message_id") for e in server.log("received")[3:]],
                         ["<one.", "<two\\3@mail.example>", "<four-4@mail.example>"])
        for word in ("<four-4@mail.example>", "four-4@mail.example"):
            (by_id,) = self.trace_json(word)
            self.assertEqual(by_id["id"], fourth)
        self.assertIn("message_id=<four-4@mail.example>", self.trace(fourth))
        self.trace("four-4", status=1)
        self.assertNotEqual(third, fourth)
        self.trace("0000000000001", status=1)
        self.trace("nobody-said-this", status=1)

    def test_rotated_logs(self):
        server = self.serve()
        log = server.log_path
        ids = []
        for suffix in (".2.gz", ".1", ""):
            ids.append(server.send())
            self.peer.wait(len(ids))
            server.wait_log("delivered")
            if suffix:
                rotated = log.with_name(log.name + suffix.removesuffix(".gz"))
                log.rename(rotated)
                server.process.send_signal(signal.SIGUSR1)
                wait_for(log.exists, "a new log")
                if suffix.endswith(".gz"):
                    rotated.with_name(log.name + suffix).write_bytes(gzip.compress(rotated.read_bytes()))
                    rotated.unlink()
        server.wait_log("delivered")
        for id in ids:
            with self.subTest(id=id):
                (found,) = self.trace_json(id)
                self.assertEqual([e["event"] for e in found["events"]], ["received", "delivered"])
        # by standard input, of a server whose configuration says nothing of a log
        done = subprocess.run([harness.RINGPOST, "trace", ids[2], "--json", "--log", "-", "-s", server.socket],
                              input=log.read_text(), capture_output=True, text=True, check=True, cwd=server.directory)
        self.assertEqual(len(json.loads(done.stdout)["events"]), 2)

    def test_waiting_then_down(self):
        server = self.serve({"RCPT": lambda peer, line: "451 4.3.0 not now" if "late" in line else None},
                            delivery={"retry-initial": "1h", "retry-max": "1h"})
        id = server.send(recipients=["now@example.org", "late@example.org"])
        server.wait_log("deferred")
        self.peer.wait(1)
        text = self.trace(id)
        for word in ("delivered <now@example.org>", "deferred <late@example.org>", "451 4.3.0", "in the queue: ",
                     "deferred, 1 recipient(s), attempts 1, next in 3"):
            self.assertIn(word, text)
        wait_for(lambda: (self.trace_json(id)[0]["queue"] or {}).get("units", [{}])[0].get("state") == "deferred",
                 "a settled deferral")
        server.stop()
        (found,) = self.trace_json(id)
        self.assertIsNone(found["queue"])
        self.assertEqual(found["spool"]["recipients"], ["now@example.org", "late@example.org"])
        self.assertEqual({o["recipient"]: o["outcome"] for o in found["spool"]["outcomes"]},
                         {0: "delivered", 1: "deferred"})
        self.assertIn("in the spool: ", self.trace(id))
        server.log_path.unlink()    # the spool alone
        (found,) = self.trace_json(id)
        self.assertEqual(found["events"], [])
        self.assertEqual(found["spool"]["sender"], "sender@example.com")
        server.start()              # and nothing has happened to it
        self.assertEqual([m["id"] for m in server.queue()], [id])

    def test_next_hop_away(self):
        server = self.serve()
        self.peer.close()
        id = server.send()
        server.wait_log("destination_failed")
        text = self.trace(id)
        self.assertIn("destination_failed", text)
        self.assertIn("ready, 1 recipient(s)", text)

    def test_bounced(self):
        home = Peer(self)
        away = Peer(self, answers={"RCPT": "550 5.1.1 nobody"})
        server = self.serve(outbound={"away": away.route(["example.org"]), "home": home.route(["example.com"])})
        id = server.send()
        home.wait(1)
        server.wait_empty()
        (found,) = self.trace_json(id)
        self.assertEqual(found["recipients"]["rcpt@example.org"]["outcome"], "bounced")
        (bounce,) = found["bounces"]
        self.assertIn(f"ringpost trace {bounce}", self.trace(id))
        (told,) = self.trace_json(bounce)
        self.assertEqual([e["event"] for e in told["events"]], ["bounce", "delivered"])

    def test_usage(self):
        self.server = Ringpost(self)
        self.assertEqual(self.server.cli("trace", "--help", config=False).returncode, 0)
        self.assertEqual(self.server.cli("trace", "session", "--help", config=False).returncode, 0)
        for words in ((), ("a", "b"), ("--no-such",), ("session",), ("session", "--peer", "::1", "--for", "2d"),
                      ("session", "--peer", "::1", "surplus")):
            self.assertEqual(self.server.cli("trace", *words, config=False).returncode, 2, words)


class Session(Trace):
    def watch(self, *words):
        process = subprocess.Popen(
            [harness.RINGPOST, "trace", "session", "-s", self.server.socket, *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.server.environment())
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def until_watched(self, process, talk):
        """Shards hear of the trace when their turn comes: sessions, until one was watched and it ends."""
        wait_for(lambda: talk() or process.poll() is not None, "the end of the trace")
        out, err = process.communicate(timeout=harness.WAIT_SECONDS)
        self.assertEqual(process.returncode, 0, out + err)
        return out

    def talk(self):
        with self.server.client() as client:
            client.hello()
            client.message(content="Subject: wonderful\r\n\r\nunspeakable\r\n.\r\n")
            client.cmd("AUTH PLAIN hunter2")
            client.expect(221, "QUIT")

    def test_inbound(self):
        self.serve()
        out = self.until_watched(self.watch("--listener", "in"), self.talk)
        for word in ("from 127.0.0.1:", "by listener in", "S: 220 mx.flow.test", "C: EHLO client.example.com", "S: 250-",
                     "C: MAIL FROM:<sender@example.com>", "C: DATA", "S: 354", "octets of content)",
                     "C: AUTH PLAIN ****", "C: QUIT", "S: 221", "ended after"):
            self.assertIn(word, out)
        for word in ("wonderful", "unspeakable", "hunter2"):
            self.assertNotIn(word, out)
        self.assertEqual(out.count("by listener"), 1)
        self.talk()     # nobody looks on any more, and all goes on

    def test_headers_and_json(self):
        self.serve()
        out = self.until_watched(self.watch("--peer", "127.0.0.0/8", "--listener", "in", "--headers", "--json"),
                                 self.talk)
        lines = [json.loads(line) for line in out.splitlines()]
        self.assertEqual([l["text"] for l in lines if l["what"] == "header"], ["Subject: wonderful"])
        self.assertEqual([l["number"] for l in lines if l["what"] == "content"], [39])
        self.assertEqual(len({l["session"] for l in lines}), 1)
        self.assertNotIn("unspeakable", out)

    def test_others_are_left_alone(self):
        self.serve()
        process = self.watch("--peer", "192.0.2.0/24", "--for", "1s")
        self.talk()
        out, err = process.communicate(timeout=harness.WAIT_SECONDS)
        self.assertEqual((process.returncode, out), (1, ""), err)
        self.assertIn("no such session", err)

    def test_outbound(self):
        server = self.serve({"RCPT": lambda peer, line: "451 4.3.0 not now" if "late" in line else None},
                            delivery={"messages-per-connection": 1, "retry-initial": "1h", "retry-max": "1h"})
        server.send(recipients=["late@example.org"])
        server.wait_log("deferred")
        (key,) = {u["destination"] for m in server.queue() for u in m["units"]}
        out = self.until_watched(self.watch("--destination", key),
                                 lambda: server.send(content="Subject: x\r\n\r\nunspeakable\r\n") and None)
        for word in (f"for {key}", "S: 220 peer.test", "C: EHLO mx.flow.test", "C: MAIL FROM:<sender@example.com>",
                     "octets of content)", "S: 250 2.0.0 taken"):
            self.assertIn(word, out)
        self.assertNotIn("unspeakable", out)

    def test_by_tls(self):
        authority = pki.Authority()
        leaf = authority.leaf("mx.good.test")
        server = Ringpost(self)
        chain, key = leaf.write(server.directory, "leaf")
        server.sections['certificate "leaf"'] = {"chain": chain, "key": key}
        server.listeners = {"in": {"certificates": ["leaf"]}}
        server.write_config()
        self.server = server.start()
        self.addCleanup(server.stop)
        context = ssl.create_default_context(cadata=authority.root.pem)

        def talk():
            with server.client() as client:
                client.hello()
                client.expect(220, "STARTTLS")
                client.socket = context.wrap_socket(client.socket, server_hostname="mx.good.test")
                client.hello("inside.example.com")
                client.expect(221, "QUIT")
        out = self.until_watched(self.watch("--peer", "127.0.0.1"), talk)
        lines = [line.split(" ", 2)[2] for line in out.splitlines()]
        at = next(i for i, line in enumerate(lines) if line.startswith("--- TLS: TLSv1.3 TLS_"))
        self.assertTrue(lines[at - 1].startswith("S: 220 "), out)
        self.assertEqual(lines[at + 1], "C: EHLO inside.example.com")
        self.assertIn("C: QUIT", lines)

    def test_interrupted(self):
        self.serve()
        process = self.watch("--peer", "192.0.2.1", "--for", "1h")

        def second_refused():   # if ours was first, and is over by then, it is the other's turn to begin
            nonlocal process
            other = self.server.cli("trace", "session", "--peer", "192.0.2.1", "--for", "1s")
            if process.poll() is not None:
                process = self.watch("--peer", "192.0.2.1", "--for", "1h")
            return other.returncode == 1 and "another trace" in other.stderr
        wait_for(second_refused, "a second trace that is refused")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=harness.WAIT_SECONDS)
        self.assertEqual(process.returncode, 1)
        self.assertIn("no such session", err)

    def test_only_on_the_unix_socket(self):
        server = self.serve()
        for method, path in (("POST", "/v1/trace/session?peer=::1"), ("GET", "/v1/trace/session?trace=1"),
                             ("POST", "/v1/trace/session/end?trace=1")):
            self.assertEqual(server.http(path, method)[0], 403)
        for path, status in (("?peer=300.1.1.1", 400), ("", 400), ("?peer=::1&count=0", 400), ("?peer=::1&count=x", 400),
                             ("?peer=::1&seconds=99999", 400), ("?listener=a&destination=b", 400),
                             ("/end?trace=77", 404), ("/end", 400)):
            self.assertEqual(server.http("/v1/trace/session" + path, "POST", unix=True)[0], status, path)
        self.assertEqual(server.http("/v1/trace/session?trace=77", unix=True)[0], 404)


if __name__ == "__main__":
    harness.main()
