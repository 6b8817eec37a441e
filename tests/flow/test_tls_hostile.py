"""test_tls_hostile.py - peers that break TLS, or the way to it, on purpose

Next hops first: whatever one does, not an octet of a message goes out in clear where the route
forbids that. Each case is a next hop and a route of its own; one server talks to all of them at
once. Every octet that a next hop got is kept as it came (tls_wire.Wire), and searched for the mark.
"""
import contextlib
import socket
import ssl
import struct
import threading
import time
import unittest

import harness
import pki
from harness import Ringpost, Smtp, wait_for
from tls_wire import Client, TlsPeer, client_context, hello, scratch, server_context

FAST = {"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"}
NAME = "mx.good.test"
MARK = "not-for-other-eyes"

# How a route may ask for TLS; the default is `may` with handshake-failed.
POLICIES = {
    "failed": {"tls": "may", "cleartext": "handshake-failed"},
    "offer": {"tls": "may", "cleartext": "no-offer"},
    "never": {"tls": "may", "cleartext": "never"},
    "encrypt": {"tls": "encrypt"},
    "chain": {"tls": "chain"},
    "name": {"tls": "name"},
}
# What may come of it: under TLS; in clear; in clear, but not before a first attempt has failed; or
# not at all, with a word that the reason must have.
TLS, CLEAR, LATE = "tls", "clear", "late"


class No(str):
    """Deferred, and why."""


def deferred(words):
    return {policy: No(words) for policy in POLICIES}


def protocol(words):
    """TLS does not come about, though it was offered."""
    return {**deferred(words), "failed": LATE}


# ---- what goes wrong before a certificate is seen ----

def refuses(reply):
    def behave(peer, wire, _):
        peer.say(wire, reply)
    return behave


def says(octets, linger=True):
    """These octets where a ServerHello is due."""
    def behave(peer, wire, _):
        peer.say(wire, "220 2.0.0 go on")
        wire.pull()
        wire.put(octets)
        while linger:
            wire.pull()
        raise EOFError
    return behave


def injects(peer, wire, _):
    """What would be taken for an answer under TLS, by who reads on."""
    wire.put(b"220 2.0.0 go on\r\n250-peer.test\r\n250 PIPELINING\r\n250 2.1.0 ok\r\n")
    peer.secure(wire, wire.number)


def cuts(reset=False):
    def behave(peer, wire, _):
        peer.say(wire, "220 2.0.0 go on")
        wire.pull()
        if reset:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise EOFError
    return behave


def drops(peer, wire, _):
    """Instead of an answer to STARTTLS."""
    raise EOFError


def flight(change):
    """change(wire, octets): sends what is left of a flight, or raises."""
    def behave(peer, wire, number):
        peer.say(wire, "220 2.0.0 go on")
        send = wire.socket.sendall
        wire.put = lambda octets: change(wire, send, octets)
        peer.secure(wire, number)
        wire.put = send
    return behave


