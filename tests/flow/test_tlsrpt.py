"""test_tlsrpt.py - reports about TLS (RFC 8460): what real deliveries leave in them adds up

Mail hosts are 127.0.0.60 and up, all on one port; policies of MTA-STS come from a real HTTPS server, TLSA
records from a signed zone of a real NSD.
"""
import base64
import datetime
import email
import gzip
import http.server
import json
import os
import subprocess
import threading
import time
import unittest

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

import harness
import pki
from clock import Clock
from harness import Ringpost, wait_for
from nsd import Nsd
from test_dane import sha256, spki
from test_sts import PolicyHosts, policy
from tls_wire import TlsPeer, scratch, server_context

PLAIN, SIGNED = "flow.example", "dane.example"
HOSTS = {"good": 60, "othername": 61, "clear": 62, "ee": 63, "mismatch": 64}
POLICIES = {"good": "good", "enforced": "othername", "testing": "othername", "gone": "good"}
LOCAL = ["127.0.0.0/8"]
MAILTO = f"mailto:tls%2Dreports@enforced.{PLAIN}?subject=x"    # there, the certificate is of another name
# Of an independent implementation, which Debian has for its own python.
VERIFY = """
import dkim, json, sys
keys = json.loads(sys.argv[1])
d = dkim.DKIM(sys.stdin.buffer.read(), tlsrpt="strict")

def verify(i):
    try:
        return d.verify(i, dnsfunc=lambda name, timeout=5: keys.get(name.decode(), "").encode())
    except dkim.ValidationError:
        return False

print(json.dumps([verify(i) for i in range(sum(name.lower() == b"dkim-signature" for name, _ in d.headers))]))
"""


def verdicts(content, keys):
    """Of each DKIM signature of the message, from the top on. keys: {name in DNS: TXT record}."""
    done = subprocess.run(["/usr/bin/python3", "-c", VERIFY, json.dumps(keys)], input=content, capture_output=True,
                          check=True, timeout=60)
    return json.loads(done.stdout)


def dkim_keys(directory):
    """Two, as sections and as what is in DNS."""
    sections, records = {}, {}
    for name, key in (("rsa", rsa.generate_private_key(65537, 2048)), ("ed25519", ed25519.Ed25519PrivateKey.generate())):
        path = directory / f"{name}.pem"
        path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                           serialization.NoEncryption()))
        path.chmod(0o600)
        os.chown(path, 0, 0)
        public = key.public_key()
        octets = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo) if name == "rsa" \
            else public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        sections[f'dkim "{name}"'] = {"domain": "flow.test", "selector": name, "key": path}
        records[f"{name}._domainkey.flow.test."] = f"v=DKIM1; k={name}; s=tlsrpt; p={base64.b64encode(octets).decode()}"
    return sections, records


