"""test_sts.py - MTA-STS: a real NSD, a real HTTPS server for policies, and mail hosts that keep to them or do not

Each domain NAME.flow.example has one MX, and its policy is what the test says. Mail hosts listen on
127.0.0.10 and 127.0.0.11, all on one port; policy hosts are one HTTPS server with one certificate for
all of them but "strange". What was learned of a domain is kept by the server from test to test's end only.
"""
import hashlib
import http.server
import json
import ssl
import threading
import unittest

import harness
import nsd
import pki
from harness import Ringpost
from test_dns import LOCAL, Nsd
from tls_wire import TlsPeer, scratch, server_context

ORIGIN = "flow.example"
DOMAINS = ["good", "away", "othername", "untrusted", "testing", "none", "redirect", "html", "gone", "bad", "strange", "two",
           "malformed", "kept", "newer", "clear"]
ZONE = f"$ORIGIN {ORIGIN}.\n$TTL 1\n@ SOA ns hostmaster 1 3600 600 86400 1\n@ NS ns\nns A 127.0.0.1\n" \
    "a A 127.0.0.10\nb A 127.0.0.11\nplain MX 10 a\n"
for name in DOMAINS:
    ZONE += f"{name} MX 10 a\nmta-sts.{name} A 127.0.0.1\n"
    ZONE += {"two": "_mta-sts.two TXT \"v=STSv1; id=1\"\n_mta-sts.two TXT \"v=STSv1; id=2\"\n",
             "malformed": "_mta-sts.malformed TXT \"v=STSv1; id=a-b\"\n"}.get(
        name, f"_mta-sts.{name} TXT \"other\"\n_mta-sts.{name} TXT \"v=STSv1; \" \"id=v1;\"\n")
ZONE += "away MX 5 b\n"
SLOW = {"retry-initial": "1h", "retry-max": "1h"}


def policy(mode="enforce", mx=("a.flow.example",), max_age=86400):
    return "version: STSv1\r\n" + f"mode: {mode}\r\n" + "".join(f"mx: {m}\r\n" for m in mx) + f"max_age: {max_age}\r\n"


