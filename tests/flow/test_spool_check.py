"""test_spool_check.py - a spool looked at, and rescued, while no server has it open"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

import harness
from harness import Peer, Ringpost


class SpoolCheck(unittest.TestCase):
    def serve(self, shards=1, **config):
        self.port = harness.free_port()     # nobody listens there until a test opens a Peer
        self.server = Ringpost(self, outbound={"next": {"domains": ["*"], "hosts": [f"127.0.0.1:{self.port}"],
                                                      "allow-private": True}}, top={"shards": shards}, **config)
        self.server.start()
        return self.server

    def fill(self, count, size=2000, recipients=1):
        """Queue ids and their contents."""
        contents = {}
        client = self.server.client()
        client.hello()
        for number in range(count):
            text = f"Subject: {number}\r\n\r\n" + f"mark-{number:06}-{os.urandom(8).hex()}\r\n" * (size // 30)
            to = [f"r{number}-{i}@example.org" for i in range(recipients)]
            contents[client.message(recipients=to, content=text)] = text.encode()
        client.close()
        return contents

    def check(self, *words, status=0, spool=None):
        done = subprocess.run([str(harness.RINGPOST), "spool", "check", *([str(spool)] if spool else []), *map(str, words)],
                              capture_output=True, timeout=harness.WAIT_SECONDS, env=self.server.environment(),
                              cwd=self.server.directory, check=False)
        words = done.stderr.decode()
        self.assertIsNone(harness.SANITIZER.search(done.stderr), words)
        self.assertEqual(done.returncode, status, f"{done.stdout[-2000:]}\n{words}")
        return done

    def numbers(self, status=0, spool=None):
        return json.loads(self.check("--json", status=status, spool=spool or self.server.spool).stdout)

    def listed(self, spool=None):
        lines = self.check("--list", "--json", spool=spool or self.server.spool).stdout.splitlines()
        return {m["id"]: m for m in map(json.loads, lines)}

    def damage(self, needle, offset=0):
        for path in sorted(self.server.spool.glob("log-*/segment-*")):
            data = path.read_bytes()
            at = data.find(needle)
            if at >= 0:
                with open(path, "r+b") as f:
                    f.seek(at + offset)
                    f.write(bytes([data[at + offset] ^ 1]))
                return path
        raise AssertionError(f"{needle} is nowhere")

    def serve_from(self, spool):
        """Another server on that spool; the contents that arrive, by queue id."""
        peer = Peer(self, port=self.port)
        server = Ringpost(self, outbound={"next": peer.route()}, top={"shards": 1}, spool_directory=spool)
        server.start()
        server.wait_empty()
        server.stop()
        return {re.search(rb" id (\w{13})", m.content).group(1).decode(): m.content for m in peer.messages}


@harness.one_thread("the command line")
class Look(SpoolCheck):
    def test_balance_and_list(self):
        def rcpt(_peer, line):
            if "-0@" in line:
                return "550 5.1.1 no such user"
            return "451 4.2.0 later" if "-1@" in line else None
        server = self.serve(shards=2)
        contents = self.fill(8, recipients=3)
        peer = Peer(self, port=self.port, answers={"RCPT": rcpt})
        peer.wait(8)
        harness.wait_for(lambda: server.metric("ringpost_queue_recipients") == 8, "8 recipients left")
        harness.wait_for(lambda: server.metric('ringpost_queue_units{state="deferred"}') == 8, "8 deferred units")
        server.stop()
        all_logs = self.numbers()
        self.assertTrue(all_logs["intact"])
        self.assertEqual(len(all_logs["logs"]), 2)

        def total(group, key):
            return sum(log[group][key] for log in all_logs["logs"])
        self.assertEqual(total("messages", "live"), 8)
        self.assertEqual(total("recipients", "waiting"), 8)
        self.assertEqual(total("recipients", "unaccounted"), 0)
        self.assertEqual(total("messages", "in_log"), total("messages", "live") + total("messages", "finished"))
        self.assertGreaterEqual(total("recipients", "delivered"), 8)
        self.assertGreaterEqual(total("recipients", "bounced"), 8)
        listed = self.listed()
        self.assertEqual(set(listed), set(contents))
        for message in listed.values():
            states = {r["address"].partition("@")[0][-2:]: r["state"] for r in message["recipients"]}
            self.assertEqual(states, {"-0": "bounced", "-1": "waiting", "-2": "delivered"})
        text = self.check("--list", spool=server.spool).stdout.decode()
        self.assertIn("    waiting    <r3-1@example.org>", text)
        text = self.check(spool=server.spool / "log-001").stdout.decode()
        self.assertIn("log-001: intact", text)
        self.assertNotIn("log-000", text)

    def test_extract(self):
        self.serve()
        contents = self.fill(3, 100_000)
        self.server.stop()
        queue_id, content = sorted(contents.items())[1]
        target = self.server.directory / "out.eml"
        self.check("--extract", queue_id.lower(), "--output", target, spool=self.server.spool)
        got = target.read_bytes()
        self.assertTrue(got.startswith(b"Return-Path: <sender@example.com>\r\n"))
        self.assertIn(f"X-Ringpost-Id: {queue_id}\r\n".encode(), got)
        self.assertIn(b"X-Ringpost-Recipient: <r1-0@example.org>; waiting\r\n", got)
        self.assertTrue(got.endswith(content))
        self.assertEqual(target.stat().st_mode & 0o777, 0o600)
        done = self.check("--extract", queue_id, "--output", target, status=3, spool=self.server.spool)
        self.assertIn(b"File exists", done.stderr)
        self.assertEqual(self.check("--extract", queue_id, spool=self.server.spool).stdout, got)
        self.check("--extract", "0000000000001", status=3, spool=self.server.spool)
        self.check("--extract", "no id", status=2, spool=self.server.spool)

    def test_refuses_while_a_server_has_it(self):
        server = self.serve()
        self.fill(1)
        for spool in (server.spool, server.spool / "log-000"):
            done = self.check(status=3, spool=spool)
            self.assertIn(b"a server has it open", done.stderr)
        server.stop()
        self.check("-c", server.config_path)    # and finds it by the configuration
        self.check(status=3, spool=server.directory)
        self.check(status=3, spool=server.directory / "nowhere")
        self.check("--list", "--salvage", "x", status=2, spool=server.spool)

    def test_changes_nothing(self):
        server = self.serve()
        self.fill(5)
        server.kill()

        def state():
            return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(server.spool.rglob("*")) if p.is_file()}
        before = state()
        self.check(spool=server.spool)
        self.check("--list", spool=server.spool)
        self.assertEqual(state(), before)


@harness.one_thread("the command line")
class Salvage(SpoolCheck):
    def test_intact(self):
        self.serve(shards=2)
        contents = {}
        for _ in range(3):
            contents.update(self.fill(10))
        contents.update(self.fill(2, 3 << 20))
        self.server.stop()
        new = self.server.directory / "new"
        done = self.check("--salvage", new, spool=self.server.spool)
        self.assertIn(f"{len(contents)} messages copied, 0 damaged", done.stdout.decode())
        self.assertEqual(set(self.listed(new)), set(contents))
        self.assertEqual(self.listed(new), self.listed())
        self.check("--salvage", new, status=3, spool=self.server.spool)     # never into what is there
        got = self.serve_from(new)
        self.assertEqual(set(got), set(contents))
        for queue_id, content in got.items():
            self.assertTrue(content.endswith(contents[queue_id]))

    def test_outcomes_go_with_it(self):
        def rcpt(_peer, line):
            return "451 4.2.0 later" if "-1@" in line else None
        self.serve()
        contents = self.fill(5, recipients=2)
        peer = Peer(self, port=self.port, answers={"RCPT": rcpt})
        harness.wait_for(lambda: self.server.metric("ringpost_queue_recipients") == 5, "5 recipients left")
        self.server.stop()
        peer.close()
        new = self.server.directory / "new"
        self.check("--salvage", new, spool=self.server.spool)
        listed = self.listed(new)
        self.assertEqual(set(listed), set(contents))
        for m in listed.values():
            self.assertEqual([r["state"] for r in m["recipients"]], ["delivered", "waiting"])

    def test_damaged(self):
        """One small message loses its record, a large one a piece of its body."""
        self.serve()
        contents = self.fill(10)
        contents.update(self.fill(1, 300_000))
        self.server.stop()
        ids = sorted(contents)
        small, large = ids[4], ids[10]
        self.damage(contents[small][-60:-30])
        self.damage(contents[large][150_000:150_060])
        numbers = self.numbers(status=1)
        log = numbers["logs"][0]
        self.assertFalse(numbers["intact"])
        self.assertEqual(log["messages"]["damaged"], 1)
        self.assertEqual(len(log["damage"]), 2)
        text = self.check(status=1, spool=self.server.spool).stdout.decode()
        self.assertEqual(len(re.findall(r"octets \d+ to \d+ are damaged", text)), 2)
        new = self.server.directory / "new"
        done = self.check("--salvage", new, status=1, spool=self.server.spool)
        self.assertIn("9 messages copied, 1 damaged", done.stdout.decode())
        part = (new / "quarantine" / f"{large}.eml").read_bytes()
        self.assertIn(b"X-Ringpost-Damaged: ", part)
        self.assertIn(contents[large][-1000:], part)
        copies = [p.read_bytes() for p in (new / "quarantine").glob("log-000-*")]
        self.assertTrue(any(f"mark-{4:06}".encode() in c for c in copies))
        self.check(spool=new)
        got = self.serve_from(new)
        self.assertEqual(set(got), set(contents) - {small, large})
        for queue_id, content in got.items():
            self.assertTrue(content.endswith(contents[queue_id]))

    def test_marks_go_with_it_and_new_ids_are_new(self):
        self.serve()
        contents = self.fill(3)
        self.server.stop()
        (self.server.spool / "something.json").write_text("{}")
        new = self.server.directory / "new"
        self.check("--salvage", new, spool=self.server.spool)
        self.assertEqual((new / "something.json").read_text(), "{}")
        shutil.rmtree(self.server.spool)
        pathlib.Path(new).rename(self.server.spool)
        self.server.start()
        more = self.fill(3)
        self.assertEqual(len(set(contents) | set(more)), 6)
        self.assertEqual({m["id"] for m in self.server.queue()}, set(contents) | set(more))
        self.server.stop()


if __name__ == "__main__":
    harness.main()
