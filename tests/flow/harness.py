"""harness.py - what the flow tests share: the real binary, clients and next hops that say anything

Each test gets a directory, free loopback ports and a ringpost of its own. stop() ends it with
SIGTERM and expects exit status 0, no word of a sanitizer, and a log that is JSON on every line. The
binaries come from $RINGPOST_BUILD (default: build/ of this tree).

Nothing here asserts on time. Waiting ends as soon as the thing waited for is there; WAIT_SECONDS is
how long to hope for it on a slow machine.

  Ringpost   the server under test: start, kill, restart, metrics, queue, log
  Smtp       a client that sends exactly the octets it is told to
  Peer       a next hop in a thread: answers as the test says, keeps what it got to the octet
  Sink       `ringpost-bench sink`, for numbers instead of octets
"""
import contextlib
import faulthandler
import functools
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TREE = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("RINGPOST_BUILD", TREE / "build")).resolve()
RINGPOST = BUILD / "ringpost"
BENCH = BUILD / "ringpost-bench"
# Sanitized binaries are several times slower.
WAIT_SECONDS = float(os.environ.get("RINGPOST_WAIT", "60"))
FILE_SECONDS = 840      # for all tests of a file; tests/run.py gives it 900
SANITIZER = re.compile(rb"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|CHECK")
SANITIZER_ENV = {
    "ASAN_OPTIONS": "abort_on_error=0:exitcode=99:detect_leaks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    # a second signal ends the process at once, with its threads: no leak
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=0:report_thread_leaks=0",
}


@functools.cache
def sanitizer():
    """"asan" or "tsan" when the binary has one."""
    code = RINGPOST.read_bytes() if RINGPOST.exists() else b""
    return next((name for name in ("asan", "tsan") if f"__{name}_init".encode() in code), None)


def sanitized():
    return sanitizer() is not None


def memory_factor():
    """Octets that the binary takes for one of ours: ThreadSanitizer keeps a history of each."""
    return 8 if sanitizer() == "tsan" else 1


def one_thread(reason):
    """Of a test, or of a class that no other comes from: what it proves is done by one thread, whose orders and
    results go the ways that other tests take, too. So ThreadSanitizer has nothing to look at; all that does not
    say this is run with it."""
    return unittest.skipIf(sanitizer() == "tsan", f"one thread: {reason}")


def wait_for(condition, what, seconds=None):
    """The first true value of condition(); AssertionError with `what` when it never is."""
    end = time.monotonic() + (seconds or WAIT_SECONDS)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain: {what() if callable(what) else what}")
        time.sleep(0.02)


_claims = {}     # port: a socket whose name no other process can have


def claim(port):
    """Several files of tests run at a time, and some ports are to stay closed for a while: whoever
    asks for a port has it until this process ends."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0ringpost-flow-port-{port}")
    except OSError:
        name.close()
        return False
    _claims[port] = name
    return True


def free_port(host="127.0.0.1", kind=socket.SOCK_STREAM):
    """A port nobody has now. Not one of the ephemeral range that outgoing connections take."""
    for _ in range(2000):
        port = 10000 + int.from_bytes(os.urandom(2), "big") % 20000
        if port in _claims or not claim(port):
            continue
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as s:
            try:
                s.bind((host, port))
            except OSError:
                continue
        return port
    raise AssertionError("no free port")


def program(name):
    """Path of a program of others; a test that needs one that is missing fails."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise AssertionError(f"{name} is not installed (tests/install.sh does)")
    return path


# ---- the server under test ----

