"""test_dns.py - finding next hops by DNS; a real NSD answers, with zones made for it

Peers listen on 127.0.0.10 and up, all on one port: the port of a route to `mx` hosts.
"""
import json
import socket
import unittest

import harness
import nsd
from harness import Peer, Ringpost

FAST = {"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"}
LOCAL = ["127.0.0.0/8", "::1/128"]
ZONE = "$ORIGIN flow.example.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n" \
    "a A 127.0.0.10\nb A 127.0.0.11\nc A 127.0.0.12\nsix AAAA ::1\nours A 127.0.0.1\nlocalhost A 127.0.0.1\n" \
    "pref MX 10 a\npref MX 20 b\npref MX 30 c\nequal MX 5 a\nequal MX 5 b\n" \
    "two MX 10 a\ntwo MX 20 b\n" \
    "nullmx MX 0 .\nimplicit A 127.0.0.10\nsixonly AAAA ::1\nboth A 127.0.0.10\nboth AAAA ::1\n" \
    "alias CNAME pref\nmxalias MX 10 host-alias\nhost-alias CNAME a\n" \
    "loop1 CNAME loop2\nloop2 CNAME loop1\nself CNAME self\nmxloop MX 10 loop1\n" \
    "nodata TXT \"nothing here\"\nmxnowhere MX 10 no-such-host\nmxpartly MX 10 no-such-host\nmxpartly MX 20 a\n" \
    "mxhome MX 10 ours\nmxloopback MX 10 localhost\nhalf MX 10 broken-host.broken.example.\nhalf MX 20 a\n" \
    "zero MX 10 zero-host\nzero-host A 0.0.0.0\n* .wild MX 10 a\n".replace("* .", "*.")
ZONE += "".join(f"chain{n} CNAME chain{n + 1}\n" for n in range(20)) + "chain20 MX 10 a\n"
ZONE += "short0 CNAME short1\nshort1 CNAME short2\nshort2 CNAME short3\nshort3 MX 10 a\n"
ZONE += "".join(f"many MX {n + 1} h{n}.many\nh{n}.many A 127.0.0.{10 if n == 0 else 99}\n" for n in range(120))


class Nsd(nsd.Nsd):
    def __init__(self, holder, zone=ZONE):
        super().__init__(holder, {"flow.example": zone, "broken.example": None})

    def change(self, zone):
        super().change("flow.example", zone)


