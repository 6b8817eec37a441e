#!/usr/bin/env python3
"""run.py - builds in every way, runs every test, counts them

Usage: tests/run.sh [STEP...]       (it installs what is needed, then comes here)

Environment: FUZZ_SECONDS (5) for each fuzz target, SIM_SEEDS (200), KILLS (8), CUTS (3), TIDY_SECONDS
(480, of clang-tidy; files that did not change since they passed are not read again), JOBS (2),
BORINGSSL_SOURCE (debian), and BORINGSSL=system: as meson's options; tls/boringssl/get.py --help.

Each test of Criterion and of tests/flow counts; so does each other check. What a log is named is
told with each failure. A step that this machine cannot do says "not run" and why; it does not count.

The flow tests mostly wait, and so do the crash tests. So those of a build begin as soon as it is
compiled, beside all that keeps the processors busy, which is nicer than they are; their step waits for
the last of them.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "logs"
BEGUN = time.monotonic()
JOBS = os.environ.get("JOBS", "2")
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "5"))
SIM_SEEDS = os.environ.get("SIM_SEEDS", "200")
KILLS = os.environ.get("KILLS", "8")
CUTS = os.environ.get("CUTS", "3")
HANDSHAKES = os.environ.get("HANDSHAKES", "2000")
TIDY_SECONDS = int(os.environ.get("TIDY_SECONDS", "480"))
NOT_RUN = 77
BORINGSSL = os.environ.get("BORINGSSL", "bundled")
BORINGSSL_SOURCE = os.environ.get("BORINGSSL_SOURCE", "debian")

# What a report needs of debug information is lines; more takes compiler and linker a fifth of their time.
SANITIZED = ["-Doptimization=1", "-Ddebug=false", "-Dc_args=-gline-tables-only", "-Db_lto=false", "-Db_lundef=false"]
ALL = ["all"]
# BoxFort, which Criterion runs its tests in, and ThreadSanitizer do not share an address space: under
# TSan the real binary and the simulator are run instead, which is where the threads are.
THREADS = ["ringpost", "ringpost-bench", "tests/ringpost-sim", "tests/ringpost-hammer", "tests/ringpost-soak"]
FUZZERS = sorted(f"tests/{p.stem}" for p in (ROOT / "tests" / "fuzz").glob("fuzz_*.c"))
BUILDS = {  # compiler, options of meson, what is made of it
    "build": ("gcc", ["-Dbuildtype=release", "-Dtests=true"], ALL),
    "build-asan": ("clang", [*SANITIZED, "-Db_sanitize=address,undefined"], ALL),
    "build-tsan": ("clang", [*SANITIZED, "-Db_sanitize=thread"], THREADS),
    "build-clang": ("clang", ["-Dbuildtype=plain", "-Db_lto=false"], []),   # clang-tidy asks how files are compiled
    "build-fuzz": ("clang", [*SANITIZED, "-Db_sanitize=address,undefined", "-Dfuzzers=true", "-Dtests=false"], FUZZERS),
}
for _, options, _ in BUILDS.values():
    options += [f"-Dboringssl={BORINGSSL}", f"-Dboringssl_source={BORINGSSL_SOURCE}"]
OPTIONS = {     # what a sanitizer finds ends the program with 99, and is found in its words
    "ASAN_OPTIONS": "exitcode=99:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    "TSAN_OPTIONS": "exitcode=99:second_deadlock_stack=1:report_thread_leaks=0",
}
rows = []   # (what, passed, failed, words)
telling = threading.RLock()     # one at a time, with what belongs to it
steps = []  # to be done in this run
spent = {}  # by name of the log: seconds of the processors


def say(words):
    with telling:
        print(f"[{int(time.monotonic() - BEGUN) // 60}:{int(time.monotonic() - BEGUN) % 60:02}] {words}", flush=True)


def row(what, passed, failed, words="", name=None):
    """name: of the log of what it took."""
    with telling:
        rows.append((what, passed, failed, words))
        words = "; ".join(w for w in (words, f"{spent[name]:.0f} s of CPU" if spent.get(name, 0) >= 1 else "") if w)
        say(f"{what}: {passed} passed, {failed} failed" + (f" ({words})" if words else ""))


def run(name, words, timeout, nice=10, **more):
    """(exit status, what it said); kept in build/logs/NAME.log. 124: it took too long."""
    log = LOGS / f"{name}.log"
    late = []
    with open(log, "wb") as f:
        process = subprocess.Popen(["nice", "-n", str(nice), *(str(w) for w in words)], stdin=subprocess.DEVNULL, stdout=f,
                                   stderr=subprocess.STDOUT, cwd=more.pop("cwd", ROOT), start_new_session=True,
                                   env={**os.environ, **OPTIONS, **more.pop("env", {})})

        def kill():
            late.append(True)
            os.killpg(process.pid, signal.SIGKILL)   # its own session: only what it started
        timer = threading.Timer(timeout, kill)
        timer.start()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)   # so that the id stays its own for kill()
        timer.cancel()
        timer.join()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    spent[name] = usage.ru_utime + usage.ru_stime
    return 124 if late else process.returncode, log.read_text(errors="replace")


def tell_end(name, text, lines=25):
    with telling:
        print("\n".join(text.splitlines()[-lines:]))
        print(f"    (all of it: build/logs/{name}.log)", flush=True)


def check(what, name, words, timeout, **more):
    """One command, one test."""
    status, text = run(name, words, timeout, **more)
    with telling:
        row(what, int(status == 0), int(status != 0), "took too long" if status == 124 else "", name)
        if status != 0:
            tell_end(name, text)
    return status == 0


# ---- building ----

def files_of_the_tree():
    """Lists of sources are made when meson configures: a new file asks for that again."""
    names = sorted(str(p.relative_to(ROOT)) for folder in ("core", "tls", "queue", "mta", "bench", "tests")
                   for p in (ROOT / folder).rglob("*.c"))
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def build(directory):
    compiler, options, targets = BUILDS[directory]
    path = ROOT / directory
    stamp = path / "files.sha256"
    listed = files_of_the_tree() + json.dumps(BUILDS[directory])
    if not (path / "build.ninja").exists():
        command = ["meson", "setup", directory, *options]
    elif not stamp.exists() or stamp.read_text() != listed:
        command = ["meson", "setup", "--reconfigure", directory, *options]
    else:
        command = None
    name = f"{directory}.compile"
    status, text = 0, ""
    if command:
        status, text = run(f"{directory}.setup", command, 300, env={"CC": compiler})
        name = f"{directory}.setup" if status else name
    if status == 0:
        stamp.write_text(listed)
    if status == 0 and targets:
        status, text = run(name, ["ninja", "-C", directory, "-k0", f"-j{JOBS}", *targets], 1200)
    row(f"{'compile' if targets else 'configure'} {directory} ({compiler})", int(status == 0), int(status != 0), name=name)
    if status != 0:
        wrong = [l for l in text.splitlines() if re.search(r"error[: ]|FAILED|undefined reference", l)]
        tell_end(name, "\n".join(wrong) if wrong else text, 40)
    return status == 0


def get_boringssl():
    """The archives that the builds share, with its progress shown: meson would be silent."""
    calls = [["--system"]]
    if BORINGSSL == "bundled":
        source = ["--source", BORINGSSL_SOURCE]
        calls = [source, *([*source, "--cc", "clang", "--sanitize", what] for what in ("address,undefined", "thread"))]
    for words in calls:
        with open(LOGS / "boringssl.log", "w") as log:
            status = subprocess.run(["tls/boringssl/get.py", *words], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                                    check=False).returncode
        row(f"BoringSSL, get.py {' '.join(words)}", int(status == 0), int(status != 0))


def step_compile():
    """BoringSSL; then every build: gcc with LTO and jemalloc, ASan+UBSan, TSan, fuzzers"""
    get_boringssl()
    for directory in BUILDS:
        if not build(directory):
            continue
        if "flow" in steps and directory in FLOW_WAIT:
            flow_begin(directory)
        if "crash" in steps and directory == "build":
            crash_begin()


# ---- looking at the source ----

def sources():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.c", "*.h"],
                            cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [n for n in listed if (ROOT / n).exists()]


def with_headers(name, seen):
    if name in seen or not (ROOT / name).exists():
        return seen
    seen.add(name)
    for included in re.findall(r'^#include "([^"]+)"', (ROOT / name).read_text(), re.M):
        with_headers(included, seen)
    return seen


def clang_tidy():
    cache_path = LOGS.parent / "clang-tidy.json"
    cache = json.loads(cache_path.read_text()) if cache_path.exists() else {}
    config = (ROOT / ".clang-tidy").read_bytes()

    def checks(name):   # tests run under sanitizers, which see more than the analyzer and take less time
        if name.startswith("tests/"):
            return ["--checks=-clang-analyzer-*"]
        # A fifth of the states that it would look at by itself: a quarter of the time, so that all files are reached.
        return [f"--extra-arg={each}" for each in ("-Xclang", "-analyzer-config", "-Xclang", "max-nodes=45000")]

    def key(name):
        digest = hashlib.sha256(config + "".join(checks(name)).encode())
        for each in sorted(with_headers(name, set())):
            digest.update((ROOT / each).read_bytes())
        return digest.hexdigest()
    commands = json.loads((ROOT / "build-clang" / "compile_commands.json").read_text())
    known = {os.path.relpath((pathlib.Path(c["directory"]) / c["file"]).resolve(), ROOT) for c in commands}
    wanted = sorted((n for n in sources() if n in known), key=lambda n: n.startswith("tests/"))
    todo = [n for n in wanted if cache.get(n) != key(n)]
    end = time.monotonic() + TIDY_SECONDS
    bad = []

    def look(name):
        if time.monotonic() > end:
            return name, None, ""
        done = subprocess.run(["clang-tidy", "--quiet", "-p", "build-clang", *checks(name), name], cwd=ROOT, capture_output=True,
                              text=True, check=False)
        return name, done.returncode == 0, done.stdout
    left = 0
    with concurrent.futures.ThreadPoolExecutor(int(JOBS)) as pool, open(LOGS / "clang-tidy.log", "w") as log:
        for name, fine, text in pool.map(look, todo):
            log.write(text)
            if fine is None:
                left += 1
            elif fine:
                cache[name] = key(name)
            else:
                bad.append(name)
    cache_path.write_text(json.dumps(cache))
    row("clang-tidy, files", len(wanted) - left - len(bad), len(bad),
        f"{left} not reached in {TIDY_SECONDS} s: run it again" if left else "")
    if bad:
        print("    " + " ".join(bad))
        tell_end("clang-tidy", (LOGS / "clang-tidy.log").read_text())


def step_lint():
    """tests/tidy.py, clang-format, clang-tidy"""
    check("tests/tidy.py", "tidy", [sys.executable, "tests/tidy.py"], 60)
    check("clang-format", "clang-format", ["clang-format", "--dry-run", "-Werror", *sources()], 300)
    if (ROOT / "build-clang" / "compile_commands.json").exists():
        clang_tidy()


# ---- unit tests and simulator ----

def prefix_of(directory):
    # ThreadSanitizer of clang 14 knows less address randomisation than today's kernels do
    return ["setarch", os.uname().machine, "-R"] if directory == "build-tsan" else []


def unit(directory):
    """All of Criterion's programs of a build."""
    for program in sorted((ROOT / directory / "tests").glob("test_*")):
        if program.suffix or not os.access(program, os.X_OK) or program.is_dir():
            continue
        name = f"{directory}.{program.name}"
        status, text = run(name, [program, "--jobs", JOBS], 900)
        found = re.findall(r"Synthesis: Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) \| Crashing: (\d+)",
                           re.sub(r"\x1b\[[0-9;]*m", "", text))
        if found:
            tested, passing = int(found[-1][0]), int(found[-1][1])
            failed = tested - passing
        else:
            passing, failed = 0, 1
        failed += text.count("ERROR: LeakSanitizer")    # Criterion does not ask how its processes ended
        if status != 0 and failed == 0:
            failed = 1
        row(f"{program.name} in {directory}", passing, failed, name=name)
        if failed:
            bad = [l for l in text.splitlines() if "[----]" in l or "[FAIL]" in l or "[CRASH" in l or "ERROR" in l]
            tell_end(name, "\n".join(bad) if bad else text)


