"""test_outbound.py - outbound connectors: which one takes a recipient, and what a reload may not weaken

Next hops are harness.Peer; one without STARTTLS sees every octet that is sent to it in clear.
"""
import signal
import unittest

import harness
from harness import Peer, Ringpost
from pki import Authority
from tls_wire import TlsPeer, scratch, server_context

NAME = "mx.good.test"

FAST = {"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"}


class Outbound(unittest.TestCase):
    def serve(self, outbound, **config):
        config.setdefault("delivery", FAST)
        self.server = Ringpost(self, outbound=outbound, **config).start()
        self.addCleanup(self.server.stop)
        return self.server

    def reload(self, *words, **outbound):
        self.server.outbound = outbound
        self.server.write_config()
        done = self.server.cli("reload", *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refused(self, **outbound):
        """What a reload says that is not taken."""
        self.server.outbound = outbound
        self.server.write_config()
        done = self.server.cli("reload")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        return done.stderr

    def accept_weaker(self, **outbound):
        """A reload is refused that would have mail go where less is demanded, and taken when that is said to be meant."""
        generation = self.server.metric("ringpost_config_generation")
        counted = 'outbound "bank": of its queued recipients 1 go by another connector, 1 with a lower TLS level\n'
        told = self.refused(**outbound)
        self.assertTrue(told.startswith(counted), told)
        self.assertIn("less protected (L-22); if that is meant: ringpost reload --accept-weaker", told)
        self.assertEqual(self.server.metric("ringpost_config_generation"), generation)
        self.server.process.send_signal(signal.SIGHUP)
        self.server.wait_log("reload_moves", result="refused", count=2)
        self.assertEqual(self.reload("--accept-weaker", **outbound), counted + "reloaded\n")
        self.server.wait_log("reload_moves", result="accepted", other_connector=1, lower_level=1)

    def restart(self, **outbound):
        self.server.stop()
        self.server.outbound = outbound
        self.server.write_config()
        self.server.start()

    def test_one_message_by_two_connectors(self):
        """Exact before wildcard, one unit for each; nobody hears of the other's recipient."""
        exact, below = Peer(self), Peer(self)
        server = self.serve({"exact": exact.route(["corp.test"]), "below": below.route(["*.corp.test", "*.test"])})
        server.send(recipients=["a@corp.test", "b@x.corp.test", "c@corp.test", "d@other.test"])
        self.assertEqual(sorted(exact.wait(1)[0].recipients), ["a@corp.test", "c@corp.test"])
        self.assertEqual(sorted(below.wait(1)[0].recipients), ["b@x.corp.test", "d@other.test"])
        server.wait_empty()
        self.assertEqual((len(exact.messages), len(below.messages)), (1, 1))
        found = {e["to"]: e["destination"] for e in server.wait_log("delivered", 4)}
        self.assertEqual(found, {"a@corp.test": "outbound:exact", "c@corp.test": "outbound:exact",
                                 "b@x.corp.test": "outbound:below", "d@other.test": "outbound:below"})

    def weaker(self, change):
        """Mail that waits under `name`, and its connector is taken away."""
        authority = Authority()
        roots = scratch(self) / "roots.pem"
        roots.write_text(authority.root.pem)
        clear = Peer(self)
        tls = TlsPeer(self, server_context(authority.leaf(NAME)))
        rest = clear.route(["*"], tls="may")
        bank = {"tls": "name", "tls-name": [NAME], "roots": "test"}
        server = self.serve({"bank": clear.route(["bank.test"], **bank), "rest": rest}, **{'roots "test"': {"file": roots}})
        server.send(recipients=["x@bank.test"], content="Subject: waits\r\n\r\nsecret\r\n")
        server.wait_log("destination_failed", destination="outbound:bank")
        change(rest=rest)
        server.wait_log("destination_failed", destination="outbound:rest!name", count=2)
        server.send(recipients=["x@bank.test"], content="Subject: new\r\n\r\nopen\r\n")
        clear.wait(1)               # what comes now goes by what is configured now
        server.wait_log("destination_failed", destination="outbound:rest!name", count=3)
        self.assertEqual([b"secret" in m.content for m in clear.messages], [False])
        # any next hop that satisfies `name` may have it
        self.reload(rest=tls.route(["*"], tls="may", roots="test", **{"tls-name": [NAME]}))
        tls.wait(1)
        self.assertIn(b"secret", tls.messages[0].content)
        self.assertEqual(tls.in_clear("secret"), [])
        server.wait_empty()

    def test_a_connector_that_is_deleted_by_a_reload_leaves_its_floor(self):
        self.weaker(self.accept_weaker)

    def test_a_connector_that_is_gone_at_the_next_start_leaves_its_floor(self):
        self.weaker(self.restart)

    def test_recipients_of_one_unit_part_when_their_connectors_do(self):
        """They waited together; a reload sends each by its own connector, none by the other's."""
        one, two = Peer(self), Peer(self)
        dead = {"domains": ["one.test", "two.test"], "hosts": [f"127.0.0.1:{harness.free_port()}"],
                "allow-private": True}
        server = self.serve({"both": dead})
        server.send(recipients=["a@one.test", "b@two.test", "c@one.test"])
        server.wait_log("destination_failed", destination="outbound:both")
        self.reload(one=one.route(["one.test"]), two=two.route(["two.test"]))
        self.assertEqual(sorted(one.wait(1)[0].recipients), ["a@one.test", "c@one.test"])
        self.assertEqual(two.wait(1)[0].recipients, ["b@two.test"])
        server.wait_empty()

    def test_only_what_waits_and_would_be_weaker_holds_a_reload_up(self):
        """Levels that rise, connectors that are turned off, empty queues and other mail's ways do not."""
        dead = {"hosts": [f"127.0.0.1:{harness.free_port()}"], "allow-private": True}
        bank, rest = {**dead, "domains": ["bank.test"]}, {**dead, "domains": ["*"], "tls": "may"}
        server = self.serve({"bank": {**bank, "tls": "encrypt"}, "rest": rest})
        self.assertEqual(self.reload(bank={**bank, "tls": "may"}, rest=rest), "reloaded\n")
        self.assertEqual(self.reload(bank={**bank, "tls": "encrypt"}, rest=rest), "reloaded\n")
        server.send(recipients=["a@bank.test", "b@bank.test", "c@other.test"])
        server.wait_log("destination_failed", destination="outbound:bank")
        server.wait_log("destination_failed", destination="outbound:rest")
        told = self.refused(bank={**bank, "tls": "may"}, rest=rest)
        self.assertIn('outbound "bank": of its queued recipients 0 go by another connector, 2 with a lower TLS level\n', told)
        self.assertNotIn('"rest"', told)
        self.assertEqual(self.reload(bank={**bank, "tls": "chain"}, rest=rest), "reloaded\n")
        self.assertEqual(self.reload(bank={**bank, "tls": "chain", "state": "off"}, rest=rest), "reloaded\n")
        # it waits for a connector that is off, and had a level there
        self.assertIn("2 with a lower TLS level", self.refused(rest=rest))
        self.assertEqual(self.reload(bank={**bank, "tls": "chain", "domains": ["bank.test", "other.test"]}, rest=rest),
                         'outbound "rest": of its queued recipients 1 go by another connector, 0 with a lower TLS level\n'
                         "reloaded\n")
        # no domain of its connector any more
        self.assertIn('"bank": of its queued recipients 1 go by another connector, 1 with',
                      self.refused(bank={**bank, "tls": "chain", "domains": ["bank.test"]}, rest=rest))

    def test_too_large_for_the_connector_of_its_domain_bounces(self):
        small, rest = Peer(self), Peer(self)
        server = self.serve({"small": small.route(["small.test"], **{"max-size": "10K"}), "rest": rest.route(["*"])})
        body = "Subject: large\r\n\r\n" + ("x" * 70 + "\r\n") * 200
        server.send(recipients=["a@small.test", "b@other.test"], content=body)
        harness.wait_for(lambda: len(rest.messages) == 2, "the message and the bounce")
        bounce = next(m for m in rest.messages if m.sender == "")
        self.assertIn(b"Final-Recipient: rfc822; a@small.test", bounce.content)
        self.assertIn(b"Status: 5.3.4", bounce.content)
        server.wait_empty()
        self.assertEqual(small.messages, [])

    def test_an_own_domain_without_connector_waits_for_one(self):
        peer = Peer(self)
        server = self.serve({})
        server.send(recipients=["a@example.org"])
        event = server.wait_log("unroutable", to="a@example.org")[0]
        self.assertEqual(event["status"], "4.3.5")
        self.assertGreaterEqual(server.metric("ringpost_delivery_unroutable_total"), 1)
        self.reload(found=peer.route(["example.org"]))
        peer.wait(1)
        server.wait_empty()

    def test_a_connector_that_is_off_keeps_its_mail(self):
        peer, rest = Peer(self), Peer(self)
        dead = {"domains": ["corp.test"], "hosts": [f"127.0.0.1:{harness.free_port()}"], "allow-private": True}
        server = self.serve({"corp": dead, "rest": rest.route(["*"])})
        server.send(recipients=["a@corp.test"])
        server.wait_log("destination_failed", destination="outbound:corp")
        self.reload(corp={**dead, "state": "off"}, rest=rest.route(["*"]))
        server.wait_log("unroutable", to="a@corp.test", connector="corp")
        self.assertEqual(rest.messages, [])
        self.reload(corp=peer.route(["corp.test"]), rest=rest.route(["*"]))
        peer.wait(1)
        server.wait_empty()
        self.assertEqual(rest.messages, [])

    def test_one_in_test_is_told_and_carries_nothing(self):
        tried, rest = Peer(self), Peer(self)
        server = self.serve({"tried": tried.route(["corp.test"], state="test"), "rest": rest.route(["*"])})
        server.send(recipients=["a@corp.test"])
        rest.wait(1)
        event = server.wait_log("connector_test", to="a@corp.test")[0]
        self.assertEqual((event["connector"], event["would"]), ("rest", "tried"))
        self.assertEqual(server.metric("ringpost_delivery_connector_test_total"), 1)
        server.wait_empty()
        self.assertEqual(tried.connections, 0)

    def test_rules(self):
        """A rule names a connector by sender, and demands a level that the next hop does not have."""
        usual, special = Peer(self), Peer(self)
        server = self.serve({"usual": usual.route(["*"]), "special": {**special.route(), "domains": [], "scope": "rule"}}, **{
            'rule "by-sender"': {"if-sender-domain": ["vip.test"], "use": "special"},
            'rule "strict"': {"if-recipient-domain": ["strict.test"], "require": "encrypt"}})
        server.send(recipients=["a@corp.test"], sender="s@vip.test")
        special.wait(1)
        server.send(recipients=["a@corp.test"], sender="s@other.test")
        usual.wait(1)
        server.wait_empty()
        server.send(recipients=["a@strict.test"], sender="s@other.test")
        server.wait_log("destination_failed", destination="outbound:usual!encrypt", count=2)
        self.assertEqual((len(usual.messages), len(special.messages)), (1, 1))

    def copying(self, **more):
        """A server that copies mail for corp.test to j@archive.test; (server, usual, archive)."""
        usual, archive = Peer(self), Peer(self)
        routes = {"usual": usual.route(["*"]), "archive": {**archive.route(), "domains": [], "scope": "rule", **more}}
        server = self.serve(routes, **{'rule "journal"': {
            "if-recipient-domain": ["corp.test"], "copy-to": "j@archive.test", "copy-via": "archive"}})
        return server, usual, archive

    def test_copies(self):
        """Once for a message, by its connector only; none of a copy that comes back, of bounces, of aborted mail."""
        server, usual, archive = self.copying()
        server.send(recipients=["a@corp.test", "b@corp.test", "c@other.test"], content="Subject: x\r\n\r\nbody\r\n")
        copy = archive.wait(1)[0]
        self.assertEqual((copy.sender, copy.recipients), ("sender@example.com", ["j@archive.test"]))
        self.assertEqual(usual.wait(1)[0].content, copy.content)
        self.assertEqual(usual.messages[0].recipients, ["a@corp.test", "b@corp.test", "c@other.test"])
        event, received = server.wait_log("copy")[0], server.wait_log("received")[0]
        self.assertEqual((event["msg"], event["connector"], event["decision"]),
                         (received["msg"], "archive", received["decision"]))
        self.assertEqual(received["recipients"], 3)
        with server.client() as client:
            client.hello()
            client.begin(recipients=["a@corp.test"])
            client.expect(354, "DATA")
            client.send("Subject: never\r\n\r\nended")
        server.send(recipients=["j@archive.test"])     # what an archive sends on to us again
        usual.wait(2)
        server.wait_empty()
        self.assertEqual((len(archive.messages), len(usual.messages)), (1, 2))
        self.assertEqual(server.metric("ringpost_smtp_copies_total"), 1)

    def test_a_copy_is_there_after_a_crash_and_tells_the_sender_nothing(self):
        server, usual, archive = self.copying(**{"hosts": [f"127.0.0.1:{harness.free_port()}"], "max-age": "3s"})
        server.send(recipients=["a@corp.test"])
        server.kill()
        server.start()
        usual.wait(1)
        server.wait_log("expired", to="j@archive.test")
        server.wait_empty()
        self.assertEqual([m for m in usual.messages if m.sender == ""], [])


if __name__ == "__main__":
    harness.main()
