"""test_tls_cli.py - ringpost tls rotate, tls probe, cert show, cert make: what an operator asks about TLS"""
import datetime
import json
import os
import pathlib
import socket
import ssl
import subprocess
import threading
import unittest

import harness
from harness import Ringpost, free_port, program, quoted, section


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
        server = self.ringpost(("mx.flow.test", "other.test"), routes=route)
        server.sections['certificate "spare"'] = server.sections['certificate "other.test"']
        server.write_config()
        mx, other, spare = self.show(server)
        self.assertEqual(mx["used_by"], ["listener in", "route store"])
        self.assertEqual(mx["names"], ["mx.flow.test"])
        self.assertEqual(mx["tlsa"], [f"_{server.port}._tcp.mx.flow.test. IN TLSA 3 1 1 {mx['pin']}"])
        self.assertEqual((mx["key"], mx["days_left"]), ("ECDSA P-256", 90))
        self.assertEqual(mx["key_file"], str(server.directory / "tls" / "mx.flow.test.key"))
        self.assertIn("self-signed", mx["verdict"])
        fingerprint = subprocess.run([program("openssl"), "x509", "-in", mx["chain_file"], "-noout",
                                      "-fingerprint", "-sha256"], capture_output=True, text=True, check=True).stdout
        self.assertEqual(fingerprint.split("=")[1].strip().replace(":", "").lower(), mx["fingerprint"])
        self.assertTrue([w for w in other["warnings"] if "has no name for mx.flow.test" in w], other)
        self.assertIn("no listener and no route uses it", spare["warnings"])
        self.assertEqual([c["title"] for c in self.show(server, "other.test")], ["other.test"])
        text = server.cli("cert", "show").stdout
        for words in ("mx.flow.test\n  used by     listener in, route store\n", mx["pin"], mx["tlsa"][0],
                      "90 days left", "WARNING     does not verify"):
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


if __name__ == "__main__":
    harness.main()