class Dns(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = unittest.TestCase()
        cls.nsd = Nsd(cls.holder)

    @classmethod
    def tearDownClass(cls):
        cls.holder.doCleanups()

    def setUp(self):
        self.mx_port = harness.free_port()
        self.peers = {}

    def peer(self, host):
        self.peers[host] = Peer(self, host=host, port=self.mx_port)
        return self.peers[host]

    def serve(self, allow=True, forwarder=None, **config):
        back = Peer(self)   # where bounces go
        self.back = back
        delivery = {**FAST, "private-networks": LOCAL} if allow else FAST
        self.server = Ringpost(
            self, outbound={"mx": {"domains": ["*"], "hosts": ["mx"], "port": self.mx_port},
                          "back": back.route(["example.com"])},
            relay={"domains": ["*.example", "*.test"]},
            delivery=delivery,
            dns={"forwarders": [f"127.0.0.1:{forwarder or self.nsd.port}"], "timeout": "2s"}, **config).start()
        self.addCleanup(self.server.stop)
        return self.server

    def arrives(self, domain, peer, others=()):
        server = self.serve()
        server.send(recipients=[f"x@{domain}"])
        harness.wait_for(lambda: peer.messages, lambda: f"a message for {domain}: {server.log()[-3:]}")
        server.wait_empty()
        for other in others:
            self.assertEqual(other.messages, [])

    def bounces(self, domain, status, allow=True):
        server = self.serve(allow)
        server.send(recipients=[f"x@{domain}"])
        bounce = self.back.wait(1)[0]
        server.wait_empty()
        self.assertEqual(bounce.sender, "")
        self.assertRegex(bounce.content.decode(), rf"\r\nStatus: {status}\r\n")
        for peer in self.peers.values():
            self.assertEqual(peer.connections, 0)

    def waits(self, domain, **config):
        server = self.serve(**config)
        queue_id = server.send(recipients=[f"x@{domain}"])
        event = server.wait_log("destination_failed")[0]
        self.assertIn(domain, event["destination"])
        self.assertEqual([m["id"] for m in server.queue()], [queue_id])
        self.assertEqual(self.back.messages, [])
        for peer in self.peers.values():
            self.assertEqual(peer.connections, 0)
        return server


@harness.one_thread("the shard that delivers asks, and decides")
class Found(Dns):
    def test_best_preference(self):
        a, b = self.peer("127.0.0.10"), self.peer("127.0.0.11")
        self.arrives("pref.flow.example", a, [b])

    def test_next_preference_when_the_best_is_down(self):
        self.arrives("pref.flow.example", self.peer("127.0.0.11"))

    def test_next_preference_when_the_best_refuses_at_once(self):
        self.peers["a"] = Peer(self, host="127.0.0.10", port=self.mx_port, answers={"GREET": "421 4.3.2 closed"})
        self.arrives("pref.flow.example", self.peer("127.0.0.12"))

    def test_equal_preferences(self):
        peers = self.peer("127.0.0.10"), self.peer("127.0.0.11")
        server = self.serve()
        server.send(recipients=["x@equal.flow.example"])
        harness.wait_for(lambda: sum(len(p.messages) for p in peers) == 1, "one message at either")

    def test_implicit_mx(self):
        self.arrives("implicit.flow.example", self.peer("127.0.0.10"))

    def test_aaaa_only(self):
        self.arrives("sixonly.flow.example", self.peer("::1"))

    def test_both_families(self):
        self.arrives("both.flow.example", self.peer("127.0.0.10"))     # nobody at ::1

    def test_cname_of_the_domain(self):
        self.arrives("alias.flow.example", self.peer("127.0.0.10"))

    def test_cname_of_the_host(self):
        self.arrives("mxalias.flow.example", self.peer("127.0.0.10"))

    def test_short_cname_chain(self):
        self.arrives("short0.flow.example", self.peer("127.0.0.10"))

    def test_wildcard_and_case(self):
        self.arrives("AnyThing.Wild.FLOW.example", self.peer("127.0.0.10"))

    def test_hundred_and_twenty_mx(self):
        """Too big for UDP, and more hosts than anybody needs."""
        self.arrives("many.flow.example", self.peer("127.0.0.10"))

    def test_one_host_that_does_not_exist(self):
        self.arrives("mxpartly.flow.example", self.peer("127.0.0.10"))

    def test_one_host_that_cannot_be_looked_up(self):
        self.arrives("half.flow.example", self.peer("127.0.0.10"))

    def test_address_literal(self):
        peer = self.peer("127.0.0.10")
        server = self.serve(top={"shards": 1})
        client = server.client()
        client.hello()
        client.expect(250, "MAIL FROM:<a@example.com>")
        client.expect(550, "RCPT TO:<x@[127.0.0.10]>")     # nobody may but who relays
        self.assertEqual(peer.connections, 0)


@harness.one_thread("the shard that delivers asks, and decides")
class Refused(Dns):
    def test_null_mx(self):
        self.peer("127.0.0.10")
        self.bounces("nullmx.flow.example", r"5\.1\.10")

    def greets_as_us(self, host, verb="GREET"):
        peer = self.peer(host)
        peer.answers[verb] = lambda *_: "220 MX.flow.test ESMTP" if verb == "GREET" else "250 MX.flow.test"
        return peer

    def loops(self, verb):
        peer = self.greets_as_us("127.0.0.10", verb)
        server = self.serve()
        server.send(recipients=["x@pref.flow.example"])
        bounce, = self.back.wait(1)
        self.assertRegex(bounce.content.decode(), r"Status: 5\.4\.6")
        self.assertEqual((server.wait_log("host_failed")[0]["token"], peer.messages, peer.verbs("MAIL")), ("loop", [], []))
        counts = [value for name, value in server.metrics().items() if "host_failures_total" in name and 'token="loop"' in name]
        self.assertGreater(sum(counts), 0)
        server.wait_empty()

    def test_the_first_host_greets_by_our_name(self):
        self.loops("GREET")

    def test_the_first_host_answers_ehlo_by_our_name(self):
        self.loops("EHLO")

    def test_a_further_host_calls_itself_by_our_name(self):
        """It gets nothing, and mail waits for the first one."""
        self.greets_as_us("127.0.0.11")
        server = self.serve()
        server.send(recipients=["x@two.flow.example"])
        server.wait_log("host_failed", token="loop")
        server.wait_log("destination_failed")
        peer = self.peer("127.0.0.10")
        peer.wait(1)
        self.assertEqual(self.back.messages, [])

    def test_a_host_of_the_configuration_may_be_called_as_it_likes(self):
        peer = self.greets_as_us("127.0.0.10")
        server = self.serve()
        server.stop()
        server.outbound["named"] = {"domains": ["pref.flow.example"], "hosts": [peer.address], "allow-private": True}
        server.write_config()
        server.start()
        server.send(recipients=["x@pref.flow.example"])
        peer.wait(1)

    def test_nxdomain(self):
        self.bounces("no-such-name.flow.example", r"5\.1\.2")

    def test_no_data(self):
        self.bounces("nodata.flow.example", r"5\.(1\.2|4\.4)")

    def test_mx_host_that_does_not_exist(self):
        self.bounces("mxnowhere.flow.example", r"5\.(1\.2|4\.4)")

    def test_mx_at_loopback(self):
        self.peer("127.0.0.10")
        self.bounces("pref.flow.example", r"5\.\d\.\d", allow=False)

    def test_implicit_mx_at_loopback(self):
        self.peer("127.0.0.10")
        self.bounces("implicit.flow.example", r"5\.\d\.\d", allow=False)

    def test_mx_at_loopback_v6(self):
        self.peer("::1")
        self.bounces("sixonly.flow.example", r"5\.\d\.\d", allow=False)

    def test_mx_at_ourselves(self):
        """Even where loopback is permitted: it would run in a circle."""
        self.peer("127.0.0.1")
        self.bounces("mxhome.flow.example", r"5\.\d\.\d")

    def test_mx_at_zero(self):
        self.bounces("zero.flow.example", r"5\.\d\.\d", allow=False)

    def ends_somehow(self, domain):
        """Bounced or kept, but neither delivered nor chased for ever."""
        peer = self.peer("127.0.0.10")
        server = self.serve()
        server.send(recipients=[f"x@{domain}"])
        harness.wait_for(lambda: server.log("destination_failed") or server.log("bounced"), "an end")
        self.assertEqual(peer.messages, [])
        server.send(recipients=["x@implicit.flow.example"])     # and others go on
        peer.wait(1)

    def test_cname_loop(self):
        self.ends_somehow("loop1.flow.example")

    def test_cname_to_itself(self):
        self.ends_somehow("self.flow.example")

    def test_mx_host_in_a_loop(self):
        self.ends_somehow("mxloop.flow.example")

    def test_long_cname_chain(self):
        self.ends_somehow("chain0.flow.example")


@harness.one_thread("the shard that delivers asks, and decides")
class Unknown(Dns):
    def test_servfail(self):
        self.peer("127.0.0.10")
        self.waits("broken.example")

    def test_timeout(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            self.peer("127.0.0.10")
            server = self.waits("pref.flow.example", forwarder=silent.getsockname()[1])
            server.stop()   # also while questions are in flight

    def test_nobody_at_the_forwarder(self):
        self.peer("127.0.0.10")
        self.waits("pref.flow.example", forwarder=harness.free_port(kind=socket.SOCK_DGRAM))

    def test_answers_that_are_garbage(self):
        """A forwarder that answers with nonsense is no answer."""
        import threading
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rude:
            rude.bind(("127.0.0.1", 0))

            def answer():
                while True:
                    try:
                        question, address = rude.recvfrom(4096)
                        rude.sendto(question[:2] + b"\xff" * 500, address)
                    except OSError:
                        return
            threading.Thread(target=answer, daemon=True).start()
            self.waits("pref.flow.example", forwarder=rude.getsockname()[1])


@harness.one_thread("the command line")
class Probe(Dns):
    """ringpost tls probe --mx: whom a delivery would meet."""

    def probe(self, domain, *words, status, allow=True, forwarder=None):
        server = Ringpost(self, outbound={"mx": {"domains": ["*"], "hosts": ["mx"], "port": self.mx_port}},
                          dns={"forwarders": [f"127.0.0.1:{forwarder or self.nsd.port}"], "timeout": "2s"},
                          delivery={"private-networks": LOCAL} if allow else {})
        server.write_config()
        people = server.cli("tls", "probe", *words, "--mx", domain)
        self.assertEqual((people.returncode, people.stderr), (status, ""), people.stdout)
        done = server.cli("tls", "probe", "--json", *words, "--mx", domain)
        self.assertEqual((done.returncode, done.stderr), (status, ""), done.stdout)
        result = json.loads(done.stdout)
        self.assertEqual((result["ok"], result["why"] == ""), (status == 0, status == 0))
        self.assertEqual(set(result), {"domain", "mta-sts", "ok", "why", "lookup", "status", "hosts"})
        result["people"] = people.stdout
        return result

    def none(self, domain, lookup, enhanced, words, **options):
        result = self.probe(domain, status=1, **options)
        self.assertEqual((result["hosts"], result["lookup"]), ([], lookup))
        self.assertRegex(result["status"], enhanced)
        self.assertIn(words, result["why"])
        self.assertIn(words, result["people"])

    def names(self, result):
        return [host["host"].split(".")[0] for host in result["hosts"]]

    def test_two_hosts(self):
        peers = self.peer("127.0.0.11"), self.peer("127.0.0.10")
        result = self.probe("Two.flow.EXAMPLE", status=0)
        self.assertEqual((result["domain"], result["lookup"], result["status"]), ("two.flow.example", "found", None))
        self.assertEqual(self.names(result), ["a", "b"])
        a, b = result["hosts"]
        self.assertEqual((a["preference"], b["preference"], a["dnssec"]), (10, 20, False))
        self.assertEqual((a["address"], b["address"]), (f"127.0.0.10:{self.mx_port}", f"127.0.0.11:{self.mx_port}"))
        self.assertEqual((a["connector"], a["port"], a["level"], a["satisfies"]), ("mx", self.mx_port, "may", "may"))
        self.assertEqual(a["names"], ["two.flow.example", "*.two.flow.example"])
        self.assertLess(result["people"].index("a.flow.example port"), result["people"].index("b.flow.example port"))
        self.assertIn("two.flow.example: all MX hosts meet the level", result["people"])
        self.assertEqual([peer.messages for peer in peers], [[], []])

    def test_the_worst_host_decides(self):
        self.peer("127.0.0.10")     # nobody at the other
        result = self.probe("two.flow.example", status=1)
        self.assertEqual([host["ok"] for host in result["hosts"]], [True, False])
        self.assertIn("refused", result["hosts"][1]["why"])
        result = self.probe("two.flow.example", "--level", "encrypt", status=1)
        self.assertEqual([host["ok"] for host in result["hosts"]], [False, False])

    def test_by_tls(self):
        """Each host by itself: what the one chose is not offered first to the other."""
        server = Ringpost(self)
        tls = server.directory / "tls"
        made = server.cli("cert", "make", "--name", "mx.test", "--out", str(tls), config=False)
        self.assertEqual(made.returncode, 0, made.stderr)
        server.sections['certificate "mx"'] = {"chain": tls / "mx.test.pem", "key": tls / "mx.test.key"}
        server.listeners = {"in": {"addresses": [f"127.0.0.10:{self.mx_port}", f"127.0.0.11:{self.mx_port}"],
                                   "certificates": ["mx"]}}
        server.write_config()
        server.start()
        self.addCleanup(server.stop)
        result = self.probe("two.flow.example", "--level", "encrypt", status=0)
        for host in result["hosts"]:
            self.assertEqual((host["tls"]["version"], host["tls"]["resumed"], host["satisfies"]),
                             ("TLSv1.3", False, "encrypt"))
            self.assertTrue(host["resumption"]["resumed"], host["resumption"])
            self.assertEqual(host["certificates"][0]["names"], ["mx.test"])

    def test_order_and_families(self):
        self.peer("127.0.0.10")
        self.assertEqual(self.names(self.probe("pref.flow.example", status=1)), ["a", "b", "c"])
        self.assertEqual(sorted(self.names(self.probe("equal.flow.example", status=1))), ["a", "b"])
        both, = self.probe("both.flow.example", status=0)["hosts"]      # implicit; nobody at ::1
        self.assertEqual((both["host"], both["preference"]), ("both.flow.example", 0))
        self.assertEqual(both["address"], f"127.0.0.10:{self.mx_port}")
        self.assertLessEqual({each["address"] for each in both["attempts"]},
                             {f"127.0.0.10:{self.mx_port}", f"[::1]:{self.mx_port}"})

    def test_cnames(self):
        self.peer("127.0.0.10")
        self.assertEqual(self.names(self.probe("mxalias.flow.example", status=0)), ["host-alias"])
        self.assertEqual(self.names(self.probe("short0.flow.example", status=0)), ["a"])
        self.none("chain0.flow.example", "temporary", r"4\.4\.3", "MX of chain0.flow.example")

    def test_bounded(self):
        self.peer("127.0.0.10")
        result = self.probe("many.flow.example", status=1)
        self.assertEqual(self.names(result), [f"h{n}" for n in range(20)])

    def test_no_host(self):
        self.peer("127.0.0.10")
        self.none("nullmx.flow.example", "permanent", r"5\.1\.10", "null MX")
        self.none("no-such-name.flow.example", "permanent", r"5\.1\.2", "does not exist")
        self.none("mxnowhere.flow.example", "permanent", r"5\.4\.4", "no-such-host.flow.example has no address")
        self.none("pref.flow.example", "permanent", r"5\.4\.4", "a.flow.example has no address", allow=False)
        self.none("zero.flow.example", "permanent", r"5\.4\.4", "zero-host.flow.example has", allow=False)
        self.none("mxhome.flow.example", "permanent", r"5\.4\.6", "loops back")
        self.none("broken.example", "temporary", r"4\.4\.3", "server failure")
        self.none("pref.flow.example", "temporary", r"4\.4\.3", "MX of pref.flow.example",
                  forwarder=harness.free_port(kind=socket.SOCK_DGRAM))

    def test_usage(self):
        for words in (("--mx",), ("--mx", "a b"), ("--mx", "[127.0.0.1]"), ("--mx", "a.example:25"),
                      ("--mx", "--domain", "a.example", "b.example"), ("--mx", "a.example", "b.example")):
            done = Ringpost(self).cli("tls", "probe", *words, config=False)
            self.assertEqual((done.returncode, done.stdout), (2, ""), words)


if __name__ == "__main__":
    harness.main()
