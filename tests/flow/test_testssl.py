"""test_testssl.py - what testssl.sh finds on a listener with STARTTLS

Its findings are an expectation, data/testssl.txt: what it says, without dates, digests, and what is
its own or its OpenSSL's choice. One is not green there: that the client's order of suites is taken.
All of ours are ECDHE and AEAD, and a client knows best which it has instructions for.

Written anew by RINGPOST_EXPECT=write; look at the difference.
"""
import json
import os
import pathlib
import re
import subprocess
import unittest

import harness
import pki
from harness import Ringpost, program
from tls_wire import scratch

EXPECTED = pathlib.Path(__file__).parent / "data" / "testssl.txt"
NAME = "mx.good.test"
# By time, by chance, by the version of its openssl, or about the certificate of this test.
IGNORED = ("engine_problem", "scanTime", "TLS_timestamp", "TLS_extensions", "cipher_negotiated", "cipher_order_",
           "sessionresumption_ID", "service", "DROWN_hint", "cert_serial", "cert_fingerprint", "cert_notBefore",
           "cert_notAfter", "cert_expirationStatus", "cert_crl", "cert_ocsp", "cert_validity", "DNS_CAA", "cert",
           "certificate_transparency", "certs_", "OCSP_", "pre_128cipher")
KEPT = ("cert_trust", "cert_chain_of_trust", "cert_keySize", "cert_signatureAlgorithm", "cert_numbers")


class TestSsl(unittest.TestCase):
    def test_listener(self):
        if any(word in harness.RINGPOST.read_bytes() for word in (b"__asan_init", b"__tsan_init")):
            self.skipTest("what is offered does not depend on sanitizers, and takes a minute to see")
        base, authority = scratch(self), pki.Authority()
        # revoked or not, a certificate says where that can be read
        point = pki.sequence(pki.sequence(pki.tlv(0xa0, pki.tlv(0xa0, pki.tlv(0x86, b"http://crl.good.test/x.crl")))))
        sections = {}
        for kind in ("ec", "rsa"):
            chain, key = authority.leaf(NAME, kind=kind, common_name=NAME,
                                        more=pki.extension("2.5.29.31", point)).write(base, kind)
            sections[f'certificate "{kind}"'] = {"chain": chain, "key": key}
        (base / "roots.pem").write_text(authority.root.pem)
        server = Ringpost(self, listeners={"in": {"certificates": ["ec", "rsa"]}}, **sections).start()
        self.addCleanup(server.stop)
        found = base / "found.json"
        subprocess.run(     # its exit status counts what is not green
            [program("testssl"), "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none",
             "--ip", "127.0.0.1", "--add-ca", base / "roots.pem", "-p", "-s", "-f", "-P", "-S", "-U",
             "--jsonfile", found, "--starttls", "smtp", f"{NAME}:{server.port}"],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=170, check=False, cwd=base)
        lines = []
        for entry in json.loads(found.read_text()):
            name, finding = entry["id"].split(" ")[0], entry["finding"].strip()
            if name == "TLS_session_ticket":    # what is left of twelve hours, in seconds
                finding = re.sub(r"\b431\d\d\b", "43200", finding)
            if not name.startswith(IGNORED) or name in KEPT:
                lines.append(f"{entry['severity']:8} {entry['id']}: {finding}")
        text = "\n".join(lines) + "\n"
        if os.environ.get("RINGPOST_EXPECT") == "write":
            EXPECTED.write_text(text)
        self.maxDiff = None
        self.assertEqual(text, EXPECTED.read_text())
        bad = [line for line in lines if not line.startswith(("OK", "INFO"))]
        self.assertEqual([line.split()[1] for line in bad], ["cipher_order:"], bad)


if __name__ == "__main__":
    harness.main()
