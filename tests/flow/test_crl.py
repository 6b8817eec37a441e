"""test_crl.py - revocation by real lists: known and unknown, in both directions, over a restart

Lists are made by `openssl ca -gencrl` and served by an HTTP server of the test's own; a certificate
points to its list with the extension that authorities use.
"""
import http.server
import json
import pathlib
import ssl
import subprocess
import threading
import unittest

from cryptography import x509

import harness
import pki
from harness import Peer, Ringpost, wait_for
from tls_wire import TlsPeer, scratch, server_context

NAME = "mx.flow.test"
BANK = "mx.bank.example"
FAST = {"retry-initial": "1s", "retry-max": "1s", "retry-jitter": "0"}
LOCAL = {"private-networks": ["127.0.0.0/8"]}


class Web:
    """Serves what is in pages; counts who asks."""

    def __init__(self, test):
        self.pages, self.asked = {}, []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                web.asked.append(self.path)
                body = web.pages.get(self.path)
                self.send_response(200 if body is not None else 404)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", harness.free_port("127.0.0.1")), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        test.addCleanup(self.server.server_close)
        test.addCleanup(self.server.shutdown)

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"


def points_to(url):
    """A cRLDistributionPoints extension."""
    name = pki.tlv(0xa0, pki.tlv(0xa0, pki.tlv(0x86, url.encode())))
    return pki.extension("2.5.29.31", pki.sequence(pki.sequence(name)))


class Issuer:
    """A root that signs leaves, and lists by openssl."""

    def __init__(self, base, name="Lists Root"):
        self.name, self.base = name, base
        self.root = pki.make(name, pki.KEYS["ec"](), ca=True, days=(-10, 3650))
        self.number = 0
        self.root.write(base, "issuer")
        (base / "ca.cnf").write_text("[ca]\ndefault_ca = d\n[d]\ndefault_md = sha256\ncrlnumber = ./crlnumber\n"
                                     "database = ./index.txt\n")

    def leaf(self, *names, url=None, **more):
        return pki.make("leaf", pki.shared_key("ec"), self.root, self.name, names=names,
                        usage=(pki.CLIENT, pki.SERVER), more=points_to(url) if url else b"", **more)

    def list(self, *revoked, dates=("-crlhours", "24")):
        """DER of a list with these on it."""
        serials = [f"{x509.load_der_x509_certificate(c.der).serial_number:X}" for c in revoked]
        rows = "".join(f"R\t360101000000Z\t261101000000Z\t{s if len(s) % 2 == 0 else '0' + s}\tunknown\t/CN=x\n"
                       for s in serials)
        (self.base / "index.txt").write_text(rows)
        self.number += 1
        text = f"{self.number:X}"
        (self.base / "crlnumber").write_text("0" * (len(text) % 2) + text)
        subprocess.run([harness.program("openssl"), "ca", "-config", "ca.cnf", "-gencrl", "-cert", "issuer.pem",
                        "-keyfile", "issuer.key", "-out", "list.pem", *dates],
                       cwd=self.base, check=True, capture_output=True, timeout=30)
        return ssl.PEM_cert_to_DER_cert((self.base / "list.pem").read_text()
                                        .replace("X509 CRL", "CERTIFICATE"))