def half(wire, send, octets):
    send(octets[:len(octets) // 2])
    raise EOFError


def flipped(wire, send, octets):
    if len(octets) < 40:
        send(octets)
        return
    send(octets[:-20] + bytes([octets[-20] ^ 1]) + octets[-19:])


def cut_after(count):
    """Of all that we say in the handshake."""
    def change(wire, send, octets):
        left = count - wire.flights
        wire.flights += len(octets)
        send(octets[:left])
        if len(octets) >= left:
            raise EOFError
    return flight(change)


def trickles(wire, send, octets):
    for octet in octets:
        send(bytes([octet]))
        time.sleep(0.1)


def stalls(peer, wire, _):
    peer.say(wire, "220 2.0.0 go on")
    while True:
        wire.pull()


def then_in_clear(peer, wire, number):
    """An answer in clear where only ciphertext may come."""
    peer.say(wire, "220 2.0.0 go on")
    peer.secure(wire, number)
    wire.socket.sendall(b"250-peer.test\r\n250 PIPELINING\r\n")


def first_times(count, behave):
    """Broken for so many connections, and as it should be from then on."""
    def either(peer, wire, number):
        if number <= count:
            behave(peer, wire, number)
        peer.say(wire, "220 2.0.0 go on")
        peer.secure(wire, number)
    return either


def alert_in(number):
    """An alert (fatal, internal error) in place of our number-th flight."""
    def change(wire, send, octets):
        wire.flights += 1
        if wire.flights < number:
            send(octets)
            return
        send(b"\x15\x03\x03\x00\x02\x02\x50")
        raise EOFError
    return flight(change)


PROTOCOL = {
    # name: (arguments of TlsPeer, what comes of it)
    "stripped": ({"offers": False}, {
        "failed": CLEAR, "offer": CLEAR, "never": No("not offered"), "encrypt": No("not offered"),
        "chain": No("not offered"), "name": No("not offered")}),
    "454": ({"starttls": refuses("454 4.7.0 not now")}, protocol("454")),
    "554": ({"starttls": refuses("554 5.7.0 never")}, protocol("554")),
    "250": ({"starttls": refuses("250 2.0.0 as you like")}, protocol("250")),
    "injected": ({"starttls": injects}, deferred("more behind")),
    "text": ({"starttls": says(b"250-peer.test\r\n250 PIPELINING\r\n")}, protocol("handshake")),
    "garbage": ({"starttls": says(bytes(range(255, 0, -1)) * 5)}, protocol("handshake")),
    "alert": ({"starttls": says(b"\x15\x03\x03\x00\x02\x02\x28")}, protocol("handshake")),
    "goodbye": ({"starttls": says(b"\x15\x03\x03\x00\x02\x01\x00")}, protocol("handshake")),
    "cut": ({"starttls": cuts()}, protocol("handshake")),
    "reset": ({"starttls": cuts(reset=True)}, protocol("handshake")),
    "half": ({"starttls": flight(half)}, protocol("handshake")),
    "flipped": ({"starttls": flight(flipped)}, protocol("handshake")),
    "alert-first": ({"starttls": alert_in(1)}, protocol("handshake")),
    "alert-last": ({"starttls": alert_in(2), "versions": ("TLSv1_2", "TLSv1_2")}, protocol("handshake")),
    # the handshake is over for us: that it was answered by an alert is no reason to step down
    "alert-after": ({"starttls": alert_in(2), "versions": ("TLSv1_3", "TLSv1_3")}, deferred("")),
    "then-in-clear": ({"starttls": then_in_clear}, deferred("")),
    "dropped": ({"starttls": drops}, deferred("lost")),
    "421": ({"starttls": refuses("421 4.7.0 go away")}, deferred("go away")),
    "tls-1.0": ({"versions": ("TLSv1", "TLSv1")}, protocol("handshake")),
    "tls-1.1": ({"versions": ("TLSv1_1", "TLSv1_1")}, protocol("handshake")),
    "key-transport": ({"versions": ("TLSv1_2", "TLSv1_2"), "ciphers": "AES128-GCM-SHA256:@SECLEVEL=0",
                       "kind": "rsa"}, protocol("handshake")),
    "dhe": ({"versions": ("TLSv1_2", "TLSv1_2"), "ciphers": "DHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0",
             "kind": "rsa"}, protocol("handshake")),
    # CBC only: taken where the alternative is plain text
    "cbc": ({"versions": ("TLSv1_2", "TLSv1_2"), "ciphers": "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"}, {
        **protocol("handshake"), "failed": TLS, "offer": TLS, "never": TLS}),
}


# ---- what a certificate may be ----

def unfit(verdict):
    return {"failed": TLS, "encrypt": TLS, "chain": No("handshake"), "name": No("handshake"), "verdict": verdict}


def unnamed():
    return {"failed": TLS, "encrypt": TLS, "chain": TLS, "name": No("handshake"), "verdict": "valid"}


def fine():
    return {"failed": TLS, "encrypt": TLS, "chain": TLS, "name": TLS, "verdict": "valid"}


def certificates():
    """{name: (Certificate, what comes of it, the name wanted)}"""
    a = pki.Authority()
    other = pki.Authority("Nobody Knows")
    own = pki.make("leaf", pki.shared_key("ec"), names=[NAME])
    alone = a.leaf(NAME)
    alone.issuers = []
    false_ca = a.leaf("issuer.test", key=pki.KEYS["ec"]())
    by_leaf = pki.make("leaf", pki.shared_key("ec"), false_ca, "leaf", names=[NAME])
    by_leaf.issuers = [false_ca, *false_ca.issuers]
    made = {
        "good": (a.leaf(NAME), fine(), NAME),
        "good-rsa": (a.leaf(NAME, kind="rsa"), fine(), NAME),
        "good-p384": (a.leaf(NAME, kind="ec384"), fine(), NAME),
        "second-name": (a.leaf("a.test", "b.c.test", NAME), fine(), NAME),
        "case": (a.leaf("MX.Good.TEST"), fine(), NAME),
        "no-usage": (a.leaf(NAME, usage=()), fine(), NAME),
        "expired": (a.leaf(NAME, days=(-30, -1)), unfit("expired"), NAME),
        "not-yet": (a.leaf(NAME, days=(1, 30)), unfit("not-yet"), NAME),
        "self-signed": (own, unfit("untrusted"), NAME),
        "unknown-root": (other.leaf(NAME), unfit("untrusted"), NAME),
        "missing-intermediate": (alone, unfit("untrusted"), NAME),
        "by-a-leaf": (by_leaf, unfit("untrusted"), NAME),
        "usage": (a.leaf(NAME, usage=(pki.CLIENT,)), unfit("usage"), NAME),
        "rsa-1024": (a.leaf(NAME, kind="rsa1024"), unfit("weak"), NAME),
        "sha-1": (a.leaf(NAME, digest="sha1"), unfit("weak"), NAME),
        "long-chain": (a.long_chain(NAME), unfit("malformed"), NAME),
        "wrong-name": (a.leaf("mx.other.test"), unnamed(), NAME),
        "suffix": (a.leaf("xmx.good.test", "good.test", "mx.good.test.evil.test"), unnamed(), NAME),
        "only-cn": (a.leaf("mx.other.test", common_name=NAME), unnamed(), NAME),
        "nul": (a.leaf(b"mx.good.test\0.evil.test", "evil.test"), unnamed(), NAME),
        "nul-alone": (a.leaf(b"mx.good.test\0.evil.test"), unfit("malformed"), NAME),
        "wildcard": (a.leaf("*.good.test"), fine(), NAME),
        "wildcard-deep": (a.leaf("*.good.test"), unnamed(), "a.mx.good.test"),
        "wildcard-part": (a.leaf("m*.good.test", "other.test"), unnamed(), NAME),
        "wildcard-top": (a.leaf("*.test", "other.test"), unnamed(), "good.test"),
        "wildcard-all": (a.leaf("*", "other.test"), unnamed(), NAME),
        "wanted-below": (a.leaf("a.mx.good.test"), fine(), "*.good.test"),
        "idn": (a.leaf("xn--bcher-kva.test"), fine(), "bücher.test"),
        "idn-raw": (a.leaf("bücher.test".encode(), "other.test"), unnamed(), "bücher.test"),
    }
    return a, made


# ---- next hops ----

class NextHops(unittest.TestCase):
    def route_of(self, peer, domain, policy, wanted=NAME):
        more = {"roots": "test"}
        if policy["tls"] == "name":
            more["tls-name"] = [wanted]
        return peer.route([domain], **policy, **more)

    def serve(self, authority, routes, **config):
        roots = scratch(self) / "roots.pem"
        roots.write_text(authority.root.pem)
        config.setdefault("delivery", FAST)
        self.server = Ringpost(self, routes=routes,
                               **{'roots "test"': {"file": roots}}, **config).start()
        self.addCleanup(self.server.stop)
        return self.server

    def failures(self):
        """{route: lines of failed attempts}: of the next hop as a whole, or of a recipient"""
        found = {}
        for event in self.server.log():
            if event.get("event") in ("destination_failed", "deferred"):
                found.setdefault(event["destination"].split(":")[1], []).append(event)
        return found

    def settled(self, case):
        """It came to what it was to come, or there were attempts enough to know that it does not."""
        peer, wanted = case["peer"], case["wanted"]
        if isinstance(wanted, No):
            return len(self.failures().get(case["route"], [])) >= case.get("attempts", 3)
        return any(e["to"] == f"x@{case['domain']}" for e in self.server.log("delivered"))

    def run_cases(self, cases, **config):
        """cases: {route: {peer, wanted, domain, config}}"""
        authority = config.pop("authority")
        for route, case in cases.items():
            case["route"] = route
        self.serve(authority, {route: case["config"] for route, case in cases.items()}, **config)
        with Smtp(self.server.address) as client:
            client.hello()
            for route, case in cases.items():
                client.message(recipients=[f"x@{case['domain']}"],
                               content=f"Subject: {MARK}\r\n\r\n{MARK} {route}\r\n")
        with contextlib.suppress(AssertionError):   # each says below what it lacks
            wait_for(lambda: all(self.settled(c) for c in cases.values()), "all of them")
        failures, delivered = self.failures(), self.server.log("delivered")
        for route, case in cases.items():
            with self.subTest(route=route):
                self.check(case, failures.get(route, []),
                           [e for e in delivered if f"x@{case['domain']}" == e["to"]])

    def check(self, case, failures, delivered):
        peer, wanted = case["peer"], case["wanted"]
        seen = peer.in_clear(MARK)
        told = f"{wanted!r}: {[w.number for w in peer.wires]}, {peer.commands[-9:]}, {failures}, {delivered}"
        if not isinstance(wanted, No) or wanted == "not offered":
            self.assertEqual(peer.faults, [])
        if isinstance(wanted, No):
            self.assertEqual((len(peer.messages), seen), (0, []), told)
            self.assertEqual(peer.verbs("MAIL"), [], told)
            self.assertGreaterEqual(len(failures), case.get("attempts", 3), told)
            self.assertIn(wanted.lower(), failures[-1].get("why", "").lower())
            return
        self.assertEqual((len(peer.messages), len(delivered)), (1, 1), told)
        number = peer.messages[0].connection
        under_tls = peer.wires[number - 1].tls is not None
        self.assertEqual(under_tls, wanted == TLS, told)
        self.assertEqual(seen, [] if wanted == TLS else [number], told)
        event = delivered[0]
        self.assertEqual("tls" in event, under_tls, event)
        self.assertEqual("clear" in event, wanted in (CLEAR, LATE) and case["config"]["tls"] != "none", event)
        self.assertEqual(len(failures) >= 1, wanted == LATE, told)
        if wanted == LATE:
            self.assertGreater(number, 1, told)
            self.assertGreater(min(n for n in seen), 1, told)
        if under_tls and "verdict" in case:
            self.assertEqual(event["cert_verdict"], case["verdict"], event)
            if case["verdict"] != "valid":
                self.assertNotEqual(event.get("cert_why", ""), "", event)

    def test_protocol(self):
        """What goes wrong before a certificate is seen, at each level and in each mood."""
        a = pki.Authority()
        leaves = {kind: a.leaf(NAME, kind=kind) for kind in ("ec", "rsa")}
        cases = {}
        for name, (options, wanted) in PROTOCOL.items():
            options = dict(options)
            kind = options.pop("kind", "ec")
            context = server_context(leaves[kind], options.pop("versions", ("TLSv1_2", "TLSv1_3")),
                                     options.pop("ciphers", "DEFAULT:@SECLEVEL=0"))
            for policy, keys in POLICIES.items():
                if wanted.get(policy) is None:
                    continue
                peer = TlsPeer(self, context, **options)
                route, domain = f"{name}-{policy}".replace(".", "-"), f"{name}.{policy}.test"
                cases[route] = {"peer": peer, "wanted": wanted[policy], "domain": domain,
                                "config": self.route_of(peer, domain, keys)}
        self.run_cases(cases, authority=a)

    def test_certificates(self):
        """What may be presented, at each level."""
        a, made = certificates()
        cases = {}
        for name, (certificate, wanted, host) in made.items():
            context = server_context(certificate)
            for policy in ("failed", "encrypt", "chain", "name"):
                peer = TlsPeer(self, context)
                domain = f"{name}.{policy}.test"
                cases[f"{name}-{policy}"] = {
                    "peer": peer, "wanted": wanted[policy], "domain": domain, "verdict": wanted["verdict"],
                    "config": self.route_of(peer, domain, POLICIES[policy], host)}
        self.run_cases(cases, authority=a)


    def test_cuts(self):
        """The connection ends within the next hop's part of the handshake, wherever."""
        a = pki.Authority()
        leaf, cases = a.leaf(NAME), {}
        for version, parts, size in (("TLSv1_3", 24, 900), ("TLSv1_2", 24, 900)):
            context = server_context(leaf, (version, version))
            for at in [*range(0, 6), *range(6, size, size // parts)]:
                for policy in ("failed", "encrypt"):
                    peer = TlsPeer(self, context, starttls=cut_after(at))
                    domain = f"{at}.{version.replace('_', '-').lower()}.{policy}.test"
                    cases[domain.replace(".", "-")] = {
                        "peer": peer, "domain": domain, "wanted": LATE if policy == "failed" else No("handshake"),
                        "config": self.route_of(peer, domain, POLICIES[policy])}
        self.run_cases(cases, authority=a)

    def test_stalls(self):
        """Nothing comes, or an octet every 100 ms: the handshake has its own deadline."""
        a = pki.Authority()
        context, cases = server_context(a.leaf(NAME)), {}
        for name, behave in (("stalls", stalls), ("trickles", flight(trickles))):
            for policy in ("failed", "offer", "encrypt"):
                peer = TlsPeer(self, context, starttls=behave)
                domain = f"{name}.{policy}.test"
                cases[f"{name}-{policy}"] = {
                    "peer": peer, "domain": domain, "wanted": LATE if policy == "failed" else No("handshake"),
                    "config": self.route_of(peer, domain, POLICIES[policy]), "attempts": 1}
        self.run_cases(cases, authority=a, tls={"handshake-timeout": "1s"})
        self.assertIn("timed out", str(self.server.log("tls_step")))

    def test_what_routes_say(self):
        """Levels and versions that a route names, against next hops that have no more, or no less."""
        a = pki.Authority()
        leaves = {kind: a.leaf(NAME, kind=kind) for kind in ("ec", "rsa")}
        old, new, old_suites = ("TLSv1", "TLSv1"), ("TLSv1_3", "TLSv1_3"), "AES128-SHA:DHE-RSA-AES128-SHA:@SECLEVEL=0"
        name, may = POLICIES["name"], {"tls": "may", "tls-min": "1.0"}
        table = {
            "none": ({}, {"tls": "none"}, CLEAR),
            "implicit": ({"implicit": True}, {**name, "tls-implicit": True}, TLS),
            "implicit-in-clear": ({}, {**name, "tls-implicit": True}, No("handshake")),
            "greeting-under-tls": ({"implicit": True}, {**POLICIES["failed"]}, No("")),
            "min-13": ({"versions": ("TLSv1_2", "TLSv1_2")}, {**name, "tls-min": "1.3"}, No("handshake")),
            "min-13-good": ({"versions": new}, {**name, "tls-min": "1.3"}, TLS),
            "old-10": ({"versions": old}, may, TLS),
            "old-11": ({"versions": ("TLSv1_1", "TLSv1_1")}, may, TLS),
            "old-10-for-11": ({"versions": old}, {**may, "tls-min": "1.1", "cleartext": "never"}, No("handshake")),
            "old-suites": ({"versions": ("TLSv1_2", "TLSv1_2"), "ciphers": old_suites, "kind": "rsa"}, may, TLS),
            "old-suites-encrypt": ({"versions": ("TLSv1_2", "TLSv1_2"), "ciphers": old_suites, "kind": "rsa"},
                                   {"tls": "encrypt", "tls-min": "1.0"}, No("handshake")),
            "cbc-encrypt": ({"versions": ("TLSv1_2", "TLSv1_2"), "ciphers": "ECDHE+AES+SHA:!AESGCM:@SECLEVEL=0"},
                            {"tls": "encrypt"}, No("handshake")),
        }
        cases = {}
        for case, (options, keys, wanted) in table.items():
            options = dict(options)
            context = server_context(leaves[options.pop("kind", "ec")], options.pop("versions", ("TLSv1_2", "TLSv1_3")),
                                     options.pop("ciphers", "DEFAULT:@SECLEVEL=0"))
            peer = TlsPeer(self, context, **options)
            cases[case] = {"peer": peer, "wanted": wanted, "domain": f"{case}.test", "attempts": 1,
                           "config": self.route_of(peer, f"{case}.test", keys)}
        self.run_cases(cases, authority=a, delivery={**FAST, "greeting-timeout": "2s"})
        self.assertEqual(cases["none"]["peer"].verbs("STARTTLS"), [])
        self.assertEqual(cases["old-10"]["peer"].handshakes[-1]["version"], "TLSv1")
        self.assertEqual(cases["old-11"]["peer"].handshakes[-1]["version"], "TLSv1.1")

    # -- what is remembered of a host --

    def ladder(self, policies, limit=1, **peer):
        """One server, one shard, a peer and a route for each policy; a connection for each message."""
        a = pki.Authority()
        context = peer.pop("context", None) or server_context(a.leaf(NAME))
        self.peers = {p: TlsPeer(self, context, **peer) for p in policies}
        routes = {p: self.route_of(self.peers[p], f"{p}.test", POLICIES[p]) for p in policies}
        for route in routes.values():
            route["max-per-connection"] = limit
        return self.serve(a, routes, top={"shards": 1})

    def post(self, policy):
        self.server.send(recipients=[f"x@{policy}.test"], content=f"Subject: {MARK}\r\n\r\n{MARK}\r\n")

    def test_steps(self):
        """A host that cannot stand TLS 1.3: the step down is logged, counted and remembered."""
        context = server_context(pki.Authority().leaf(NAME), ("TLSv1_2", "TLSv1_2"))

        def without_13(peer, wire, number):
            peer.say(wire, "220 2.0.0 go on")
            wire.buffer = wire.pull()
            if b"\x03\x04" in wire.buffer[43 + 33:]:      # supported_versions has it
                raise EOFError
            peer.secure(wire, number)
        server = self.ladder(("failed", "encrypt"), context=context, starttls=without_13)
        for policy in ("failed", "encrypt"):
            peer = self.peers[policy]
            self.post(policy)
            peer.wait(1)
            first = peer.connections
            self.assertGreaterEqual(first, 2)
            self.post(policy)
            peer.wait(2)
            self.assertEqual(peer.connections, first + 1, "it was known what the host can do")
            self.assertEqual([h["version"] for h in peer.handshakes], ["TLSv1.2"] * 2)
            self.assertEqual(peer.in_clear(MARK), [])
            steps = [e for e in server.log("tls_step") if e["destination"].endswith(policy)]
            self.assertEqual((steps[0]["tried"], steps[-1]["next"]), ("all", "tls-1.2"))
            self.assertIn("cut", steps[0]["why"])
        self.assertEqual(server.metric('ringpost_delivery_tls_steps_total{next="weaker"}'), 2 * (first - 1))
        self.assertEqual(server.metric('ringpost_delivery_tls_steps_total{next="clear"}'), 0)
        self.assertEqual(server.log("destination_failed"), [])

    def test_clear_is_remembered(self):
        """When nothing helps: in clear, the next message at once; a route that forbids it is not touched."""
        server = self.ladder(("failed",), starttls=cuts())
        peer = self.peers["failed"]
        self.post("failed")
        peer.wait(1)
        self.assertEqual(server.metric('ringpost_delivery_tls_steps_total{next="clear"}'), 1)
        last = server.log("tls_step")[-1]
        self.assertEqual(last["next"], "clear")
        tried = len(peer.verbs("STARTTLS"))
        self.post("failed")
        peer.wait(2)
        self.assertEqual(len(peer.verbs("STARTTLS")), tried)
        server.routes["other"] = {**self.route_of(peer, "other.test", POLICIES["encrypt"])}
        server.write_config()
        self.assertEqual(server.cli("reload").returncode, 0)
        self.post("other")
        wait_for(lambda: len(self.failures().get("other", [])) >= 2, "two attempts that fail")
        self.assertEqual(len(peer.messages), 2)
        self.assertGreater(len(peer.verbs("STARTTLS")), tried)

    def test_a_glitch_is_no_reason(self):
        """One connection cut in its handshake, by a network or by somebody who wants that: the host
        is well, and knows TLS 1.3 (RFC 7507: it says so to who comes with less)."""
        server = self.ladder(("failed", "offer", "encrypt", "name"), starttls=first_times(1, cuts()))
        for policy in self.peers:
            self.post(policy)
        for policy, peer in self.peers.items():
            with self.subTest(policy=policy):
                peer.wait(1)
                self.assertEqual(peer.in_clear(MARK), [])
                self.post(policy)
                peer.wait(2)
                self.assertEqual(peer.in_clear(MARK), [], server.log("tls_step"))
                self.assertEqual(peer.handshakes[-1]["version"], "TLSv1.3")

    def test_an_outage_ends(self):
        """Every handshake fails for a while; the host has TLS 1.3 and nothing else."""
        context = server_context(pki.Authority().leaf(NAME), ("TLSv1_3", "TLSv1_3"))
        self.ladder(("offer", "encrypt"), context=context, starttls=first_times(3, cuts()))
        for policy in self.peers:
            self.post(policy)
        for policy, peer in self.peers.items():
            with self.subTest(policy=policy):
                peer.wait(1)
                self.assertEqual(peer.in_clear(MARK), [])
                self.assertEqual(peer.handshakes[-1]["version"], "TLSv1.3")


if __name__ == "__main__":
    harness.main()
