"""test_cert.py - ringpost cert publish, rehearse and roots, by chains of a real authority

The authority is openssl's: it issues, revokes, signs CRLs, which a web server of the test gives out,
and answers as an OCSP responder.
"""
import datetime
import hashlib
import html.parser
import http.server
import json
import os
import pathlib
import re
import subprocess
import threading
import unittest

import harness
from harness import Ringpost, free_port, program
from test_dns import Nsd

ZONE = "$ORIGIN flow.example.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"


def openssl(*words, **more):
    return subprocess.run([program("openssl"), *map(str, words)], check=True, capture_output=True, **more).stdout


def when(days):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")


def day(days):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)).strftime("%Y-%m-%d")


def ends(path, which="-enddate"):
    """When a certificate ends, or begins, since the epoch."""
    words = openssl("x509", "-in", path, "-noout", which).decode().split("=")[1].strip()
    return datetime.datetime.strptime(words, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=datetime.timezone.utc).timestamp()


def date(seconds):
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d")


def spki(path):
    """SHA-256 of the public key, as openssl has it."""
    key = openssl("x509", "-in", path, "-noout", "-pubkey")
    return hashlib.sha256(openssl("pkey", "-pubin", "-outform", "DER", input=key)).hexdigest()


class Authority:
    """What `openssl ca` needs to issue, in a directory; crl and ocsp: where its certificates point to."""

    def __init__(self, base, name, under=None, crl=None, ocsp=None):
        self.base, self.name, self.crl_url, self.ocsp_url = base / name, name, crl, ocsp
        self.base.mkdir(parents=True)
        (self.base / "index").write_text("")
        (self.base / "serial").write_text(os.urandom(8).hex() + "\n")
        (self.base / "crlnumber").write_text("01\n")
        (self.base / "conf").write_text(
            f"[ca]\ndefault_ca=ca\n[ca]\ndatabase={self.base}/index\nserial={self.base}/serial\n"
            f"crlnumber={self.base}/crlnumber\nnew_certs_dir={self.base}\ndefault_md=sha256\npolicy=any\n"
            f"default_crl_days=5\nunique_subject=no\ncertificate={self.base}/ca.pem\nprivate_key={self.base}/ca.key\n"
            "[any]\ncommonName=optional\norganizationName=optional\norganizationalUnitName=optional\n")
        self.pem, self.key = self.base / "ca.pem", self.base / "ca.key"
        self.chain = []
        if under is None:
            openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.key,
                    "-out", self.pem, "-subj", f"/O=Flow Trust/CN={name}", "-days", "3650", "-addext",
                    "keyUsage=critical,keyCertSign,cRLSign")
        else:
            path, key = under.issue(name, subject=f"/O=Flow Trust/CN={name}", days=(-5, 700), chain=False, extensions=(
                "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"))
            path.rename(self.pem)
            key.rename(self.key)
            self.chain = [self.pem]

    def issue(self, name, names=(), subject=None, days=(-1, 90), kind="ec", chain=True, key=None, extensions=(),
              usage="serverAuth,clientAuth"):
        """(chain, key); kind: ec, or the bits of an RSA key; key: one that is there."""
        path = self.base / f"{name}.pem"
        if key is None:
            key = path.with_suffix(".key")
            if kind == "ec":
                openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
            else:
                openssl("genrsa", "-out", key, kind)
            key.chmod(0o600)
        lines = list(extensions) or ["basicConstraints=CA:FALSE", f"extendedKeyUsage={usage}"]
        if names:
            lines.append("subjectAltName=" + ",".join(f"DNS:{n}" for n in names))
        if self.crl_url:
            lines.append(f"crlDistributionPoints=URI:{self.crl_url}")
        if self.ocsp_url:
            lines.append(f"authorityInfoAccess=OCSP;URI:{self.ocsp_url},caIssuers;URI:http://aia.flow.test/{self.name.replace(' ', '-')}.cer")
        (self.base / "extensions").write_text("\n".join(lines) + "\n")
        openssl("req", "-new", "-key", key, "-utf8", "-subj", subject or f"/CN={name}", "-out", path.with_suffix(".csr"))
        openssl("ca", "-batch", "-config", self.base / "conf", "-in", path.with_suffix(".csr"), "-out", path, "-notext",
                "-preserveDN", "-extfile", self.base / "extensions", "-startdate", when(days[0]), "-enddate", when(days[1]))
        if chain:
            path.write_text(path.read_text() + "".join(p.read_text() for p in self.chain))
        return path, key

    def revoke(self, path):
        openssl("ca", "-config", self.base / "conf", "-revoke", path)

    def answer(self, request):
        """As an OCSP responder."""
        asked, told = self.base / "request", self.base / "response"
        asked.write_bytes(request)
        openssl("ocsp", "-index", self.base / "index", "-CA", self.pem, "-rsigner", self.pem, "-rkey", self.key,
                "-reqin", asked, "-respout", told, "-ndays", "1")
        return told.read_bytes()

    def crl(self, *more):
        openssl("ca", "-config", self.base / "conf", "-gencrl", "-out", self.base / "crl.pem", *more)
        return openssl("crl", "-in", self.base / "crl.pem", "-outform", "DER")


