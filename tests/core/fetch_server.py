#!/usr/bin/env python3
"""fetch_server.py - a real HTTP and HTTPS server for tests/core/test_fetch.c

Usage: fetch_server.py DIRECTORY     writes ca.pem there, prints "HTTPS-PORT HTTP-PORT" and serves

The certificate is for good.test. What a path does is written at its branch.
"""
import http.server
import pathlib
import ssl
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "flow"))
import pki  # noqa: E402

forever = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def say(self, status, body=b"", **fields):
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **fields}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/text":
            self.say(200, b"hello\n", Content_Type="text/plain; charset=us-ascii")
        elif self.path == "/empty":
            self.say(200)
        elif self.path == "/redirect":
            self.say(302, Location="/text")
        elif self.path == "/announced":      # too large, and says so
            self.say(200, b"x" * 5000)
        elif self.path == "/endless":        # too large, and does not
            self.say(200, b"x" * 5000, Content_Length=None, Connection="close")
        elif self.path == "/short":          # ends before its end
            self.say(200, b"hel", Content_Length=6, Connection="close")
        elif self.path == "/silent":
            forever.wait()
        else:
            self.say(404, b"no such thing")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.say(201, self.headers["Content-Type"].encode() + b"|" + body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):     # a client that does not trust us
        pass


def serve(context=None):
    server = Server(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def main():
    directory = pathlib.Path(sys.argv[1])
    authority = pki.Authority()
    (directory / "ca.pem").write_text(authority.root.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain, key = authority.leaf("good.test").write(directory, "leaf")
    context.load_cert_chain(chain, key)
    print(serve(context), serve(), flush=True)
    forever.wait()


main()