def quoted(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return "{ " + ", ".join(f'"{item}"' for item in value) + " }" if value else "{ }"
    return f'"{value}"'


def section(name, keys):
    body = "".join(f"    {key} = {quoted(value)}\n" for key, value in keys.items())
    return f"{name} {{\n{body}}}\n"


class Ringpost:
    """One server with a directory. Sections given by name replace single keys of the defaults:
    Ringpost(test, limits={"recipients": 100}, outbound={"sink": {"domains": [...], ...}})."""

    def __init__(self, test, outbound=None, listeners=None, top=None, spool_directory=None, port=None, **sections):
        self.test = test
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-flow."))
        self.directory.chmod(0o711)
        self.port = port or free_port()
        self.admin_port = free_port()
        self.address = ("127.0.0.1", self.port)
        self.socket = self.directory / "admin.sock"
        self.spool = pathlib.Path(spool_directory or self.directory / "spool")
        self.log_path = self.directory / "log.json"
        self.stderr_path = self.directory / "stderr"
        self.config_path = self.directory / "ringpost.conf"
        self.process = None
        self.kills = 0
        self.expect_words = False   # a test that makes the server complain says so
        self.outbound = outbound or {}
        self.listeners = listeners
        self.top = top or {}
        self.sections = sections
        self.write_config()
        test.addCleanup(self.clean)

    def config_text(self, **more):
        top = {"hostname": "mx.flow.test", "user": "", "shards": 2, **self.top}
        defaults = {
            "spool": {"directory": self.spool, "segment-size": "4M", "reserve": "8M", "cache": "8M"},
            "relay": {"domains": ["example.org", "*.example.org", "*.test"]},
            "limits": {"per-address": 0, "per-v4-24": 0, "per-v6-64": 0, "connections": 2048},
            "delivery": {"retry-initial": "1s", "retry-max": "2s", "retry-jitter": "0.1",
                         "connections-per-shard": 256, "connect-timeout": "5s",
                         "greeting-timeout": "20s", "command-timeout": "20s",
                         "mail-timeout": "20s", "rcpt-timeout": "20s",
                         "data-init-timeout": "20s", "data-end-timeout": "20s"},
            "dns": {"forwarders": ["127.0.0.1:9"], "timeout": "2s"},
            "log": {"file": self.log_path},
            "admin": {"socket": self.socket, "addresses": [f"127.0.0.1:{self.admin_port}"]},
            "bounce": {},
        }
        listeners = self.listeners or {"in": {}}
        text = "".join(f"{key} = {quoted(value)}\n" for key, value in top.items())
        for name, keys in {**self.sections, **more}.items():
            defaults.setdefault(name, {}).update(keys)
        for name, keys in defaults.items():
            text += section(name, keys)
        for number, (name, keys) in enumerate(listeners.items()):
            own = {"addresses": [f"127.0.0.1:{self.port}"]} if number == 0 else {}
            text += section(f'listener "{name}"', {**own, **keys})
        for name, keys in self.outbound.items():
            text += section(f'outbound "{name}"', {"type": "own", "state": "enforce", **keys})
        return text

    def write_config(self, **more):
        self.config_path.write_text(self.config_text(**more))

    def environment(self):
        return {**os.environ, **SANITIZER_ENV}

    def launch(self, prefix=(), env=None, **popen):
        """Begins the process without waiting for it."""
        with open(self.stderr_path, "ab") as stderr:
            self.process = subprocess.Popen(
                [*map(str, prefix), str(RINGPOST), "serve", "-c", str(self.config_path)],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, cwd=self.directory,
                env={**self.environment(), **(env or {})}, **popen)
        return self

    def start(self, **launch):
        self.launch(**launch)
        self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"ringpost ended with {self.process.returncode} at start:\n"
                                     f"{self.words()[-3000:]}")
            try:
                return self.http("/readyz")[0] == 200
            except OSError:
                return False
        wait_for(ready, lambda: f"readiness\n{self.words()[-3000:]}")

    def words(self):
        try:
            return self.stderr_path.read_bytes().decode(errors="replace")
        except OSError:
            return ""

    def stop(self, signal_number=signal.SIGTERM, status=0):
        """Ends it in good order, and looks at all it said."""
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal_number)
        try:
            code = process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"ringpost did not end after signal {signal_number}:\n"
                                 f"{self.words()[-2000:]}") from None
        self.check_words()
        if code != status:
            raise AssertionError(f"exit status {code}, not {status}:\n{self.words()[-3000:]}")
        self.check_log()

    def kill(self):
        process, self.process = self.process, None
        code = process.poll()
        if code is not None:
            raise AssertionError(f"ringpost was dead already ({code}):\n{self.words()[-3000:]}")
        self.kills += 1
        process.kill()
        process.wait()
        self.check_words()

    def check_words(self):
        if SANITIZER.search(self.words().encode()):
            raise AssertionError(f"standard error:\n{self.words()[-6000:]}")

    def check_log(self):
        for event in self.log():
            if "event" not in event and "msg" not in event:
                raise AssertionError(f"a log line without event: {event}")

    def log(self, event=None):
        """Lines of the log as objects; all must be JSON, but for a last one that is being written, and one
        that each kill may have cut."""
        events = []
        halves = 0
        try:
            text = self.log_path.read_bytes()
        except OSError:
            return []
        for line in text.split(b"\n")[:-1]:
            try:
                events.append(json.loads(line))
            except ValueError:
                halves += 1
                if halves > self.kills or line.count(b'{"t":') > 1:
                    raise AssertionError(f"a log line that is no JSON: {line!r}") from None
        return [e for e in events if event is None or e.get("event") == event]

    def wait_log(self, event, count=1, **fields):
        def found():
            hits = [e for e in self.log(event) if all(e.get(k) == v for k, v in fields.items())]
            return hits if len(hits) >= count else None
        return wait_for(found, lambda: f"{count} x {event} {fields} in the log:\n" + "\n".join(
            map(str, self.log()[-20:])))

    def clean(self):
        process, self.process = self.process, None
        if process is not None:     # the test failed, or did not care: still no sanitizer words
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        try:
            self.check_words()
        finally:
            failed = any(error for _, error in getattr(self.test._outcome, "errors", []) or [])
            result = getattr(self.test._outcome, "result", None)
            if result is not None:
                failed = failed or any(t is self.test for t, _ in result.failures + result.errors)
            if failed and os.environ.get("RINGPOST_KEEP"):
                print(f"kept: {self.directory}", file=sys.stderr)
            else:
                shutil.rmtree(self.directory, ignore_errors=True)

    # -- admin --

    def http(self, path, method="GET", unix=False):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=WAIT_SECONDS)
        if unix:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(WAIT_SECONDS)
            connection.sock.connect(str(self.socket))
        with contextlib.closing(connection):
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metrics(self):
        """{name, name{labels without shard}, name{those without connector, too}: sum}"""
        numbers = {}
        for line in self.http("/metrics")[1].splitlines():
            if line.startswith("#") or not line:
                continue
            name, value = line.rsplit(" ", 1)
            plain, _, labels = name.partition("{")
            labels = [l for l in re.findall(r'\w+="[^"]*"', labels) if not l.startswith("shard=")]
            others = [l for l in labels if not l.startswith("connector=")]
            for key in {plain, *(plain + ("{" + ",".join(some) + "}" if some else "") for some in (labels, others))}:
                numbers[key] = numbers.get(key, 0.0) + float(value)
        return numbers

    def metric(self, name):
        return self.metrics().get(name, 0.0)

    def wait_metric(self, name, at_least):
        return wait_for(lambda: self.metric(name) >= at_least,
                        lambda: f"{name} is {self.metric(name)}, not {at_least}")

    def cli(self, *arguments, config=True):
        words = [str(RINGPOST), *arguments]
        if config:
            words += ["-c", str(self.config_path)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_SECONDS,
                              env=self.environment(), cwd=self.directory, check=False)
        if SANITIZER.search(done.stderr.encode()):
            raise AssertionError(done.stderr)
        return done

    def queue(self):
        done = self.cli("queue", "list", "--json")
        if done.returncode != 0:
            raise AssertionError(f"queue list: {done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait_empty(self):
        wait_for(lambda: self.metric("ringpost_queue_messages") == 0,
                 lambda: f"an empty queue; it has {self.queue()[:3]}")

    def client(self, **options):
        client = Smtp(self.address, **options)
        self.test.addCleanup(client.close)
        return client

    def send(self, recipients=("rcpt@example.org",), sender="sender@example.com",
             content="Subject: x\r\n\r\nbody\r\n", mail_parameters="", **options):
        """One message by DATA; its queue id."""
        with Smtp(self.address, **options) as client:
            client.hello()
            return client.message(sender, recipients, content, mail_parameters)


# ---- a client ----

class Reply:
    def __init__(self, code, lines):
        self.code = code
        self.lines = lines      # without codes

    @property
    def text(self):
        return "\n".join(self.lines)

    def __repr__(self):
        return f"{self.code} {self.text!r}"


def octets(text):
    return text.encode() if isinstance(text, str) else text


class Smtp:
    def __init__(self, address, timeout=None, source=None, greet=True, receive_buffer=None):
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(timeout or WAIT_SECONDS)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.buffer = b""
        self.greeting = self.reply() if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, text):
        self.socket.sendall(octets(text))

    def line(self):
        while b"\n" not in self.buffer:
            got = self.socket.recv(65536)
            if not got:
                raise EOFError(f"closed; left: {self.buffer!r}")
            self.buffer += got
        line, self.buffer = self.buffer.split(b"\n", 1)
        if not line.endswith(b"\r"):
            raise AssertionError(f"a reply line without CR: {line!r}")
        return line[:-1].decode()

    def reply(self):
        lines = []
        while True:
            line = self.line()
            if not re.match(r"[2-5]\d\d([ -]|$)", line):
                raise AssertionError(f"not a reply: {line!r}")
            lines.append(line)
            if line[3:4] != "-":
                break
        codes = {int(line[:3]) for line in lines}
        if len(codes) != 1:
            raise AssertionError(f"a reply with several codes: {lines}")
        return Reply(codes.pop(), [line[4:] for line in lines])

    def cmd(self, line):
        self.send(octets(line) + b"\r\n")
        return self.reply()

    def expect(self, code, line):
        reply = self.cmd(line)
        if reply.code != code:
            raise AssertionError(f"{line!r}: {reply}, not {code}")
        return reply

    def hello(self, name="client.example.com"):
        return self.expect(250, f"EHLO {name}")

    def begin(self, sender="sender@example.com", recipients=("rcpt@example.org",), parameters=""):
        self.expect(250, f"MAIL FROM:<{sender}>{parameters}")
        for recipient in recipients:
            self.expect(250, f"RCPT TO:<{recipient}>")

    def data(self, content):
        """The content as it is, then the end of data; the final reply."""
        self.expect(354, "DATA")
        self.send(octets(content) + b".\r\n")
        return self.reply()

    def message(self, sender="sender@example.com", recipients=("rcpt@example.org",),
                content="Subject: x\r\n\r\nbody\r\n", parameters=""):
        """One message by DATA, its dots doubled here; its queue id."""
        self.begin(sender, recipients, parameters)
        content = octets(content)
        reply = self.data(re.sub(rb"(?m)^\.", b"..", content))
        if reply.code != 250:
            raise AssertionError(f"not taken: {reply}")
        return reply.text.split()[-1]

    def rest(self):
        """What comes until the server closes."""
        got = self.buffer
        self.buffer = b""
        with contextlib.suppress(ConnectionError):
            while True:
                piece = self.socket.recv(65536)
                if not piece:
                    break
                got += piece
        return got