class Web:
    """Gives out files by their paths, and what answers[path] makes of a POST; 404 for others. asked: the
    paths that came."""

    def __init__(self, test):
        self.files, self.answers, self.asked = {}, {}, []
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.give(web.files.get(self.path))

            def do_POST(self):
                asked = self.rfile.read(int(self.headers["Content-Length"]))
                answer = web.answers.get(self.path)
                self.give(answer and self.headers["Content-Type"] == "application/ocsp-request" and answer(asked) or None)

            def give(self, body):
                web.asked.append(self.path)
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_):
                pass
        self.port = free_port()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        test.addCleanup(self.server.server_close)
        test.addCleanup(self.server.shutdown)
        self.url = f"http://127.0.0.1:{self.port}"


class Cert(unittest.TestCase):
    def setUp(self):
        self.server = Ringpost(self)
        self.base = self.server.directory / "pki"

    def authorities(self, crl=None, ocsp=None):
        self.root = Authority(self.base, "Flow Root", crl=crl and f"{crl}/root.crl")
        self.middle = Authority(self.base, "Flow CA", self.root, crl and f"{crl}/ca.crl", ocsp)
        (self.base / "roots.pem").write_text(self.root.pem.read_text())
        self.server.sections['roots "flow"'] = {"file": self.base / "roots.pem"}

    def present(self, chain, key, title="node", **more):
        """The certificate of the listener."""
        self.server.sections[f'certificate "{title}"'] = {"chain": chain, "key": key, **more}
        listed = [s.split('"')[1] for s in self.server.sections if s.startswith("certificate ")]
        self.server.listeners = {"in": {"certificates": listed}}
        self.server.write_config()

    def say(self, *words, status=0):
        done = self.server.cli("cert", *words)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout

    def refused(self, words, *parts, status=1):
        done = self.server.cli("cert", *words)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        for part in parts:
            self.assertIn(part, done.stderr + done.stdout)


