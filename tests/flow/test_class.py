"""test_class.py - classes of mail on the real binary: who passes whom, who expires when, who survives what"""
import json
import threading
import unittest

import harness
from harness import Peer, Ringpost

BULK = {"priority": "bulk", "sender-domains": ["news.example"]}
URGENT = {"priority": "urgent", "recipient-domains": ["pager.test"]}
# one shard and one connection: what comes first is what was chosen first
ONE = {"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0", "connections-per-hop": 1}


def classes(**more):
    return {f'class "{name}"': keys for name, keys in {"news": BULK, "pager": URGENT, **more}.items()}


@harness.one_thread("a shard chooses what goes next")
class Classes(unittest.TestCase):
    def serve(self, peer, **config):
        delivery = {**ONE, **config.pop("delivery", {})}
        self.server = Ringpost(self, outbound={"peer": peer.route()}, top={"shards": 1}, delivery=delivery,
                               **config).start()
        self.addCleanup(self.server.stop)
        return self.server

    def held_peer(self):
        """A next hop that takes its first message when the event is set, and the others at once."""
        gate = threading.Event()
        self.addCleanup(gate.set)

        def end(_peer, _line):
            gate.wait(harness.WAIT_SECONDS)
        return Peer(self, answers={"END": end}), gate

    def order(self, peer, count):
        peer.wait(count)
        return [m.recipients[0].partition("@")[0] for m in peer.messages]

    def test_urgent_mail_passes_a_backlog_of_bulk(self):
        peer, gate = self.held_peer()
        server = self.serve(peer, **classes())
        for i in range(20):
            server.send([f"bulk{i}@x.test"], sender="list@news.example")
        server.send(["usual@x.test"])
        server.send(["urgent@pager.test"], sender="list@news.example")   # the lists of two have it: by title
        server.send(["later@pager.test"], sender="alarm@example.com")
        server.wait_metric('ringpost_queue_ready_units{lane="urgent"}', 1)
        gate.set()
        got = self.order(peer, 23)
        server.wait_empty()
        # "news" comes before "pager" by title, and has what both have
        self.assertEqual(got[:3], ["bulk0", "later", "usual"], got)
        self.assertEqual(got[3:-1], [f"bulk{i}" for i in range(1, 20)])
        self.assertEqual(got[-1], "urgent")
        self.assertEqual({e.get("class") for e in server.wait_log("delivered", 23)}, {None, "news", "pager"})
        self.assertEqual(server.metric('ringpost_queue_ready_units{lane="bulk"}'), 0)

    def test_bulk_has_its_share_beside_a_stream_of_urgent_mail(self):
        peer, gate = self.held_peer()
        server = self.serve(peer, **classes())
        server.send(["first@pager.test"])
        for i in range(3):
            server.send([f"bulk{i}@x.test"], sender="list@news.example")
        for i in range(60):
            server.send([f"urgent{i}@pager.test"])
        gate.set()
        got = self.order(peer, 64)
        places = [got.index(f"bulk{i}") for i in range(3)]
        self.assertEqual(places, sorted(places))
        self.assertGreater(places[0], 8, "urgent first")
        self.assertLess(places[2], 55, "and bulk not at the end")

    def test_each_class_expires_by_its_own_age(self):
        peer = Peer(self, answers={"RCPT": lambda _p, line: "451 4.7.1 never today" if "never" in line else None})
        server = self.serve(peer, **classes(news={**BULK, "age-max": "2s"}))
        server.send(["never1@x.test"], sender="list@news.example")
        server.send(["never2@x.test"])
        server.wait_log("expired", to="never1@x.test", **{"class": "news"})
        server.wait_log("deferred", 3, to="never2@x.test")
        self.assertEqual([e["to"] for e in server.log("expired")], ["never1@x.test"])
        harness.wait_for(lambda: len(server.queue()) == 1, lambda: server.queue())
        [unit] = server.queue()[0]["units"]
        self.assertEqual((unit["class"], unit["priority"]), ("", "normal"))

    def test_a_class_is_on_record_and_outlives_restarts_and_reloads(self):
        peer = Peer(self, answers={"RCPT": "451 4.7.1 not yet"})
        server = self.serve(peer, delivery={"retry-initial": "1h", "retry-max": "1h"}, **classes())
        server.send(["r@x.test"], sender="list@news.example")
        server.wait_metric('ringpost_queue_units{state="deferred"}', 1)

        def unit():
            return server.queue()[0]["units"][0]
        self.assertEqual((unit()["class"], unit()["priority"]), ("news", "bulk"))
        server.kill()
        server.start()
        self.assertEqual((unit()["class"], unit()["priority"]), ("news", "bulk"))
        del server.sections['class "news"']
        server.write_config()
        self.assertEqual(server.cli("reload").returncode, 0)
        harness.wait_for(lambda: unit()["priority"] == "normal", unit)
        self.assertEqual(unit()["class"], "news")
        server.wait_log("class_unknown", **{"class": "news"}, units=1)
        server.sections['class "news"'] = {"priority": "urgent"}
        server.write_config()
        self.assertEqual(server.cli("reload").returncode, 0)
        harness.wait_for(lambda: unit()["priority"] == "urgent", unit)
        del server.sections['class "news"']
        server.write_config()
        server.kill()
        server.start()
        self.assertEqual((unit()["class"], unit()["priority"]), ("news", "normal"))
        self.assertEqual(server.metric("ringpost_queue_classes_unknown_total"), 1)

    def test_rules_and_inbound_connectors_name_classes_and_explain_says_who_did(self):
        peer = Peer(self)
        server = self.serve(peer, **classes(ruled={"priority": "urgent"}), **{
            'inbound "in"': {"type": "partner", "state": "enforce", "sender-domains": ["partner.test"],
                             "tls": "optional", "class": "news"},
            'rule "boss"': {"if-sender-domain": ["boss.example"], "class": "ruled"}})

        def explained(sender, recipient):
            done = server.cli("explain", "--from", sender, "--to", recipient, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            class_of = json.loads(done.stdout)["recipients"][0]["way"]["class"]
            return class_of["name"], class_of["by"], class_of["by_name"]
        for sender, name, by, by_name in (("a@boss.example", "ruled", "rule", "boss"),
                                          ("a@partner.test", "news", "inbound", "in"),
                                          ("a@news.example", "news", "its lists", ""),
                                          ("a@other.example", "", "", "")):
            self.assertEqual(explained(sender, "r@x.test"), (name, by, by_name))
            server.send(["r@x.test"], sender=sender)
            [event] = server.wait_log("delivered", **{"from": sender})
            self.assertEqual(event.get("class", ""), name)
        text = server.cli("explain", "--from", "a@boss.example", "--to", "r@x.test").stdout
        self.assertIn("ruled, urgent, by rule boss; tried again after 1 s to 1 s, for 432000 s", text)

    def test_check_names_the_line_and_the_way_out(self):
        peer = Peer(self)
        server = self.serve(peer, **classes())
        server.write_config(**{'rule "slip"': {"class": "nwes"}})
        done = server.cli("check")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout + done.stderr,
                         r'ringpost\.conf:\d+: rule "slip": class: there is no class "nwes" .*write one')
        self.assertNotEqual(server.cli("reload").returncode, 0)
        server.write_config(**{'class "idle"': {"priority": "bulk"}})
        done = server.cli("check")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout + done.stderr, r'warning: class "idle": .*no mail is of this class')


if __name__ == "__main__":
    harness.main()