# ---- a next hop ----

class Received:
    """One message that a Peer took: what was said, and the content to the octet (dots undone)."""

    def __init__(self, mail, rcpts, content, how, connection):
        self.mail = mail
        self.rcpts = rcpts
        self.content = content
        self.how = how
        self.connection = connection

    @property
    def sender(self):
        return re.search(r"<(.*?)>", self.mail).group(1)

    @property
    def recipients(self):
        return [re.search(r"<(.*?)>", r).group(1) for r in self.rcpts]


class Peer:
    """An SMTP or LMTP next hop. answers: {verb: function(peer, line) -> reply or None for the usual
    one, or "drop"}; verbs are GREET, EHLO (LHLO), HELO, MAIL, RCPT, DATA, END (per recipient in
    LMTP: its RCPT line is passed), BDAT."""

    EXTENSIONS = ("PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES",
                  "CHUNKING", "DSN")

    def __init__(self, test, host="127.0.0.1", port=None, extensions=EXTENSIONS, lmtp=False,
                 answers=None):
        self.extensions = extensions
        self.lmtp = lmtp
        self.answers = answers or {}
        self.lock = threading.Lock()
        self.messages = []
        self.commands = []      # of all connections, as they came
        self.connections = 0
        self.faults = []        # what a faithful client never does
        self.host, self.port = host, port or free_port(host)
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((host, self.port))
        self.socket.listen(512)
        self.closing = False
        self.open = set()
        threading.Thread(target=self.accept, daemon=True).start()
        test.addCleanup(self.close)

    @property
    def address(self):
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def route(self, domains=("*",), **more):
        return {"domains": list(domains), "hosts": [self.address], "allow-private": True,
                **({"protocol": "lmtp"} if self.lmtp else {}), **more}

    def close(self):
        self.closing = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        with self.lock:
            for s in list(self.open):
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)

    def accept(self):
        while not self.closing:
            try:
                s, _ = self.socket.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
                self.open.add(s)
            threading.Thread(target=self.serve, args=(s, number), daemon=True).start()

    def serve(self, s, number):
        try:
            with s, s.makefile("rb") as lines:
                self.talk(s, lines, number)
        except (OSError, EOFError, ValueError):
            pass
        finally:
            with self.lock:
                self.open.discard(s)

    def answer(self, verb, line, usual):
        function = self.answers.get(verb)
        said = function(self, line) if callable(function) else function
        return usual if said is None else said

    def say(self, s, text):
        if text == "drop":
            raise EOFError
        s.sendall(octets(text) + b"\r\n")
        return int(text[:3])

    def keywords(self, _):
        """What EHLO on this connection tells."""
        return self.extensions

    def starttls(self, s, _):
        self.say(s, "500 5.5.1 what?")

    def end(self, s, mail, rcpts, content, how, number):
        if b"\0" in content or re.search(rb"\r(?!\n)|(?<!\r)\n", content):
            self.faults.append(f"bare CR, LF or NUL in content: {content[:200]!r}")
        replies = [self.answer("END", r, "250 2.0.0 taken") for r in (rcpts if self.lmtp else [""])]
        taken = [r for r, said in zip(rcpts if self.lmtp else [None], replies) if said[:1] == "2"]
        if taken:
            with self.lock:
                self.messages.append(Received(mail, taken if self.lmtp else rcpts, content, how, number))
        for said in replies:
            self.say(s, said)

    def talk(self, s, lines, number):
        mail, rcpts, chunks = None, [], b""
        if self.say(s, self.answer("GREET", "", "220 peer.test ESMTP")) != 220:
            return
        while True:
            raw = lines.readline(70000)
            if not raw:
                return
            if not raw.endswith(b"\r\n") or raw.count(b"\r") != 1 or b"\0" in raw:
                self.faults.append(f"a command line that is none: {raw[:200]!r}")
            line = raw.rstrip(b"\r\n").decode("utf-8", "replace")
            verb = line.split(" ")[0].upper()
            with self.lock:
                self.commands.append(line)
            if verb in ("EHLO", "LHLO"):
                keywords = ("peer.test", *self.keywords(s))
                usual = "".join(f"250-{e}\r\n" for e in keywords[:-1]) + "250 " + keywords[-1]
                mail, rcpts, chunks = None, [], b""
                self.say(s, self.answer("EHLO", line, usual))
            elif verb == "MAIL":
                code = self.say(s, self.answer("MAIL", line, "250 2.1.0 ok"))
                mail, rcpts, chunks = (line if code == 250 else None), [], b""
            elif verb == "RCPT":
                usual = "250 2.1.5 ok" if mail else "503 5.5.1 no MAIL"
                if self.say(s, self.answer("RCPT", line, usual)) == 250:
                    rcpts.append(line)
            elif verb == "DATA":
                usual = "354 go on" if mail and rcpts else "554 5.5.1 no valid recipients"
                if self.say(s, self.answer("DATA", line, usual)) != 354:
                    continue
                content = bytearray()
                while (row := lines.readline()) != b".\r\n":
                    if not row:
                        raise EOFError
                    content += row[1:] if row.startswith(b".") else row
                self.end(s, mail, rcpts, bytes(content), "DATA", number)
                mail, rcpts = None, []
            elif verb == "BDAT":
                words = line.split()
                chunk = lines.read(int(words[1]))
                if len(chunk) < int(words[1]):
                    raise EOFError
                if not mail or not rcpts:
                    self.say(s, "503 5.5.1 no valid recipients")
                    continue
                chunks += chunk
                if len(words) == 3:
                    self.end(s, mail, rcpts, chunks, "BDAT", number)
                    mail, rcpts, chunks = None, [], b""
                else:
                    self.say(s, self.answer("BDAT", line, "250 2.0.0 chunk"))
            elif verb == "QUIT":
                self.say(s, "221 2.0.0 bye")
                return
            elif verb in ("RSET", "NOOP"):
                if verb == "RSET":
                    mail, rcpts, chunks = None, [], b""
                self.say(s, "250 2.0.0 ok")
            elif verb == "HELO":
                self.say(s, self.answer("HELO", line, "250 peer.test"))
            elif verb == "STARTTLS":
                mail, rcpts, chunks = None, [], b""
                self.starttls(s, number)
            else:
                self.say(s, "500 5.5.1 what?")

    def wait(self, count):
        wait_for(lambda: len(self.messages) >= count,
                 lambda: f"{count} messages at the peer; it has {len(self.messages)}; heard: "
                         f"{self.commands[-12:]}")
        return self.messages

    def verbs(self, verb):
        return [c for c in self.commands if c.upper().startswith(verb)]


