"""test_bench.py - the load generator by TLS: its figures are worth what it says about handshakes

Source and sink against each other, and against clients and servers of OpenSSL, which know nothing
of either.
"""
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
from harness import BENCH, SANITIZER_ENV, Sink, program, source


def bench(word, *options, check=True):
    done = subprocess.run([str(BENCH), word, *map(str, options), "--json", "-"], capture_output=True, text=True,
                          timeout=120, check=False, env={**os.environ, **SANITIZER_ENV})
    if check and done.returncode != 0:
        raise AssertionError(f"{word}: {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout) if done.stdout.strip() else {}


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-bench."))
        cls.pairs = {}
        for kind, new in ("ecdsa", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]), ("rsa", ["rsa:2048"]):
            chain, key = cls.directory / f"{kind}.pem", cls.directory / f"{kind}.key"
            subprocess.run([program("openssl"), "req", "-x509", "-newkey", *new, "-nodes", "-days", "2", "-subj", "/CN=sink",
                            "-addext", f"subjectAltName=DNS:{kind}.example", "-keyout", str(key), "-out", str(chain)],
                           check=True, capture_output=True)
            key.chmod(0o600)
            cls.pairs[kind] = ["--cert", str(chain), "--key", str(key)]

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.directory, ignore_errors=True)

    def sink(self, mode, *options):
        return Sink(self, "--tls", mode, *self.pairs["ecdsa"], *self.pairs["rsa"], *options)

    def test_a_server_without_starttls_gets_no_mail_in_clear(self):
        sink = Sink(self)
        result = source("--to", sink.address, "--messages", 3, "--tls", "starttls", check=False)
        self.assertEqual(result["messages"], 0)
        self.assertGreaterEqual(result["errors"]["tls"], 1)
        self.assertEqual(sink.numbers()["messages"], 0)

    def test_a_server_that_has_not_what_was_asked_for_fails_the_handshake(self):
        sink = self.sink("implicit", "--tls-version", "1.3", "--tls-group", "P-384")
        for options in ["--tls-version", "1.2"], ["--tls-group", "X25519", "--tls-version", "1.3"]:
            result = bench("handshakes", "--to", sink.address, "--count", 3, "--tls", "implicit", *options, check=False)
            self.assertEqual((result["connections"], result["tls"]["failed"]), (0, 3), options)

    def test_what_follows_starttls_in_clear_is_not_taken(self):
        sink = self.sink("starttls")
        with socket.create_connection(("127.0.0.1", sink.port), 30) as client:
            client.sendall(b"EHLO x\r\n")
            client.sendall(b"STARTTLS\r\nMAIL FROM:<a@example.org>\r\n")
            said = b""
            while (got := client.recv(4096)):
                said += got
        self.assertIn(b"\r\n554 ", said)
        self.assertNotIn(b"\r\n220 ", said[5:])

    def test_every_version_group_and_mode(self):
        for mode in "starttls", "implicit":
            sink = self.sink(mode)
            for version in "1.2", "1.3":
                for group in "X25519", "P-256", "P-384":
                    result = source("--to", sink.address, "--messages", 40, "--connections", 4, "--tls", mode,
                                    "--tls-version", version, "--tls-group", group)
                    self.assertEqual((result["messages"], result["errors"]["total"]), (40, 0))
                    self.assertEqual((result["tls"]["full"], result["tls"]["resumed"]), (4, 0))
                    self.assertEqual(result["tls"]["handshake_us"]["count"], 4)
            self.assertEqual(sink.numbers()["messages"], 240)

    def test_large_messages_pipelined_arrive_whole(self):
        sink = self.sink("starttls")
        result = source("--to", sink.address, "--messages", 20, "--connections", 3, "--tls", "starttls", "--pipeline", "--bdat",
                        "--size", "1M")
        self.assertEqual((result["messages"], result["errors"]["total"]), (20, 0))
        self.assertEqual(sink.numbers()["bytes"], 20 << 20)

    def test_resumed_are_as_many_as_asked_for(self):
        sink = self.sink("starttls", "--tls-resume", "1")
        for options in ["--tls-version", "1.3"], ["--tls-version", "1.2"], ["--tls-version", "1.2", "--tls-no-tickets"]:
            tls = bench("handshakes", "--to", sink.address, "--count", 60, "--connections", 1, "--tls", "starttls",
                        "--tls-resume", "1", *options)["tls"]
            self.assertEqual((tls["full"], tls["resumed"], tls["failed"]), (1, 59, 0), options)
            tls = bench("handshakes", "--to", sink.address, "--count", 400, "--connections", 1, "--tls", "starttls",
                        "--tls-resume", "50%", *options)["tls"]
            self.assertEqual(tls["full"] + tls["resumed"], 400)
            self.assertTrue(130 < tls["resumed"] < 270, tls)    # nine deviations

    def test_a_sink_that_resumes_nothing(self):
        sink = self.sink("implicit")
        for version in "1.2", "1.3":
            tls = bench("handshakes", "--to", sink.address, "--count", 20, "--connections", 1, "--tls", "implicit",
                        "--tls-resume", "1", "--tls-version", version)["tls"]
            self.assertEqual((tls["full"], tls["resumed"]), (20, 0))

    def test_certificates_by_name_seen_by_openssl(self):
        sink = self.sink("implicit")
        for kind in "ecdsa", "rsa":
            context = ssl.create_default_context(cafile=str(self.directory / f"{kind}.pem"))
            with socket.create_connection(("127.0.0.1", sink.port), 30) as plain:
                with context.wrap_socket(plain, server_hostname=f"{kind}.example") as client:
                    self.assertTrue(client.recv(100).startswith(b"220 "))

    def test_handshakes_with_an_openssl_server(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / "rsa.pem", self.directory / "rsa.key")
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def serve():
            for _ in range(10):
                connection, _ = listener.accept()
                with context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=True) as server:
                    server.sendall(b"220 openssl\r\n")
                    server.recv(1000)
                    server.sendall(b"250 openssl\r\n")
                    server.recv(1000)
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        result = bench("handshakes", "--to", f"127.0.0.1:{listener.getsockname()[1]}", "--count", 10, "--connections", 1,
                       "--tls", "implicit", "--tls-resume", "1")
        self.assertEqual((result["connections"], result["tls"]["full"], result["tls"]["resumed"]), (10, 1, 9))
        thread.join(harness.WAIT_SECONDS)

    def test_in_clear_it_takes_the_same_steps(self):
        sink = Sink(self)
        for more in [], ["--split"], ["--noops", "0", "--quit"]:
            result = bench("handshakes", "--to", sink.address, "--count", 30, "--connections", 4, *more)
            self.assertEqual((result["connections"], result["failed"]), (30, 0))
        self.assertEqual(sink.numbers()["bad_commands"], 0)

    def test_the_bare_loop_has_all_its_rows(self):
        rows = bench("tls-loop", *self.pairs["ecdsa"], *self.pairs["rsa"], "--rounds", 3)["rows"]
        self.assertGreaterEqual(set(rows), {"13-ecdsa", "13-rsa", "13-resumed", "12-ecdsa", "12-rsa", "12-ticket", "12-id"})
        for row in rows.values():
            self.assertGreater(row["without_us"], 0)
        rows = bench("tls-loop", *self.pairs["ecdsa"], "--rounds", 3, "--pause", 1, "--only", "12-ticket")["rows"]
        self.assertEqual(set(rows), {"12-ticket"})
        self.assertEqual(set(rows["12-ticket"]), {"words", "without_us"})

    def test_wrong_options_say_which(self):
        for options, word in ((["--tls", "ssl"], "--tls"), (["--tls-version", "1.1"], "--tls-version"),
                              (["--tls", "starttls", "--tls-group", "X448"], "--tls-group"), (["--tls-resume", "2"], "--tls-resume"),
                              (["--tls-version", "1.3"], "--tls")):
            done = subprocess.run([str(BENCH), "handshakes", "--to", "127.0.0.1:1", *options], capture_output=True, text=True,
                                  check=False)
            self.assertEqual(done.returncode, 2, options)
            self.assertIn(word, done.stderr)


if __name__ == "__main__":
    harness.main()
