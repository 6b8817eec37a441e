"""test_tlsrpt.py - reports about TLS (RFC 8460): what real deliveries leave in them adds up

Mail hosts are 127.0.0.60 and up, all on one port; policies of MTA-STS come from a real HTTPS server, TLSA
records from a signed zone of a real NSD.
"""
import datetime
import gzip
import http.server
import json
import threading
import unittest

import harness
import pki
from harness import Ringpost, wait_for
from nsd import Nsd
from test_dane import sha256, spki
from test_sts import PolicyHosts, policy
from tls_wire import TlsPeer, scratch, server_context

PLAIN, SIGNED = "flow.example", "dane.example"
HOSTS = {"good": 60, "othername": 61, "clear": 62, "ee": 63, "mismatch": 64}
POLICIES = {"good": "good", "enforced": "othername", "testing": "othername", "gone": "good"}
LOCAL = ["127.0.0.0/8"]


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
            f"_smtp._tls.clear TXT \"v=TLSRPTv1;rua={to}/bad\"\n_smtp._tls.gone TXT \"v=TLSRPTv1;rua=mailto:a@b.example\"\n" \
            f"_smtp._tls.testing TXT \"v=TLSRPTv1;rua={to}/other\"\n_smtp._tls.testing TXT \"v=TLSRPTv1;rua={to}/good\"\n"
        signed = head.format(SIGNED)
        for host, record in (("ee", cls.record), ("mismatch", f"3 1 1 {'00' * 32}")):
            signed += f"{host} MX 10 mx.{host}\nmx.{host} A 127.0.0.{HOSTS[host]}\n_{cls.port}._tcp.mx.{host} TLSA {record}\n"
        return {PLAIN: plain, SIGNED: signed}

    def serve(self, **report):
        base = scratch(self)
        (base / "roots.pem").write_text(self.authority.root.pem)
        server = Ringpost(
            self, relay={"domains": ["*.example"]}, delivery={"retry-initial": "1h", "retry-max": "1h", "private-networks": LOCAL},
            dns={"forwarders": [f"127.0.0.1:{self.nsd.port}"], "timeout": "5s", "trust-anchor": str(self.nsd.anchor)},
            outbound={"mx": {"domains": ["*"], "hosts": ["mx"], "port": self.port, "roots": "test",
                             "source-addresses": ["127.0.0.1"]}},
            **{'roots "test"': {"file": base / "roots.pem"}, "mta-sts": {"roots": "test", "port": self.hosts.port},
               **({"tls-report": report} if report else {})}).start()
        self.addCleanup(server.stop)
        server.wait_log("dnssec", works=True)
        self.server = server
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

        # each handshake at a peer is a session in a report, and there is one without
        after = {host: len(peer.handshakes) for host, peer in self.peers.items()}
        self.assertEqual(after["good"] - before["good"], 3)
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
        event, = server.wait_log("tlsrpt_sent", domain=names["good"])
        self.assertEqual((event["day"], event["uri"]), (day["good"], f"{to}/good"))
        self.assertIn("500", server.wait_log("tlsrpt_unsent", domain=names["good"], uri=f"{to}/bad")[0]["why"])
        server.wait_log("tlsrpt_unsent", domain=names["clear"], uri=f"{to}/bad")
        self.assertIn("by mail", server.wait_log("tlsrpt_unsent", domain=names["gone"])[0]["why"])
        self.assertIn("one of several", server.wait_log("tlsrpt_unsent", domain=names["testing"])[0]["why"])
        server.wait_metric('ringpost_tlsrpt_reports_total{result="unwanted"}', 3)
        self.assertEqual(server.metric('ringpost_tlsrpt_reports_total{result="sent"}'), 1)
        self.assertEqual(server.metric('ringpost_tlsrpt_reports_total{result="unsent"}'), 1)
        taken, = [c for c in self.collector.came if c[0] == "/good"]
        self.assertEqual(taken[1], "application/tlsrpt+gzip")
        self.assertEqual(taken[2]["policies"][0]["summary"]["total-successful-session-count"], 1)
        self.assertEqual(taken[2]["contact-info"], "tls@flow.test")

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