class Collector:
    """Takes reports by HTTPS below /good, and refuses all others. came: (path, type, report)."""

    def __init__(self, holder, certificate):
        self.came = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.came.append((self.path, self.headers["Content-Type"], json.loads(gzip.decompress(body))))
                self.send_response(201 if self.path == "/good" else 500)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.port = harness.free_port()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.socket = server_context(certificate).wrap_socket(self.server.socket, server_side=True,
                                                                     do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        holder.addCleanup(self.server.server_close)
        holder.addCleanup(self.server.shutdown)


class Tlsrpt(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = unittest.TestCase()
        cls.port = harness.free_port()
        cls.authority = pki.Authority()
        names = {"othername": "mx.elsewhere.example", "ee": f"mx.ee.{SIGNED}", "mismatch": f"mx.mismatch.{SIGNED}"}
        certificates = {host: cls.authority.leaf(names.get(host, f"mx.{host}.{PLAIN}")) for host in HOSTS}
        cls.peers = {host: TlsPeer(cls.holder, server_context(certificates[host]), offers=host != "clear",
                                   host=f"127.0.0.{address}", port=cls.port) for host, address in HOSTS.items()}
        cls.collector = Collector(cls.holder, cls.authority.leaf(f"reports.{PLAIN}"))
        cls.record = f"3 1 1 {sha256(spki(certificates['ee']))}"
        cls.nsd = Nsd(cls.holder, cls.zones(), [SIGNED])
        cls.hosts = PolicyHosts(cls.holder, cls.authority.leaf(*(f"mta-sts.{name}.{PLAIN}" for name in POLICIES)))
        cls.hosts.publish("good", policy(mx=["*.good.flow.example"]))
        cls.hosts.publish("enforced", policy(mx=["mx.othername.flow.example"], max_age=600))
        cls.hosts.publish("testing", policy("testing", mx=["mx.othername.flow.example"]))

    @classmethod
    def tearDownClass(cls):
        cls.holder.doCleanups()

    @classmethod
    def zones(cls):
        head = "$ORIGIN {}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"
        plain = head.format(PLAIN) + "nopolicy MX 10 mx.good\nclear MX 10 mx.clear\n"
        for host in ("good", "othername", "clear"):
            plain += f"mx.{host} A 127.0.0.{HOSTS[host]}\n"
        for name, host in POLICIES.items():
            plain += f"{name} MX 10 mx.{host}\nmta-sts.{name} A 127.0.0.1\n_mta-sts.{name} TXT \"v=STSv1; id=v1\"\n"
        to = f"https://reports.{PLAIN}:{cls.collector.port}"
        plain += "reports A 127.0.0.1\n" \
            f"_smtp._tls.good TXT \"v=TLSRPTv1; rua=mailto:a@b.example, {to}/bad\" \",{to}/good\"\n" \
            f"_smtp._tls.clear TXT \"v=TLSRPTv1;rua={to}/bad\"\n_smtp._tls.gone TXT \"v=TLSRPTv1;rua={MAILTO}\"\n" \
            f"_smtp._tls.testing TXT \"v=TLSRPTv1;rua={to}/other\"\n_smtp._tls.testing TXT \"v=TLSRPTv1;rua={to}/good\"\n"
        signed = head.format(SIGNED)
        for host, record in (("ee", cls.record), ("mismatch", f"3 1 1 {'00' * 32}")):
            signed += f"{host} MX 10 mx.{host}\nmx.{host} A 127.0.0.{HOSTS[host]}\n_{cls.port}._tcp.mx.{host} TLSA {record}\n"
        return {PLAIN: plain, SIGNED: signed}

    def serve(self, sections=None, start=True, **report):
        base = scratch(self)
        (base / "roots.pem").write_text(self.authority.root.pem)
        server = Ringpost(
            self, relay={"domains": ["*.example"]}, delivery={"retry-initial": "1h", "retry-max": "1h", "private-networks": LOCAL},
            dns={"forwarders": [f"127.0.0.1:{self.nsd.port}"], "timeout": "5s", "trust-anchor": str(self.nsd.anchor)},
            outbound={"mx": {"domains": ["*"], "hosts": ["mx"], "port": self.port, "roots": "test",
                             "source-addresses": ["127.0.0.1"]}},
            **{'roots "test"': {"file": base / "roots.pem"}, "mta-sts": {"roots": "test", "port": self.hosts.port},
               **(sections or {}), **({"tls-report": report} if report else {})})
        self.server = server
        if start:
            server.start()
            self.addCleanup(server.stop)
            server.wait_log("dnssec", works=True)
        return server

    def reports(self, domain):
        """Of today; and of the day before, if midnight was meanwhile."""
        now = datetime.datetime.now(datetime.timezone.utc).date()
        for day in (now - datetime.timedelta(days=1), now):
            done = self.server.cli("tls", "report", "--tlsrpt", domain, "--day", str(day))
            if done.returncode == 0:
                report = json.loads(done.stdout)
                self.assertEqual(report["date-range"]["start-datetime"], f"{day}T00:00:00Z")
                yield report

    def entries(self, domain):
        """{(type, domain): entry}, of a report that adds up."""
        found = {}
        for report in self.reports(domain):
            self.assertEqual((report["contact-info"], report["organization-name"]), ("tls@flow.test", "Flow"))
            self.assertEqual(report["report-id"], f"{report['date-range']['start-datetime'][:10]}_{domain}@mx.flow.test")
            for entry in report["policies"]:
                details = sum(d["failed-session-count"] for d in entry["failure-details"])
                self.assertEqual(entry["summary"]["total-failure-session-count"], details)
                found[entry["policy"]["policy-type"], entry["policy"]["policy-domain"]] = entry
        return found

    def wait(self, domain, *policies):
        """Its entries, when they are of these policies: (type, domain, good, failed)."""
        def counts():
            entries = self.entries(domain)
            have = {(*key, *entry["summary"].values()) for key, entry in entries.items()}
            return entries if have == set(policies) else None
        return wait_for(counts, lambda: f"{policies} of {domain}: {list(self.reports(domain))}")

    def failure(self, entry, result, host):
        detail, = entry["failure-details"]
        self.assertEqual((detail["result-type"], detail["receiving-mx-hostname"]), (result, host))
        self.assertEqual((detail["receiving-ip"], detail["sending-mta-ip"]), (f"127.0.0.{HOSTS[host.split('.')[1]]}", "127.0.0.1"))
        return detail

    def test_counts_add_up(self):
        server = self.serve(contact="tls@flow.test", organization="Flow")
        before = {host: len(peer.handshakes) for host, peer in self.peers.items()}
        domains = [f"{name}.{PLAIN}" for name in (*POLICIES, "nopolicy", "clear")] + [f"ee.{SIGNED}", f"mismatch.{SIGNED}"]
        for domain in domains:
            server.send(recipients=[f"x@{domain}"])
        server.wait_log("delivered", len(domains) - 2)
        server.wait_log("host_failed", 2)

        good = self.wait(f"good.{PLAIN}", ("sts", f"good.{PLAIN}", 1, 0))["sts", f"good.{PLAIN}"]
        self.assertEqual(good["policy"]["policy-string"],
                         ["version: STSv1", "mode: enforce", "mx: *.good.flow.example", "max_age: 86400"])
        self.assertEqual(good["policy"]["mx-host"], ["*.good.flow.example"])
        entry = self.wait(f"enforced.{PLAIN}", ("sts", f"enforced.{PLAIN}", 0, 1))["sts", f"enforced.{PLAIN}"]
        self.failure(entry, "certificate-host-mismatch", "mx.othername.flow.example")
        entry = self.wait(f"testing.{PLAIN}", ("sts", f"testing.{PLAIN}", 0, 1))["sts", f"testing.{PLAIN}"]
        self.failure(entry, "certificate-host-mismatch", "mx.othername.flow.example")
        self.assertIn("mode: testing", entry["policy"]["policy-string"])
        entries = self.wait(f"gone.{PLAIN}", ("sts", f"gone.{PLAIN}", 0, 1), ("no-policy-found", f"gone.{PLAIN}", 1, 0))
        detail, = entries["sts", f"gone.{PLAIN}"]["failure-details"]
        self.assertEqual(detail["result-type"], "sts-policy-fetch-error")
        self.wait(f"nopolicy.{PLAIN}", ("no-policy-found", f"nopolicy.{PLAIN}", 1, 0))
        entry, = self.wait(f"clear.{PLAIN}", ("no-policy-found", f"clear.{PLAIN}", 0, 1)).values()
        self.failure(entry, "starttls-not-supported", "mx.clear.flow.example")
        entry, = self.wait(f"ee.{SIGNED}", ("tlsa", f"mx.ee.{SIGNED}", 1, 0)).values()
        self.assertEqual(entry["policy"]["policy-string"], [self.record])
        entry, = self.wait(f"mismatch.{SIGNED}", ("tlsa", f"mx.mismatch.{SIGNED}", 0, 1)).values()
        self.failure(entry, "validation-failure", f"mx.mismatch.{SIGNED}")

        # three domains of one host: they may share a connection, which counts for each
        after = {host: len(peer.handshakes) for host, peer in self.peers.items()}
        self.assertIn(after["good"] - before["good"], (1, 2, 3))
        self.assertEqual(server.metric('ringpost_tlsrpt_sessions_total{result="good"}'), 4)
        self.assertEqual(server.metric('ringpost_tlsrpt_sessions_total{result="failed"}'), 4)
        self.assertEqual(server.metric("ringpost_tlsrpt_lost_total"), 0)

        server.stop()
        server.start()
        self.wait(f"good.{PLAIN}", ("sts", f"good.{PLAIN}", 1, 0))

    def test_what_was_counted_last_survives_a_stop(self):
        server = self.serve(contact="tls@flow.test", organization="Flow")
        server.send(recipients=[f"x@nopolicy.{PLAIN}"])
        server.wait_log("delivered")
        server.stop()
        server.start()
        self.wait(f"nopolicy.{PLAIN}", ("no-policy-found", f"nopolicy.{PLAIN}", 1, 0))

    def test_sent(self):
        server = self.serve(contact="tls@flow.test", organization="Flow", roots="test")
        names = {name: f"{name}.{PLAIN}" for name in ("good", "clear", "gone", "testing", "nopolicy")}
        before = len(self.collector.came)
        for domain in names.values():
            server.send(recipients=[f"x@{domain}"])
        server.wait_log("delivered", len(names))
        day = {}
        for name, domain in names.items():
            report = wait_for(lambda d=domain: list(self.reports(d)), f"report of {domain}")[-1]
            day[name] = report["date-range"]["start-datetime"][:10]
            done = server.cli("tls", "tlsrpt", "send", domain, "--day", day[name])
            self.assertEqual((done.returncode, domain in done.stdout), (0, True), done.stderr)
        to = f"https://reports.{PLAIN}:{self.collector.port}"
        event, = server.wait_log("tlsrpt_sent", domain=names["good"], uri=f"{to}/good")
        self.assertEqual(event["day"], day["good"])
        self.assertIn("500", server.wait_log("tlsrpt_unsent", domain=names["good"], uri=f"{to}/bad")[0]["why"])
        server.wait_log("tlsrpt_unsent", domain=names["clear"], uri=f"{to}/bad")
        event, = server.wait_log("tlsrpt_sent", domain=names["gone"])
        self.assertEqual((event["uri"], event["signatures"]), (MAILTO, 0))
        self.assertIn("no dkim key", event["unsigned"])
        self.assertIn("one of several", server.wait_log("tlsrpt_unsent", domain=names["testing"])[0]["why"])
        server.wait_metric('ringpost_tlsrpt_reports_total{result="unwanted"}', 2)
        self.assertEqual(server.metric('ringpost_tlsrpt_reports_total{result="sent"}'), 2)
        self.assertEqual(server.metric('ringpost_tlsrpt_mails_total{signed="no"}'), 2)    # that to a@b.example is in the queue
        server.wait_log("delivered", to="tls-reports@enforced.flow.example")
        self.assertEqual(server.metric('ringpost_tlsrpt_reports_total{result="unsent"}'), 1)
        taken, = [c for c in self.collector.came[before:] if c[0] == "/good"]
        self.assertEqual(taken[1], "application/tlsrpt+gzip")
        self.assertEqual(taken[2]["policies"][0]["summary"]["total-successful-session-count"], 1)
        self.assertEqual(taken[2]["contact-info"], "tls@flow.test")

    def test_by_mail(self):
        """Signed by two keys, which another implementation verifies; and delivered although the policy of
        its domain is not met, without a word about that in the next report."""
        sections, records = dkim_keys(scratch(self))
        server = self.serve(sections, contact="tls@flow.test", organization="Flow", roots="test")
        before = len(self.peers["othername"].messages)
        server.send(recipients=[f"x@gone.{PLAIN}"])
        server.wait_log("delivered")
        report = wait_for(lambda: list(self.reports(f"gone.{PLAIN}")), "report")[-1]
        day = report["date-range"]["start-datetime"][:10]
        done = server.cli("tls", "tlsrpt", "send", f"gone.{PLAIN}", "--day", day)
        self.assertEqual(done.returncode, 0, done.stderr)
        event, = server.wait_log("tlsrpt_sent", domain=f"gone.{PLAIN}", uri=MAILTO)
        self.assertEqual((event["signatures"], "unsigned" in event), (2, False))
        delivered, = server.wait_log("delivered", msg=event["msg"])
        self.assertEqual((delivered["from"], delivered["to"]), ("", f"tls-reports@enforced.{PLAIN}"))
        received = self.peers["othername"].wait(before + 1)[-1]
        self.assertIn("MAIL FROM:<>", received.mail.upper())

        message = email.message_from_bytes(received.content)
        self.assertEqual((message["From"], message["To"]), ("tls@flow.test", f"tls-reports@enforced.{PLAIN}"))
        self.assertEqual((message["TLS-Report-Domain"], message["TLS-Report-Submitter"], message["TLS-Required"]),
                         (f"gone.{PLAIN}", "flow.test", "No"))
        self.assertEqual(" ".join(message["Subject"].split()),
                         f"Report Domain: gone.{PLAIN} Submitter: flow.test Report-ID: <{report['report-id']}>")
        self.assertEqual((message.get_content_type(), message.get_param("report-type")), ("multipart/report", "tlsrpt"))
        words, attached = message.get_payload()
        self.assertEqual((words.get_content_type(), attached.get_content_type()), ("text/plain", "application/tlsrpt+gzip"))
        begin = int(datetime.datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp())
        self.assertEqual(attached.get_filename(), f"flow.test!gone.{PLAIN}!{begin}!{begin + 86399}.json.gz")
        sent = json.loads(gzip.decompress(attached.get_payload(decode=True)))
        self.assertEqual(sent, report)

        self.assertEqual(verdicts(received.content, records), [True, True])
        self.assertEqual(verdicts(received.content.replace(b"RFC 8460", b"RFC 8461"), records), [False, False])
        self.assertEqual(verdicts(received.content.replace(b"Submitter: flow", b"Submitter: f1ow"), records), [False, False])
        self.assertEqual(list(self.reports(f"enforced.{PLAIN}")), [])
        self.assertEqual(server.metric('ringpost_tlsrpt_mails_total{signed="yes"}'), 1)

    def test_a_day_passes(self):
        """The clock goes on from six in the morning to five in the next. The report of the day goes by itself, once;
        the policy of MTA-STS, which would have expired, was looked after ahead."""
        now = time.time()
        morning = (int(now) // 86400 + 1) * 86400 + 6 * 3600 - int(now)
        clock = Clock(self, morning)
        server = self.serve(start=False, contact="tls@flow.test", organization="Flow", roots="test")
        server.start(env=clock.env)
        self.addCleanup(server.stop)
        server.wait_log("dnssec", works=True)
        before = len(self.peers["othername"].messages)
        for name in ("gone", "good"):
            server.send(recipients=[f"x@{name}.{PLAIN}"])
        server.wait_log("delivered", 2)
        day = str(datetime.datetime.fromtimestamp(now + morning, datetime.timezone.utc).date())
        for name in ("gone", "good"):
            wait_for(lambda d=name: server.cli("tls", "report", "--tlsrpt", f"{d}.{PLAIN}", "--day", day).returncode == 0, day)
        fetched = server.metric('ringpost_sts_fetches_total{result="fetched"}')
        clock.set(morning + 23 * 3600)
        server.wait_log("tlsrpt_sent", domain=f"gone.{PLAIN}", day=day)
        server.wait_log("tlsrpt_sent", domain=f"good.{PLAIN}", day=day, uri=f"https://reports.{PLAIN}:{self.collector.port}/good")
        message = email.message_from_bytes(self.peers["othername"].wait(before + 1)[-1].content)
        self.assertEqual((message["TLS-Report-Domain"], message["DKIM-Signature"] is None), (f"gone.{PLAIN}", True))
        wait_for(lambda: server.metric('ringpost_sts_fetches_total{result="fetched"}') > fetched, "the policy is fetched again")
        self.assertEqual(server.metric('ringpost_tlsrpt_reports_total{result="sent"}'), 2)
        clock.set(morning + 25 * 3600)      # and two hours later: not once more
        server.queue()
        self.assertEqual(server.metric('ringpost_tlsrpt_reports_total{result="sent"}'), 2)

    def test_off_unless_asked_for(self):
        server = self.serve()
        server.send(recipients=[f"x@nopolicy.{PLAIN}"])
        server.wait_log("delivered")
        self.assertFalse((server.spool / "tlsrpt.mdb").exists())
        self.assertIn("nothing to report", server.cli("tls", "report", "--tlsrpt", f"nopolicy.{PLAIN}").stderr)
        self.assertNotIn("ringpost_tlsrpt", server.http("/metrics")[1])

    def test_usage(self):
        server = self.serve(contact="tls@flow.test")
        for words in (["--tlsrpt"], ["--tlsrpt", "a", "b"], ["--tlsrpt", "a", "--day"], ["--tlsrpt", "a", "--what"]):
            with self.subTest(words):
                self.assertEqual(server.cli("tls", "report", *words).returncode, 2)
        self.assertIn("--day", server.cli("tls", "report", "--tlsrpt", "--help").stdout)
        for words in ([], ["send"], ["send", "a", "b"], ["what", "a"]):
            with self.subTest(words):
                self.assertEqual(server.cli("tls", "tlsrpt", *words).returncode, 2)
        self.assertIn("nothing to report", server.cli("tls", "tlsrpt", "send", "nobody.example").stderr)
        self.assertEqual(server.http("/v1/tls/tlsrpt/send?domain=a.example", "POST")[0], 403)
        self.assertEqual(server.http("/v1/tls/tlsrpt/send", "POST", unix=True)[0], 409)
        for query in ("", "?domain=", "?domain=" + "a" * 600, "?domain=%00", "?domain=nobody.example",
                      "?domain=nobody.example&day=2016-02-30"):
            self.assertEqual(server.http("/v1/tls/tlsrpt" + query)[0], 404)
        self.assertEqual(server.metric("ringpost_tlsrpt_errors_total"), 0)


if __name__ == "__main__":
    harness.main()
