"""test_connector_ops.py - connectors while they run: what they did, and what an operator does about them"""
import ssl
import unittest

import harness
import test_connectors
from harness import Peer, Ringpost
from test_connectors import BANK
from tls_wire import TlsPeer, server_context

COUNTED = "ringpost_connector_"


class Operated(test_connectors.Connectors):
    def counted(self, name, **labels):
        """A number of the metrics; labels in the order in which they are printed."""
        words = ",".join(f'{key}="{value}"' for key, value in labels.items())
        return self.server.metric(f"{COUNTED}{name}{{{words}}}")

    def messages(self, dir, connector, tls, forced, result):
        return self.counted("messages_total", dir=dir, connector=connector, tls=tls, forced=forced, result=result)

    def reload(self, **connectors):
        """The inbound connectors of the file become these."""
        for title in [t for t in self.server.sections if t.startswith('inbound "')]:
            del self.server.sections[title]
        self.server.sections.update({f'inbound "{title}"': keys for title, keys in connectors.items()})
        self.server.write_config()
        done = self.server.cli("reload")
        self.assertEqual(done.returncode, 0, done.stderr)


class Metrics(Operated):
    def test_inbound(self):
        """What a connector did is counted under its name, and goes on counting over reloads; idle
        ones have no series."""
        server = self.serve({"bank": BANK, "idle": {**BANK, "sender-domains": ["idle.example"]}})
        leaf = self.leaf("mx.bank.example")
        self.client(leaf, version=ssl.TLSVersion.TLSv1_3).message("a@bank.example")
        self.assertEqual(self.refusal(self.client(), "a@bank.example")[2], "cert-none")
        self.client(tls=False).message("a@elsewhere.example")
        self.assertEqual(self.messages("in", "bank", "1.3", 1, "accept"), 1)
        self.assertEqual(self.messages("in", "bank", "1.3", 1, "reject"), 1)
        self.assertEqual(self.messages("in", "", "none", 0, "accept"), 1)
        self.assertEqual(self.counted("refusals_total", connector="bank", token="cert-none", state="enforce"), 1)
        self.assertEqual(self.counted("identified_total", connector="bank", how="cert"), 1)
        self.assertGreater(self.counted("bytes_total", dir="in", connector="bank"), 0)
        self.assertEqual([m for m in server.metrics() if 'connector="idle"' in m], [])
        self.reload(a=BANK, b=BANK)     # neither has the other's numbers
        self.client(leaf).message("a@bank.example")
        self.assertEqual(self.counted("identified_total", connector="a", how="cert"), 1)
        self.assertEqual(self.counted("identified_total", connector="bank", how="cert"), 1)
        self.reload(bank=BANK)
        self.client(leaf).message("a@bank.example")
        self.assertEqual(self.counted("identified_total", connector="bank", how="cert"), 2)

    def test_test_mode(self):
        self.serve({"bank": {**BANK, "state": "test"}})
        self.client().message("a@bank.example")
        self.client(self.leaf("mx.bank.example")).message("a@bank.example")
        self.assertEqual(self.counted("refusals_total", connector="bank", token="cert-none", state="test"), 1)
        self.assertEqual(self.counted("would_accept_total", connector="bank"), 1)

    def test_outbound(self):
        """Attempts by their protection and result, plain text and failures by their reasons."""
        good = TlsPeer(self, server_context(self.public.leaf("mx.good.test")))
        plain = Peer(self)
        server = self.serve({}, outbound={
            "good": good.route(["good.test"], roots="public-test", tls="name", **{"tls-name": ["mx.good.test"]}),
            "plain": plain.route(["plain.test"], tls="may"),
            "never": plain.route(["never.test"], tls="encrypt")})
        for domain in ("good", "plain", "never"):
            server.send(recipients=[f"x@{domain}.test"])
        good.wait(1)
        plain.wait(1)
        harness.wait_for(lambda: self.messages("out", "good", "1.3", 1, "delivered") == 1, "the good one's outcome")
        harness.wait_for(lambda: self.messages("out", "plain", "none", 0, "delivered") == 1, "the plain one's outcome")
        self.assertEqual(self.counted("cleartext_total", connector="plain", reason="no-offer"), 1)
        harness.wait_for(lambda: self.counted("tls_failures_total", connector="never", token="starttls-none") > 0,
                         "the failure")
        self.assertEqual(self.counted("bytes_total", dir="out", connector="never"), 0)

    def test_thousands(self):
        """A reload with thousands of connectors, and none of them is in the way of a scrape."""
        server = self.serve({"bank": BANK})
        many = {f"c{i}": {**BANK, "sender-domains": [f"d{i}.example"]} for i in range(3000)}
        self.reload(bank=BANK, **many)
        self.client(self.leaf("mx.bank.example")).message("a@d2999.example")
        self.assertEqual(self.counted("identified_total", connector="c2999", how="cert"), 1)
        harness.wait_for(lambda: self.messages("out", "inner", "none", 0, "delivered") == 1, "its outcome")
        self.assertEqual({m.partition('connector="')[2].partition('"')[0] for m in server.metrics() if "connector=" in m},
                         {"c2999", "inner"})


if __name__ == "__main__":
    harness.main()
