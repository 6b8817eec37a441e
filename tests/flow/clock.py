"""clock.py - a clock that a test sets while the server runs: real code, real timers, less waiting"""
import os
import pathlib
import struct
import subprocess

from tls_wire import scratch

SOURCE = pathlib.Path(__file__).resolve().parent / "clock_shift.c"


class Clock:
    """env is for Ringpost.start; set(seconds): how far both clocks of the program are ahead."""

    def __init__(self, test, seconds=0):
        base = scratch(test)
        library, self.path = base / "clock_shift.so", base / "shift"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)], check=True)
        self.path.write_bytes(struct.pack("q", seconds))
        self.path.chmod(0o644)
        self.env = {"LD_PRELOAD": str(library), "CLOCK_PASS_FILE": str(self.path)}

    def set(self, seconds):
        with open(self.path, "r+b") as file:        # it is mapped: never shorter, never another file
            os.pwrite(file.fileno(), struct.pack("q", seconds), 0)