class PolicyHosts:
    """All of mta-sts.NAME.flow.example. answers: {NAME: (status, headers, body)}; asked: NAMEs."""

    def __init__(self, holder, certificate):
        self.answers, self.asked, self.open = {}, [], True
        hosts = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.headers["Host"].split(".")[1]
                hosts.asked.append(name)
                status, headers, body = hosts.answers.get(name, (404, {}, ""))
                if self.path != "/.well-known/mta-sts.txt":
                    status, headers, body = 200, {"Content-Type": "text/plain"}, policy("none")
                self.send_response(status)
                for field, value in {"Content-Length": len(body), **headers}.items():
                    self.send_header(field, value)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):     # a client that does not trust us
                pass

        self.port = harness.free_port()
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.server.socket = server_context(certificate).wrap_socket(self.server.socket, server_side=True,
                                                                     do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        holder.addCleanup(self.server.server_close)
        holder.addCleanup(self.server.shutdown)

    def publish(self, name, text, status=200, **headers):
        self.answers[name] = (status, {"Content-Type": "text/plain", **headers}, text)


class Sts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = unittest.TestCase()
        cls.nsd = Nsd(cls.holder, ZONE)
        cls.authority = pki.Authority()
        names = [f"mta-sts.{name}.{ORIGIN}" for name in DOMAINS if name != "strange"]
        cls.hosts = PolicyHosts(cls.holder, cls.authority.leaf(*names))
        cls.mail_host = server_context(cls.authority.leaf(f"a.{ORIGIN}", f"b.{ORIGIN}"))
        cls.other_name = server_context(cls.authority.leaf("mx.elsewhere.example"))
        cls.untrusted = server_context(pki.Authority("Another").leaf(f"a.{ORIGIN}"))

    @classmethod
    def tearDownClass(cls):
        cls.holder.doCleanups()

    def setUp(self):
        self.mx_port = harness.free_port()
        self.hosts.answers.clear()
        self.hosts.asked.clear()

    def peer(self, context=None, host="127.0.0.10", **more):
        return TlsPeer(self, context or self.mail_host, host=host, port=self.mx_port, **more)

    def serve(self, start=True, delivery=None, port=None, top=None, **connector):
        base = scratch(self)
        (base / "roots.pem").write_text(self.authority.root.pem)
        self.server = Ringpost(
            self, relay={"domains": ["*.example"]}, top=top,
            outbound={"mx": {"domains": ["*"], "hosts": ["mx"], "port": self.mx_port, "roots": "test", **connector}},
            delivery={**SLOW, "private-networks": LOCAL, **(delivery or {})},
            dns={"forwarders": [f"127.0.0.1:{self.nsd.port}"], "timeout": "5s"},
            **{'roots "test"': {"file": base / "roots.pem"},
               "mta-sts": {"roots": "test", "port": port or self.hosts.port, "timeout": "10s"}})
        if start:
            self.server.start()
            self.addCleanup(self.server.stop)
        return self.server

    def test_check_online(self):
        """Policies that `mta-sts = none` passes over, told by check when the network may be asked (L-21)."""
        names = ["good", "testing", "gone", "two", "malformed"]
        server = self.serve(start=False, **{"mta-sts": "none", "domains": ["*"] + [f"{name}.{ORIGIN}" for name in names]})
        server.write_config()
        for name in names:
            self.hosts.publish(name, policy("testing" if name == "testing" else "enforce"))
        self.hosts.publish("gone", policy(), status=404)
        done = server.cli("check", "--online")
        self.assertEqual([line.partition(" mta-sts: ")[2].split()[2] for line in done.stdout.splitlines() if "(L-21)" in line],
                         [f"good.{ORIGIN}"], done.stdout + done.stderr)
        self.assertEqual(sorted(self.hosts.asked), ["gone", "good", "testing"])
        self.hosts.asked.clear()
        self.assertNotIn("L-21", server.cli("check").stdout)
        self.assertEqual(self.hosts.asked, [])

    def post(self, name):
        return self.server.send(recipients=[f"x@{name}.{ORIGIN}"])

    def delivered(self, name):
        """Its line of the log."""
        queue_id = self.post(name)
        return self.server.wait_log("delivered", msg=queue_id)[0]

    def refused(self, name):
        """The line that says why its host got no mail."""
        queue_id = self.post(name)
        self.server.wait_log("destination_failed")
        self.assertEqual([m["id"] for m in self.server.queue()], [queue_id])
        return self.server.wait_log("host_failed")[0]

    def known(self, name):
        done = self.server.cli("tls", "report", "--json", f"{name}.{ORIGIN}")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return next((line["mta-sts"] for line in lines if "mta-sts" in line), None)


class Policies(Sts):
    def test_a_connection_is_shared_only_with_whom_it_was_verified_for(self):
        """plain, good and none have one MX host. What was made without a policy is none for who has one, and the
        other way round it is one."""
        self.hosts.publish("good", policy())
        peer = self.peer()
        self.serve(top={"shards": 1})
        for name in ("plain", "good", "none", "plain"):
            self.delivered(name)
        self.assertEqual([m.connection for m in peer.messages], [1, 2, 2, 1])
        self.assertEqual([e["policy"] for e in self.server.log("delivered")],
                         ["connector", "connector,sts", "connector", "connector"])

    def test_what_is_no_policy_lets_mail_go(self):
        """Each of these domains is as one that has nothing to say; what went wrong is recorded."""
        self.hosts.publish("redirect", "", 301, Location=f"https://mta-sts.good.{ORIGIN}/.well-known/mta-sts.txt")
        self.hosts.publish("html", policy(mx=["x.example"]), **{"Content-Type": "text/html"})
        self.hosts.publish("bad", "version: STSv1\nmode: enforce\nmax_age: 86400\n")
        self.hosts.publish("strange", policy(mx=["x.example"]))
        self.hosts.publish("two", policy(mx=["x.example"]))
        self.hosts.publish("malformed", policy(mx=["x.example"]))
        self.hosts.publish("none", policy("none"))
        self.peer()
        server = self.serve()
        ends = {"redirect": "sts-policy-fetch-error", "gone": "sts-policy-fetch-error", "html": "sts-policy-invalid",
                "bad": "sts-policy-invalid", "strange": "sts-webpki-invalid"}
        for name in (*ends, "two", "malformed", "none", "plain"):
            with self.subTest(name):
                self.delivered(name)
        for name, failure in ends.items():
            with self.subTest(name):
                event = server.wait_log("sts_unfetched", domain=f"{name}.{ORIGIN}")[0]
                self.assertEqual((event["id"], event["result"], event["until_then"]), ("v1", failure, "none"))
                known = self.known(name)
                self.assertEqual((known["failure"], known["fetched"], known["holds"]), (failure, 0, False))
        self.assertNotIn("good", self.hosts.asked)      # no redirect was followed
        self.assertNotIn("two", self.hosts.asked)
        self.assertNotIn("malformed", self.hosts.asked)
        self.assertIsNone(self.known("plain"))
        self.assertEqual(self.known("none")["mode"], "none")
        self.assertEqual(server.metric('ringpost_sts_fetches_total{result="webpki-invalid"}'), 1)
        self.assertEqual(server.metric('ringpost_sts_fetches_total{result="fetched"}'), 1)


class Enforced(Sts):
    def test_a_host_that_keeps_to_it(self):
        self.hosts.publish("good", policy(mx=["mx.example.net", "*.flow.example"]))
        peer = self.peer()
        server = self.serve()
        event = self.delivered("good")
        self.assertEqual((event["want"], event["policy"], event["sts"]), ("encrypt", "connector,sts", "enforce v1"))
        self.assertEqual(len(peer.handshakes), 1)
        known = server.wait_log("sts_policy")[0]
        self.assertEqual((known["domain"], known["mode"], known["max_age_s"]), ("good.flow.example", "enforce", 86400))
        self.delivered("good")
        self.assertEqual(self.hosts.asked, ["good"])    # the second one found it
        self.assertEqual(server.metric('ringpost_sts_connections_total{policy="enforce"}'), len(peer.handshakes))
        said = server.cli("tls", "report", "good.flow.example").stdout
        line = r"mta-sts +enforce, id v1, mx mx\.example\.net \*\.flow\.example, age 0 min\n"
        self.assertRegex(said, line)
        explained = server.cli("explain", "--from", "a@b.example", "--to", "x@good.flow.example").stdout
        self.assertRegex(explained, line)
        self.assertRegex(server.cli("tls", "probe", "--mx", "good.flow.example").stdout, line)

    def test_a_host_that_is_not_listed_is_passed_over(self):
        """b is the better MX, and not of the policy (T-18); a is."""
        self.hosts.publish("away", policy(mx=["A.flow.example"]))
        a, b = self.peer(), self.peer(host="127.0.0.11")
        self.serve()
        self.delivered("away")
        self.assertEqual((len(a.messages), b.connections), (1, 0))
        event = self.server.wait_log("host_failed")[0]
        self.assertEqual((event["host"], event["token"], event["status"]), ("b.flow.example", "sts-mx", "4.7.5"))

    def test_no_host_is_listed(self):
        self.hosts.publish("good", policy(mx=["*.elsewhere.example", "flow.example", "x.a.flow.example"]))
        peer = self.peer()
        self.serve()
        event = self.refused("good")
        self.assertEqual((event["token"], event["policy"]), ("sts-mx", "connector,sts"))
        self.assertEqual(peer.connections, 0)
        self.assertGreaterEqual(self.server.metric("ringpost_sts_refused_total"), 1)

    def test_the_sender_is_told(self):
        """T-18, when its time is up: no host that the policy lists."""
        self.hosts.publish("good", policy(mx=["*.elsewhere.example"]))
        reports = harness.Peer(self)
        self.serve(start=False, **{"max-age": "1s"})
        self.server.outbound["back"] = reports.route(["back.test"])
        self.server.write_config()
        self.server.start()
        self.addCleanup(self.server.stop)
        self.server.send(["x@good.flow.example"], "s@back.test")
        reports.wait(1)
        text = b" ".join(reports.messages[0].content.split()).decode()
        self.assertIn("Status: 5.7.5 ", text)
        self.assertIn("a.flow.example", text)
        self.assertRegex(text, r"sts-mx: .*; wanted: encrypt, by connector,sts")
        self.assertEqual(self.server.wait_log("expired")[0]["status"], "5.7.5")

    def certificate(self, name, context, **connector):
        self.hosts.publish(name, policy())
        peer = self.peer(context)
        self.serve(**connector)
        event = self.refused(name)
        self.assertEqual((event["token"], event["status"], event["policy"]), ("sts-cert", "4.7.5", "connector,sts"))
        self.assertEqual(peer.messages, [])
        return event

    def test_a_certificate_for_another_name(self):
        self.assertIn("mx.elsewhere.example", self.certificate("othername", self.other_name)["why"])

    def test_a_certificate_that_is_good_enough_for_the_connector(self):
        self.certificate("othername", self.other_name, tls="name", **{"tls-name": ["mx.elsewhere.example"]})

    def test_a_certificate_of_another_authority(self):
        self.certificate("untrusted", self.untrusted)

    def test_plain_text_is_no_way_out(self):
        self.hosts.publish("clear", policy())
        peer = self.peer(offers=False)
        self.serve(cleartext="handshake-failed")
        self.assertEqual(self.refused("clear")["token"], "starttls-none")
        self.assertEqual(peer.messages, [])

    def test_a_sender_who_would_rather_have_it_delivered(self):
        """T-21: TLS-Required: No takes policies from outside off, for this message alone."""
        self.hosts.publish("othername", policy())
        peer = self.peer(self.other_name)
        server = self.serve()
        queue_id = server.send(recipients=[f"x@othername.{ORIGIN}"], content="Subject: x\r\nTLS-Required: No\r\n\r\nx\r\n")
        event = server.wait_log("delivered", msg=queue_id)[0]
        self.assertEqual((event["want"], event["policy"]), ("may", "connector"))
        self.assertEqual(len(peer.messages), 1)
        self.assertEqual(self.refused("othername")["token"], "sts-cert")
        self.assertEqual(len(peer.messages), 1)

    def test_none_looks_at_nothing(self):
        self.hosts.publish("good", policy(mx=["elsewhere.example"]))
        self.peer()
        self.serve(**{"mta-sts": "none"})
        self.assertNotIn("sts", self.delivered("good"))
        self.assertEqual(self.hosts.asked, [])

    def test_testing_is_only_told(self):
        """T-19: neither the name nor the certificate fits."""
        self.hosts.publish("testing", policy("testing", mx=["elsewhere.example"]))
        self.hosts.publish("othername", policy("testing"))
        self.hosts.publish("good", policy("testing"))
        self.peer(lambda number: self.mail_host if number == 3 else self.other_name)
        server = self.serve()
        self.delivered("testing")
        event = server.wait_log("sts_testing")[0]
        self.assertEqual((event["domain"], event["host"], event["token"], event["id"]),
                         ("testing.flow.example", "a.flow.example", "sts-mx", "v1"))
        self.delivered("othername")
        self.assertEqual(server.wait_log("sts_testing", 2)[1]["token"], "sts-cert")
        self.assertEqual(self.delivered("good")["sts"], "testing v1")
        self.assertEqual(len(server.log("sts_testing")), 2)
        self.assertEqual(server.metric("ringpost_sts_testing_failures_total"), 2)


@harness.one_thread("the shard that delivers decides")
class BesideDane(Sts):
    """The zone is signed: DANE decides where there are usable records, whatever the policy says."""

    def serve_signed(self, record):
        zone = ZONE + f"_{self.mx_port}._tcp.a TLSA {record}\n"
        signed = nsd.Nsd(self, {ORIGIN: zone}, [ORIGIN])
        self.serve(start=False)
        self.server.sections["dns"] = {"forwarders": [f"127.0.0.1:{signed.port}"], "timeout": "5s",
                                       "trust-anchor": str(signed.anchor)}
        self.server.write_config()
        self.server.start()
        self.addCleanup(self.server.stop)

    def test_dane_fits_and_the_policy_would_not(self):
        certificate = pki.make("nobody", pki.KEYS["ec"]())
        self.hosts.publish("good", policy(mx=["elsewhere.example"]))
        self.peer(server_context(certificate))
        self.serve_signed("3 0 1 " + hashlib.sha256(certificate.der).hexdigest())
        event = self.delivered("good")
        self.assertEqual((event["got"], event["policy"]), ("dane-ee", "connector,dane"))

    def test_a_policy_that_is_kept_to_repairs_nothing(self):
        self.hosts.publish("good", policy())
        peer = self.peer()
        self.serve_signed("3 1 1 " + "00" * 32)
        event = self.refused("good")
        self.assertEqual((event["token"], event["policy"]), ("tlsa", "connector,dane"))
        self.assertEqual(peer.messages, [])


class Kept(Sts):
    def fetched_again(self, name, serial, txt):
        """The operator has it looked for, with another record in DNS."""
        zone = ZONE.replace("hostmaster 1 ", f"hostmaster {serial} ")
        before = f'_mta-sts.{name} TXT "v=STSv1; " "id=v1;"\n'
        self.assertIn(before, zone)
        self.nsd.change(zone.replace(before, f'_mta-sts.{name} TXT {txt}\n'))
        self.assertEqual(self.server.cli("tls", "sts", "refresh", f"{name}.{ORIGIN}").returncode, 0)

    def test_over_a_restart_and_when_nobody_gives_it_out(self):
        """T-30: a policy counts for its max_age, whatever becomes of its host."""
        self.hosts.publish("kept", policy(mx=["elsewhere.example"]))
        peer = self.peer()
        server = self.serve()
        self.refused("kept")
        before = self.known("kept")
        server.stop()
        server.sections["mta-sts"]["port"] = harness.free_port()
        server.write_config()
        server.start()
        server.wait_log("host_failed", 2, token="sts-mx")
        self.assertEqual(self.hosts.asked, ["kept"])
        for serial in range(2, 100):    # until DNS has it
            self.fetched_again("kept", serial, '"v=STSv1; id=v2"')
            if server.log("sts_unfetched"):
                break
        event = server.wait_log("sts_unfetched")[0]
        self.assertEqual((event["id"], event["until_then"]), ("v2", "the policy from before"))
        self.assertEqual(event["result"], "sts-policy-fetch-error")
        known = self.known("kept")
        self.assertEqual({k: known[k] for k in ("mode", "id", "mx", "fetched", "holds")},
                         {k: before[k] for k in ("mode", "id", "mx", "fetched", "holds")})
        self.assertEqual(peer.connections, 0)

    def test_a_newer_one_takes_its_place(self):
        self.hosts.publish("newer", policy(mx=["elsewhere.example"]))
        self.peer()
        server = self.serve()
        queue_id = self.post("newer")
        server.wait_log("host_failed", token="sts-mx")
        self.hosts.publish("newer", policy(max_age=600))
        for serial in range(101, 200):
            self.fetched_again("newer", serial, '"v=STSv1; id=v2"')
            if len(server.log("sts_policy")) > 1:
                break
        event = server.wait_log("sts_policy", 2)[1]
        self.assertEqual((event["id"], event["max_age_s"]), ("v2", 600))
        self.assertEqual(self.known("newer")["id"], "v2")
        server.wait_log("delivered", msg=queue_id)      # which waited for an hour otherwise

    def test_dns_says_nothing_any_more(self):
        self.hosts.publish("good", policy(mx=["elsewhere.example"]))
        self.peer()
        server = self.serve()
        self.refused("good")
        absent = 'ringpost_sts_lookups_total{result="absent"}'
        before = server.metric(absent)
        for serial in range(201, 300):
            self.fetched_again("good", serial, '"gone"')
            if server.metric(absent) > before:
                break
        server.wait_metric(absent, before + 1)
        self.assertTrue(self.known("good")["holds"])
        self.post("good")
        server.wait_log("destination_failed")
        self.assertEqual(server.log("delivered"), [])


@harness.one_thread("the command line")
class CommandLine(Sts):
    def test_explain_online(self):
        """The policy as it is now, and what it demands of each host; nothing is asked without --online."""
        self.hosts.asked.clear()
        server = self.serve(start=False)
        server.write_config()
        self.hosts.publish("good", policy())

        def explain(name, *words):
            return server.cli("explain", "--from", "a@flow.test", "--to", f"x@{name}.{ORIGIN}", "--ip", "127.0.0.1", *words)
        found = json.loads(explain("good", "--online", "--json").stdout)["recipients"][0]["way"]["online"]
        self.assertEqual((found["mta-sts"]["state"], found["mta-sts"]["mode"]), ("found", "enforce"))
        self.assertEqual([(h["must_sts"], h["refused"]) for h in found["hosts"]], [(True, "")])
        self.hosts.publish("good", policy(mx=["mx.elsewhere.example"]))
        found = json.loads(explain("good", "--online", "--json").stdout)["recipients"][0]["way"]["online"]
        self.assertIn("does not list it", found["hosts"][0]["refused"])
        self.hosts.publish("good", policy(), status=404)
        self.assertRegex(explain("good", "--online").stdout, "mta-sts now +failed: .*404")
        self.assertEqual(self.hosts.asked, ["good"] * 3)
        explain("good")
        self.assertEqual(self.hosts.asked, ["good"] * 3)

    def test_usage(self):
        server = self.serve()
        for words in (["tls", "sts"], ["tls", "sts", "a", "b"], ["tls", "sts", "refresh"], ["tls", "sts", "--what"]):
            done = server.cli(*words)
            with self.subTest(words):
                self.assertIn(done.returncode, (1, 2))
        self.assertIn("refresh DOMAIN", server.cli("tls", "sts", "--help").stdout)
        self.assertIn("nothing is known", server.cli("tls", "sts", "nobody.example").stderr)
        self.assertEqual(server.http(f"/v1/tls/sts/refresh?domain=good.{ORIGIN}", "POST")[0], 403)
        self.assertEqual(server.http("/v1/tls/sts/refresh?domain=", "POST", unix=True)[0], 409)
        for query in ("", "?domain=", "?domain=" + "a" * 600, "?domain=%00", "?domain=nobody.example"):
            self.assertEqual(server.http("/v1/tls/sts" + query)[0], 404)
        self.assertEqual(server.metric("ringpost_sts_errors_total"), 0)


if __name__ == "__main__":
    harness.main()