def step_unit():
    """Criterion tests in the release and ASan+UBSan builds, and those of tls/boringssl/get.py"""
    check("tests/tls/test_get.py", "get", [sys.executable, "tests/tls/test_get.py"], 120)
    # Not in build-tsan: Criterion's shared arena and TSan's memory layout exclude each other. The
    # threads are looked at where they are real: flow tests of that build.
    for directory in ("build", "build-asan"):
        if (ROOT / directory / "tests").exists():
            unit(directory)
    for directory in ("build-asan", "build-tsan"):
        soak = ROOT / directory / "tests" / "ringpost-soak"
        if soak.exists():
            check(f"TLS handshakes, {HANDSHAKES} in {directory}", f"{directory}.soak",
                  [*prefix_of(directory), soak, HANDSHAKES], 300)
    hammer = ROOT / "build-tsan" / "tests" / "ringpost-hammer"
    if hammer.exists():
        check("shared session cache in build-tsan", "build-tsan.hammer", [*prefix_of("build-tsan"), hammer], 300)


def step_sim():
    """the whole server in the simulator, seed after seed"""
    few = str(max(int(SIM_SEEDS) // 10, 5))
    for directory, seeds in (("build", SIM_SEEDS), ("build-asan", few), ("build-tsan", few)):
        program = ROOT / directory / "tests" / "ringpost-sim"
        check(f"simulator, {seeds} seeds in {directory}", f"{directory}.sim",
              [*prefix_of(directory), program, "--seeds", seeds, "--jobs", JOBS, "--seconds", "90"], 300)
    check("simulator, some of all operations fail, one in each run", "build.sim-fail-each",
          [ROOT / "build" / "tests" / "ringpost-sim", "--fail-each", "all", "--messages", "8", "--every", "11", "--jobs", JOBS],
          300)


def step_fuzz():
    """each fuzz target for a moment, from its corpus"""
    def fuzz(source):
        target = source.stem.removeprefix("fuzz_")
        program = ROOT / "build-fuzz" / "tests" / source.stem
        own = ROOT / "build-fuzz" / "corpus" / target
        own.mkdir(parents=True, exist_ok=True)
        words = [program, f"-max_total_time={FUZZ_SECONDS}", "-timeout=20", "-rss_limit_mb=4096", "-max_len=4096",
                 "-print_final_stats=1", f"-artifact_prefix={ROOT / 'build-fuzz' / ('finding-' + target + '-')}"]
        for names in (f"fuzz_{target}.dict", f"{target}.dict"):
            if (ROOT / "tests" / "fuzz" / "dictionary" / names).exists():
                words.append(f"-dict=tests/fuzz/dictionary/{names}")
                break
        words.append(own)
        words += [p for p in (ROOT / "tests/fuzz/corpus" / source.stem, ROOT / "tests/fuzz/corpus" / target)
                  if p.is_dir()]
        return target, *run(f"fuzz.{target}", words, FUZZ_SECONDS * 4 + 120)
    targets = sorted((ROOT / "tests" / "fuzz").glob("fuzz_*.c"))
    with concurrent.futures.ThreadPoolExecutor(int(JOBS)) as pool:
        for target, status, text in pool.map(fuzz, targets):
            runs = re.search(r"number_of_executed_units:\s*(\d+)", text)
            row(f"fuzz {target}", int(status == 0), int(status != 0), f"{runs.group(1)} runs" if runs else "")
            if status != 0:
                tell_end(f"fuzz.{target}", text)


# ---- the real binary ----

FLOW_LONGEST = ("test_delivery.py", "test_dns.py", "test_dsn.py", "test_hostile.py", "test_testssl.py", "test_tls.py", "test_tls_hostile.py")
FLOW_WAIT = {"build": 60, "build-asan": 120, "build-tsan": 120}     # seconds that a test waits at most
waiting_pool = concurrent.futures.ThreadPoolExecutor(5)     # of what mostly waits
flow_running = {}   # build: futures
crash_running = []


def flow(directory, file):
    name = f"{directory}.flow.{file.removesuffix('.py')}"
    status, text = run(name, [*prefix_of(directory), sys.executable, file], 900, nice=0, cwd=ROOT / "tests" / "flow",
                       env={"RINGPOST_BUILD": str(ROOT / directory), "RINGPOST_WAIT": str(FLOW_WAIT[directory])})
    last = re.findall(r"^(\d+) passed, (\d+) failed$", text, re.M)
    passed, failed = map(int, last[-1]) if last else (0, 1)
    if status != 0 and failed == 0:
        failed = 1
    skipped = re.findall(r"^skip .*\n +(.*)", text, re.M)
    with telling:
        row(f"flow {file} in {directory}", passed, failed, "took too long" if status == 124 else
            f"{len(skipped)} not run: {skipped[0]}" if skipped else "", name)
        if failed:
            for line in text.splitlines():
                if line.startswith("FAIL"):
                    print(f"    {line}")
            tell_end(name, text, 12)


def flow_begin(directory):
    # testssl.sh asks what the library answers: once is enough. The longest begin.
    files = sorted((p.name for p in (ROOT / "tests" / "flow").glob("test_*.py")
                    if directory == "build" or p.name != "test_testssl.py"),
                   key=lambda f: (f not in FLOW_LONGEST, f))
    flow_running[directory] = [waiting_pool.submit(flow, directory, f) for f in files]


def step_flow():
    """all of tests/flow against the release, the ASan+UBSan and the TSan build"""
    for directory in FLOW_WAIT:
        if directory not in flow_running:
            flow_begin(directory)
    for future in [f for futures in flow_running.values() for f in futures]:
        future.result()


def crash():
    build_dir = ["--build", ROOT / "build"]
    check(f"crash test, {KILLS} kills", "crash", [sys.executable, "tests/crash.py", "--kills", KILLS,
                                                 "--first-reply-max", "0", *build_dir], 600, nice=0)
    words = [sys.executable, "tests/powercut.py", "--cuts", CUTS, *build_dir]
    status, text = run("powercut", words, 600, nice=0)
    if status == NOT_RUN:
        row("power-cut test", 0, 0, text.strip().splitlines()[-1])
        return
    with telling:
        row(f"power-cut test, {CUTS} cuts", int(status == 0), int(status != 0))
        if status != 0:
            tell_end("powercut", text)


def crash_begin():
    crash_running.append(waiting_pool.submit(crash))


def step_crash():
    """kill -9 and power cuts under load"""
    if not crash_running:
        crash_begin()
    crash_running[0].result()


STEPS = {"compile": step_compile, "lint": step_lint, "unit": step_unit, "sim": step_sim, "fuzz": step_fuzz,
         "flow": step_flow, "crash": step_crash}


def main():
    names = sys.argv[1:] or list(STEPS)
    if any(n not in STEPS for n in names):
        print(__doc__)
        print("Steps:\n" + "\n".join(f"  {n:8} {f.__doc__}" for n, f in STEPS.items()))
        return 0 if names[0] in ("-h", "--help") else 2
    LOGS.mkdir(parents=True, exist_ok=True)
    steps.extend(names)
    for name in names:
        say(f"== {name}: {STEPS[name].__doc__}")
        STEPS[name]()
    passed, failed = sum(r[1] for r in rows), sum(r[2] for r in rows)
    print("\n" + "\n".join(f"{'FAIL' if f else '    '} {p:6} passed {f:4} failed  {what}" + (f"  ({w})" if w else "")
                           for what, p, f, w in rows))
    say("done")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
