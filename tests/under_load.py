"""under_load.py - what commands share that put the real binary under load: sources, and an end after which nothing is left

For crash.py, powercut.py, reload.py and soak.py. Of the flow tests' harness they use server and peers;
Holder stands in for a test there. Only Load imports it: it takes its binaries from what use_build set.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

TESTS = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS / "flow"))


class Holder:
    """Stands in for a unittest.TestCase, whose clean-ups the harness uses."""

    _outcome = None

    def __init__(self):
        self.cleanups = []

    def addCleanup(self, function, *arguments, **more):
        self.cleanups.append((function, arguments, more))

    def clean(self):
        while self.cleanups:
            function, arguments, more = self.cleanups.pop()
            try:
                function(*arguments, **more)
            except (AssertionError, OSError) as e:
                print(f"clean-up: {e}", file=sys.stderr)


class Load:
    """A directory, and sources of ringpost-bench for the server that a child of this class makes."""

    def __init__(self, name, options):
        import harness
        self.harness = harness
        self.options = options
        self.holder = Holder()
        self.base = pathlib.Path(tempfile.mkdtemp(prefix=f"ringpost-{name}."))
        self.server = None
        self.sources = []       # (name, process)
        self.log_path = self.base / "sources.log"
        self.log = open(self.log_path, "wb")

    def acked(self, name):
        """Queue ids of what a source had acknowledged."""
        return self.acked_path(name).read_text().split()

    def acked_path(self, name):
        return self.base / f"acked.{name}"

    def source(self, name, *words):
        self.acked_path(name).touch()
        words = [self.harness.BENCH, "source", "--to", f"127.0.0.1:{self.server.port}", "--acked", self.acked_path(name),
                 "--quiet", *words]
        process = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.sources.append((name, process))
        return process

    def end_sources(self, seconds):
        """They say goodbye, or are killed when that takes longer."""
        for _, process in self.sources:
            process.terminate()
        for _, process in self.sources:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def clean(self):
        self.end_sources(0)
        self.log.close()
        if self.options.keep and self.server is not None:
            print(f"kept: {self.base}, {self.server.directory}")
            self.holder.cleanups = [c for c in self.holder.cleanups if c[0] != self.server.clean]
            if self.server.process is not None:
                self.server.process.kill()
        else:
            shutil.rmtree(self.base, ignore_errors=True)
        self.holder.clean()


def add_options(parser, where="build/"):
    parser.add_argument("--build", default=os.environ.get("RINGPOST_BUILD"), help=f"where the binaries are ({where})")
    parser.add_argument("--keep", action="store_true", help="leave spool, log and configuration behind")


def use_build(build):
    if build:
        os.environ["RINGPOST_BUILD"] = str(build)
    import harness
    for binary in (harness.RINGPOST, harness.BENCH):
        if not binary.exists():
            sys.exit(f"{binary} is not there: build it, or say where with --build")


def finish(work):
    """Ends the process with what work() returns, or with 1 after what it was not content with; threads of
    peers may still be talking."""
    try:
        status = work()
    except AssertionError as e:
        print(f"failed: {e}")
        status = 1
    sys.stdout.flush()
    os._exit(status)
