"""test_tls_cli.py - ringpost tls rotate, tls probe, cert show, cert make: what an operator asks about TLS"""
import contextlib
import datetime
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

import harness
from harness import Ringpost, free_port, program


def certificate(server, *names, more=(), name=None):
    """A self-signed pair by `ringpost cert make`; (chain, key)."""
    words = ["cert", "make", "--out", str(server.directory / "tls"), *more]
    for each in names:
        words += ["--name", each]
    done = server.cli(*words, config=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    first = server.directory / "tls" / names[0].replace("*", "wildcard")
    return first.with_name(first.name + ".pem"), first.with_name(first.name + ".key")


class Authority:
    """A root, an intermediate, and leaves below it, by openssl."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        self.root = directory / "Root.pem"
        self.make("Root", None, "basicConstraints=critical,CA:TRUE")
        self.make("Middle", "Root", "basicConstraints=critical,CA:TRUE")

    def make(self, name, issuer, extensions, days=30):
        path = self.directory / f"{name}.pem"
        key = path.with_suffix(".key")
        (self.directory / "extensions").write_text(extensions + "\n")
        run = lambda *words: subprocess.run([program("openssl"), *map(str, words)], check=True, capture_output=True)
        run("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
        key.chmod(0o600)
        run("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", path.with_suffix(".csr"))
        (self.directory / "index").write_text("")
        (self.directory / "serial").write_text(os.urandom(8).hex() + "\n")
        (self.directory / "ca.conf").write_text(
            f"[ca]\ndefault_ca=ca\n[ca]\ndatabase={self.directory}/index\nserial={self.directory}/serial\n"
            f"new_certs_dir={self.directory}\ndefault_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n")
        when = lambda d: (datetime.datetime.now(datetime.timezone.utc)
                          + datetime.timedelta(days=d)).strftime("%Y%m%d%H%M%SZ")
        signer = issuer or name
        own = ["-selfsign"] if issuer is None else ["-cert", self.directory / f"{signer}.pem"]
        run("ca", "-batch", "-config", self.directory / "ca.conf", "-in", path.with_suffix(".csr"), "-out", path,
            "-notext", "-keyfile", self.directory / f"{signer}.key", *own, "-extfile", self.directory / "extensions",
            "-startdate", when(-20), "-enddate", when(days))
        return path, key

    def leaf(self, name, days=30, names=None):
        path, key = self.make(name, "Middle", "subjectAltName=" + ",".join(f"DNS:{n}" for n in names or [name]), days)
        with open(path, "a", encoding="ascii") as chain:
            chain.write((self.directory / "Middle.pem").read_text())
        return path, key


class Tls(unittest.TestCase):
    def ringpost(self, certificates=("mx.flow.test",), listener=None, **config):
        """Not started; each name has a certificate of its own, its title is the name."""
        server = Ringpost(self, **config)
        for each in certificates:
            chain, key = certificate(server, each)
            server.sections[f'certificate "{each}"'] = {"chain": chain, "key": key}
        if certificates:
            server.listeners = {"in": {"certificates": list(certificates), **(listener or {})}}
        server.write_config()
        return server

    def refused(self, done, *words, status=1):
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        for each in words:
            self.assertIn(each, done.stderr + done.stdout)


class Rotate(Tls):
    def test_usage(self):
        server = Ringpost(self)
        for words in (("tls",), ("tls", "burn"), ("tls", "rotate", "surplus"), ("tls", "rotate", "--no")):
            self.refused(server.cli(*words, config=False), "rotate", status=2)
        for words in (("tls", "--help"), ("tls", "rotate", "--help")):
            done = server.cli(*words, config=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)

    def test_without_server(self):
        self.refused(Ringpost(self).cli("tls", "rotate"), "admin.sock")

    def test_rotates(self):
        server = self.ringpost().start()
        before = server.metric("ringpost_tls_ticket_rotations_total")
        done = server.cli("tls", "rotate")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("rotated", done.stdout)
        self.assertEqual(server.metric("ringpost_tls_ticket_rotations_total"), before + 1)
        self.assertEqual(server.http("/v1/tls/rotate", "POST")[0], 403)
        self.assertEqual(server.http("/v1/tls/rotate", unix=True)[0], 404)
        self.assertEqual(server.http("/v1/tls/rotate", "POST", unix=True)[0], 200)
        server.stop()

    def test_no_tickets(self):
        server = self.ringpost(tls={"tickets": False}).start()
        self.refused(server.cli("tls", "rotate"), "tickets = no")
        server.stop()

    def test_file_of_a_fleet(self):
        server = self.ringpost()
        keys = server.directory / "fleet" / "tickets"
        keys.parent.mkdir(mode=0o700)
        server.sections["tls"] = {"ticket-key-file": keys}
        server.write_config()
        server.start()
        first = keys.read_bytes()
        self.assertEqual(server.cli("tls", "rotate").returncode, 0)
        self.assertNotEqual(keys.read_bytes(), first)
        self.assertEqual(keys.stat().st_mode & 0o777, 0o600)
        keys.unlink()
        keys.parent.rmdir()
        self.refused(server.cli("tls", "rotate"), str(keys))
        server.stop()


@harness.one_thread("the command line")
class CertMake(Tls):
    def test_usage(self):
        server = Ringpost(self)
        out = ("--out", str(server.directory / "tls"))
        for words in (("cert",), ("cert", "burn"), ("cert", "make"), ("cert", "make", "--name", "a.example"),
                      ("cert", "make", *out), ("cert", "make", *out, "--name", "a b"),
                      ("cert", "make", *out, "--name", "192.0.2.1"), ("cert", "make", *out, "--name", "[::1]"),
                      ("cert", "make", *out, "--name", "a.example", "--days", "0"),
                      ("cert", "make", *out, "--name", "a.example", "--days", "many"),
                      ("cert", "make", *out, "--name", "a.example", "surplus"),
                      ("cert", "make", *out, *("--name", "a.example") * 33)):
            self.refused(server.cli(*words, config=False), status=2)
        for words in (("cert", "--help"), ("cert", "make", "--help"), ("cert", "show", "--help")):
            done = server.cli(*words, config=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)
        self.assertFalse((server.directory / "tls").exists())

    def test_pair(self):
        server = Ringpost(self)
        chain, key = certificate(server, "mx.flow.test", "*.flow.test", more=("--days", "10"))
        self.assertEqual(key.stat().st_mode & 0o777, 0o600)
        openssl = [program("openssl"), "x509", "-in", str(chain), "-noout"]
        text = subprocess.run([*openssl, "-text"], capture_output=True, text=True, check=True).stdout
        self.assertIn("DNS:mx.flow.test, DNS:*.flow.test", text)
        self.assertIn("CA:FALSE", text)
        week, fortnight = (subprocess.run([*openssl, "-checkend", str(days * 86400)], check=False,
                                          capture_output=True).returncode for days in (7, 14))
        self.assertEqual((week, fortnight), (0, 1))

    def test_rsa_and_a_name_of_another_script(self):
        server = Ringpost(self)
        chain, _ = certificate(server, "*.xn--bcher-kva.example", more=("--rsa",))
        self.assertEqual(server.cli("cert", "make", "--out", str(server.directory / "x"), "--name",
                                    "bücher.example", config=False).returncode, 0)
        self.assertTrue((server.directory / "x" / "xn--bcher-kva.example.pem").exists())
        self.assertEqual(json.loads(server.cli("cert", "show", "--json", str(chain), config=False).stdout)
                         ["certificates"][0]["key"], "RSA 2048 bits")

    def test_nothing_is_overwritten(self):
        server = Ringpost(self)
        chain, key = certificate(server, "a.example")
        before = chain.read_bytes(), key.read_bytes()
        again = ("cert", "make", "--out", str(chain.parent), "--name", "a.example")
        self.refused(server.cli(*again, config=False), "overwritten")
        self.assertEqual((chain.read_bytes(), key.read_bytes()), before)
        key.unlink()
        self.refused(server.cli(*again, config=False), "overwritten")
        self.assertFalse(key.exists())      # not half a pair
        self.assertEqual(chain.read_bytes(), before[0])

    def test_nowhere_to_write(self):
        server = Ringpost(self)
        (server.directory / "file").write_text("")
        for out in ("file", "file/below", "not/there"):
            self.refused(server.cli("cert", "make", "--out", str(server.directory / out), "--name", "a.example",
                                    config=False), out)


@harness.one_thread("the command line")
class CertShow(Tls):
    def show(self, server, *words, config=True):
        done = server.cli("cert", "show", "--json", *words, config=config)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)["certificates"]

    def test_usage(self):
        self.refused(Ringpost(self).cli("cert", "show", "--no-such"), status=2)

    def test_configuration(self):
        route = {"store": {"domains": ["store.test"], "hosts": ["store.test"], "tls": "encrypt",
                           "client-certificate": "mx.flow.test"}}
        server = self.ringpost(("mx.flow.test", "other.test"), outbound=route)
        server.sections['certificate "spare"'] = server.sections['certificate "other.test"']
        server.write_config()
        mx, other, spare = self.show(server)
        self.assertEqual(mx["used_by"], ["listener in", "outbound store"])
        self.assertEqual(mx["names"], ["mx.flow.test"])
        self.assertEqual(mx["tlsa"], [f"_{server.port}._tcp.mx.flow.test. IN TLSA 3 1 1 {mx['pin']}"])
        self.assertEqual(mx["key"], "ECDSA P-256")
        self.assertIn(mx["days_left"], (89, 90))    # whole ones, and some seconds are over
        self.assertEqual(mx["key_file"], str(server.directory / "tls" / "mx.flow.test.key"))
        self.assertIn("self-signed", mx["verdict"])
        fingerprint = subprocess.run([program("openssl"), "x509", "-in", mx["chain_file"], "-noout",
                                      "-fingerprint", "-sha256"], capture_output=True, text=True, check=True).stdout
        self.assertEqual(fingerprint.split("=")[1].strip().replace(":", "").lower(), mx["fingerprint"])
        self.assertTrue([w for w in other["warnings"] if "has no name for mx.flow.test" in w], other)
        self.assertIn("no listener and no connector uses it", spare["warnings"])
        self.assertEqual([c["title"] for c in self.show(server, "other.test")], ["other.test"])
        text = server.cli("cert", "show").stdout
        for words in ("mx.flow.test\n  used by     listener in, outbound store\n", mx["pin"], mx["tlsa"][0],
                      " days left", "WARNING     does not verify"):
            self.assertIn(words, text)

    def test_no_certificates(self):
        server = Ringpost(self)
        done = server.cli("cert", "show")
        self.assertEqual(done.returncode, 0)
        self.assertIn("no certificates", done.stdout)
        self.assertEqual(self.show(server), [])

    def test_unknown_title(self):
        self.refused(self.ringpost().cli("cert", "show", "nobody"), 'no certificate "nobody"')

    def test_mistakes_in_files(self):
        server = self.ringpost()
        chain, key = (server.directory / "tls" / f"mx.flow.test.{end}" for end in ("pem", "key"))
        key.chmod(0o644)
        self.refused(server.cli("cert", "show"), "may be read by others", "chmod 600")
        key.unlink()
        self.refused(server.cli("cert", "show"), str(key))
        self.assertEqual(self.show(server, str(chain), config=False)[0]["names"], ["mx.flow.test"])
        chain.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.refused(server.cli("cert", "show", str(chain), config=False), str(chain))
        self.refused(server.cli("cert", "show", "/not/there.pem", config=False), "/not/there.pem")
        self.refused(server.cli("cert", "show", "-c", "/not/there.conf", config=False), "/not/there.conf")

    def test_chain_of_an_authority(self):
        server = Ringpost(self)
        pki = Authority(server.directory / "pki")
        chain, _ = pki.leaf("mx.flow.test", days=4.5)
        shown, = self.show(server, str(chain), config=False)
        self.assertEqual([c["subject"] for c in shown["chain"]], ["CN=mx.flow.test", "CN=Middle"])
        self.assertEqual([r.split()[3:6] for r in shown["tlsa"]], [["3", "1", "1"], ["2", "1", "1"]])
        self.assertTrue([w for w in shown["warnings"] if w.startswith("expires in 4 days")], shown["warnings"])
        chain, _ = pki.leaf("old.flow.test", days=-5)
        shown, = self.show(server, str(chain), config=False)
        self.assertTrue([w for w in shown["warnings"] if w.startswith("expired on ")], shown["warnings"])
        self.assertLess(shown["days_left"], 0)
        self.assertIn("days over", server.cli("cert", "show", str(chain), config=False).stdout)


class Host:
    """A next hop that does to STARTTLS what the test says: a context for real TLS, or octets."""

    def __init__(self, test, context=None, answer=b"220 go\r\n", ehlo=b"250-host\r\n250 STARTTLS\r\n",
                 greeting=b"220 host\r\n", after=b""):
        self.context, self.answer, self.ehlo, self.greeting, self.after = context, answer, ehlo, greeting, after
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.connections = 0
        test.addCleanup(self.listening.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        s.settimeout(harness.WAIT_SECONDS)
        with contextlib.suppress(OSError):
            s.sendall(self.greeting)
            self.talk(s, s.makefile("rb"))
        with contextlib.suppress(OSError):
            s.close()

    def talk(self, s, lines):
        for line in lines:
            verb = line.split()[0].upper()
            if verb == b"STARTTLS":
                s.sendall(self.answer)
                if not self.answer.startswith(b"220"):
                    continue
                s.sendall(self.after)
                if self.context is not None:
                    tls = self.context.wrap_socket(s, server_side=True)
                    self.talk(tls, tls.makefile("rb"))
                return
            s.sendall(self.ehlo if verb in (b"EHLO", b"LHLO") else b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return


@harness.one_thread("the command line")
class Probe(Tls):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-probe."))
        cls.pki = Authority(cls.directory / "pki")
        cls.chain, cls.key = cls.pki.leaf("host.flow.test", names=["host.flow.test", "*.below.test"])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.directory)

    def setUp(self):
        self.server = Ringpost(self)    # for its directory and cli(); not started
        self.server.listeners = {"in": {}}

    def context(self, chain=None, key=None, **more):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain or self.chain, key or self.key)
        for name, value in more.items():
            setattr(context, name, value)
        return context

    def route(self, port, **keys):
        """A configuration whose route leads to that port, with our roots."""
        self.server.sections['roots "own"'] = {"file": self.pki.root}
        self.server.outbound = {"host": {"domains": ["d.test"], "hosts": [f"127.0.0.1:{port}"], "roots": "own", **keys}}
        self.server.write_config()

    def probe(self, port, *words, status=0, config=False):
        done = self.server.cli("tls", "probe", "--json", *words, f"127.0.0.1:{port}", config=config)
        self.assertEqual((done.returncode, done.stderr), (status, ""), done.stdout)
        result = json.loads(done.stdout)
        self.assertEqual(result["ok"], status == 0)
        self.assertEqual(result["why"] == "", status == 0)
        people = self.server.cli("tls", "probe", *words, f"127.0.0.1:{port}", config=config)
        self.assertEqual((people.returncode, people.stderr), (status, ""))
        self.assertIn("is met" if status == 0 else "is NOT met", people.stdout)
        result["people"] = people.stdout
        return result

    def test_usage(self):
        for words in ((), ("a.example", "b.example"), ("--level", "most", "a.example"), ("mx",), ("mx:a.example",),
                      ("a b",), ("a.example:0",), ("--port", "0", "a.example"), ("--port", "26", "a.example:25"),
                      ("--timeout", "0", "a.example"), ("--name", "a b", "a.example"), ("--domain", "..", "a.example"),
                      ("--implicit", "--level", "may", "192.0.2.1"), ("--level", "name", "192.0.2.1"), ("--burn",)):
            self.refused(self.server.cli("tls", "probe", *words, config=False), status=2)
        done = self.server.cli("tls", "probe", "--help", config=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_nobody_there(self):
        result = self.probe(free_port(), status=1)
        self.assertIsNone(result["satisfies"])
        self.assertIn("refused", result["why"])

    def test_broken_configuration(self):
        self.server.config_path.write_text("nonsense = 1\n")
        self.refused(self.server.cli("tls", "probe", "127.0.0.1"), "nonsense")

    def test_in_clear(self):
        host = Host(self, ehlo=b"250-host\r\n250 SIZE 5\r\n")
        result = self.probe(host.port)
        self.assertEqual((result["satisfies"], result["starttls"], result["secured"]), ("may", False, False))
        self.assertEqual(result["ehlo"], ["SIZE 5"])
        self.assertIn("not offered", result["people"])
        result = self.probe(host.port, "--level", "encrypt", status=1)
        self.assertEqual((result["satisfies"], result["attempts"][0]["fault"]), ("may", "starttls-none"))
        self.probe(host.port, "--level", "none")
        self.route(host.port, cleartext="never")
        self.probe(host.port, config=True, status=1)

    def test_all_of_it(self):
        host = Host(self, self.context())
        self.route(host.port, **{"tls": "name", "tls-name": ["host.flow.test"]})
        result = self.probe(host.port, config=True)
        self.assertEqual((result["connector"], result["level"], result["satisfies"]), ("host", "name", "name"))
        self.assertEqual((result["verdict"], result["root"]), ("valid", "CN=Root"))
        self.assertEqual(result["name"], {"ok": True, "matched": "host.flow.test", "why": ""})
        self.assertEqual([c["subject"] for c in result["certificates"]], ["CN=host.flow.test", "CN=Middle"])
        leaf = result["certificates"][0]
        self.assertEqual((leaf["names"], leaf["key"]), (["host.flow.test", "*.below.test"], "ECDSA P-256"))
        tls = result["tls"]
        self.assertEqual((tls["version"], tls["resumed"], tls["hello_retry"]), ("TLSv1.3", False, False))
        self.assertTrue(tls["suite"].startswith("TLS_AES_") or "CHACHA" in tls["suite"])
        self.assertGreater(tls["handshake_ms"], 0)
        self.assertTrue(result["resumption"]["resumed"], result["resumption"])
        self.assertEqual(result["greeting"], ["220 host"])
        for words in ("TLSv1.3", leaf["pin"], "fits: host.flow.test", "yes, in", "satisfies name; level name is met"):
            self.assertIn(words, result["people"])

    def test_names(self):
        host = Host(self, self.context())
        self.route(host.port, tls="chain")
        result = self.probe(host.port, "--name", "other.test", config=True)
        self.assertEqual((result["satisfies"], result["name"]["ok"]), ("chain", False))
        result = self.probe(host.port, "--level", "name", "--name", "other.test", config=True, status=1)
        self.assertEqual((result["satisfies"], result["attempts"][0]["fault"]), ("chain", "name"))
        self.assertIn("wanted other.test", result["why"])
        self.probe(host.port, "--level", "name", "--name", "other.test", "--name", "a.below.test", config=True)
        result = self.probe(host.port, "--domain", "below.test", "--level", "may", config=True)
        self.assertEqual((result["connector"], result["names"]), ("", ["below.test", "*.below.test"]))
        result = self.probe(host.port, "--domain", "d.test", config=True)
        self.assertEqual(result["connector"], "host")

    def test_whom_nobody_vouches_for(self):
        host = Host(self, self.context())
        result = self.probe(host.port)      # by the system's roots
        self.assertEqual((result["satisfies"], result["verdict"]), ("encrypt", "untrusted"))
        self.assertIn("CN=Root", result["reason"])
        self.probe(host.port, "--level", "encrypt")
        result = self.probe(host.port, "--level", "chain", status=1)
        self.assertEqual((result["satisfies"], result["attempts"][0]["fault"]), ("encrypt", "chain"))
        self.assertEqual(len(result["attempts"]), 1)    # a certificate does not get better

    def test_expired(self):
        chain, key = self.pki.leaf("old.flow.test", days=-5)
        host = Host(self, self.context(chain, key))
        self.route(host.port, tls="chain")
        result = self.probe(host.port, config=True, status=1)
        self.assertEqual((result["satisfies"], result["verdict"]), ("encrypt", "expired"))
        self.assertIn("expired", result["why"])
        self.assertLess(result["certificates"][0]["days_left"], 0)

    def test_old_and_odd(self):
        host = Host(self, self.context(maximum_version=ssl.TLSVersion.TLSv1_2))
        result = self.probe(host.port, "--level", "encrypt")
        self.assertEqual((result["tls"]["version"], result["satisfies"]), ("TLSv1.2", "encrypt"))
        self.assertTrue(result["resumption"]["resumed"], result["resumption"])
        context = self.context()
        context.set_ecdh_curve("prime256v1")
        result = self.probe(Host(self, context).port)
        self.assertEqual((result["tls"]["group"], result["tls"]["hello_retry"]), ("P-256", True))
        context = self.context(maximum_version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers("ECDHE+AES+SHA:@SECLEVEL=0")
        result = self.probe(Host(self, context).port)
        self.assertEqual(result["satisfies"], "may")    # with AES-CBC
        self.probe(Host(self, context).port, "--level", "encrypt", status=1)
        context = self.context(options=ssl.OP_NO_TICKET, num_tickets=0)
        result = self.probe(Host(self, context).port)
        self.assertFalse(result["resumption"]["resumed"])

    def test_faults_of_starttls(self):
        for host, fault, words in (
                (Host(self, answer=b"454 4.7.0 not now\r\n"), "starttls-refused", "454 4.7.0 not now"),
                (Host(self, after=b"250 injected\r\n", answer=b"220 go\r\n"), "starttls-injected", ""),
                (Host(self, after=b"", answer=b"220 go\r\n"), "handshake", "TLS handshake: ")):
            with self.subTest(fault):
                result = self.probe(host.port, "--timeout", "20", status=1)
                if fault == "starttls-injected" and result["attempts"][-1]["fault"] == "handshake":
                    continue    # it came a little later, as the beginning of the handshake
                self.assertEqual(result["attempts"][-1]["fault"], fault)
                self.assertIn(words, result["why"])
                self.assertEqual((result["satisfies"], result["secured"]), ("may", False))
                if fault == "handshake":
                    steps = [a["step"] for a in result["attempts"]]
                    self.assertEqual((steps[0], steps[-1]), ("all", "tls-1.2"))
                    self.assertIn("in clear, at its second attempt", result["why"])

    def test_refused_and_silent(self):
        result = self.probe(Host(self, greeting=b"554 no service\r\n").port, status=1)
        self.assertIn("554 no service", result["why"])
        self.assertEqual(result["greeting"], ["554 no service"])
        result = self.probe(Host(self, ehlo=b"550 go away\r\n").port, status=1)
        self.assertEqual(result["refused"], ["550 go away"])
        result = self.probe(Host(self, greeting=b"").port, "--timeout", "1", status=1)
        self.assertIn("timed out", result["why"])
        result = self.probe(Host(self, greeting=b"220-host \xff\x1b[2J\r\n220 x\r\n", ehlo=b"250 x\r\n").port)
        self.assertNotIn("\x1b", result["people"])

    def test_a_ringpost(self):
        server = self.ringpost(("mx.flow.test",))
        server.sections["spool"] = {"directory": server.spool}
        implicit = free_port()
        server.listeners["smtps"] = {"addresses": [f"127.0.0.1:{implicit}"], "certificates": ["mx.flow.test"],
                                     "tls": "implicit"}
        server.write_config()
        server.start()
        result = self.probe(server.port, "--level", "encrypt")
        self.assertTrue(result["tls"]["key_share_pooled"])
        self.assertTrue(result["resumption"]["resumed"])
        self.assertNotIn("STARTTLS", result["ehlo_tls"])
        result = self.probe(implicit, "--implicit")
        self.assertEqual((result["level"], result["satisfies"]), ("encrypt", "encrypt"))
        self.probe(implicit, "--timeout", "1", status=1)
        server.stop()


if __name__ == "__main__":
    harness.main()
