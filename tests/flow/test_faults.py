"""test_faults.py - the real binary on a disk that fails, with damaged logs, without descriptors, on a clock that jumps

Faults are made below what io_uring reaches: a disk of FUSE below a loop device below ext4
(faulty_disk.c), a full tmpfs below the same. Where this machine has no FUSE or no loop devices, those
tests say so and are not run.
"""
import contextlib
import email.utils
import json
import mmap
import os
import pathlib
import random
import re
import resource
import shutil
import struct
import subprocess
import tempfile
import time
import unittest

import harness
from harness import Peer, Ringpost, program

MIB = 1 << 20
HERE = pathlib.Path(__file__).resolve().parent


def run(*words, check=True):
    return subprocess.run([program(words[0]), *map(str, words[1:])], capture_output=True, text=True, check=check)


def built(test, name, *options):
    """A small program or library of this folder."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-fault.")) / name
    test.addCleanup(shutil.rmtree, path.parent, True)
    subprocess.run(["cc", "-O2", *options, "-o", str(path), str(HERE / f"{name}.c")], check=True)
    return path


def unmount(path):
    """The ring of a process that was killed gives its files back a little later."""
    harness.wait_for(lambda: run("umount", path, check=False).returncode == 0, f"umount {path}")


class Image:
    """An ext4 file system on a loop device on a file; remount() is what a restart of the machine does. Without
    a journal a fault hits what we write, or nothing: a journal that has failed makes all of it read-only."""

    def __init__(self, test, file, journal):
        self.test, self.file = test, str(file)
        self.mount_point = tempfile.mkdtemp(prefix="ringpost-image.")
        test.addCleanup(shutil.rmtree, self.mount_point, True)
        self.loop = None
        test.addCleanup(self.close)
        self.attach()
        # nothing is written later that could have been written now
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "has_journal" if journal else "^has_journal",
            "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", self.loop)
        self.mount()

    def attach(self):
        done = run("losetup", "--find", "--show", self.file, check=False)
        if done.returncode != 0:
            self.test.skipTest(f"no loop device here: {done.stderr.strip()}")
        self.loop = done.stdout.strip()

    def mount(self):
        run("mount", "-o", "noatime,lazytime", self.loop, self.mount_point)

    def remount(self):
        unmount(self.mount_point)
        run("losetup", "-d", self.loop)
        self.attach()
        run("e2fsck", "-fy", self.loop, check=False)
        self.mount()

    def close(self):
        if self.loop:
            run("umount", "-l", self.mount_point, check=False)
            run("losetup", "-d", self.loop, check=False)


class FaultyDisk:
    def __init__(self, test, journal=False, size=96 * MIB):
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
            test.skipTest("a disk of FUSE needs root and /dev/fuse")
        base = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-disk."))
        test.addCleanup(shutil.rmtree, base, True)
        (base / "fuse").mkdir()
        self.process = subprocess.Popen([str(built(test, "faulty_disk")), str(base / "fuse"), str(base / "backing"), str(size)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.close)
        if self.process.stdout.readline() != "ready\n":
            test.skipTest(f"no FUSE here: {self.process.stderr.read().strip()}")
        self.image = Image(test, base / "fuse" / "disk", journal)

    def order(self, words):
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        return [int(n) for n in self.process.stdout.readline().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait(harness.WAIT_SECONDS)
        self.process.stdout.close()
        self.process.stderr.close()


class Faults(unittest.TestCase):
    def serve(self, launch=None, **config):
        self.port = harness.free_port()     # nobody listens there until a test opens a Peer
        config.setdefault("top", {"shards": 1})
        self.server = Ringpost(self, outbound={"next": {"domains": ["*"], "hosts": [f"127.0.0.1:{self.port}"],
                                                      "allow-private": True}}, **config)
        self.server.start(**(launch or {}))
        self.taken = {}     # what was answered with 250: id, content
        self.refused = []   # what was not: its reply
        return self.server

    def send(self, client=None, size=3000):
        """One message; its reply, whatever it is."""
        number = len(self.taken) + len(self.refused)
        text = f"Subject: {number}\r\n\r\n" + f"mark-{number:06}-{os.urandom(8).hex()}\r\n" * (size // 30)
        with contextlib.ExitStack() as stack:
            if client is None:
                client = stack.enter_context(harness.Smtp(self.server.address))
                if client.greeting.code != 220:
                    self.refused.append(client.greeting)
                    return client.greeting
                client.hello()
            reply = client.cmd("MAIL FROM:<sender@example.com>")
            if reply.code == 250:
                client.expect(250, f"RCPT TO:<r{number}@example.org>")
                reply = client.data(text)
            elif reply.code != 421:
                client.cmd("RSET")
        if reply.code == 250:
            self.taken[reply.text.split()[-1]] = text.encode()
        else:
            self.refused.append(reply)
        return reply

    def at_rest(self):
        """Nothing is being prepared: what is written next is mail."""
        harness.wait_for(lambda: self.server.metric('ringpost_spool_segments{state="preparing"}') == 0 and
                         self.server.metric('ringpost_spool_segments{state="free"}') >= 2, "segments prepared ahead")

    def queued(self):
        return {m["id"] for m in self.server.queue()}

    def arrived(self, peer):
        found = {}
        for message in peer.messages:
            queue_id = re.search(rb" id (\w{13})", message.content).group(1).decode()
            if queue_id in self.taken:
                self.assertTrue(message.content.endswith(self.taken[queue_id]), f"{queue_id} is not what was sent")
            found[queue_id] = found.get(queue_id, 0) + 1
        self.assertEqual(peer.faults, [])
        return found

    def deliver_all(self):
        """Everything that was acknowledged, once, and nothing else."""
        peer = Peer(self, port=self.port)
        peer.wait(len(self.taken))
        self.server.wait_empty()
        self.assertEqual(self.arrived(peer), {i: 1 for i in self.taken})


class Disk(Faults):
    def on_faulty_disk(self, journal=False, **config):
        self.disk = FaultyDisk(self, journal)
        self.serve(spool_directory=f"{self.disk.image.mount_point}/spool", **config)
        self.assertEqual(self.send().code, 250)
        self.at_rest()
        self.server.wait_metric("ringpost_spool_syncs_total", 2)    # the message, and the empty batch that proves it

    def one_fault(self, order):
        """451 for what was in that batch, and for nothing else; what is written next is in another segment."""
        self.on_faulty_disk()
        client = self.server.client()
        client.hello()
        self.disk.order(order)
        reply = self.send(client)
        self.assertEqual((reply.code, reply.text[:5]), (451, "4.3.0"))
        self.assertEqual(self.disk.order("numbers")[2], 1)
        for _ in range(3):
            self.assertEqual(self.send(client).code, 250)
        numbers = self.server.metrics()
        self.assertEqual(numbers["ringpost_spool_syncs_failed_total"], 1)
        self.assertEqual(numbers["ringpost_spool_messages_failed_total"], 1)
        self.assertEqual(numbers["ringpost_spool_broken"], 0)
        self.assertEqual(self.server.http("/readyz")[0], 200)
        self.assertEqual(self.queued(), set(self.taken))
        self.server.kill()
        words = [str(harness.RINGPOST), "spool", "check", "--json", str(self.server.spool)]
        log = json.loads(subprocess.run(words, capture_output=True, check=True, env=self.server.environment()).stdout)["logs"][0]
        self.assertEqual(log["segments"], 2)    # the batch that failed is not believed, whatever a later sync says
        self.assertEqual(log["messages"]["live"], len(self.taken))
        self.server.start()
        self.assertEqual(self.queued(), set(self.taken))
        self.deliver_all()
        self.server.stop()

    def test_failed_flush(self):
        self.one_fault("flush 5 1")

    def test_failed_write(self):
        self.one_fault("write 5 1")

    def test_no_space_below(self):
        """ENOSPC of the device, not of the file system: to us one failed write like any other."""
        self.one_fault("write 28 1")

    def test_failing_for_a_while(self):
        """Two failures in a row: no new mail; delivery goes on, its outcomes are kept until the disk takes them, and
        nothing is sent twice; and all of it by itself when the disk works again."""
        self.on_faulty_disk(delivery={"connections-per-hop": 2})
        for _ in range(9):
            self.assertEqual(self.send().code, 250)
        self.at_rest()
        self.disk.order("write 5 -1")
        self.assertIn(self.send().code, (451, 421))
        harness.wait_for(lambda: self.server.metric("ringpost_spool_broken") == 1, "spool_broken")
        harness.wait_for(lambda: self.server.http("/readyz")[0] == 503, "not ready")
        self.assertEqual(self.send().code, 421)
        peer = Peer(self, port=self.port)
        peer.wait(len(self.taken))
        self.server.wait_metric("ringpost_queue_unrecorded", len(self.taken))
        tries = self.server.metric("ringpost_queue_settle_failures_total")
        self.server.wait_metric("ringpost_queue_settle_failures_total", tries + 2 * len(self.taken))
        self.assertEqual(self.server.metric("ringpost_queue_messages"), len(self.taken))
        self.disk.order("write 5 0")
        harness.wait_for(lambda: self.server.http("/readyz")[0] == 200, "readiness again")
        self.assertEqual(self.server.metric("ringpost_spool_broken"), 0)
        self.assertEqual(self.send().code, 250)
        peer.wait(len(self.taken))
        self.server.wait_empty()
        self.assertEqual(self.server.metric("ringpost_queue_unrecorded"), 0)
        self.assertEqual(self.arrived(peer), {i: 1 for i in self.taken})
        self.server.stop()

    def test_device_gone(self):
        """Nothing can be written any more, the journal neither: no 250, and all that had one is there afterwards."""
        self.on_faulty_disk(journal=True)
        for _ in range(5):
            self.assertEqual(self.send().code, 250)
        self.disk.order("write 5 -1")
        self.disk.order("flush 5 -1")
        run("sync", "-f", self.disk.image.mount_point, check=False)
        for _ in range(6):
            self.assertIn(self.send().code, (451, 421))
        harness.wait_for(lambda: self.server.http("/readyz")[0] == 503, "not ready")
        self.server.kill()
        self.disk.order("write 5 0")
        self.disk.order("flush 5 0")
        self.disk.image.remount()
        self.server.start()
        self.assertEqual(self.queued(), set(self.taken))
        self.deliver_all()
        self.server.stop()

    def test_thin_disk_without_space(self):
        """The file system believes that it has space, the device has none: the sync that fails, and then
        succeeds. Refused by code, nothing lost."""
        if os.geteuid() != 0:
            self.skipTest("only root may mount a tmpfs")
        base = tempfile.mkdtemp(prefix="ringpost-thin.")
        self.addCleanup(shutil.rmtree, base, True)
        if run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", base, check=False).returncode != 0:
            self.skipTest("no tmpfs may be mounted here")
        self.addCleanup(run, "umount", "-l", base, check=False)
        with open(f"{base}/image", "wb") as f:
            f.truncate(96 * MIB)
        image = Image(self, f"{base}/image", journal=True)
        self.serve(spool_directory=f"{image.mount_point}/spool", spool={"segment-size": "1M", "reserve": "2M"})
        client = self.server.client()
        client.hello()
        for _ in range(1000):
            reply = self.send(client, 60_000)
            if reply.code != 250:
                break
        self.assertIn(reply.code, (421, 451, 452))
        self.assertGreater(len(self.taken), 10)
        self.server.kill()
        unmount(image.mount_point)
        run("mount", "-o", "remount,size=200m", base)
        image.mount()
        image.remount()
        self.server.start()
        self.assertEqual(self.queued(), set(self.taken))
        self.deliver_all()
        self.server.stop()

    def test_recycled_without_allocation(self):
        """In its steady state a log neither grows nor shrinks nor moves: the same blocks of the same files."""
        self.disk = FaultyDisk(self)
        self.serve(spool_directory=f"{self.disk.image.mount_point}/spool",
                   spool={"segment-size": "256K", "reserve": "1M"}, limits={"message-size": "256K"})
        peer = Peer(self, port=self.port)
        client = self.server.client()
        client.hello()

        def files():
            found = {}
            for path in sorted(self.server.spool.glob("log-000/segment-*")):
                extents = run("filefrag", "-s", "-v", path).stdout.splitlines()[3:-1]
                self.assertFalse([e for e in extents if "unwritten" in e], path)
                found[path.name] = (path.stat().st_blocks, [e.split(":")[2] for e in extents])
            return found

        def through(octets):
            before = self.server.metric("ringpost_spool_bytes_total")
            while self.server.metric("ringpost_spool_bytes_total") < before + octets:
                for _ in range(10):
                    self.assertEqual(self.send(client, 20_000).code, 250)
                self.server.wait_empty()
        before = {}
        for _ in range(6):      # one more may be made when deliveries fall behind
            through(2 * MIB)
            self.at_rest()
            after = files()
            self.assertEqual({n: after[n] for n in before}, before)
            if after == before:
                break
            before = after
        self.assertEqual(after, before)
        self.assertEqual(self.arrived(peer), {i: 1 for i in self.taken})
        self.server.stop()


@harness.one_thread("a shard reads its spool")
class Damage(Faults):
    """Flipped and torn octets, at places sampled over the whole log."""

    def spoil(self, path, at, how):
        """The range that was touched, and whether that changed anything."""
        with open(path, "r+b") as f:
            f.seek(at)
            old = f.read(4096 - at % 4096)
            new = {"flip": bytes([old[0] ^ (1 << at % 8)]), "zero": bytes(len(old)),
                   "torn": os.urandom(len(old))}[how]
            f.seek(at)
            f.write(new)
        return at, at + len(new), old[:len(new)] != new

    def look(self, spool):
        done = subprocess.run([str(harness.RINGPOST), "spool", "check", "--list", "--json", str(spool)],
                              capture_output=True, timeout=harness.WAIT_SECONDS, env=self.server.environment(), check=False)
        self.assertIn(done.returncode, (0, 1), done.stderr.decode())
        self.assertIsNone(harness.SANITIZER.search(done.stderr), done.stderr.decode())
        return done.returncode, {m["id"]: m["damaged"] for m in map(json.loads, done.stdout.splitlines())}

    def test_anywhere(self):
        self.serve()
        dice = random.Random(1)
        for _ in range(24):
            self.assertEqual(self.send(size=dice.choice((300, 2000, 9000, 40_000))).code, 250)
        self.server.stop()
        pristine = self.server.directory / "pristine"
        shutil.copytree(self.server.spool, pristine)
        log = (pristine / "log-000" / "segment-000000").read_bytes()
        end = len(log.rstrip(b"\0"))
        bodies = {i: (log.find(c[:60]), log.rfind(c[-60:]) + 60) for i, c in self.taken.items()}
        self.assertTrue(all(0 <= a < b for a, b in bodies.values()))
        spool = self.server.spool
        path = spool / "log-000" / "segment-000000"
        places = [*range(0, 4096, 700), *(a for a in range(4096, end, max(end // 24, 1)))]
        started = 0
        for number, at in enumerate(places):
            how = ("flip", "zero", "torn")[number % 3]
            shutil.rmtree(spool)
            shutil.copytree(pristine, spool)
            begin, stop, changed = self.spoil(path, min(at + dice.randrange(600), end), how)
            with self.subTest(at=begin, how=how):
                status, live = self.look(spool)
                # a record begins before its body, and a batch is 4 KiB
                away = {i for i, (a, b) in bodies.items() if stop <= a - 1000 or begin >= b + 200}
                gone = {i: bodies[i] for i in away - set(live)}
                self.assertEqual(gone, {}, f"what was not touched ({begin} to {stop}) is there")
                self.assertFalse([i for i in away if live[i]])
                hit = [i for i, (a, b) in bodies.items() if begin < b and stop > a]
                if changed and hit:
                    self.assertEqual(status, 1, "what was touched is told")
                if number % 12 == 3:
                    started += 1
                    self.start_with(spool, away, status)
        self.assertGreaterEqual(started, 2)

    def start_with(self, spool, away, status):
        """No start is refused; what is intact arrives as it was, nothing else does."""
        peer = Peer(self, port=self.port)
        server = self.server.start()
        peer.wait(len(away))
        harness.wait_for(lambda: server.metric('ringpost_queue_units{state="held"}') == server.metric("ringpost_queue_messages"),
                         "nothing but what is held")
        found = self.arrived(peer)
        self.assertEqual({i: n for i, n in found.items() if n != 1 or i not in self.taken}, {})
        self.assertLessEqual(away, set(found))
        if status == 1:
            self.assertGreaterEqual(server.metric("ringpost_recovery_damaged_ranges"), 1)
            self.assertTrue(list((spool / "quarantine").iterdir()))
        server.stop()
        peer.close()

    def test_half_written_files(self):
        """What a crash leaves of files that were being made, and what somebody else left: no start is refused."""
        self.serve()
        for _ in range(5):
            self.assertEqual(self.send().code, 250)
        self.server.kill()
        log = self.server.spool / "log-000"
        free = max(int(p.name[-6:]) for p in log.glob("segment-*")) + 1
        (log / f"segment-{free:06}").write_bytes(b"")
        (log / f"segment-{free + 1:06}").write_bytes(bytes(100_000))
        (log / f"segment-{free + 2:06}").write_bytes(os.urandom(5000))
        (log / "identity.new").write_bytes(b"RPS")
        (log / "identity").write_bytes((log / "identity").read_bytes()[:20])
        self.server.start()
        self.assertEqual(self.queued(), set(self.taken))
        self.assertEqual(self.send().code, 250)
        self.deliver_all()
        self.server.stop()


@harness.one_thread("a shard refuses")
class Descriptors(Faults):
    def test_exhausted(self):
        """No file can be opened, no socket made: mail is taken while there are segments, then refused by code;
        nothing is lost, and all of it works again when there are descriptors again."""
        self.serve(spool={"segment-size": "256K", "reserve": "1M"}, limits={"message-size": "256K"})
        self.at_rest()
        client = self.server.client()
        client.hello()
        pid = self.server.process.pid
        usual = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, usual[1]))
        for _ in range(200):
            reply = self.send(client, 20_000)
            if reply.code != 250:
                break
        self.assertEqual((reply.code, reply.text[:5]), (452, "4.3.1"))
        self.assertGreater(len(self.taken), 5)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, usual)
        harness.wait_for(lambda: self.server.http("/readyz")[0] == 200, "readiness again")
        harness.wait_for(lambda: self.send(client).code == 250, "mail is taken again")
        self.assertEqual(self.queued(), set(self.taken))
        self.deliver_all()
        self.server.stop()

    def test_accepting_pauses(self):
        """No descriptor for a new connection: it waits, sessions that are there go on, accepting is looked at again
        now and then and no more often, it is told once, and goes on by itself."""
        if harness.sanitized():
            self.skipTest("a sanitizer has to be loaded first")
        library = built(self, "hoard", "-std=gnu2x", "-shared", "-fPIC")
        hoard, limit = library.parent / "here", min(32_768, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        self.serve(launch={"env": {"LD_PRELOAD": str(library), "HOARD": str(hoard)},
                           "prefix": [program("prlimit"), f"--nofile={limit}:{limit}"]})
        self.at_rest()
        client = self.server.client()
        client.hello()
        descriptors = f"/proc/{self.server.process.pid}/fd"
        for turn in (1, 2):
            begun = time.monotonic()
            errors = self.server.metric("ringpost_accept_errors_total")
            hoard.touch()
            harness.wait_for(lambda: len(os.listdir(descriptors)) == limit, "no descriptor left")
            waiting = [harness.Smtp(self.server.address, greet=False) for _ in range(5)]
            self.server.wait_log("accept_failed", turn)
            for _ in range(20):
                self.assertEqual(self.send(client).code, 250)
            hoard.unlink()
            for late in waiting:
                self.assertEqual(late.reply().code, 220)
                late.hello()
                self.assertEqual(self.send(late).code, 250)
                late.close()
            self.server.wait_log("accept_works", turn)
            errors = self.server.metric("ringpost_accept_errors_total") - errors
            self.assertGreaterEqual(errors, 1)
            self.assertLessEqual(errors, (time.monotonic() - begun) / 0.1 + 1, "one in each 100 ms, not a loop")
            self.assertIn("open files", self.server.log("accept_failed")[-1]["why"])
            self.assertEqual(len(self.server.log("accept_failed")), turn)
            self.assertEqual(len(self.server.log("accept_works")), turn)
        self.assertEqual(self.queued(), set(self.taken))
        self.deliver_all()
        self.server.stop()

    def test_too_few_to_start(self):
        server = Ringpost(self)
        server.launch(prefix=[program("prlimit"), "--nofile=64:64"])
        self.assertEqual(server.process.wait(harness.WAIT_SECONDS), 1)
        self.assertIn("RLIMIT_NOFILE", server.words())
        server.process = None


@harness.one_thread("a shard and its clock")
class Clock(Faults):
    DECADE = 3653 * 86_400

    def on_a_clock(self):
        shift = built(self, "clock_shift", "-shared", "-fPIC")
        self.file = shift.parent / "seconds"
        self.file.write_bytes(bytes(8))
        self.env = {"LD_PRELOAD": str(shift), "CLOCK_SHIFT_FILE": str(self.file)}
        self.serve(launch={"env": self.env}, top={"shards": 2},
                   delivery={"retry-initial": "1s", "retry-max": "2s", "age-max": "1d", "delay-warning": "4h"})
        self.dates = {}     # of messages, as they must be
        self.ahead = 0

    def jump(self, seconds):
        self.ahead = seconds
        with open(self.file, "r+b") as f, mmap.mmap(f.fileno(), 8) as shared:
            shared[:8] = struct.pack("<q", seconds)

    def mail(self):
        """One message, with the clock as it is."""
        self.assertEqual(self.send().code, 250)
        self.dates[list(self.taken)[-1]] = time.time() + self.ahead

    def tried(self):
        """Each message once more, in vain."""
        before = len(self.server.log("destination_failed"))
        self.server.wait_log("destination_failed", before + 2)

    def nothing_left(self):
        for outcome in ("expired", "bounced"):
            self.assertEqual(self.server.metric(f'ringpost_queue_recipients_out_total{{outcome="{outcome}"}}'), 0)
        self.assertEqual(self.server.metric("ringpost_queue_overdue"), 0)
        self.assertEqual(self.queued(), set(self.taken))
        self.assertEqual(self.server.log("bounce"), [])     # nor is a delay of years told
        for message in self.server.queue():     # by the clock as it is now
            self.assertLess(abs(time.time() + self.ahead - message["arrival"]), 600)

    def dates_offline(self):
        """What the tools say that read the spool themselves: as the clock was when the server ended."""
        listed = self.server.cli("spool", "check", str(self.server.spool), "--list", "--json", config=False)
        arrivals = [json.loads(line)["arrival"] for line in listed.stdout.splitlines()]
        self.assertEqual(len(arrivals), len(self.taken), listed.stderr)
        numbers = json.loads(self.server.cli("spool", "check", str(self.server.spool), "--json", config=False).stdout)
        arrivals += [log["oldest"] for log in numbers["logs"] if log["oldest"]]
        (traced,) = map(json.loads, self.server.cli("trace", list(self.taken)[-1], "--json").stdout.splitlines())
        arrivals.append(traced["spool"]["arrival"])
        arrivals += [outcome["time"] for outcome in traced["spool"]["outcomes"]]
        for arrival in arrivals:
            self.assertLess(abs(time.time() + self.ahead - arrival), 600)

    def arrive(self):
        """All that was taken, with the date of the time at which it was."""
        peer = Peer(self, port=self.port)
        peer.wait(len(self.taken))
        self.server.wait_empty()
        self.assertEqual(self.arrived(peer), {i: 1 for i in self.taken})
        for message in peer.messages:
            trace = re.match(rb"Received:.* id (\w{13})(?:\r\n\t.*)?;\r\n\t(.*)\r\n", message.content, re.DOTALL)
            date = email.utils.parsedate_to_datetime(trace.group(2).split(b"\r\n")[0].decode()).timestamp()
            self.assertLess(abs(date - self.dates[trace.group(1).decode()]), 60)
        self.server.stop()

    def test_ten_years(self):
        """The clock is set while the server runs: nothing gets older by that, what waits is tried as ever, dates are
        those of the clock at once, and it is told once for each time."""
        self.on_a_clock()
        steps = (self.DECADE, -self.DECADE, 86_400, 0)
        for number, seconds in enumerate(steps):
            self.mail()
            self.jump(seconds)
            self.mail()
            self.tried()
            self.server.wait_log("clock_step", number + 1)
            self.nothing_left()
        told = [round(line["step_s"], -1) for line in self.server.log("clock_step")]
        self.assertEqual(told, [b - a for a, b in zip((0, *steps), steps)])
        self.assertEqual(self.server.metric("ringpost_clock_steps_total"), len(told))
        self.assertEqual(self.server.log("queue_scan"), [])
        self.arrive()

    def test_ten_years_over_a_restart(self):
        """Set while the server does not run, it is told at the start, and nothing gets older either: not then, not
        with the next start, not when it is put right."""
        self.on_a_clock()
        self.mail()
        for seconds, event in ((self.DECADE, "clock_is_ahead"), (self.DECADE, None), (0, "clock_is_behind"),
                               (-self.DECADE, "clock_is_behind"), (0, "clock_is_ahead")):
            self.server.stop()
            self.dates_offline()
            self.jump(seconds)
            begun = len(self.server.log())
            self.server.start(env=self.env)
            self.mail()
            self.tried()
            self.nothing_left()
            told = [line["event"] for line in self.server.log()[begun:] if line["event"].startswith("clock_")]
            self.assertEqual(told, [event] if event else [])
        ahead = self.server.metric("ringpost_clock_ahead_seconds")
        self.assertLess(abs(ahead), 3600, "but for what the server was away while nobody knew")
        self.arrive()

    def test_away_for_longer_than_mail_lives(self):
        """Days that the server was away have passed: mail is tried once more all the same, and goes."""
        self.on_a_clock()
        self.mail()
        self.tried()
        self.server.stop()
        self.jump(3 * 86_400)
        peer = Peer(self, port=self.port)
        self.server.start(env=self.env)
        peer.wait(1)
        self.server.wait_empty()
        self.assertEqual(self.arrived(peer), {i: 1 for i in self.taken})
        peer.close()
        self.assertEqual(self.send().code, 250)
        self.tried()
        self.server.stop()
        self.jump(6 * 86_400)
        self.server.start(env=self.env)     # and where that fails, it was the last time
        self.server.wait_log("expired")
        self.server.stop()


if __name__ == "__main__":
    harness.main()
