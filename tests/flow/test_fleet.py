"""test_fleet.py - several nodes of one fleet: mail that runs in a circle between them"""
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import harness
from harness import Peer, Ringpost


class Circle(unittest.TestCase):
    def node(self, name, port, next_port, **delivery):
        """Passes all mail on to the next one."""
        return Ringpost(self, port=port, top={"hostname": name}, outbound={"next": {
            "domains": ["example.org"], "hosts": [f"127.0.0.1:{next_port}"]}, "back": self.sender.route(["example.com"])},
            relay={"domains": ["example.org", "example.com"]}, delivery=delivery)

    def ring(self, **delivery):
        self.sender = Peer(self)
        ports = [harness.free_port(), harness.free_port()]
        nodes = [self.node("mx1.fleet.test", *ports, **delivery), self.node("mx2.fleet.test", *reversed(ports), **delivery)]
        for node in nodes:
            node.start()
        return nodes

    def refusal(self, nodes):
        """The message comes to its end, at one of the nodes; what the log and the sender are told of it."""
        self.sender.wait(1)
        refused = harness.wait_for(lambda: [line for node in nodes for line in node.log("refused")], "a refusal in a log")
        self.assertEqual([line["code"] for line in refused], [554])
        self.assertIn("[loop]", refused[0]["text"])
        report = self.sender.messages[0].content.decode()
        self.assertIn("Status: 5.4.6", report)
        self.assertEqual(self.sender.messages[0].sender, "")
        for node in nodes:
            node.wait_empty()
        return refused[0]["what"], report

    def numbers(self, nodes, cause):
        return sum(node.metric(f'ringpost_smtp_refused_total{{reason="{cause}"}}') for node in nodes)

    def test_names_of_the_fleet(self):
        """Five fields of ours are a circle, whichever node they are of."""
        nodes = self.ring(**{"fleet-names": ["*.fleet.test"]})
        nodes[0].send(content="Received: from a by mx9.other.test; Fri, 27 Nov 2026 00:00:00 +0000\r\n\r\nx\r\n")
        what, report = self.refusal(nodes)
        self.assertEqual(what, "6 Received fields, 5 of them by hosts of ours")
        self.assertEqual((self.numbers(nodes, "fleet_loop"), self.numbers(nodes, "loop")), (1, 0))
        names = re.findall(r"^\tby (\S+) with", report, re.M)
        self.assertEqual(names[-5:], ["mx1.fleet.test", "mx2.fleet.test"] * 2 + ["mx1.fleet.test"])

    def test_its_own_name_alone(self):
        """Without fleet-names each node knows itself only, which ends it as well, later."""
        nodes = self.ring()
        nodes[0].send()
        what, _ = self.refusal(nodes)
        self.assertEqual(what, "10 Received fields, 5 of them by hosts of ours")

    def test_other_limits(self):
        nodes = self.ring(**{"fleet-names": ["*.fleet.test"], "fleet-loop-limit": 20, "loop-limit": 7})
        nodes[0].send()
        what, _ = self.refusal(nodes)
        self.assertEqual(what, "8 Received fields, 8 of them by hosts of ours")
        self.assertEqual((self.numbers(nodes, "fleet_loop"), self.numbers(nodes, "loop")), (0, 1))


class Check(unittest.TestCase):
    """ringpost check over the files of several nodes."""

    def file(self, name, to, more=""):
        path = self.directory / f"{name}.conf"
        path.write_text(f'''hostname = {name}.fleet.test
spool {{ directory = "{self.directory}" }}
listener "in" {{ addresses = {{ "{self.addresses[name]}:25" }} }}
relay {{ domains = {{ example.org }} }}
outbound "to-{to}" {{ type = own state = enforce domains = {{ all-own }} hosts = {{ "{self.addresses[to]}" }} }}
{more}''')
        return path

    def setUp(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-flow."))
        self.addCleanup(shutil.rmtree, self.directory)
        self.addresses = {"mx1": "192.0.2.1", "mx2": "192.0.2.2", "mx3": "192.0.2.3", "store": "198.51.100.1"}

    def check(self, *arguments):
        return subprocess.run([harness.RINGPOST, "check", *map(str, arguments)], capture_output=True, text=True)

    def test_circle(self):
        one, two, three = self.file("mx1", "mx2"), self.file("mx2", "mx3"), self.file("mx3", "mx1")
        self.assertEqual(self.check("-c", one).returncode, 0)
        done = self.check("-c", one, "--fleet", two, "--fleet", three)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f'{one}:5: outbound "to-mx2": hosts: mail for example.org runs in a circle (L-19): to {two}, by its '
                      f'outbound "to-mx3" to {three}, by its outbound "to-mx1" back here', done.stdout)
        message, = [m for m in json.loads(self.check("-c", one, "--fleet", two, "--fleet", three, "--json").stdout)["messages"]
                    if "L-19" in m["text"]]
        self.assertEqual((message["severity"], message["file"], message["line"]), ("error", str(one), 5))
        self.file("mx3", "store")
        done = self.check("-c", one, "--fleet", two, "--fleet", three)
        self.assertEqual((done.returncode, "L-19" in done.stdout), (0, False), done.stdout)

    def test_files_of_other_machines(self):
        """What they name is not on this one; what is wrong in them themselves is told."""
        one = self.file("mx1", "mx2")
        two = self.file("mx2", "mx1", """certificate "c" { chain = /nowhere/c.pem key = /nowhere/c.key }
roots "r" { file = /nowhere/roots.pem }
dkim "d" { domain = example.org selector = s key = /nowhere/dkim.key }
inbound-defaults { platforms = /nowhere/platforms }
inbound "i" { type = own state = enforce cert-name = { mx1.fleet.test } cert-roots = r }
listener "tls" { addresses = { "192.0.2.2:465" } tls = implicit certificates = { c } ask-certificate = { 192.0.2.0/24 } client-roots = r }
outbound "out" { type = own state = enforce domains = { d.test } hosts = { h.test } tls = internal roots = r client-certificate = c tls-name = { h.test } }""")
        done = self.check("-c", one, "--fleet", two)
        self.assertIn("runs in a circle", done.stdout)
        self.assertNotIn("nowhere", done.stdout)
        self.assertIn("nowhere", self.check("-c", two).stdout)
        two.write_text("hostname = mx2.fleet.test\nlistening\n")
        done = self.check("-c", one, "--fleet", two)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{two}:2: ", done.stdout)

    def test_usage(self):
        one = self.file("mx1", "store")
        self.assertIn("--fleet", self.check("--help").stdout)
        self.assertEqual(self.check("-c", one, *["--fleet", one] * 64).returncode, 2)
        self.assertIn("nothing.conf", self.check("-c", one, "--fleet", self.directory / "nothing.conf").stdout)


if __name__ == "__main__":
    harness.main()
