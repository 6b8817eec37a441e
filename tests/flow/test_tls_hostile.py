"""test_tls_hostile.py - peers that break TLS, or the way to it, on purpose

Next hops first: whatever one does, not an octet of a message goes out in clear where the route
forbids that. Each case is a next hop and a route of its own; one server talks to all of them at
once. Every octet that a next hop got is kept as it came (tls_wire.Wire), and searched for the mark.
"""
import contextlib
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest

import harness
import pki
from harness import Ringpost, Smtp, wait_for
from tls_wire import Client, Session, TlsPeer, client_context, hello, scratch, server_context

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
    # more than a library takes: five intermediates of 40 KiB
    fat = a.leaf(NAME)
    fat.issuers = [pki.make(f"Fat {n}", pki.shared_key("ec"), ca=True, more=pki.extension("1.2.3.4", b"x" * 40000))
                   for n in range(5)]
    made = {
        "good": (a.leaf(NAME), fine(), NAME),
        "good-rsa": (a.leaf(NAME, kind="rsa"), fine(), NAME),
        "good-p384": (a.leaf(NAME, kind="ec384"), fine(), NAME),
        "second-name": (a.leaf("a.test", "b.c.test", NAME), fine(), NAME),
        "case": (a.leaf("MX.Good.TEST"), fine(), NAME),
        "no-usage": (a.leaf(NAME, usage=()), fine(), NAME),
        # a key for encipherment only, signing all the same: TLS 1.3 forbids it, TLS 1.2 lets it pass
        "no-signing": (a.leaf(NAME, kind="rsa", key_usage=b"\x05\x20"), fine(), NAME),
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
        "enormous": (fat, {"failed": LATE, **{p: No("handshake") for p in ("encrypt", "chain", "name")}}, NAME),
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

@harness.one_thread("sessions with next hops, one by one")
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
        self.server = Ringpost(self, outbound=routes,
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
                    "peer": peer, "wanted": wanted[policy], "domain": domain,
                    **({"verdict": wanted["verdict"]} if "verdict" in wanted else {}), "config": self.route_of(peer, domain, POLICIES[policy], host)}
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
            "lmtp": ({"lmtp": True}, name, TLS),
            "lmtp-stripped": ({"lmtp": True, "offers": False}, name, No("not offered")),
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

    def test_renegotiation(self):
        """Asked for by a next hop of TLS 1.2, in the middle of the dialog: the end, and no message."""
        a = pki.Authority()
        base, port = scratch(self), harness.free_port()
        chain, key = a.leaf(NAME).write(base, "hop")
        heard = open(base / "heard", "wb")
        process = subprocess.Popen(
            [harness.program("openssl"), "s_server", "-accept", f"127.0.0.1:{port}", "-cert", chain, "-key", key,
             "-tls1_2", "-crlf"], stdin=subprocess.PIPE, stdout=heard, stderr=heard)

        def end():
            process.kill()
            process.wait()
            process.stdin.close()
            heard.close()
        self.addCleanup(end)
        harness.wait_listening("127.0.0.1", port, process)
        self.serve(a, {"hop": {"domains": ["*"], "hosts": [f"127.0.0.1:{port}"], "allow-private": True,
                               "tls": "encrypt", "tls-implicit": True}}, top={"shards": 1})
        self.server.send(content=f"Subject: {MARK}\r\n\r\n")

        def say(line, after):
            wait_for(lambda: after in (base / "heard").read_bytes(), lambda: f"{after}: {(base / 'heard').read_bytes()}")
            process.stdin.write(line + b"\n")
            process.stdin.flush()
        say(b"220 s-server.test ESMTP", b"CIPHER is")
        say(b"r", b"EHLO mx.flow.test")
        wait_for(lambda: self.failures().get("hop"), "a failure")
        wait_for(lambda: b"no renegotiation" in (base / "heard").read_bytes(), "the alert")
        text = (base / "heard").read_bytes()
        self.assertNotIn(MARK.encode(), text)
        self.assertNotIn(b"MAIL FROM", text)

    # -- what is remembered of a host --

    def ladder(self, policies, limit=1, **peer):
        """One server, one shard, a peer and a route for each policy; a connection for each message."""
        a = pki.Authority()
        context = peer.pop("context", None) or server_context(a.leaf(NAME))
        tls = peer.pop("tls", {})
        self.peers = {p: TlsPeer(self, context, **peer) for p in policies}
        routes = {p: self.route_of(self.peers[p], f"{p}.test", POLICIES[p]) for p in policies}
        for route in routes.values():
            route["max-per-connection"] = limit
        return self.serve(a, routes, top={"shards": 1}, tls=tls)

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
            steps = self.server.wait_log("tls_step", first - 1, destination=f"outbound:{policy}")
            self.assertEqual((steps[0]["tried"], steps[-1]["next"]), ("all", "tls-1.2"))
            self.assertIn("cut", steps[0]["why"])
        self.assertEqual(server.metric('ringpost_delivery_tls_steps_total{next="weaker"}'), 2 * (first - 1))
        self.assertEqual(server.metric('ringpost_delivery_tls_steps_total{next="clear"}'), 0)
        self.assertEqual(server.log("destination_failed"), [])

    def test_stalls_when_large(self):
        """A ClientHello of more than a packet (a library with a hybrid group) gets no answer: one without
        that is next, at TLS 1.3 still, and comes first from then on."""
        large = []

        def one_packet(peer, wire, number):
            peer.say(wire, "220 2.0.0 go on")
            wire.buffer = wire.pull()
            if int.from_bytes(wire.buffer[3:5], "big") < 1400:
                peer.secure(wire, number)
                return
            large.append(number)
            while True:
                wire.pull()
        server = self.ladder(("failed", "encrypt"), starttls=one_packet, tls={"handshake-timeout": "1s"})
        for policy in ("failed", "encrypt"):
            peer = self.peers[policy]
            large.clear()
            self.post(policy)
            peer.wait(1)
            self.post(policy)
            peer.wait(2)
            self.assertLessEqual(len(large), 1)
            self.assertEqual(peer.connections, 2 + len(large))
            self.assertEqual([h["version"] for h in peer.handshakes], ["TLSv1.3"] * 2)
            self.assertEqual(peer.in_clear(MARK), [])
            steps = [e for e in server.log("tls_step") if e["destination"].endswith(policy)]
            self.assertEqual([(e["tried"], e["next"]) for e in steps], [("all", "small")] * len(large))
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
        server.outbound["other"] = {**self.route_of(peer, "other.test", POLICIES["encrypt"])}
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


# ---- clients ----

EVIL = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<rcpt@example.org>\r\nDATA\r\nSubject: evil\r\n\r\nevil\r\n.\r\n"
REFUSED = 'ringpost_smtp_refused_total{reason="%s"}'


@harness.one_thread("a session reads what a client sends")
class Clients(unittest.TestCase):
    def serve(self, listeners=None, shards=2, **config):
        base = scratch(self)
        chain, key = pki.Authority().leaf(NAME).write(base, "t")
        self.implicit, self.proxied = (("127.0.0.1", harness.free_port()) for _ in range(2))
        listeners = listeners or {
            "in": {}, "smtps": {"addresses": ["%s:%d" % self.implicit], "tls": "implicit"},
            "proxied": {"addresses": ["%s:%d" % self.proxied], "tls": "implicit", "proxy-from": ["127.0.0.0/8"]}}
        for keys in listeners.values():
            keys["certificates"] = ["t"]
        self.peer = harness.Peer(self)
        self.server = Ringpost(self, outbound={"peer": self.peer.route()}, listeners=listeners,
                               top={"shards": shards}, **{'certificate "t"': {"chain": chain, "key": key}},
                               **config).start()
        self.addCleanup(self.server.stop)
        self.address = self.server.address
        return self.server

    def plain(self):
        client = Smtp(self.address)
        self.addCleanup(client.close)
        client.hello()
        return client

    def upgrading(self):
        """A client that has been told to go on."""
        client = self.plain()
        client.expect(220, "STARTTLS")
        return client

    def in_order(self, evil=0):
        """Nothing of evil was taken; somebody with good intentions is served, by TLS and without."""
        with Client(self.address) as client:
            client.starttls(client_context())
            client.message()
        with Client(self.implicit, implicit=client_context()) as client:
            client.hello()
            client.message()
        self.server.send()
        self.server.wait_log("received", 3)
        self.assertEqual([e for e in self.server.log("received") if "evil" in e["from"]], [])
        wait_for(lambda: self.server.metric("ringpost_smtp_connections") == 0,
                 lambda: f"no connections: {self.server.metric('ringpost_smtp_connections')}")

    def refused(self, reason, count):
        self.server.wait_metric(REFUSED % reason, count)
        self.assertEqual(self.server.metric(REFUSED % reason), count)

    def test_commands_behind_starttls(self):
        """What came in clear would be believed under TLS: 421, and nothing of it is done."""
        self.serve()
        behind = [EVIL, b"R", b"\r\n", b"NOOP\r\n", hello(), b"\0" * 4000]
        for number, text in enumerate(behind):
            with self.subTest(text=text[:20]):
                client = self.plain()
                client.send(b"STARTTLS\r\n" + text)
                self.assertEqual(client.reply().code, 421)
                self.assertEqual(client.rest(), b"")
                self.refused("input_behind_starttls", number + 1)
        with self.subTest("a whole session in one segment"):
            client = Smtp(self.address)
            client.send(b"EHLO x.example.com\r\nSTARTTLS\r\n" + EVIL)
            self.assertEqual([client.reply().code, client.reply().code], [250, 421])
            self.assertEqual(client.rest(), b"")
        event = self.server.wait_log("refused")[0]
        self.assertEqual(event["what"], "STARTTLS")
        self.in_order()

    def test_no_client_hello(self):
        """Anything else behind the 220 ends the connection, with words in the log."""
        self.serve()
        texts = [EVIL, b"GET / HTTP/1.0\r\n\r\n", bytes(range(256)) * 8, b"\0" * 6,
                 b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"\x01" * 40,      # SSL 2
                 b"\x16\x03\x01\xff\xff" + b"\1" * 70000, b"\x16\x03\x01\x00\x00" * 100,
                 b"\x17\x03\x03\x00\x05EHLO\n", b"\x14\x03\x03\x00\x01\x01",
                 b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\1" * 16380]
        for number, text in enumerate(texts):
            for implicit in (False, True):
                with self.subTest(text=text[:12], implicit=implicit):
                    client = Smtp(self.implicit, greet=False) if implicit else self.upgrading()
                    with contextlib.suppress(ConnectionError), client:
                        client.send(text)
                        left = client.rest()
                        self.assertNotRegex(left, rb"(?m)^[2-5]\d\d[ -]")
            self.refused("tls_handshake", 2 * (number + 1))
        for event in self.server.log("tls_failed"):
            self.assertGreater(len(event["why"]), 5)
        self.assertEqual({e["listener"] for e in self.server.log("tls_failed")}, {"in", "smtps"})
        self.in_order()

    def test_cut_after_each_octet(self):
        """Of a ClientHello. Slots for handshakes are few, so that one which is lost is missed."""
        self.serve(tls={"handshakes": 4})
        text = hello()
        for size in range(len(text)):
            with Smtp(self.implicit, greet=False) as client:
                client.send(text[:size])
                if size % 3 == 1:
                    client.socket.shutdown(socket.SHUT_WR)
                    self.assertIn(client.rest()[:1], (b"", b"\x15"))
                elif size % 3 == 2:
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if size % 16 == 0:
                with self.upgrading() as client:
                    client.send(text[:size])
            if size % 8 == 7:
                wait_for(lambda: self.server.metric("ringpost_smtp_connections") <= 2, "connections to go")
        self.in_order()

    def test_octet_by_octet(self):
        """However a handshake is cut into segments, it is one."""
        self.serve()
        for address in (self.implicit, self.address):
            client = Smtp(address, greet=False) if address == self.implicit else self.upgrading()
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session()

            class Slow:
                recv = client.socket.recv

                @staticmethod
                def sendall(octets):
                    for octet in octets:
                        client.send(bytes([octet]))
            session.shake(Slow)
            if address == self.address:
                Slow.sendall(session.seal("NOOP\r\n"))
            session.until(client.socket, 250 if address == self.address else 220)
            client.close()
        self.in_order()

    def test_alerts(self):
        """Instead of each flight of ours, and behind the last."""
        self.serve()
        alert = b"\x15\x03\x03\x00\x02\x02\x28"
        for versions in (("TLSv1_3", "TLSv1_3"), ("TLSv1_2", "TLSv1_2")):
            with self.subTest(versions=versions):
                with self.upgrading() as client:
                    client.send(alert)
                    client.rest()
                self.server.wait_metric(REFUSED % "tls_handshake", 1)
                with self.upgrading() as client:        # behind its first flight
                    client.send(hello(versions=versions))
                    client.socket.recv(65536)
                    client.send(alert)
                    client.rest()
                with self.upgrading() as client:        # by one who does not believe us
                    with self.assertRaises(ssl.SSLCertVerificationError):
                        client.socket = client_context(versions, roots=pki.Authority("X").root.pem).wrap_socket(
                            client.socket, server_hostname=NAME)
                with self.upgrading() as client:        # in clear, where ciphertext is due
                    session = Session(versions=versions)
                    session.shake(client.socket)
                    client.send(session.seal("EHLO x.example.com\r\n"))
                    session.until(client.socket, 250)
                    client.send(alert)
                    client.rest()
        events = [e["why"] for e in self.server.log("tls_failed")]
        self.assertTrue(any("alert" in why for why in events), events)
        self.in_order()

    def test_starttls_twice(self):
        self.serve()
        with Client(self.address) as client:
            keywords = client.starttls(client_context())
            self.assertNotIn("STARTTLS", keywords)
            self.assertEqual(client.cmd("STARTTLS").code, 503)
            client.send(b"STARTTLS\r\nNOOP\r\n")
            self.assertEqual([client.reply().code, client.reply().code], [503, 250])
            client.message()
        self.in_order()

    def test_nothing_survives(self):
        """RFC 3207 4.2: what was said in clear, is forgotten."""
        self.serve()
        with Client(self.address) as client:
            client.hello("first.example.com")
            client.begin()
            client.expect(220, "STARTTLS")
            client.secure(client_context())
            self.assertEqual(client.cmd("RCPT TO:<rcpt@example.org>").code, 503)
            self.assertEqual(client.cmd("DATA").code, 503)
            self.assertEqual(client.cmd("MAIL FROM:<sender@example.com>").code, 503)
            client.hello("second.example.com")
            self.assertEqual(client.cmd("RCPT TO:<rcpt@example.org>").code, 503)
            client.message()
        self.peer.wait(1)
        self.assertIn(b"second.example.com", self.peer.messages[0].content)
        self.assertNotIn(b"first.example.com", self.peer.messages[0].content)

    def test_a_cut_is_no_end(self):
        """A close without close_notify in a message: somebody on the way may have made it."""
        self.serve()
        whole = b"Subject: x\r\n\r\nthe first half, and\r\n"
        for versions in (("TLSv1_3", "TLSv1_3"), ("TLSv1_2", "TLSv1_2")):
            for how in ("close", "half", "reset", "notify", "within a record"):
                with self.subTest(versions=versions, how=how), self.upgrading() as client:
                    session = Session(versions=versions)
                    session.shake(client.socket)
                    for line, code in (("EHLO x.example.com", 250), ("MAIL FROM:<evil@example.com>", 250),
                                       ("RCPT TO:<rcpt@example.org>", 250), ("DATA", 354)):
                        client.send(session.seal(line + "\r\n"))
                        session.until(client.socket, code)
                    client.send(session.seal(whole))
                    if how == "within a record":
                        client.send(session.seal(".\r\n")[:-1])
                    if how == "notify":
                        client.send(session.bye())
                    if how == "reset":
                        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    elif how != "close":
                        client.socket.shutdown(socket.SHUT_WR)
                        client.rest()
        wait_for(lambda: self.server.metric("ringpost_smtp_aborted_total") >= 10,
                 lambda: f"10 transactions given up, not {self.server.metric('ringpost_smtp_aborted_total')}")
        self.in_order()

    def test_after_close_notify(self):
        """The connection is dead for both layers: neither plain text nor anything else is read."""
        self.serve()
        for behind in (b".\r\n", b"\r\n.\r\n" + EVIL, hello()):
            for split in (False, True):
                with self.subTest(behind=behind[:8], split=split), self.upgrading() as client:
                    session = Session()
                    session.shake(client.socket)
                    for line, code in (("EHLO x.example.com", 250), ("MAIL FROM:<evil@example.com>", 250),
                                       ("RCPT TO:<rcpt@example.org>", 250), ("BDAT 20", 250), ("BDAT 20 LAST", 0)):
                        client.send(session.seal(line + "\r\n" + ("a" * 18 + "\r\n" if line == "BDAT 20" else "")))
                        if code:
                            session.until(client.socket, code)
                    half = session.seal("a" * 10)
                    if split:
                        client.send(half + session.bye())
                        with contextlib.suppress(ConnectionError):
                            client.send(behind * 10)
                    else:
                        client.send(half + session.bye() + behind * 10)
                    with contextlib.suppress(EOFError, ConnectionError, ssl.SSLError):
                        self.assertEqual(session.read(client.socket), b"")
        self.in_order()

    def test_handshakes_that_stall(self):
        """One that says nothing, one that says an octet every 100 ms: each has its deadline, and
        nobody waits for them."""
        self.serve(tls={"handshake-timeout": "2s"})
        idle = [self.upgrading() for _ in range(10)] + [Smtp(self.implicit, greet=False) for _ in range(10)]
        slow = [self.upgrading(), Smtp(self.implicit, greet=False)]
        done = []

        def trickle(client):
            with contextlib.suppress(OSError):
                for octet in hello() * 20:
                    client.send(bytes([octet]))
                    time.sleep(0.1)
                    done.append(1)
        for client in slow:
            threading.Thread(target=trickle, args=(client,), daemon=True).start()
        with Client(self.address) as client:
            client.starttls(client_context())
            client.message()
        self.assertEqual(self.server.metric(REFUSED % "timeout"), 0, "it was served before any deadline")
        for client in idle + slow:
            self.assertNotRegex(client.rest(), rb"(?m)^2\d\d")
            client.close()
        self.assertLess(len(done), 2 * len(hello() * 20))
        self.in_order()

    def test_too_many_handshakes(self):
        """454 over the bound; who does not want TLS, does not notice. Those that stall give way."""
        self.serve(shards=1, tls={"handshakes": 5, "handshake-timeout": "5m"})
        begun = time.monotonic()
        first = [self.upgrading() for _ in range(5)]
        late = self.plain()
        reply = late.cmd("STARTTLS")
        if time.monotonic() - begun < 1:            # none of them is old enough to give way
            self.assertEqual((reply.code, reply.text[:5]), (454, "4.7.0"))
            late.message()                          # and goes on in clear
            with Smtp(self.implicit, greet=False) as client:
                self.assertEqual(client.rest(), b"")
            self.assertEqual(self.server.metric(REFUSED % "tls_handshakes"), 2)
        late.close()

        def served():
            with contextlib.suppress(AssertionError), Client(self.address) as client:
                client.starttls(client_context())
                client.message()
                return True
            return False
        for _ in range(3):                          # beside five that say nothing for minutes
            wait_for(served, "a slot that one of them gave up")
        self.assertGreaterEqual(self.server.metric(REFUSED % "tls_handshake_displaced"), 1)
        self.assertIn("took too long while others waited", str(self.server.log("tls_failed")))
        for client in first:
            client.close()
        self.in_order()

    def test_handshakes_under_load(self):
        """Less time for them, where connections are getting scarce."""
        self.serve(shards=1, limits={"connections": 20, "load-percent": 40},
                   tls={"handshake-timeout": "10m", "load-handshake-timeout": "1s"})
        with contextlib.ExitStack() as stack:
            early = [stack.enter_context(Smtp(self.implicit, greet=False)) for _ in range(4)]
            wait_for(lambda: self.server.metric("ringpost_smtp_connections") == 4, "all of them")
            late = [stack.enter_context(Smtp(self.implicit, greet=False)) for _ in range(12)]
            for client in late[6:]:
                self.assertEqual(client.rest(), b"")
            for client in early:
                client.socket.settimeout(0.01)
                with self.assertRaises(TimeoutError):
                    client.socket.recv(1)
        self.in_order()

    def test_renegotiation(self):
        """TLS 1.2 only; it ends the session (RFC 9325 says why)."""
        self.serve()
        words = [harness.program("openssl"), "s_client", "-starttls", "smtp", "-tls1_2", "-crlf",
                 "-connect", "127.0.0.1:%d" % self.address[1]]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT) as process:
            heard = b""
            while b"---\n250 " not in heard and (line := process.stdout.readline()):
                heard += line
            process.stdin.write(b"R\n")
            process.stdin.flush()
            heard += process.stdout.read()
        self.assertIn(b"RENEGOTIATING", heard)
        self.assertRegex(heard, rb"(?i)no renegotiation|error|closed|alert")
        self.in_order()

    def test_proxy_header(self):
        """It stands before the ClientHello, together with it or not; inside TLS it is no command."""
        self.serve()
        v1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 465\r\n"
        v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + socket.inet_aton("192.0.2.8") + b"\x7f\0\0\1\1\2\3\4"
        for header, source in ((v1, "192.0.2.7"), (v2, "192.0.2.8")):
            for split in (None, 1, len(header) - 1, len(header), len(header) + 5):
                with self.subTest(source=source, split=split), Smtp(self.proxied, greet=False) as client:
                    session = Session()
                    with contextlib.suppress(ssl.SSLWantReadError):
                        session.tls.do_handshake()
                    text = header + session.out.read()
                    client.send(text[:split])
                    if split:
                        time.sleep(0.02)
                        client.send(text[split:])
                    session.shake(client.socket)
                    session.until(client.socket, 220)
                    for line, code in (("EHLO x.example.com", 250), (f"MAIL FROM:<from{split}@example.com>", 250),
                                       ("RCPT TO:<rcpt@example.org>", 250), ("DATA", 354), ("Subject: x\r\n\r\n.", 250)):
                        client.send(session.seal(line + "\r\n"))
                        session.until(client.socket, code)
                    self.server.wait_log("received", client=source, **{"from": f"from{split}@example.com"})
        for text in (v1 + EVIL, v1 + v1 + hello(), EVIL, hello()):      # no header, or not TLS behind it
            with self.subTest(text=text[:50]), Smtp(self.proxied, greet=False) as client:
                with contextlib.suppress(ConnectionError):
                    client.send(text)
                    client.socket.shutdown(socket.SHUT_WR)
                    self.assertNotRegex(client.rest(), rb"(?m)^2\d\d")
        with Smtp(self.proxied, greet=False) as client:
            session = Session()
            client.send(v1)
            session.shake(client.socket)
            session.until(client.socket, 220)
            client.send(session.seal(v1))
            session.until(client.socket, 500)
        with Client(self.implicit, implicit=client_context()) as client:
            self.assertEqual(client.cmd(v1.strip()).code, 500)
        self.assertEqual([e for e in self.server.log("received") if "evil" in e["from"]], [])


if __name__ == "__main__":
    harness.main()
