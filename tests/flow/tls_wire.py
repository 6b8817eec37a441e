"""tls_wire.py - both ends of TLS for the flow tests, with a hand on each octet

  Wire     a server's connection: in clear or under TLS; keeps every octet that came, as it came
  TlsPeer  a next hop with STARTTLS or implicit TLS, that may do anything wrong
  Client   harness.Smtp that can go on under TLS
  Session  a client's TLS of which each octet can be sent as one likes
  hello()  the ClientHello that Python's client would send, for clients that mean harm
"""
import contextlib
import pathlib
import re
import ssl
import tempfile
import warnings

import harness
from harness import Peer, Smtp

warnings.filterwarnings("ignore", category=DeprecationWarning)    # old versions are what we ask for


def scratch(test):
    path = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-tls."))
    path.chmod(0o755)
    test.addCleanup(harness.shutil.rmtree, path, True)
    return path


def server_context(certificate, versions=("TLSv1_2", "TLSv1_3"), ciphers="DEFAULT:@SECLEVEL=0", client_roots=None):
    """For a server that presents this. Weak things are no obstacle."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = (ssl.TLSVersion[v] for v in versions)
    context.set_ciphers(ciphers)
    with tempfile.TemporaryDirectory(prefix="ringpost-tls.") as directory:
        context.load_cert_chain(*certificate.write(pathlib.Path(directory), "server"))
        if client_roots:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(cadata=client_roots)
    return context


def client_context(versions=("TLSv1_2", "TLSv1_3"), roots=None, certificate=None, ciphers=None):
    """For a client; without roots it believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version, context.maximum_version = (ssl.TLSVersion[v] for v in versions)
    if ciphers:
        context.set_ciphers(ciphers)
    if roots:
        context.load_verify_locations(cadata=roots)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        with tempfile.TemporaryDirectory(prefix="ringpost-tls.") as directory:
            context.load_cert_chain(*certificate.write(pathlib.Path(directory), "client"))
    return context


class Session:
    """A client's TLS with a hand on each octet: what is to be sent is given to the caller."""

    def __init__(self, name="mx.good.test", **options):
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context(**options).wrap_bio(self.into, self.out, server_hostname=name)

    def shake(self, s):
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                s.sendall(self.out.read())
                got = s.recv(65536)
                if not got:
                    raise EOFError from None
                self.into.write(got)
        s.sendall(self.out.read())

    def seal(self, text):
        self.tls.write(harness.octets(text))
        return self.out.read()

    def read(self, s):
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                got = s.recv(65536)
                if not got:
                    raise EOFError from None
                self.into.write(got)
            except ssl.SSLZeroReturnError:
                return b""

    def until(self, s, code):
        """Reads replies until a last line with this code."""
        heard = b""
        while not re.search(rb"(?m)^%d .*\r\n" % code, heard):
            got = self.read(s)
            if not got:
                raise AssertionError(f"closed; heard {heard!r}, not {code}")
            heard += got
        return heard

    def bye(self):
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.out.read()


def hello(name="mx.good.test", **options):
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = client_context(**options).wrap_bio(into, out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        session.do_handshake()
    return out.read()


class Wire:
    def __init__(self, s):
        self.socket = s
        self.raw = bytearray()      # all that came
        self.buffer = b""           # plaintext not read yet
        self.tls = self.into = self.out = None
        self.put = s.sendall        # a test may stand in between: put(octets)
        self.flights = 0            # for put: how far it has come
        self.sip, self.dribble = 65536, None
        self.ended = ""             # "notify": by a close_notify

    def pull(self):
        got = self.socket.recv(self.sip)
        if not got:
            raise EOFError
        self.raw += got
        return got

    def flush(self):
        if data := self.out.read():
            self.put(data)

    def secure(self, context):
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(self.into, self.out, server_side=True)
        self.into.write(self.buffer)
        self.buffer = b""
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.into.write(self.pull())
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self.flush()
                raise
        self.tls = tls
        self.flush()

    def sendall(self, data):
        if self.tls is None:
            self.put(data)
            return
        if self.dribble:
            self.dribble(self, data)
            return
        self.tls.write(data)
        self.flush()

    def recv(self):
        if self.tls is None:
            return self.pull()
        while True:
            try:
                got = self.tls.read(65536)
                if not got:
                    self.ended = "notify"
                    raise EOFError
                return got
            except ssl.SSLWantReadError:
                self.flush()
                self.into.write(self.pull())
            except ssl.SSLZeroReturnError:
                self.ended = "notify"
                raise EOFError from None

    def readline(self, _=None):
        try:
            while b"\n" not in self.buffer:
                self.buffer += self.recv()
        except EOFError:
            return b""
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line + b"\n"

    def read(self, count):
        while len(self.buffer) < count:
            self.buffer += self.recv()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data


class TlsPeer(Peer):
    """starttls: function(peer, wire, number) in place of a faithful answer to STARTTLS (number: of
    the connection, from 1). context: one, or function(number)."""

    def __init__(self, test, context=None, starttls=None, implicit=False, offers=True, **peer):
        self.context = context
        self.behave = starttls
        self.implicit = implicit
        self.offers = offers
        self.sip, self.dribble = 65536, None    # octets read at a time; function(wire, text) that answers
        self.wires = []
        self.handshakes = []    # of those that came about
        super().__init__(test, **peer)

    def keywords(self, s):
        return self.extensions if s.tls is not None or not self.offers else (*self.extensions, "STARTTLS")

    def serve(self, s, number):
        wire = Wire(s)
        wire.sip, wire.dribble = self.sip, self.dribble
        with self.lock:
            self.wires.append(wire)
            wire.number = number
        try:
            with s:
                if self.implicit:
                    self.secure(wire, number)
                self.talk(wire, wire, number)
                if wire.tls is not None:
                    wire.recv()         # how it ends
        except (OSError, EOFError, ValueError):
            pass
        finally:
            with self.lock:
                self.open.discard(s)

    def secure(self, wire, number):
        context = self.context(number) if callable(self.context) else self.context
        wire.secure(context)
        with self.lock:
            self.handshakes.append({
                "version": wire.tls.version(), "cipher": wire.tls.cipher()[0], "number": number,
                "resumed": wire.tls.session_reused, "client": wire.tls.getpeercert(binary_form=True)})

    def starttls(self, s, number):
        if self.behave is not None:
            self.behave(self, s, number)
            return
        self.say(s, "220 2.0.0 go on")
        self.secure(s, number)

    def in_clear(self, marker):
        """Numbers of the connections on which it came as it is."""
        return [w.number for w in list(self.wires) if harness.octets(marker) in bytes(w.raw)]


class Client(Smtp):
    def __init__(self, address, implicit=None, name="mx.good.test", **options):
        self.raw = None
        super().__init__(address, greet=not implicit, **options)
        if implicit:
            self.secure(implicit, name)
            self.greeting = self.reply()

    def secure(self, context, name="mx.good.test", session=None):
        self.socket = context.wrap_socket(self.socket, server_hostname=name, session=session,
                                          suppress_ragged_eofs=False)

    def starttls(self, context, name="mx.good.test", session=None):
        """EHLO, STARTTLS, EHLO; the second answer's lines."""
        self.hello()
        self.expect(220, "STARTTLS")
        self.secure(context, name, session)
        return self.hello().lines
