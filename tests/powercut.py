#!/usr/bin/env python3
"""powercut.py - the power fails under load: what was acknowledged must be on the disk

Usage: tests/powercut.py [--cuts N] [--fs ext4|xfs] [--seconds-between S] [--build DIR] [...]

The spool is a file system on a loop device. A cut is FS_IOC_SHUTDOWN without flushing the journal:
from then on the file system takes nothing more, and what was not synced is gone; it reaches io_uring
like any other write. The process is killed, the file system is unmounted, mounted again, and the
server restarted. Load, comparison and options are those of crash.py. Needs root.

Exit status: 0; 1 when something is lost or damaged; 77 when this machine has no loop devices for us.
"""
import fcntl
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

import crash
import under_load

FS_IOC_SHUTDOWN = 0x8004587D    # _IOR('X', 125, __u32), the same for ext4 and xfs
NO_LOG_FLUSH = 2
NOT_RUN = 77
IMAGE_BYTES = 768 << 20


class Disk:
    def __init__(self, kind):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-powercut."))
        self.image = self.base / "image"
        self.mount_point = self.base / "mnt"
        self.mount_point.mkdir()
        with open(self.image, "wb") as f:
            f.truncate(IMAGE_BYTES)
        make = ["mkfs.ext4", "-q", "-F"] if kind == "ext4" else ["mkfs.xfs", "-q", "-f"]
        self.mounted = False
        self.run(*make, str(self.image))
        self.mount()

    @staticmethod
    def run(*words):
        path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
        done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
        if done.returncode != 0:
            raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")

    def mount(self):
        self.run("mount", "-o", "loop", str(self.image), str(self.mount_point))
        self.mounted = True

    def cut(self):
        fd = os.open(self.mount_point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def unmount(self):
        for attempt in range(200):      # the ring of a killed process gives its files back a little later
            try:
                self.run("umount", str(self.mount_point))
                self.mounted = False
                return
            except OSError as e:
                if attempt == 199:
                    raise AssertionError(f"cannot unmount: {e}") from None
                time.sleep(0.05)

    def clean(self):
        if self.mounted:
            try:
                self.unmount()
            except (AssertionError, OSError) as e:
                print(f"clean-up: {e}", file=sys.stderr)
                return
        shutil.rmtree(self.base, ignore_errors=True)


def run(options, disk):
    load = crash.Load(options, spool_directory=disk.mount_point / "spool")
    try:
        load.begin()
        for number in range(options.cuts):
            load.progress()
            load.pause()
            disk.cut()
            time.sleep(load.random.uniform(0, 0.1))     # it may notice, and must not say 250 meanwhile
            if load.server.process.poll() is None:
                load.server.kill()
            else:
                print(f"cut {number + 1}: the server ended by itself ({load.server.process.returncode})")
                load.server.check_words()
            load.mark()
            disk.unmount()
            disk.mount()
            load.restart()
            if (number + 1) % 10 == 0 or number + 1 == options.cuts:
                print(f"{number + 1} cuts, {load.count()} + {len(load.checked_acked)} acknowledged", flush=True)
        load.progress()
        load.end()
        return load.verdict("cuts")
    finally:
        load.clean()


def main():
    p = crash.parser(__doc__, 50, "cuts")
    p.add_argument("--fs", choices=("ext4", "xfs"), default="ext4", help="(%(default)s)")
    p.set_defaults(first_reply_max=0.0)
    options = p.parse_args()
    under_load.use_build(options.build)
    socket.setdefaulttimeout(60)
    try:
        disk = Disk(options.fs)
    except OSError as e:
        print(f"not run: no file system on a loop device here ({e})")
        sys.exit(NOT_RUN)

    def work():
        try:
            return run(options, disk)
        finally:
            disk.clean()
    under_load.finish(work)


if __name__ == "__main__":
    main()