class Crl(unittest.TestCase):
    def setUp(self):
        self.base = scratch(self)
        self.web = Web(self)
        self.issuer = Issuer(self.base)
        self.roots = self.base / "roots.pem"
        self.roots.write_text(self.issuer.root.pem)

    def start(self, shards=2, **sections):
        sections.setdefault("delivery", {**FAST, **LOCAL})
        self.server = Ringpost(self, top={"shards": shards, "hostname": NAME}, **{'roots "test"': {"file": self.roots}},
                               **sections).start()
        self.addCleanup(self.server.stop)
        return self.server

    def lists(self):
        done = self.server.cli("tls", "crl", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return {one["url"]: one for one in map(json.loads, done.stdout.splitlines())}

    def wait_state(self, url, state, **fields):
        def there():
            one = self.lists().get(url, {})
            return one if one.get("state") == state and all(one.get(k) == v for k, v in fields.items()) else None
        return wait_for(there, lambda: f"{url} {state} {fields}; lists: {self.lists()}")

    def fetch(self, url):
        done = self.server.cli("tls", "crl", "fetch", url)
        self.assertEqual((done.returncode, done.stdout), (0, "1 list is fetched now\n"), done.stderr)


class Inbound(Crl):
    def serve(self, mode="hard", **sections):
        chain, key = pki.Authority().leaf(NAME).write(self.base, "server")
        self.inner = Peer(self)
        bank = {"type": "partner", "state": "enforce", "sender-domains": ["bank.example"], "cert-name": [BANK],
                "cert-roots": "test", "restrict": True, "on-mismatch": "reject", "cert-revocation": mode}
        return self.start(listeners={"in": {"certificates": ["t"]}},
                          outbound={"inner": self.inner.route()},
                          **{'certificate "t"': {"chain": chain, "key": key}, 'inbound "bank"': bank}, **sections)

    def attempt(self, certificate, sender="a@bank.example"):
        """The reply to RCPT."""
        client = self.server.client()
        client.hello()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(*map(str, certificate.write(self.base, "client")))
        client.expect(220, "STARTTLS")
        client.socket = context.wrap_socket(client.socket, server_hostname=NAME)
        client.hello()
        client.expect(250, f"MAIL FROM:<{sender}>")
        reply = client.cmd("RCPT TO:<rcpt@example.org>")
        client.cmd("QUIT")
        return reply

    def expect(self, certificate, code, token=""):
        reply = self.attempt(certificate)
        self.assertEqual((reply.code, f"[{token}]" in reply.text), (code, token != ""), reply)

    def test_hard(self):
        """I-35: unknown is deferred and the list fetched; the next attempt knows. A restart knows at
        once, from disk. A certificate that is revoked meanwhile is refused."""
        url = self.web.url("/bank.crl")
        good, bad = self.issuer.leaf(BANK, url=url), self.issuer.leaf(BANK, url=url)
        self.web.pages["/bank.crl"] = self.issuer.list(bad)
        server = self.serve()
        self.assertEqual(self.lists(), {})
        self.expect(good, 451, "revocation-unknown")
        found = self.wait_state(url, "good")
        self.assertEqual((found["issuer"], found["entries"], found["connector"]), (f"CN={self.issuer.name}", 1, "bank"))
        self.expect(good, 250)
        self.expect(bad, 550, "cert-revoked")
        refused = server.wait_log("refused", token="cert-revoked")[0]
        self.assertEqual((refused["revocation"], refused["connector"]), ("revoked", "bank"))
        self.assertIn("certificate 1 of 2 is revoked", refused["revocation_why"])
        self.assertEqual(server.metric('ringpost_crl_lists{state="good"}'), 1)

        asked = len(self.web.asked)
        server.stop()
        server.start()
        self.expect(good, 250)
        self.expect(bad, 550, "cert-revoked")
        self.assertEqual(len(self.web.asked), asked)

        self.web.pages["/bank.crl"] = self.issuer.list(good, bad)
        self.fetch(url)
        self.wait_state(url, "good", entries=2)
        self.expect(good, 550, "cert-revoked")

        # damage on disk is told, and costs one fetch
        server.stop()
        (file,) = (pathlib.Path(server.spool) / "crl").glob("*.crl")
        content = bytearray(file.read_bytes())
        content[-20] ^= 1
        file.write_bytes(content)
        server.start()
        self.assertEqual(server.wait_log("crl_damaged")[0]["removed"], 1)
        self.expect(good, 451, "revocation-unknown")
        self.wait_state(url, "good", entries=2)
        self.expect(good, 550, "cert-revoked")

    def test_lists_that_are_no_use(self):
        """What is not there, over, of somebody else or older than what we have leaves things unknown,
        or as they were; each is told. `check` says what the connector misses (L-17)."""
        url = self.web.url("/bank.crl")
        leaf = self.issuer.leaf(BANK, url=url)
        server = self.serve()
        self.expect(leaf, 451, "revocation-unknown")
        wait_for(lambda: self.web.asked, "the list to be asked for")
        server.wait_log("crl_failed", url=url)
        self.assertIn("404", self.wait_state(url, "missing", failures=1)["error"])
        over = ("-crl_lastupdate", "20240101000000Z", "-crl_nextupdate", "20240201000000Z")
        self.web.pages["/bank.crl"] = self.issuer.list(dates=over)
        self.fetch(url)
        self.assertIn("over since 2024-02-01", self.wait_state(url, "missing", failures=2)["error"])
        other = self.base / "other"
        other.mkdir()
        self.web.pages["/bank.crl"] = Issuer(other, "Somebody Else").list()
        self.fetch(url)
        self.assertIn("is of CN=Somebody Else", self.wait_state(url, "missing", failures=3)["error"])
        self.expect(leaf, 451, "revocation-unknown")
        self.assertEqual(server.metric('ringpost_crl_fetches_total{result="unusable"}'), 2)
        wait_for(lambda: "L-17" in server.cli("check").stderr + server.cli("check").stdout, "L-17 from check")

        new = self.issuer.list(leaf)
        older = self.issuer.list(dates=("-crl_lastupdate", "20240101000000Z", "-crlhours", "99999"))
        self.web.pages["/bank.crl"] = new
        self.fetch(url)
        self.wait_state(url, "good", failures=0)
        self.expect(leaf, 550, "cert-revoked")
        self.web.pages["/bank.crl"] = older
        self.fetch(url)
        self.assertIn("older than what we have", self.wait_state(url, "good", failures=1)["error"])
        self.expect(leaf, 550, "cert-revoked")
        self.assertNotIn("L-17", server.cli("check").stderr)

    def test_soft(self):
        """Unknown is taken and counted, known revoked refused; and nobody's list is fetched but of who
        would be let in: not a stranger's with a good certificate, nor one by an unknown root."""
        url, strange = self.web.url("/bank.crl"), self.web.url("/strange.crl")
        leaf = self.issuer.leaf(BANK, url=url)
        self.web.pages["/bank.crl"] = self.issuer.list(leaf)
        server = self.serve("soft")
        self.expect(self.issuer.leaf("other.example", url=strange), 550, "cert-name")
        other = self.base / "other"
        other.mkdir()
        self.expect(Issuer(other, "Unknown").leaf(BANK, url=strange), 550, "cert-untrusted")
        self.expect(leaf, 250)
        self.assertEqual(server.metric("ringpost_connector_revocation_unknown_total"), 1)
        self.wait_state(url, "good")
        self.expect(leaf, 550, "cert-revoked")
        self.assertEqual(self.web.asked, ["/bank.crl"])
        self.assertEqual(list(self.lists()), [url])

    def test_private_addresses_are_not_asked(self):
        """Where a certificate points to is written by a stranger: private networks are left alone."""
        url = self.web.url("/bank.crl")
        leaf = self.issuer.leaf(BANK, url=url)
        self.web.pages["/bank.crl"] = self.issuer.list()
        self.serve(delivery=FAST)
        self.expect(leaf, 451, "revocation-unknown")
        self.wait_state(url, "missing", failures=1)
        self.assertEqual(self.web.asked, [])

    def test_no_room(self):
        """What was asked for within the hour makes no room: the next list is not taken on, and counted."""
        one, two = self.web.url("/one.crl"), self.web.url("/two.crl")
        first, second = self.issuer.leaf(BANK, url=one), self.issuer.leaf(BANK, url=two)
        self.web.pages["/one.crl"] = self.web.pages["/two.crl"] = self.issuer.list()
        server = self.serve(crl={"lists": 1})
        self.expect(first, 451, "revocation-unknown")
        self.wait_state(one, "good")
        self.expect(second, 451, "revocation-unknown")
        server.wait_metric("ringpost_crl_full_total", 1)
        self.expect(first, 250)
        self.assertEqual((self.web.asked, list(self.lists())), (["/one.crl"], [one]))

    def test_short_lived(self):
        """I-36: six days and no pointer need no list; three months and no pointer are never known."""
        self.serve()
        self.expect(self.issuer.leaf(BANK, days=(-1, 5)), 250)
        self.expect(self.issuer.leaf(BANK), 451, "revocation-unknown")
        self.assertEqual(self.lists(), {})


class Outbound(Crl):
    def test_both_modes(self):
        """hard waits until the list is there, then delivers; a revoked host gets nothing, by either."""
        url = self.web.url("/hosts.crl")
        good, bad = self.issuer.leaf("good.test", url=url), self.issuer.leaf("bad.test", url=url)
        self.web.pages["/hosts.crl"] = self.issuer.list(bad)
        peers = {name: TlsPeer(self, server_context(leaf)) for name, leaf in (("good", good), ("bad", bad))}
        routes = {}
        for name, peer in peers.items():
            for mode in ("hard", "soft"):
                routes[f"{name}-{mode}"] = peer.route([f"{name}-{mode}.test"], tls="name", roots="test",
                                                      **{"tls-name": [f"{name}.test"], "tls-revocation": mode,
                                                         "max-per-connection": 1})
        server = self.start(shards=1, outbound=routes)
        server.send(recipients=["x@good-hard.test"])
        peers["good"].wait(1)
        failed = server.wait_log("destination_failed", destination="outbound:good-hard")[0]
        self.assertIn("its list has not been fetched", failed["why"])
        self.assertEqual(server.metric('ringpost_client_tls_faults_total{fault="revocation-unknown"}') > 0, True)
        server.send(recipients=["x@good-soft.test"])
        peers["good"].wait(2)
        server.send(recipients=["x@good-soft.test"])     # a resumed session is looked up again
        peers["good"].wait(3)
        resumed = 'ringpost_tls_handshakes_total{side="client",result="resumed"}'
        self.assertEqual(server.metric(resumed), 1)

        server.send(recipients=["x@bad-hard.test"])
        server.send(recipients=["x@bad-soft.test"])
        for mode in ("hard", "soft"):
            failed = server.wait_log("destination_failed", destination=f"outbound:bad-{mode}")[0]
            self.assertIn("is revoked", failed["why"])
        self.assertEqual(peers["bad"].messages, [])

        self.web.pages["/hosts.crl"] = self.issuer.list(good, bad)
        self.fetch(url)
        self.wait_state(url, "good", entries=2)
        server.send(recipients=["x@good-soft.test"])
        failed = server.wait_log("destination_failed", destination="outbound:good-soft")[0]
        self.assertIn("is revoked", failed["why"])
        self.assertEqual((len(peers["good"].messages), server.metric(resumed)), (3, 1))


if __name__ == "__main__":
    harness.main()