class Sink:
    """ringpost-bench sink; ids() are the X-Bench-Id lines of what it took."""

    def __init__(self, test, *options, host="127.0.0.1", port=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="ringpost-sink."))
        self.port = port or free_port()
        self.address = f"{host}:{self.port}"
        self.received = self.directory / "received"
        self.json = self.directory / "sink.json"
        self.received.touch()
        self.errors = open(self.directory / "stderr", "wb")
        self.process = subprocess.Popen(
            [str(BENCH), "sink", "--listen", self.address, "--received", str(self.received),
             "--json", str(self.json), "--quiet", *options],
            stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
            env={**os.environ, **SANITIZER_ENV})
        test.addCleanup(self.close)
        wait_listening(host, self.port, self.process)

    def route(self, domains=("*",), **more):
        return {"domains": list(domains), "hosts": [self.address], "allow-private": True, **more}

    def ids(self):
        return self.received.read_text().splitlines()

    def numbers(self):
        before = self.json.stat().st_mtime_ns if self.json.exists() else 0
        self.process.send_signal(signal.SIGUSR1)
        wait_for(lambda: self.json.exists() and self.json.stat().st_mtime_ns != before, "sink.json")
        return json.loads(self.json.read_text())

    def wait(self, count):
        wait_for(lambda: len(self.ids()) >= count,
                 lambda: f"{count} messages at the sink; it has {len(self.ids())}")

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.errors.close()
        words = (self.directory / "stderr").read_bytes()
        shutil.rmtree(self.directory, ignore_errors=True)
        if SANITIZER.search(words):
            raise AssertionError(words.decode(errors="replace"))


