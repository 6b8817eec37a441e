"""test_validate.py - ringpost connector validate: each host of a connector is met, and what was found is kept"""
import json
import ssl
import unittest

import harness
from harness import Peer, Ringpost
from pki import CLIENT, Authority
from tls_wire import TlsPeer, scratch, server_context

NAME = "mx.good.test"


class Validate(unittest.TestCase):
    def serve(self, outbound, **config):
        self.server = Ringpost(self, outbound=outbound, **config).start()
        self.addCleanup(self.server.stop)
        return self.server

    def validate(self, name, *words, status=0):
        done = self.server.cli("connector", "validate", name, *words, "--timeout", "10", "--json")
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        self.assertEqual(done.stderr, "")
        return json.loads(done.stdout)

    def bank(self, authority, **keys):
        roots = scratch(self) / "roots.pem"
        roots.write_text(authority.root.pem)
        return {"tls": "name", "tls-name": [NAME], "roots": "test", **keys}, {'roots "test"': {"file": roots}}

    def test_a_good_host_gets_the_message_and_the_reload_its_demand(self):
        authority = Authority()
        peer = TlsPeer(self, server_context(authority.leaf(NAME)))
        keys, sections = self.bank(authority)
        server = self.serve({"bank": peer.route(["bank.test"], state="test", **keys)}, **sections)
        found = self.validate("bank", "--rcpt", "postmaster@bank.test", "--rcpt", "b@bank.test", "--from", "a@us.test")
        row = found["hosts"][0]
        self.assertEqual((found["good"], row["good"], row["satisfies"], row["name"], row["version"]),
                         (True, True, "name", NAME, "TLSv1.3"))
        self.assertEqual([(m["to"], m["taken"]) for m in row["message"]],
                         [("postmaster@bank.test", True), ("b@bank.test", True)])
        message = peer.wait(1)[0]
        self.assertEqual((message.sender, message.recipients), ("a@us.test", ["postmaster@bank.test", "b@bank.test"]))
        self.assertIn(b"Subject: Test of connector bank\r\n", message.content)
        self.assertEqual(peer.in_clear("Subject"), [])
        self.assertEqual(json.loads((server.spool / "validated.json").read_text())["bank"]["good"], True)
        server.wait_log("connector_validated", connector="bank", good=True)
        self.assertEqual(server.metric('ringpost_connector_validated{connector="bank"}'), 1)
        self.assertGreater(server.metric('ringpost_connector_last_validation_timestamp{connector="bank"}'), 1e9)
        shown = json.loads(server.cli("connector", "show", "bank", "--json").stdout)
        self.assertIn('"validation": "good"', json.dumps(shown))
        # put into force it is as it was validated; with another host it is not
        server.outbound["bank"]["state"] = "enforce"
        server.write_config()
        self.assertEqual(server.cli("reload", "--require-validated").returncode, 0)
        server.outbound["bank"]["tls-min"] = "1.3"
        server.write_config()
        refused = server.cli("reload", "--require-validated")
        self.assertEqual((refused.returncode, refused.stderr),
                         (1, 'outbound "bank": unvalidated (changed since); run ringpost connector validate bank\n'))
        self.assertIn("(L-16)", server.cli("check").stdout)
        self.assertEqual(server.cli("reload").returncode, 0)
        server.stop()
        server.start()
        self.validate("bank")
        self.assertEqual(server.cli("reload", "--require-validated").returncode, 0)
        self.assertNotIn("(L-16)", server.cli("check").stdout)
        self.assertEqual(len(peer.messages), 1, "without --rcpt none is sent")

    def test_hosts_that_are_not_good(self):
        clear, dead = Peer(self), harness.free_port()
        authority = Authority()
        stranger = TlsPeer(self, server_context(Authority("Stranger").leaf(NAME)))
        keys, sections = self.bank(authority)
        hosts = [clear.address, f"127.0.0.1:{dead}", stranger.address]
        self.serve({"bank": {**clear.route(["bank.test"], **keys), "hosts": hosts}}, **sections)
        found = self.validate("bank", "--rcpt", "a@bank.test", status=1)
        self.assertEqual([r["good"] for r in found["hosts"]], [False] * 3)
        for row, words in zip(found["hosts"], ("STARTTLS", "refused", "root|trusted|untrusted")):
            self.assertRegex(row["why"], words)
        self.assertEqual((clear.messages, stranger.messages), ([], []))
        kept = json.loads((self.server.spool / "validated.json").read_text())["bank"]
        self.assertFalse(kept["good"])
        self.assertIn("STARTTLS", kept["why"])

    def test_a_client_certificate_that_is_refused_and_a_recipient_that_is(self):
        authority, other = Authority(), Authority("Other")
        context = server_context(authority.leaf(NAME))
        context.load_verify_locations(cadata=other.root.pem)
        context.verify_mode = ssl.CERT_REQUIRED
        refusing = TlsPeer(self, context)
        taking = TlsPeer(self, server_context(authority.leaf(NAME), client_roots=authority.root.pem),
                         answers={"RCPT": lambda p, line: "550 5.1.1 nobody" if "nobody" in line else None})
        keys, sections = self.bank(authority, **{"client-certificate": "ours"})
        chain, key = authority.leaf("us.test", usage=(CLIENT,)).write(scratch(self), "ours")
        sections['certificate "ours"'] = {"chain": chain, "key": key}
        self.serve({"bank": refusing.route(["bank.test"], **keys), "good": taking.route(["good.test"], **keys)}, **sections)
        row = self.validate("bank", status=1)["hosts"][0]
        self.assertEqual((row["good"], row["client_certificate"]), (False, "presented, and then refused"))
        found = self.validate("good", "--rcpt", "nobody@good.test", "--rcpt", "a@good.test", status=1)
        row = found["hosts"][0]
        self.assertEqual((row["good"], row["client_certificate"]), (True, "accepted"))
        self.assertEqual([m["reply"][:3] for m in row["message"]], ["550", "250"])
        self.assertEqual((found["good"], found["why"][:16]), (False, "nobody@good.test"))

    def test_what_cannot_be_validated_is_said(self):
        peer = Peer(self)
        server = self.serve({"mx": {**peer.route(["*"]), "hosts": ["mx"]}})
        for words, status, said in ((["nobody"], 2, "there is no such"), (["mx"], 2, "leads to MX hosts"), ([], 2, ""),
                                    (["mx", "--rcpt", "a b"], 2, "is no address")):
            done = server.cli("connector", "validate", *words)
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertIn(said, done.stderr)


if __name__ == "__main__":
    harness.main()
