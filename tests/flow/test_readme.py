"""test_readme.py - configurations of the README's chapter for who comes from Exchange Online

Each is taken out of the text, its files are made, and it does what the chapter says.
"""
import json
import pathlib
import re
import subprocess
import unittest

import harness
import pki
from tls_wire import scratch

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
CHAPTER = "### Coming from Exchange Online"


@harness.one_thread("the command line")
class Exchange(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.authority = pki.Authority()
        text = README.read_text().partition(CHAPTER)[2].partition("\n## ")[0]
        cls.blocks = re.findall(r"\*\*(.*?)\*\*.*?```conf\n(.*?)```", text, re.S)

    def setUp(self):
        self.base = scratch(self)

    def block(self, title):
        """Path of the configuration under this title, with the files that it names."""
        text = next(text for name, text in self.blocks if name.startswith(title))
        for name in set(re.findall(r"/etc/ringpost/([\w-]+)\.pem", text)):
            if name.endswith("roots"):
                (self.base / f"{name}.pem").write_text(self.authority.root.pem)
            else:
                self.authority.leaf(f"{name}.example.org", usage=(pki.CLIENT, pki.SERVER)).write(self.base, name)
        path = self.base / "ringpost.conf"
        path.write_text(text.replace("/etc/ringpost", str(self.base)) +
                        f'spool {{ directory = "{self.base}" }}\nadmin {{ socket = "{self.base}/admin.sock" }}\n')
        self.base.chmod(0o700)
        return path

    def run_it(self, *words):
        return subprocess.run([str(harness.RINGPOST), *map(str, words)], capture_output=True, text=True,
                              timeout=harness.WAIT_SECONDS, check=False)

    def explain(self, path, sender, recipient, *words):
        """(reply, connector it came by, way out, connector it goes by)"""
        done = self.run_it("explain", "-c", path, "--from", sender, "--to", recipient, "--tls", "1.3", "--json", *words)
        self.assertIn(done.returncode, (0, 1), done.stderr)
        told = json.loads(done.stdout)["recipients"][0]
        way = told.get("way", {"verdict": None, "connector": None, "floor": None})
        return told["token"], told["connector"], way["verdict"], way["connector"], way["floor"]

    def test_all_are_good(self):
        self.assertEqual(len(self.blocks), 3)
        for title, _ in self.blocks:
            with self.subTest(title=title):
                done = self.run_it("check", "-c", self.block(title), "--json")
                told = json.loads(done.stdout)
                self.assertEqual((told["errors"], told["messages"]), (0, []))

    def test_forced_tls(self):
        path = self.block("Forced TLS")
        own, bank = "b@example.org", "a@bank.example"
        self.assertEqual(self.explain(path, bank, own, "--cert", "mx.bank.example"),
                         ("", "bank", "connector", "store", "may"))
        self.assertEqual(self.explain(path, bank, own)[0], "cert-none")
        self.assertEqual(self.explain(path, "a@sub.bank.example", own, "--cert", "mx.other.example")[0], "cert-name")
        done = self.run_it("explain", "-c", path, "--from", bank, "--to", own)
        self.assertIn("451 4.7.0", done.stdout)
        network = path.read_text().replace("relay { domains", "relay { networks = { 10.0.0.0/8 } domains")
        path.write_text(network)
        self.assertEqual(self.explain(path, own, bank, "--ip", "10.1.1.1"), ("", None, "connector", "bank", "name"))

    def test_hybrid(self):
        path = self.block("Hybrid")
        there = ("--cert", "gw1.relay.example.org")
        self.assertEqual(self.explain(path, "a@example.org", "x@far.example", *there),
                         ("", "site", "default", None, "may"))      # it has been there
        self.assertEqual(self.explain(path, "a@far.example", "b@example.org"),
                         ("", None, "connector", "site", "internal"))
        self.assertEqual(self.explain(path, "a@example.org", "x@far.example")[0], "relay-denied")

    def test_change_of_certificate(self):
        path = self.block("A partner changes")
        for pin, token in (("1" * 64, ""), ("2" * 64, ""), ("3" * 64, "cert-pin")):
            told = self.explain(path, "a@bank.example", "b@example.org", "--cert", "mx.bank.example",
                                "--pin", f"sha256:{pin}")
            self.assertEqual(told[0], token)


if __name__ == "__main__":
    harness.main()