def wait_listening(host, port, process=None):
    def up():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{process.args[0]} ended with {process.returncode}")
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as s:
            s.settimeout(5)
            return s.connect_ex((host, port)) == 0
    wait_for(up, f"{host}:{port} to answer")


def source(*options, timeout=120, check=True):
    """ringpost-bench source to its end; its result."""
    done = subprocess.run([str(BENCH), "source", *map(str, options), "--json", "-", "--quiet"],
                          capture_output=True, text=True, timeout=timeout, check=False,
                          env={**os.environ, **SANITIZER_ENV})
    if check and done.returncode != 0:
        raise AssertionError(f"ringpost-bench source: {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout) if done.stdout.strip() else {}


# ---- running ----

class Result(unittest.TextTestResult):
    """A line a test, with the time it took; failures at once and not at the end."""

    def startTest(self, test):
        super().startTest(test)
        self.begun = time.monotonic()

    def tell(self, test, word):
        self.stream.writeln(f"{word:4} {type(test).__module__}.{test.id().split('.', 1)[-1]} "
                            f"({time.monotonic() - self.begun:.1f} s)")
        self.stream.flush()

    def addSuccess(self, test):
        unittest.TestResult.addSuccess(self, test)
        self.tell(test, "ok")

    def addSkip(self, test, reason):
        unittest.TestResult.addSkip(self, test, reason)
        self.tell(test, "skip")
        self.stream.writeln(f"     {reason}")

    def addFailure(self, test, err):
        unittest.TestResult.addFailure(self, test, err)
        self.tell(test, "FAIL")
        self.stream.writeln(self.failures[-1][1])

    def addError(self, test, err):
        unittest.TestResult.addError(self, test, err)
        self.tell(test, "FAIL")
        self.stream.writeln(self.errors[-1][1])

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.tell(test, "FAIL")
            bad = self.failures if issubclass(err[0], test.failureException) else self.errors
            self.stream.writeln(f"{subtest._subDescription()}\n{bad[-1][1]}")

    def printErrors(self):
        pass


def main():
    """Runs the tests of the calling file; the last line counts them, without those that were skipped."""
    for binary in (RINGPOST, BENCH):
        if not binary.exists():
            sys.exit(f"{binary} is not there: build it, or say where it is with RINGPOST_BUILD")
    faulthandler.dump_traceback_later(FILE_SECONDS, exit=True)      # where it stands, before the runner ends it
    runner = unittest.TextTestRunner(stream=sys.stdout, resultclass=Result, verbosity=0)
    tests = unittest.main(testRunner=runner, exit=False, verbosity=0).result
    # a test counts once, however many of its parts and clean-ups failed
    bad = len({getattr(t, "test_case", t).id() for t, _ in tests.failures + tests.errors})
    skipped = len({getattr(t, "test_case", t).id() for t, _ in tests.skipped})
    print(f"{max(tests.testsRun - bad - skipped, 0)} passed, {bad} failed", flush=True)
    os._exit(1 if bad or tests.testsRun == 0 else 0)    # threads of peers may still be talking
