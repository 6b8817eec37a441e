"""test_import.py - ringpost connector import: what Exchange's cmdlets print becomes a configuration that is taken"""
import json
import pathlib
import re
import subprocess
import tempfile
import unittest

import harness

DATA = pathlib.Path(__file__).resolve().parent / "data" / "exchange"
AROUND = """hostname = mx1.corp.example
listener "in" {{ addresses = {{ "127.0.0.1:2525" }} certificates = {{ mx1 }} }}
certificate "mx1" {{ chain = "{0}/mx1.corp.example.pem" key = "{0}/mx1.corp.example.key" }}
relay {{ domains = {{ corp.example, "*.corp.example" }} }}
spool {{ directory = "{0}/spool" }}
"""


@harness.one_thread("the command line")
class Import(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ringpost-flow.")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "spool").mkdir(mode=0o700)

    def run_it(self, *words, status=0, **more):
        done = subprocess.run([harness.RINGPOST, *map(str, words)], capture_output=True, timeout=60, **more)
        self.assertEqual(done.returncode, status, done.stderr)
        return done.stdout.decode(), done.stderr.decode()

    def check(self, sections):
        """`ringpost check` of it, inside a configuration of ours; the titles that it has."""
        self.run_it("cert", "make", "--name", "mx1.corp.example", "--out", self.folder)
        path = self.folder / "ringpost.conf"
        path.write_text(AROUND.format(self.folder) + sections)
        out, _ = self.run_it("check", "-c", path, "--json")
        self.assertEqual([m for m in json.loads(out)["messages"] if m["severity"] == "error"], [])
        return re.findall(r'^(inbound|outbound) "(.*)" \{$', sections, re.M)

    def test_what_the_cmdlets_print_is_taken_by_check(self):
        out, words = self.run_it("connector", "import", DATA / "inbound.json", DATA / "outbound.json")
        self.assertEqual(self.check(out), [
            ("inbound", "Forced-TLS-Bank-in"), ("inbound", "Mail-filter"),
            ("inbound", "Inbound-from-5f1e2a9b-7c33-4c63-8f2c-1e9f0c7d2b10"), ("inbound", "Printers"),
            ("outbound", "Forced-TLS-Bank-out"), ("outbound", "Outbound-to-5f1e2a9b-7c33-4c63-8f2c-1e9f0c7d2b10"),
            ("outbound", "Journal"), ("outbound", "Lists")])
        self.assertEqual(set(re.findall(r"(?m)^    state = (\w+)", out)), {"test", "off"})
        self.assertEqual(out.count("state = off"), 1)
        self.assertEqual(out.count("all-mail = yes"), 1)
        for loss in ("EFSkipLastIP", "rules are not imported", "IsValidated"):
            self.assertIn(loss, words)
            self.assertIn(loss, out)
        self.assertRegex(words, r"8 connectors, \d+ warnings, 0 errors\n$")

    def test_files_as_powershell_writes_them(self):
        """UTF-16 of `>`, one more document behind the first of `>>`, one object instead of a list, a BOM."""
        inbound = (DATA / "inbound.json").read_text()
        single = json.dumps(json.loads((DATA / "outbound.json").read_text())[0])
        (self.folder / "utf16.json").write_bytes(b"\xff\xfe" + f"{inbound}\r\n{single}\r\n".encode("utf-16-le"))
        (self.folder / "bom.json").write_bytes(b"\xef\xbb\xbf" + single.replace("(out)", "2").encode())
        out, words = self.run_it("connector", "import", self.folder / "utf16.json", self.folder / "bom.json")
        self.assertEqual(len(self.check(out)), 6)
        self.assertIn("6 connectors", words)
        again, _ = self.run_it("connector", "import", "-", input=(DATA / "inbound.json").read_bytes())
        self.assertIn('inbound "Printers" {', again)

    def test_what_is_no_list_of_connectors_is_an_error_and_writes_nothing(self):
        for name, octets in (("a", b"Name : Bank"), ("b", b"[1, 2]"), ("c", b"\xff\xfe\x00\xd8\x00\x00"), ("d", b'"x"'),
                             ("e", b'[{"Name": "\xff"}]')):
            path = self.folder / name
            path.write_bytes(octets)
            out, words = self.run_it("connector", "import", path, status=1)
            self.assertEqual(out, "", name)
            self.assertIn(f"{path}: error: ", words)
        self.run_it("connector", "import", self.folder / "missing", status=1)
        self.run_it("connector", "import", status=2)

    def test_a_connector_that_cannot_be_one_is_a_comment_and_exit_status_1(self):
        path = self.folder / "out.json"
        path.write_text(json.dumps({"Name": "Range", "ConnectorType": "Partner", "SmartHosts": ["192.0.2.0/24"],
                                    "RecipientDomains": ["d.example"]}))
        out, words = self.run_it("connector", "import", path, status=1)
        self.assertIn('outbound "Range": error: SmartHosts: 192.0.2.0/24 is no host', words)
        self.assertEqual(self.check(out), [])


if __name__ == "__main__":
    harness.main()
