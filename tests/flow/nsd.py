"""nsd.py - a name server of a test's own: real NSD, zones as text, signed by ldns-signzone where wanted
"""
import pathlib
import shutil
import signal
import subprocess
import tempfile

import harness
from harness import program


class Nsd:
    """zones: {name: text, or None: it is not there, and is answered by SERVFAIL}. signed: names of those
    that are signed; anchor is the file with the key of the first. spoil: function(name, line) -> line,
    over what is served."""

    def __init__(self, holder, zones, signed=(), spoil=None):
        self.port = harness.free_port()
        base = self.base = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-nsd."))
        holder.addCleanup(shutil.rmtree, base, True)
        for name, text in zones.items():
            if text is not None:
                (base / f"{name}.zone").write_text(text)
        for name in signed:
            self.sign(name, spoil)
        (base / "nsd.conf").write_text(
            f"server:\n ip-address: 127.0.0.1@{self.port}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{base}\"\n"
            f" database: \"\"\n pidfile: \"{base}/pid\"\n logfile: \"{base}/log\"\n xfrdfile: \"{base}/xfrd\"\n"
            f" zonelistfile: \"{base}/zones\"\n xfrdir: \"{base}\"\n server-count: 1\n rrl-ratelimit: 0\n"
            "remote-control:\n control-enable: no\n" +
            "".join(f"zone:\n name: {name}\n zonefile: {name}.zone\n" for name in zones))
        self.process = subprocess.Popen([program("nsd"), "-d", "-c", str(base / "nsd.conf")],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)

        def end():
            self.process.terminate()
            self.process.wait(30)
        holder.addCleanup(end)
        harness.wait_listening("127.0.0.1", self.port, self.process)

    def sign(self, name, spoil):
        def run(*words):
            return subprocess.run(words, cwd=self.base, check=True, capture_output=True, text=True,
                                  timeout=60).stdout.strip()
        key = run(program("ldns-keygen"), "-a", "ECDSAP256SHA256", "-k", name)
        served = self.base / f"{name}.zone"
        run(program("ldns-signzone"), "-o", name, "-f", "signed", str(served), key)
        served.write_text("".join(spoil(name, line) if spoil else line
                                  for line in (self.base / "signed").read_text().splitlines(True)))
        if not hasattr(self, "anchor"):
            self.anchor = self.base / f"{key}.key"

    def change(self, name, text):
        """From now on, or a moment later: its serial must be a higher one."""
        (self.base / f"{name}.zone").write_text(text)
        self.process.send_signal(signal.SIGHUP)
