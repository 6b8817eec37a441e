"""test_spool.py - what was acknowledged outlives kills, full disks and flipped octets"""
import os
import re
import subprocess
import unittest

import harness
from harness import Peer, Ringpost, program

MIB = 1 << 20


class Spool(unittest.TestCase):
    def serve(self, port=None, **config):
        """Mail goes to a port where nobody listens until a test opens a Peer there."""
        self.port = port or harness.free_port()
        self.server = Ringpost(self, outbound={"next": {"domains": ["*"], "hosts": [f"127.0.0.1:{self.port}"],
                                                      "allow-private": True}}, **config)
        self.server.start()
        return self.server

    def fill(self, count, size=2000):
        """Queue ids and their contents."""
        contents = {}
        client = self.server.client()
        client.hello()
        for number in range(count):
            text = f"Subject: {number}\r\n\r\n" + f"mark-{number:06}-{os.urandom(8).hex()}\r\n" * (size // 30)
            contents[client.message(recipients=[f"r{number}@example.org"], content=text)] = text.encode()
        client.close()
        return contents

    def arrived(self, contents, but=0):
        peer = Peer(self, port=self.port)
        peer.wait(len(contents) - but)
        found = {}
        for message in peer.messages:
            queue_id = re.search(rb" id (\w{13})", message.content).group(1).decode()
            self.assertTrue(message.content.endswith(contents[queue_id]), f"{queue_id} is not what was sent")
            found[queue_id] = found.get(queue_id, 0) + 1
        self.assertEqual(peer.faults, [])
        return found


class Restart(Spool):
    def test_killed(self):
        server = self.serve()
        contents = {}
        for _ in range(3):
            contents.update(self.fill(20))
            server.kill()
            server.start()
            self.assertEqual({m["id"] for m in server.queue()}, set(contents))
        self.assertEqual(self.arrived(contents), {i: 1 for i in contents})
        server.wait_empty()
        server.stop()
        server.start()
        self.assertEqual(server.queue(), [])
        server.stop()

    def test_large_message_over_segments(self):
        server = self.serve()
        contents = self.fill(2, 9 * MIB)
        server.kill()
        server.start()
        self.assertEqual(self.arrived(contents), {i: 1 for i in contents})
        server.wait_empty()
        server.stop()

    def test_killed_amid_messages(self):
        """A message that was not acknowledged leaves nothing behind that matters."""
        server = self.serve()
        contents = self.fill(3)
        client = server.client()
        client.hello()
        client.begin()
        client.expect(354, "DATA")
        client.send(b"Subject: never whole\r\n\r\n" + b"x" * 70 + b"\r\n" * 50_000)
        server.kill()
        client.close()
        server.start()
        self.assertEqual({m["id"] for m in server.queue()}, set(contents))
        self.assertEqual(self.arrived(contents), {i: 1 for i in contents})
        server.wait_empty()
        server.stop()

    def test_other_number_of_shards(self):
        server = self.serve(top={"shards": 2})
        contents = {}
        for _ in range(6):
            contents.update(self.fill(5))
        server.stop()
        for shards in (1, 3):
            server.top["shards"] = shards
            server.write_config()
            server.start()
            self.assertEqual({m["id"] for m in server.queue()}, set(contents), f"{shards} shards")
            contents.update(self.fill(5))
            server.stop()
        server.start()
        self.assertEqual(self.arrived(contents), {i: 1 for i in contents})
        server.wait_empty()
        server.stop()

    def test_outcomes_are_remembered(self):
        """A recipient that has its mail does not get it again after a kill."""
        seen = []

        def rcpt(_peer, line):
            seen.append(re.search(r"<(\w+)", line).group(1))
            return "451 4.2.0 later" if "late" in line and len(seen) < 6 else None
        peer = Peer(self, answers={"RCPT": rcpt})
        server = self.serve(port=peer.port, delivery={"retry-initial": "3s", "retry-max": "3s"})
        server.send(recipients=["a@example.org", "late@example.org", "b@example.org"])
        server.wait_log("deferred")
        harness.wait_for(lambda: server.metric("ringpost_spool_outcomes_total") >= 1, "an outcome in the spool")
        harness.wait_for(lambda: server.metric('ringpost_queue_units{state="deferred"}') == 1, "a deferred unit")
        server.kill()
        server.start()
        self.assertEqual(server.metric("ringpost_queue_recipients"), 1)
        harness.wait_for(lambda: seen.count("late") >= 2, "another attempt")
        self.assertEqual((seen.count("a"), seen.count("b")), (1, 1))
        server.stop()

    def test_second_process_on_the_same_spool(self):
        server = self.serve()
        other = Ringpost(self, spool_directory=server.spool)
        other.launch()
        self.assertEqual(other.process.wait(harness.WAIT_SECONDS), 1)
        self.assertIn("spool", other.words())
        other.process = None
        server.stop()

    def test_foreign_modes_are_refused(self):
        server = Ringpost(self)
        server.spool.mkdir(0o777)
        server.spool.chmod(0o777)
        server.launch()
        code = None
        try:
            code = server.process.wait(5)
        except subprocess.TimeoutExpired:
            pass
        self.assertEqual(code, 1, "a spool that everybody may write to")
        server.process = None


@harness.one_thread("a shard reads its spool")
class Damage(Spool):
    def segments(self):
        return sorted(p for p in self.server.spool.rglob("*") if p.is_file() and p.stat().st_size > 0
                      and "quarantine" not in p.parts)

    def flip(self, needle, offset=0):
        """One octet of the place where needle lies on disk."""
        for path in self.segments():
            data = path.read_bytes()
            at = data.find(needle)
            if at >= 0:
                with open(path, "r+b") as f:
                    f.seek(at + offset)
                    f.write(bytes([data[at + offset] ^ 1]))
                return path
        raise AssertionError(f"{needle} is not in {self.segments()}")

    def test_flipped_octet_in_a_body(self):
        server = self.serve(top={"shards": 1})
        contents = self.fill(20)
        server.stop()
        victim = sorted(contents)[7]
        self.flip(contents[victim][-60:-30], 5)
        server.start()
        self.assertIn("damaged", server.words())
        event = server.wait_log("recovered", 2)[-1]
        self.assertGreaterEqual(event["damaged_ranges"], 1)
        found = self.arrived(contents, but=1)
        self.assertEqual(found, {i: 1 for i in contents if i != victim})
        quarantined = [p for p in (server.spool / "quarantine").rglob("*") if p.is_file()]
        self.assertTrue(any(b"mark-000007" in p.read_bytes() for p in quarantined), quarantined)
        self.assertGreaterEqual(server.metric("ringpost_recovery_damaged_ranges"), 1)
        server.stop()

    def test_flipped_octet_while_it_runs(self):
        """Recovery read it well; the disk lies later. It is held and reported, the others go on."""
        server = self.serve(top={"shards": 1}, spool={"cache": "1M"})
        contents = self.fill(20)
        server.stop()
        server.start()      # nothing is in memory now
        victim = sorted(contents)[3]
        self.flip(contents[victim][-60:-30], 3)
        subprocess.run(["sync"], check=True)
        found = self.arrived(contents, but=1)
        self.assertEqual(found, {i: 1 for i in contents if i != victim})
        harness.wait_for(lambda: [m["id"] for m in server.queue()] == [victim],
                         lambda: f"{victim} alone in the queue: {server.queue()}")
        self.assertEqual(server.process.poll(), None)
        server.stop()

    def test_torn_tail(self):
        server = self.serve(top={"shards": 1})
        contents = self.fill(5)
        server.kill()
        ends = {p: max(p.read_bytes().rfind(c[-30:]) for c in contents.values()) for p in self.segments()}
        path = max(ends, key=ends.get)
        with open(path, "r+b") as f:    # what a cut power leaves behind the last whole batch
            f.seek((ends[path] // 4096 + 3) * 4096)
            f.write(os.urandom(3000))
        server.start()
        self.assertEqual(self.arrived(contents), {i: 1 for i in contents})
        server.stop()

    def test_foreign_file(self):
        server = self.serve(top={"shards": 1})
        contents = self.fill(3)
        server.stop()
        (server.spool / "log-000" / "README").write_text("what is this doing here?")
        server.start()
        self.assertEqual(self.arrived(contents), {i: 1 for i in contents})
        server.stop()


@harness.one_thread("a shard and its spool")
class Full(Spool):
    def until_full(self, size=200_000):
        """Messages until 452; the contents of those that were taken."""
        contents = {}
        client = self.server.client()
        client.hello()
        for number in range(5000):
            text = f"Subject: {number}\r\n\r\n" + f"mark-{number:06}-{os.urandom(8).hex()}\r\n" * (size // 30)
            reply = client.cmd("MAIL FROM:<a@example.com>")
            if reply.code == 250:
                client.expect(250, "RCPT TO:<b@example.org>")
                reply = client.cmd("DATA")
                if reply.code == 354:
                    client.send(text + ".\r\n")
                    reply = client.reply()
                    if reply.code == 250:
                        contents[reply.text.split()[-1]] = text.encode()
                        continue
            self.assertEqual((reply.code, reply.text[:5]), (452, "4.3.1"))
            client.close()
            return contents
        self.fail("never full")

    def recover(self, contents):
        self.assertGreater(len(contents), 10)
        self.assertEqual(self.server.http("/readyz")[0], 503)
        self.assertEqual(self.arrived(contents), {i: 1 for i in contents})
        self.server.wait_empty()
        harness.wait_for(lambda: self.server.http("/readyz")[0] == 200, "readiness again")
        self.server.send()
        self.server.wait_empty()
        self.server.stop()

    def test_size_max(self):
        self.serve(spool={"size-max": "64M"}, top={"shards": 1})
        self.recover(self.until_full())

    def on_image(self, make):
        base = harness.tempfile.mkdtemp(prefix="ringpost-image.")
        self.addCleanup(harness.shutil.rmtree, base, True)
        image, mount = f"{base}/image", f"{base}/mnt"
        os.mkdir(mount)
        with open(image, "wb") as f:
            f.truncate(96 * MIB)
        subprocess.run([*make, image], check=True, capture_output=True)
        subprocess.run([program("mount"), "-o", "loop", image, mount], check=True, capture_output=True)
        self.addCleanup(subprocess.run, [program("umount"), "-l", mount], check=False)
        return f"{mount}/spool"

    def test_disk(self):
        self.serve(spool_directory=self.on_image([program("mkfs.ext4"), "-q"]), top={"shards": 1})
        self.recover(self.until_full())

    def test_disk_filled_by_others(self):
        """Space that somebody else takes away: 452, deliveries go on, and it heals."""
        path = self.on_image([program("mkfs.ext4"), "-q", "-m", "0"])
        self.serve(spool_directory=path, top={"shards": 1})
        contents = self.fill(20)
        hog = path + ".hog"
        with open(hog, "wb") as f:
            try:
                while True:
                    f.write(b"\1" * MIB)
                    f.flush()
            except OSError:
                pass
        contents.update(self.until_full())
        os.unlink(hog)
        peer_found = self.arrived(contents)
        self.assertEqual(peer_found, {i: 1 for i in contents})
        self.server.wait_empty()
        harness.wait_for(lambda: self.server.http("/readyz")[0] == 200, "readiness again")
        self.server.send()
        self.server.wait_empty()
        self.server.stop()


if __name__ == "__main__":
    harness.main()
