"""test_fleet.py - several nodes of one fleet: mail that runs in a circle between them"""
import re
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


if __name__ == "__main__":
    harness.main()