class Page(html.parser.HTMLParser):
    """Texts of the cells, row by row; tags that a page without anything else may have."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "br":
            self.rows[-1][-1] += "\n"

    def handle_data(self, data):
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


@harness.one_thread("the command line")
class Publish(Cert):
    def test_usage(self):
        for words in (("publish", "--no-such"), ("publish", "--html", "--json")):
            self.refused(words, "cert publish", status=2)
        self.refused(("publish", "nobody"), 'no certificate "nobody"')

    def prepare(self, organisation="Flow Mail"):
        self.authorities("http://crl.flow.test", "http://ocsp.flow.test:8080/ask")
        self.now, key = self.middle.issue("now", ["mx.flow.test"], f"/O={organisation}/OU=Post/CN=mx.flow.test")
        self.next, next_key = self.middle.issue("next", ["mx.flow.test", "mx2.flow.test"], days=(-1, 180))
        self.old, _ = self.middle.issue("old", ["mx.flow.test"], days=(-80, 10))
        self.change = day(30)
        self.present(self.now, key, next=self.next, deprecated=[self.old], **{"next-key": next_key, "change-on": self.change})

    def test_table(self):
        self.prepare()
        self.server.outbound = {"bank": {"domains": ["bank.test"], "hosts": ["mx.bank.test"], "tls": "encrypt",
                                         "client-certificate": "node"}}
        self.server.write_config()
        told = json.loads(self.say("publish", "--json"))
        node, = told["certificates"]
        self.assertEqual(node["used_by"], ["listener in", "outbound bank"])
        now, new, old = node["columns"]
        self.assertEqual([c["role"] for c in node["columns"]], ["current", "next", "deprecated"])
        self.assertEqual((now["presented"], new["presented"]), (f"now, until {self.change}", f"from {self.change} on: to be recorded beside the current one before"))
        self.assertEqual((now["organisation"], now["unit"], now["names"]), (["Flow Mail"], ["Post"], ["mx.flow.test"]))
        self.assertEqual([now["not_before"], now["not_after"]], [date(ends(self.now, "-startdate")), date(ends(self.now))])
        self.assertIn("CN=Flow Root", now["root"])
        fingerprint = openssl("x509", "-in", self.root.pem, "-noout", "-fingerprint", "-sha256").decode()
        self.assertEqual(now["root_sha256"], fingerprint.split("=")[1].strip().replace(":", "").lower())
        for column, path in ((now, self.now), (new, self.next), (old, self.old)):
            at = f"_{self.server.port}._tcp.mx.flow.test. IN TLSA"
            self.assertEqual(column["pin"], f"sha256:{spki(path)}")
            self.assertEqual(column["tlsa"], [f"{at} 3 1 1 {spki(path)}", f"{at} 2 1 1 {spki(self.middle.pem)}"])
            self.assertEqual(column["crl"], ["http://crl.flow.test/ca.crl", "http://crl.flow.test/root.crl"])
            self.assertEqual(column["ocsp"], ["http://ocsp.flow.test:8080/ask"])
            self.assertEqual(column["issuers"], ["http://aia.flow.test/Flow-CA.cer"])
        self.assertEqual(told["firewall"], ["crl.flow.test:80", "ocsp.flow.test:8080", "aia.flow.test:80"])
        self.assertTrue(any("publish the TLSA records of both" in h and self.change in h for h in node["hints"]), node["hints"])
        text = self.say("publish")
        for words in (now["pin"], new["pin"], "ocsp.flow.test:8080", "Root issuer"):
            self.assertIn(words, text)
        self.assertNotIn("publish the TLSA", text)      # that is for us
        self.refused(("publish",), "publish the TLSA records of both", status=0)
        one, = json.loads(self.say("publish", "--json", "node"))["certificates"]
        self.assertEqual([c["fingerprint"] for c in one["columns"]], [c["fingerprint"] for c in node["columns"]])

    def test_markup_in_names_is_none(self):
        self.prepare(organisation="<script>alert(1)<\\/script> & a|b `x` é")
        page = Page(self.say("publish", "--html"))
        rows = {row[0]: [cell.strip() for cell in row[1:]] for row in page.rows}
        self.assertEqual(rows[""], ["current", "next", "deprecated"])
        self.assertEqual(rows["Organisation"][0], "<script>alert(1)</script> & a|b `x` é")
        self.assertEqual(rows["Valid until"], [date(ends(p)) for p in (self.now, self.next, self.old)])
        self.assertFalse(page.tags & {"script", "link", "img"}, page.tags)
        text = self.say("publish", "--markdown")
        cells = {line.split(" |")[0].strip("| "): re.split(r"(?<!\\)\|", line)[2:-1] for line in text.splitlines()
                 if line.startswith("|")}
        self.assertEqual({len(c) for c in cells.values()}, {3}, text)
        self.assertNotIn("<script", text)
        self.assertIn("a\\|b \\`x\\`", cells["Organisation"][0])

    def test_files_that_are_not_there(self):
        self.prepare()
        self.next.unlink()
        self.refused(("publish",), str(self.next), "current")
        self.old.write_text("no certificate")
        self.refused(("publish", "--json"), str(self.next), str(self.old))
        self.assertIn("certificate", self.server.cli("check").stdout)
        self.assertEqual(self.server.cli("check").returncode, 0)      # the server does not need them

    def test_without_a_next_one(self):
        self.authorities()
        over, _ = self.middle.issue("over", ["mx.flow.test"], days=(-80, -1))
        self.present(*self.middle.issue("now", ["mx.flow.test"], days=(-80, 9)), deprecated=[over])
        node, = json.loads(self.say("publish", "--json"))["certificates"]
        self.assertIn("there is no next one", node["hints"][0])
        self.assertIn("over.pem has expired", node["hints"][1])
        self.assertEqual(node["columns"][0]["crl"], [])
        self.assertNotIn("CRL", self.say("publish"))


@harness.one_thread("the command line")
class Rehearse(Cert):
    """Everything fits, and then one thing does not."""

    def setUp(self):
        super().setUp()
        self.web = Web(self)
        self.authorities(self.web.url, f"{self.web.url}/ocsp")
        self.give_out()
        self.now, key = self.middle.issue("now", ["mx.flow.test"])
        self.present(self.now, key)

    def give_out(self):
        self.web.files = {"/ca.crl": self.middle.crl(), "/root.crl": self.root.crl()}
        self.web.answers = {"/ocsp": self.middle.answer}

    def rehearse(self, *words, ok=True):
        """{(point, about): status}; the points are in self.points."""
        told = json.loads(self.say("rehearse", "--json", *map(str, words), status=0 if ok else 1))
        self.assertEqual(told["ok"], ok)
        self.points = told["points"]
        return {(p["point"], p["about"]): p["status"] for p in told["points"]}

    def failed(self, *words, others=()):
        """Of the one point that fails: its name, about, why and way out."""
        self.rehearse(*words, ok=False)
        failures = [p for p in self.points if p["status"] == "fail" and p["point"] not in others]
        self.assertEqual(len(failures), 1, failures)
        self.assertNotEqual(failures[0]["way"], "")
        return failures[0]

    def expect(self, **more):
        self.server.sections['partner-expects "bank"'] = more
        self.server.write_config()

    def test_usage(self):
        new, _ = self.middle.issue("new", ["mx.flow.test"])
        for words in (("--no-such",), (new, new)):
            self.refused(("rehearse", *map(str, words)), "cert rehearse", status=2)
        self.refused(("rehearse",), "no certificate has a `next`")
        self.refused(("rehearse", "-n", "nobody", str(new)), 'no certificate "nobody"')
        self.refused(("rehearse", "-n", "node"), "name the file")
        self.refused(("rehearse", "--offline", "/not/there.pem"), "FAIL", "/not/there.pem")
        self.present(*self.middle.issue("other", ["other.flow.test"]), title="other")
        self.refused(("rehearse", str(new)), "--certificate TITLE")

    def test_everything_fits(self):
        self.now, now_key = self.middle.issue("now", ["mx.flow.example"])
        new, key = self.middle.issue("new", ["mx.flow.example"], days=(-1, 180))
        nsd = Nsd(self, ZONE + "".join(f"_{self.server.port}._tcp.mx TLSA 3 1 1 {spki(path)}\n" for path in (self.now, new)))
        self.server.sections["dns"] = {"forwarders": [f"127.0.0.1:{nsd.port}"], "timeout": "5s"}
        self.server.outbound = {"bank": {"domains": ["bank.test"], "hosts": ["mx.bank.test"], "tls": "encrypt",
                                         "client-certificate": "node"}}
        self.server.top["hostname"] = "mx.flow.example"
        self.present(self.now, now_key, next=new, **{"next-key": key})
        self.expect(certificate="node", name=["*.flow.example"], root=["flow"],
                    pin=[f"sha256:{spki(self.now)}", f"sha256:{spki(new)}"])
        points = self.rehearse()
        at = f"_{self.server.port}._tcp.mx.flow.example"
        for point in (("chain", ""), ("key", str(key)), ("strength", "ECDSA P-256"), ("dates", ""), ("overlap", ""),
                      ("names", "in"), ("former names", ""), ("roots", "flow"), ("usage", "bank"), ("partner-expects", "bank"),
                      ("tlsa", at), ("crl", f"{self.web.url}/ca.crl"), ("crl", f"{self.web.url}/root.crl"),
                      ("ocsp", f"{self.web.url}/ocsp")):
            self.assertEqual(points[point], "ok", self.points)
        self.assertEqual(len([p for p in self.points if p["point"] == "partner-expects"]), 3)
        self.assertIn("for both", next(p["why"] for p in self.points if p["point"] == "tlsa"))
        self.assertEqual({p["point"] for p in self.points if p["status"] == "warn"}, {"roots"})     # the system's
        self.assertEqual(sorted(self.web.asked), ["/ca.crl", "/ocsp", "/root.crl"])
        self.assertIn("it may take over", self.say("rehearse", "--offline"))
        self.assertEqual(len(self.web.asked), 3)

    def test_key(self):
        new, key = self.middle.issue("new", ["mx.flow.test"])
        self.assertEqual(self.rehearse("--offline", new)[("key", "")], "warn")
        self.assertEqual(self.rehearse("--offline", "--key", key, new)[("key", str(key))], "ok")
        other = self.now.with_suffix(".key")
        self.assertIn("does not belong", self.failed("--offline", "--key", other, new)["why"])
        key.chmod(0o644)
        self.assertIn("read by others", self.failed("--offline", "--key", key, new)["why"])
        same, _ = self.middle.issue("same", ["mx.flow.test"], key=other)
        self.assertEqual(self.rehearse("--offline", same)[("key", str(other))], "ok")

    def test_kind_and_strength_of_the_key(self):
        weak, _ = self.middle.issue("weak", ["mx.flow.test"], kind="1024")
        self.rehearse("--offline", weak, ok=False)
        self.assertEqual({p["point"] for p in self.points if p["status"] == "fail"}, {"strength", "roots"})
        rsa, rsa_key = self.middle.issue("rsa", ["mx.flow.test"], kind="2048")
        self.assertEqual(self.rehearse("--offline", rsa)[("key kind", "in")], "warn")
        self.present(rsa, rsa_key, title="rsa")
        self.assertEqual(self.failed("--offline", "-n", "node", rsa)["point"], "key kind")
        new, _ = self.middle.issue("new", ["mx.flow.test"])
        self.assertNotIn(("key kind", "in"), self.rehearse("--offline", "-n", "node", new))

    def test_dates(self):
        old, _ = self.middle.issue("old", ["mx.flow.test"], days=(-30, -1))
        self.rehearse("--offline", old, ok=False)
        self.assertEqual({p["point"] for p in self.points if p["status"] == "fail"}, {"dates", "roots"})
        soon, _ = self.middle.issue("soon", ["mx.flow.test"], days=(-1, 10))
        self.assertEqual(self.rehearse("--offline", soon)[("dates", "")], "warn")
        later, _ = self.middle.issue("later", ["mx.flow.test"], days=(10, 200))
        points = self.rehearse("--offline", later)
        self.assertEqual((points["overlap", ""], points["roots", "flow"]), ("warn", "ok"))
        gap, _ = self.middle.issue("gap", ["mx.flow.test"], days=(95, 200))
        self.assertEqual(self.failed("--offline", gap)["point"], "overlap")
        self.present(self.now, self.now.with_suffix(".key"), next=later, **{"change-on": day(92)})
        self.assertIn("before the change", self.failed("--offline")["why"])

    def test_names(self):
        new, _ = self.middle.issue("new", ["mx2.flow.test"])
        self.assertIn("mx.flow.test", self.failed("--offline", new)["why"])
        self.present(*self.middle.issue("beside", ["*.flow.test"]), title="beside")
        points = self.rehearse("--offline", "-n", "node", new)
        self.assertEqual((points["names", "in"], points["former names", ""]), ("ok", "warn"))

    def test_roots(self):
        other = Authority(self.base, "Other Root")
        new, _ = other.issue("new", ["mx.flow.test"])
        self.assertEqual(self.failed("--offline", new)["about"], "flow")
        (self.base / "roots.pem").write_text(self.root.pem.read_text() + other.pem.read_text())
        self.assertEqual(self.rehearse("--offline", new)[("roots", "flow")], "warn")     # another one
        fingerprint = lambda a: "sha256:" + hashlib.sha256(openssl("x509", "-in", a.pem, "-outform", "DER")).hexdigest()
        self.expect(root=[fingerprint(self.root)])
        self.assertEqual(self.failed("--offline", new)["about"], "bank")
        self.expect(root=[fingerprint(self.root), fingerprint(other)])
        self.rehearse("--offline", new)
        new, _ = self.middle.issue("bare", ["mx.flow.test"], chain=False)
        failure = self.failed("--offline", new, others=["partner-expects"])
        self.assertIn("neither presented nor among the roots", failure["why"])

    def test_what_is_pinned(self):
        new, _ = self.middle.issue("new", ["mx.flow.test"])
        self.expect(certificate="node", pin=[f"sha256:{spki(self.now)}"])
        self.assertIn(f"sha256:{spki(new)}", self.failed("--offline", new)["way"])
        self.expect(name=["mx9.flow.test"])
        self.assertIn("mx9.flow.test", self.failed("--offline", new)["why"])
        del self.server.sections['partner-expects "bank"']
        own = {"type": "own", "state": "enforce", "cert-name": ["mx.flow.test"], "cert-pin": [f"sha256:{spki(self.now)}"],
               "cert-check": "name+pin", "cert-roots": "flow", "tls": "required"}
        self.server.sections['inbound "site"'] = own
        self.server.write_config()
        self.assertEqual(self.failed("--offline", new)["point"], "own pins")
        own["cert-pin"].append(f"sha256:{spki(new)}")
        self.server.write_config()
        self.assertEqual(self.rehearse("--offline", new)[("own names", "site")], "ok")
        servers, _ = self.middle.issue("servers", ["mx.flow.test"], key=new.with_suffix(".key"), usage="serverAuth")
        self.server.outbound = {"bank": {"domains": ["bank.test"], "hosts": ["mx.bank.test"], "tls": "encrypt",
                                         "client-certificate": "node"}}
        self.server.write_config()
        self.assertEqual(self.rehearse("--offline", servers)[("usage", "bank")], "warn")
        self.server.outbound["bank"]["tls-pin"] = [f"sha256:{spki(self.now)}"]
        self.server.write_config()
        failure = self.failed("--offline", servers)
        self.assertEqual((failure["point"], failure["about"], "tls-pin" in failure["way"]), ("own pins", "bank", True))

    def test_revocation(self):
        new, _ = self.middle.issue("new", ["mx.flow.test"])
        good = dict(self.web.files)
        self.assertEqual(self.rehearse(new)[("ocsp", f"{self.web.url}/ocsp")], "ok")
        host = f"127.0.0.1:{self.web.port}"
        forged = Authority(self.base / "forged", "Flow CA", self.root).crl()
        stale = self.middle.crl("-crl_lastupdate", when(-3), "-crl_nextupdate", when(-1))
        for path, body, words in (("/ca.crl", None, "404"), ("/ca.crl", b"<html>", "no CRL"),
                                  ("/ca.crl", good["/root.crl"], "another issuer"), ("/root.crl", good["/ca.crl"], "another issuer"),
                                  ("/ca.crl", forged, "signature is not the issuer's"),
                                  ("/ca.crl", stale, "out of date since")):
            self.web.files = {**good, path: body}
            failure = self.failed(new)
            self.assertEqual((failure["point"], failure["about"]), ("crl", self.web.url + path))
            self.assertIn(words, failure["why"])
            self.assertEqual(host in failure["way"], body is None)
        self.web.files = good
        for answer, words in ((None, "404"), (lambda _: b"hello", "no OCSP response"), (self.root.answer, "signature"),
                              (lambda _: b"\x30\x03\x0a\x01\x03", "status 3")):
            self.web.answers["/ocsp"] = answer
            failure = self.failed(new)
            self.assertEqual((failure["point"], failure["about"]), ("ocsp", f"{self.web.url}/ocsp"))
            self.assertIn(words, failure["why"])
        self.middle.revoke(new)
        self.give_out()
        self.rehearse(new, ok=False)
        self.assertEqual({p["point"]: "revoked" in p["why"] for p in self.points if p["status"] == "fail"},
                         {"crl": True, "ocsp": True})

    def test_without_addresses(self):
        bare = Authority(self.base, "Bare Root")
        (self.base / "roots.pem").write_text(self.root.pem.read_text() + bare.pem.read_text())
        new, _ = bare.issue("new", ["mx.flow.test"])
        self.assertEqual(self.rehearse(new)[("crl", "CN=new")], "warn")
        short, _ = bare.issue("short", ["mx.flow.test"], days=(-1, 5))
        self.assertEqual(self.rehearse(short)[("crl", "CN=short")], "ok")
        self.assertEqual(self.web.asked, [])

    def test_tlsa(self):
        new, _ = self.middle.issue("new", ["mx.flow.test"])
        self.web.files, self.web.answers = {}, {}
        names = {"none": (), "old": (self.now,), "new": (new,), "neither": (self.root.pem,)}
        zone = ZONE + "".join(f"_{self.server.port}._tcp.{name} TLSA 3 1 1 {spki(path)}\n" for name, paths in names.items() for path in paths)
        zone += f"_{self.server.port}._tcp.issuer TLSA 2 1 1 {spki(self.middle.pem)}\n"
        nsd = Nsd(self, zone)
        self.server.sections["dns"] = {"forwarders": [f"127.0.0.1:{nsd.port}"], "timeout": "5s"}
        for name, status, words in (("none", "ok", "nothing is published"), ("old", "fail", "for the one in use only"),
                                    ("new", "warn", "none for the one in use"), ("neither", "fail", "for neither"),
                                    ("issuer", "ok", "for both")):
            self.server.listeners["in"]["banner"] = f"{name}.flow.example"
            self.server.write_config()
            self.rehearse(new, ok=False)
            told, = (p for p in self.points if p["point"] == "tlsa")
            self.assertEqual((told["status"], words in told["why"]), (status, True), told)
            if name == "old":
                self.assertIn(f"IN TLSA 3 1 1 {spki(new)} beside the others, wait 600 s", told["way"])
        self.server.sections["dns"] = {"forwarders": [f"127.0.0.1:{free_port()}"], "timeout": "1s"}
        self.server.write_config()
        self.rehearse(new, ok=False)
        self.assertEqual([p["status"] for p in self.points if p["point"] == "tlsa"], ["warn"])


class Roots(Cert):
    def setUp(self):
        super().setUp()
        self.authorities()
        self.other = Authority(self.base, "Other Root")
        self.bundle = self.base / "roots.pem"
        self.server.write_config()

    def look(self, *words, status=0, bundle="flow"):
        told = json.loads(self.say("roots", "--json", "--bundle", bundle, *map(str, words), status=status))["bundles"]
        self.assertEqual([b["title"] for b in told], [bundle])
        return told[0]

    def digest(self, authority):
        return hashlib.sha256(openssl("x509", "-in", authority.pem, "-outform", "DER")).hexdigest()

    @harness.one_thread("the command line")
    def test_usage(self):
        for words in (("--no-such",), ("surplus",), ("--has", "")):
            self.refused(("roots", *words), "cert roots", status=2)
        self.refused(("roots", "--bundle", "nobody"), 'no roots "nobody"')
        self.refused(("roots", "--has", "/not/there.pem"), "/not/there.pem")

    @harness.one_thread("the command line")
    def test_hash_age_and_what_is_in_it(self):
        told = self.look()
        self.assertEqual((told["roots"], told["age_days"], told["file"]), (1, 0, str(self.bundle)))
        self.assertEqual(told["sha256"], hashlib.sha256(bytes.fromhex(self.digest(self.root))).hexdigest())
        os.utime(self.bundle, (1_600_000_000, 1_600_000_000))
        self.assertEqual(self.look()["modified"], "2020-09-13 12:26 UTC")
        digest = self.digest(self.root)
        colons = ":".join(digest[i:i + 2] for i in range(0, 64, 2)).upper()
        for has in (self.root.pem, digest, f"sha256:{digest}", colons, "flow root"):
            self.assertEqual([r["sha256"] for r in self.look("--has", has)["has"]], [digest], has)
        for has in (self.other.pem, self.digest(self.other), "Other Root"):
            self.assertEqual(self.look("--has", has, status=1)["has"], [])
            self.refused(("roots", "-b", "flow", "--has", str(has)), "ringpost: ")
        both = self.base / "both.pem"
        both.write_text(self.root.pem.read_text() + self.other.pem.read_text())
        self.refused(("roots", "-b", "flow", "--has", str(both)), "CN=Other Root", "has")
        openssl("req", "-x509", "-new", "-key", self.root.key, "-out", self.base / "again.pem", "-subj", "/CN=Again", "-days", "20")
        again, = self.look("--has", self.base / "again.pem", status=1)["has"]      # a root that was renewed
        self.assertEqual((again["same_key_as"], again["sha256"]), ("CN=Again", digest))
        self.bundle.write_text((self.base / "again.pem").read_text())
        self.assertEqual([r["subject"] for r in self.look()["expire"]], ["CN=Again"])
        self.assertEqual(self.look(bundle="system")["added"], {})

    def test_what_changed(self):
        first = self.look()
        self.assertEqual((first["remembered_since"], first["added"]), (None, {}))
        state = self.base / "state.json"
        self.look("--remember", "--state", state)
        self.server.start()
        self.assertEqual(self.server.log("roots_changed"), [])
        self.assertIsNotNone(self.look()["remembered_since"])
        self.bundle.write_text(self.other.pem.read_text())
        root, other = {self.digest(self.root): "CN=Flow Root,O=Flow Trust"}, {self.digest(self.other): "CN=Other Root,O=Flow Trust"}
        for told in (self.look(), self.look("--state", state)):
            self.assertEqual((told["added"], told["removed"]), (other, root))
            self.assertNotIn("change", told)
        self.assertIn("a reload takes this one", self.say("roots", "-b", "flow"))
        self.assertEqual(self.server.cli("reload").returncode, 0)
        event, = self.server.wait_log("roots_changed")
        self.assertEqual((event["roots"], event["added"], event["removed"]), ("flow", list(other.values()), list(root.values())))
        self.assertEqual((event["was"], event["is"]), (first["sha256"], self.look()["sha256"]))
        told = self.look()
        self.assertEqual((told["added"], told["change"]["added"], told["change"]["removed"]), ({}, other, root))
        self.server.stop()
        (self.server.spool / "roots.json").write_text("{")
        self.server.start()
        self.assertEqual(self.look()["added"], {})
        self.server.stop()


class Expiry(Cert):
    def told(self, **fields):
        return [e for e in self.server.log("certificate_expiry") if all(e.get(k) == v for k, v in fields.items())]

    def test_ours(self):
        self.authorities()
        now, key = self.middle.issue("now", ["mx.flow.test"], days=(-80, 10.5))
        new, _ = self.middle.issue("new", ["mx.flow.test"], days=(-1, 40))
        self.present(now, key, next=new)
        self.server.start()
        event, = self.server.wait_log("certificate_expiry")
        self.assertEqual({k: event[k] for k in ("of", "certificate", "role", "days_left", "not_after", "names", "issuer")},
                         {"of": "own", "certificate": "node", "role": "current", "days_left": 10, "not_after": date(ends(now)),
                          "names": "mx.flow.test", "issuer": "CN=Flow CA,O=Flow Trust"})
        metrics = self.server.metrics()
        for name, path in (("", now), ("next_", new)):
            number, = (v for k, v in metrics.items() if k.startswith(f"ringpost_tls_certificate_{name}not_after_seconds{{"))
            self.assertEqual(number, ends(path))
        self.server.write_config(tls={"expiry-days": [60, 5]})
        self.assertEqual(self.server.cli("reload").returncode, 0)
        self.server.wait_log("certificate_expiry", role="next")
        self.server.stop()
        self.server.start()             # what was told stays told
        self.server.stop()
        self.assertEqual((len(self.told(role="current")), len(self.told(role="next"))), (1, 1))
        self.present(*self.middle.issue("short", ["mx.flow.test"], days=(-80, 2.5)), next=new)
        self.server.start()
        self.server.wait_log("certificate_expiry", days_left=2)
        self.server.stop()

    def partners(self, ours, key, theirs, their_key, **keys):
        """The server, not started, whose mail for bank.test goes to another one, which knows it by its certificate."""
        bank = Ringpost(self, top={"hostname": "mx.bank.test"}, relay={"domains": ["bank.test"]})
        bank.sections['roots "flow"'] = {"file": self.base / "roots.pem"}
        bank.sections['certificate "mx"'] = {"chain": theirs, "key": their_key}
        bank.sections['inbound "partner"'] = {
            "type": "partner", "state": "enforce", "sender-domains": ["example.com"], "cert-name": ["*.flow.test"],
            "cert-roots": "flow", "tls": "required", **keys}
        bank.sections["tls"] = {"expiry-days": [60]}
        bank.listeners = {"in": {"certificates": ["mx"]}}
        bank.write_config()
        bank.start()
        self.server.outbound = {"bank": {"domains": ["bank.test"], "hosts": [f"127.0.0.1:{bank.port}"], "tls": "encrypt",
                                         "client-certificate": "node"}}
        self.present(ours, key)
        return bank

    def test_partners(self):
        self.authorities()
        ours, key = self.middle.issue("ours", ["mx.flow.test"], days=(-10, 50.5))
        theirs, their_key = self.middle.issue("theirs", ["mx.bank.test"], days=(-80, 6.5))
        bank = self.partners(ours, key, theirs, their_key)
        self.server.start()
        self.server.send(recipients=["x@bank.test"])
        self.server.wait_empty()
        event, = self.server.wait_log("certificate_expiry", of="out")
        self.assertEqual((event["connector"], event["where"], event["days_left"], event["names"]),
                         ("bank", f"127.0.0.1:{bank.port}", 6, "mx.bank.test"))
        event, = bank.wait_log("certificate_expiry", of="in")
        self.assertEqual((event["connector"], event["where"], event["days_left"]), ("partner", "mx.flow.test", 50))
        name = "ringpost_connector_peer_certificate_expiry_seconds"
        self.assertEqual(bank.metric(f'{name}{{dir="in",connector="partner"}}'), ends(ours))
        self.server.stop()
        self.server.start()
        self.assertEqual(self.server.metric(f'{name}{{dir="out",connector="bank"}}'), ends(theirs))
        self.server.outbound = {}
        self.server.write_config()
        self.server.stop()
        self.server.start()         # nobody's any more
        self.assertEqual([k for k in self.server.metrics() if k.startswith(name)], [])
        self.server.stop()
        self.assertEqual(len(self.told(of="out")), 1)
        bank.stop()

    def horizon(self, server):
        return [json.loads(line) for line in server.cli("connector", "horizon", "--json").stdout.splitlines()]

    def test_horizon(self):
        """What was shown to connectors that demand TLS, the first to expire first; and what it is not for."""
        self.authorities()
        ours, key = self.middle.issue("ours", ["mx.flow.test"], days=(-10, 50.5), usage="serverAuth")
        other, other_key = self.middle.issue("other", ["b.flow.test"], days=(-10, 20.5))
        theirs, their_key = self.middle.issue("theirs", ["mx.bank.test"], days=(-80, 6.5))
        pins = {"cert-pin": [f"sha256:{spki(ours)}"], "cert-check": "name-or-pin"}
        bank = self.partners(ours, key, theirs, their_key, **pins)
        none = bank.cli("connector", "horizon")
        self.assertEqual((none.returncode, none.stdout), (1, ""))
        for chain, its_key in ((ours, key), (other, other_key)):
            self.present(chain, its_key)
            self.server.start()
            self.server.send(recipients=["x@bank.test"])
            self.server.wait_empty()
            seen, = self.horizon(self.server)
            self.server.stop()
        self.assertEqual([seen[k] for k in ("connector", "direction", "days_left", "pin", "usage", "names", "valid")],
                         ["bank", "out", 6, "none", ["client", "server"], "mx.bank.test", False])
        self.assertEqual([(s["where"], s["days_left"], s["pin"], s["usage"], s["root"]) for s in self.horizon(bank)],
                         [("b.flow.test", 20, "other", ["client", "server"], "CN=Flow Root,O=Flow Trust"),
                          ("mx.flow.test", 50, "listed", ["server"], "CN=Flow Root,O=Flow Trust")])
        table = bank.cli("connector", "horizon", "--days", "1").stdout.splitlines()
        self.assertEqual([line.split()[0] for line in table], ["days", "20", "50"])
        self.assertNotIn("L-18", bank.cli("check").stdout)
        bank.sections['inbound "partner"']["cert-usage"] = "client"
        bank.write_config()
        harness.wait_for(lambda: "L-18" in bank.cli("check").stdout, "L-18 from check")
        self.assertIn("mx.flow.test", bank.cli("check").stdout.partition("cert-usage")[2])
        self.assertNotIn("showed last, which expires", bank.cli("check").stdout)
        bank.sections['inbound "partner"']["cert-pin"] = [f"sha256:{spki(ours)}", f"sha256:{spki(other)}"]
        bank.write_config()
        words = rf"sha256:{spki(other)[:16]}\.\. .* b\.flow\.test showed last, which expires .*\(L-07\)"
        harness.wait_for(lambda: re.search(words, bank.cli("check").stdout), "L-07 from check")
        bank.stop()
        (bank.spool / "certificates.json").write_text(json.dumps({"partner": {"where": "mx.flow.test", "names": "mx.flow.test",
                                                                              "stops": "2026-07-08"}}))
        self.assertRegex(bank.cli("check").stdout, r"announced.* 2026-07-08 .*\(L-18\)")
        bank.start()
        bank.sections['inbound "partner"'] = {"type": "partner", "state": "enforce", "sender-domains": ["example.com"],
                                              "addresses": ["127.0.0.1"], "tls": "optional"}
        bank.write_config()
        self.assertEqual(bank.cli("reload").returncode, 0)
        self.assertEqual(self.horizon(bank), [])
        bank.stop()


@harness.one_thread("the command line")
class Readme(Cert):
    """The chapter's configuration is good, and each of its commands does what it says there."""

    def test_commands_of_the_chapter(self):
        text = (harness.TREE / "README.md").read_text().partition("### Certificates of ours\n")[2].partition("\n### ")[0]
        config, = re.findall(r"```conf\n(.*?)```", text, re.S)
        commands = re.findall(r"^\$ ringpost (cert .*)$", text, re.M)
        self.assertEqual({c.split()[1] for c in commands}, {"publish", "rehearse", "roots"})
        self.authorities()
        etc = self.server.directory / "etc"
        etc.mkdir()
        (etc / "private-roots.pem").write_text(self.root.pem.read_text())
        for name, days in (("mx1", (-60, 30)), ("mx1-next", (-1, 90)), ("mx1-old", (-80, 5))):
            for path in self.middle.issue(name, ["mx1.example.org"], days=days):
                path.rename(etc / path.name)
        change = day(20)
        config = config.replace("/etc/ringpost", str(etc)).replace("2030-06-01", change).replace("0.0.0.0:25", self.server.address[0])
        self.server.sections, self.server.listeners = {}, {"other": {}}
        self.server.top["hostname"] = "mx1.example.org"
        self.server.write_config()
        self.server.config_path.write_text(self.server.config_path.read_text() + config)
        self.server.spool.mkdir(mode=0o700)
        for command in commands:
            with self.subTest(command=command):
                self.assertNotEqual(self.say(*command.replace("/etc/ringpost", str(etc)).split()[1:]), "")
        told, = json.loads(self.say("publish", "--json"))["certificates"]
        self.assertEqual([c["role"] for c in told["columns"]], ["current", "next", "deprecated"])
        self.assertIn(change, told["columns"][1]["presented"])


if __name__ == "__main__":
    harness.main()
