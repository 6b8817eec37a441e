#!/usr/bin/env python3
"""get.py - the BoringSSL that ringpost is built with: fetches it, builds it, says where it is

Usage: tls/boringssl/get.py [--source SOURCE] [--sanitize WHAT] [--cc CC] [--update] [--fetch-only]
       tls/boringssl/get.py --system

Prints lines of key=value that meson.build reads; progress and errors go to standard error. meson
calls it at each configure, which is quick when all is there. Call it yourself before `meson setup`
to see what takes half a minute: meson shows nothing of a command until it is done.

  --source SOURCE   as meson's option boringssl_source:
      debian            Debian's source package android-platform-external-boringssl: 30 MB to fetch,
                        half a minute to build. The default.
      chromium          Debian's source package of Chromium, which has a current BoringSSL (ML-KEM,
                        all advisories fixed): 0.95 GB to fetch, of which 11 MB are kept. Wants clang.
      /DIRECTORY        a BoringSSL tree that you have: upstream's, Android's, Debian's or Chromium's
                        layout. It is copied; a change in it is a new version at the next configure.
      git+URL#COMMIT    a commit of a repository, all 40 hex digits of it: git+https://... or file://...
  --system          as -Dboringssl=system: Debian's shared library, android-libboringssl-dev
  --sanitize WHAT   as meson's b_sanitize (none); each value is an archive of its own
  --cc CC           compile with this instead of gcc (trees with a list of sources in make's syntax)
                    or clang (newer trees: gcc's X25519 is half as fast there)
  --update          look for a newer version of Debian's package, instead of taking what was fetched
  --fetch-only      do not build

Where: $RINGPOST_CACHE/ringpost/boringssl, else $XDG_CACHE_HOME or ~/.cache in place of
$RINGPOST_CACHE. Never in the repository. Build folders share archives: one for each source version,
compiler, sanitizer and list of flags (tls/boringssl/meson.build has them).
  source/NAME/      a tree, of which only what compiles is kept. source/debian.current has the NAME
  build/NAME.../    libssl.a, libcrypto.a, build.log
Whatever is there is complete: it is made in tmp/ and then renamed. Two that want to make the same
wait for each other. Delete any of it when you like.

Debian's packages come through apt with a state of its own below the cache: the machine's sources
with `deb` turned into `deb-src`, its keys, its proxy; /etc/apt and /var/lib/apt are left alone, and
root is not needed. apt verifies signatures and checksums. Mirrors drop versions that their index
still lists: then the next older one is taken.

Needs: apt, dpkg-dev (debian), tar and xz (chromium), git (git+URL), meson, ninja, a C++ compiler.
Exit status: 0; 1 with one line on standard error, which says what to do; 2 for a wrong call.
"""
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import platform
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = {"debian": "android-platform-external-boringssl", "chromium": "chromium"}
SYSTEM_PACKAGE = "android-libboringssl-dev"
WORDS = "debian, chromium, an absolute directory, git+URL#COMMIT"
HEARTBEAT_SECONDS = 5
UNPACKED_BYTES = 250_000_000    # what any of the trees needs, unpacked, with room to build
KEPT = (".c", ".cc", ".h", ".S", ".inc", ".mk")
KEPT_NAMES = {"sources.json", "README.chromium", "BORINGSSL_REVISION", "METADATA", "changelog", "copyright"}
FLAGS = ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS")   # ours alone: -flto there would undo --wrap


class Wrong(Exception):
    """What is told to the user, in one line."""


def say(words):
    print(f"boringssl: {words}", file=sys.stderr, flush=True)


def ways_out(but=""):
    ways = [f"-Dboringssl_source={w}" for w in ("debian", "chromium", "/DIRECTORY", "git+URL#COMMIT") if w != but]
    return f"other ways: {', '.join(ways)}, or -Dboringssl=system with {SYSTEM_PACKAGE}"


def run(words, beat=None, **more):
    """Runs it with its words in a log. beat: says how far it is, every few seconds. -> (status, log)"""
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen([str(w) for w in words], stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT, **more)
        except FileNotFoundError:
            return 127, f"{words[0]}: not installed"
        done = threading.Event()

        def beats():
            while not done.wait(HEARTBEAT_SECONDS):
                log_size = os.fstat(log.fileno()).st_size
                tail = os.pread(log.fileno(), 4096, max(0, log_size - 4096)).decode(errors="replace")
                if how_far := beat(tail):
                    say(how_far)
        if beat:
            threading.Thread(target=beats, daemon=True).start()
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            done.set()
        log.seek(0)
        return status, log.read().decode(errors="replace")


def last_words(text):
    lines = [l.strip() for l in text.splitlines() if l.strip()]
    telling = [l for l in lines if re.match(r"E:|fatal:|.*\berror\b|.*not installed", l, re.I)]
    return (telling or lines or ["no word of why"])[-1][:300]


def environment(**more):
    return {**{k: v for k, v in os.environ.items() if k not in FLAGS}, "LC_ALL": "C", **more}


# ---- the cache ----

def cache_base():
    if os.environ.get("RINGPOST_CACHE"):
        base = pathlib.Path(os.environ["RINGPOST_CACHE"])
    elif os.environ.get("XDG_CACHE_HOME"):
        base = pathlib.Path(os.environ["XDG_CACHE_HOME"])
    elif os.environ.get("HOME"):
        base = pathlib.Path(os.environ["HOME"]) / ".cache"
    else:
        try:
            base = pathlib.Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache"
        except KeyError:
            raise Wrong("neither RINGPOST_CACHE nor HOME is set: set RINGPOST_CACHE to a folder of yours") from None
    return base.absolute() / "ringpost" / "boringssl"


def lock(path, wait):
    """The open file that holds the lock, or None."""
    file = open(path, "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            file.close()
            return None
        say("another get.py is at work on the same; waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def sweep(folder):
    """What was begun by one that was killed is begun again, not trusted."""
    for left in folder.iterdir():
        if left.is_dir() and (held := lock(folder / f"{left.name}.lock", False)):
            with held:
                shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def workshop(name):
    """A temporary folder in the cache for making NAME, which only one process does at a time."""
    base = cache_base()
    try:
        for each in ("source", "build", "tmp"):
            (base / each).mkdir(parents=True, exist_ok=True)
        sweep(base / "tmp")
        held = lock(base / "tmp" / f"{name}.lock", True)
    except OSError as e:
        raise Wrong(f"cannot write the cache {base} ({e.strerror}): set RINGPOST_CACHE to a folder of yours") from None
    path = base / "tmp" / name
    with held:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def check_space(path, needed):
    free = shutil.disk_usage(path).free
    if free < needed:
        raise Wrong(f"{needed // 1_000_000} MB are needed below {cache_base()}, {free // 1_000_000} MB are free: "
                    "make room, or set RINGPOST_CACHE to another disk")


# ---- trees ----

class Tree:
    """Where things are in a tree of BoringSSL, whoever laid it out."""

    def __init__(self, root, called):
        self.root = pathlib.Path(root)
        layouts = [("json", self.root / p) for p in (".", "src", "third_party/boringssl/src")]
        for self.kind, self.src in layouts:
            self.list = self.src / "gen" / "sources.json"
            if self.list.is_file():
                break
        else:
            self.kind, self.src = "make", self.root / "src"
            lists = [self.root / p for p in ("debian/sources.mk", "eureka.mk")]
            self.list = next((p for p in lists if p.is_file()), None)
        candidates = [p / "include" for p in (self.src, self.root, self.root / "src")]
        self.include = next((p for p in candidates if (p / "openssl/ssl.h").is_file()), None)
        if not self.include:
            raise Wrong(f"{called} has no include/openssl/ssl.h: no BoringSSL tree; {ways_out('/DIRECTORY')}")
        text = "".join((self.include / "openssl" / name).read_text(errors="replace")
                       for name in ("base.h", "ssl.h") if (self.include / "openssl" / name).is_file())
        if not re.search(r"#\s*define\s+OPENSSL_IS_BORINGSSL", text):
            what = "OpenSSL" if (self.include / "openssl/opensslv.h").exists() or "OPENSSL_" in text else "something else"
            raise Wrong(f"{called} does not define OPENSSL_IS_BORINGSSL, it is {what}, not BoringSSL; {ways_out('/DIRECTORY')}")
        if not self.list:
            raise Wrong(f"{called} has neither gen/sources.json, nor debian/sources.mk or eureka.mk: a tree older "
                        f"than its list of sources; take a newer commit, or {ways_out('/DIRECTORY')}")
        api = re.search(r"#\s*define\s+BORINGSSL_API_VERSION\s+(\d+)", text)
        self.api = int(api.group(1)) if api else 0

    def commit(self):
        for name, pattern in (("BORINGSSL_REVISION", r"^([0-9a-f]{40})\s*$"),
                              ("README.chromium", r"^Revision: ([0-9a-f]{40})\s*$")):
            for folder in (self.root, self.src, self.src.parent):
                if (folder / name).is_file():
                    if found := re.search(pattern, (folder / name).read_text(errors="replace"), re.M):
                        return found.group(1)
        return ""

    def sources(self, library, machine):
        """Absolute names of the sources of crypto or ssl."""
        if self.kind == "json":
            groups = json.loads(self.list.read_text())
            names = []
            for group in (["bcm", "crypto"] if library == "crypto" else ["ssl"]):
                group = groups.get(group, {})
                names += group.get("srcs", [])
                # each file looks itself whether the processor is its own
                names += [n for n in group.get("asm", []) if not re.search(r"-(apple|win)\.S$", n)]
            return [str(self.src / n) for n in names]
        text = self.list.read_text().replace("\\\n", " ")
        variables = dict(re.findall(r"^(\w+)\s*:=(.*)$", text, re.M))
        names = variables.get(f"{library}_sources", "").split()
        if library == "crypto":
            names += variables.get(f"linux_{machine}_sources", "").split()
        return [str(self.root / n) for n in names if "/test/" not in n]


def content_key(root):
    """Of all that compiles: 12 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if keeps(p.relative_to(root)) and p.is_file()):
        data = path.read_bytes()
        digest.update(f"{path.relative_to(root)} {len(data)}\n".encode())
        digest.update(data)
    return digest.hexdigest()[:12]


def keeps(name):
    if ".git" in name.parts or re.search(r"_test(_data)?\.cc$", name.name):    # 20 MB of vectors
        return False
    return name.suffix in KEPT or name.name in KEPT_NAMES or re.match(r"LICEN[CS]E|NOTICE", name.name)


def copy_kept(root, to):
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if path.is_file() and keeps(name):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to / name)


def put_source(work, unpacked, name, facts, called):
    """Keeps what compiles of a tree as source/NAME."""
    tree = Tree(unpacked, called)
    facts = {**facts, "api": tree.api}
    facts.setdefault("commit", tree.commit())
    kept = work / "kept"
    copy_kept(unpacked, kept)
    (kept / "ringpost.json").write_text(json.dumps(facts))
    to = cache_base() / "source" / name
    if not to.exists():
        kept.rename(to)
    return to


# ---- Debian's source packages, by an apt of our own ----

def turn_list(text):
    """One-line sources, deb turned into deb-src."""
    lines = []
    for line in text.splitlines():
        found = re.match(r"\s*deb(-src)?\s+(\[[^]]*\]\s+)?(.*)$", line)
        if not found or found.group(3).startswith("cdrom:"):
            continue
        # which processors does not matter for sources
        options = re.sub(r"\barch[-+]?=\S+?(?=[\s\]])", "", found.group(2) or "")
        options = " ".join(options.strip("[] \t").split())
        rest = " ".join(re.sub(r"(^|\s)#.*", "", found.group(3)).split())
        lines.append(f"deb-src {f'[ {options} ] ' if options else ''}{rest}")
    return list(dict.fromkeys(lines))


def turn_deb822(text):
    """Stanzas of a .sources file, Types turned into deb-src."""
    stanzas = []
    for stanza in re.split(r"\n[ \t]*\n", "\n" + text):
        fields, last = [], None
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and last:
                last.append(line)
            elif ":" in line:
                last = [line]
                fields.append(last)
        named = {f[0].split(":", 1)[0].strip().lower(): f for f in fields}
        value = {k: " ".join([f[0].split(":", 1)[1], *f[1:]]).strip() for k, f in named.items()}
        if "uris" not in named or value.get("enabled", "yes").lower() in ("no", "false", "off", "0", "without", "disable"):
            continue
        if value["uris"].startswith("cdrom:"):
            continue
        kept = ["Types: deb-src"]
        for key, field in named.items():
            if key not in ("types", "architectures", "enabled"):
                kept += field
        stanzas.append("\n".join(kept))
    return list(dict.fromkeys(stanzas))


def derive_sources(sourcelist, sourceparts):
    """(lines for a .list, stanzas for a .sources) from what the machine has."""
    lists, stanzas = [], []
    parts = sorted(pathlib.Path(sourceparts).iterdir()) if pathlib.Path(sourceparts).is_dir() else []
    for path in [pathlib.Path(sourcelist), *parts]:
        if not path.is_file() or not (path.suffix in (".list", ".sources") or path == pathlib.Path(sourcelist)):
            continue
        try:
            text = path.read_text(errors="replace")
        except OSError:
            say(f"cannot read {path}; going on without")
            continue
        if path.suffix == ".sources":
            stanzas += turn_deb822(text)
        else:
            lists += turn_list(text)
    return list(dict.fromkeys(lists)), list(dict.fromkeys(stanzas))


class Apt:
    """apt-get and apt-cache with lists of their own in WORK."""

    def __init__(self, work):
        self.state = work / "apt"
        for name in ("parts", "state", "lists/partial", "cache/archives/partial"):
            (self.state / name).mkdir(parents=True)
        status, text = run(["apt-config", "shell", "LIST", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"],
                           env=environment())
        if status:
            raise Wrong(f"no apt on this machine ({last_words(text)}); {ways_out()}")
        where = dict(re.findall(r"^(\w+)='(.*)'$", text, re.M))
        lists, stanzas = derive_sources(where.get("LIST", "/etc/apt/sources.list"),
                                        where.get("PARTS", "/etc/apt/sources.list.d"))
        if not lists and not stanzas:
            raise Wrong(f"apt has no sources in {where.get('LIST')} and {where.get('PARTS')}; {ways_out()}")
        (self.state / "parts/ringpost.list").write_text("".join(l + "\n" for l in lists))
        (self.state / "parts/ringpost.sources").write_text("\n\n".join(stanzas) + "\n")
        settings = {"Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": self.state / "parts",
                    "Dir::State": self.state / "state", "Dir::State::lists": self.state / "lists",
                    "Dir::Cache": self.state / "cache", "APT::Get::Assume-Yes": "true",
                    "APT::Update::Post-Invoke": "", "APT::Update::Post-Invoke-Success": ""}
        self.settings = [w for key, value in settings.items() for w in ("-o", f"{key}={value}")]

    def run(self, words, beat=None, **more):
        return run([words[0], *self.settings, *words[1:]], beat, env=environment(), **more)

    def versions(self, package):
        """All that the index offers, newest first."""
        say("fetching the lists of source packages")
        updated, update_text = self.run(["apt-get", "update"], lambda tail: "still fetching the lists")
        status, text = self.run(["apt-cache", "showsrc", "--only-source", package])
        found = list(dict.fromkeys(re.findall(r"^Version: (\S+)$", text, re.M)))
        if status or not found:
            why = f"apt-get update: {last_words(update_text)}" if updated else "the index does not list it"
            raise Wrong(f"Debian's source package {package} is not to be had ({why})")
        return sorted(found, key=functools.cmp_to_key(compare_versions), reverse=True)

    def download(self, package, version, to):
        """None, or why not."""
        status, text = self.run(["apt-get", "source", "--only-source", "--print-uris", f"{package}={version}"], cwd=to)
        sizes = [int(s) for s in re.findall(r"^'\S+' \S+ (\d+)", text, re.M)]
        if status or not sizes:
            return last_words(text)
        check_space(to, sum(sizes) + UNPACKED_BYTES)
        say(f"fetching {package} {version}, {sum(sizes) // 1_000_000} MB")

        def how_far(_tail):
            have = sum(p.stat().st_size for p in to.iterdir() if p.is_file())
            return f"{have // 1_000_000} of {sum(sizes) // 1_000_000} MB"
        status, text = self.run(["apt-get", "source", "--only-source", "--download-only", f"{package}={version}"],
                                how_far, cwd=to)
        if not status:
            return None
        return "404, the mirror has it no more" if re.search(r"\b404\b", text) else last_words(text)


def compare_versions(a, b):
    for relation, result in (("lt", -1), ("gt", 1)):
        if subprocess.run(["dpkg", "--compare-versions", a, relation, b], check=False).returncode == 0:
            return result
    return 0


def unpack_debian(folder, to):
    dsc, = folder.glob("*.dsc")
    say(f"unpacking {dsc.stem}")
    status, text = run(["dpkg-source", "-x", dsc, to], cwd=folder, env=environment())
    if status:
        raise Wrong(f"cannot unpack {dsc.name}: {last_words(text)} (dpkg-source is in the package dpkg-dev)")


def unpack_chromium(folder, to):
    tarball, = [p for p in folder.iterdir() if re.search(r"\d\.orig\.tar\.\w+$", p.name)]
    say("unpacking third_party/boringssl of it, a minute or two")
    to.mkdir()
    begun = time.monotonic()
    status, text = run(["tar", "-xf", tarball, "-C", to, "--strip-components=3", "--wildcards",
                        "--no-wildcards-match-slash", "*/third_party/boringssl"],
                       lambda tail: f"unpacking, {time.monotonic() - begun:.0f} s", env=environment())
    if status:
        raise Wrong(f"cannot unpack {tarball.name}: {last_words(text)} (tar needs xz-utils)")


def fetch_package(work, kind):
    package = PACKAGES[kind]
    try:
        apt = Apt(work)
        tried = []
        for version in apt.versions(package):
            to = cache_base() / "source" / f"{kind}-{version}"
            if to.exists():
                break
            folder = work / "download"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            why = apt.download(package, version, folder)
            if why:
                say(f"{package} {version}: {why}")
                tried.append(f"{version}: {why}")
                continue
            unpacked = work / "unpacked"
            (unpack_debian if kind == "debian" else unpack_chromium)(folder, unpacked)
            shutil.rmtree(folder)
            put_source(work, unpacked, to.name, {"version": f"{kind} {version}"}, f"{package} {version}")
            break
        else:
            raise Wrong(f"no version of Debian's source package {package} could be fetched ({'; '.join(tried)})")
    except Wrong as e:
        text = str(e)
        raise Wrong(text if "-Dboringssl" in text or "RINGPOST_CACHE" in text else f"{text}; {ways_out(kind)}") from None
    current = work / "current"
    current.write_text(to.name)
    current.rename(cache_base() / "source" / f"{kind}.current")
    say(f"took {package} {version}" + (", the newest on the mirror" if tried else ""))
    return to


def find_package(kind, update):
    current = cache_base() / "source" / f"{kind}.current"

    def have():
        path = current.parent / current.read_text().strip() if current.is_file() else None
        return path if path and (path / "ringpost.json").is_file() else None
    if not update and (path := have()):
        return path
    with workshop(kind) as work:
        if not update and (path := have()):     # another one made it while this one waited
            return path
        return fetch_package(work, kind)


# ---- directories and git ----

def find_directory(name):
    root = pathlib.Path(name)
    called = f"option boringssl_source: {name}"
    if not root.is_dir():
        raise Wrong(f"{called} is no directory; {ways_out('/DIRECTORY')}")
    tree = Tree(root, called)
    if tree.src.parts[-3:] == ("third_party", "boringssl", "src") and tree.root != tree.src:
        root = tree.src.parent      # of all of Chromium, only this
    key = content_key(root)
    to = cache_base() / "source" / f"directory-{key}"
    if (to / "ringpost.json").is_file():
        return to
    facts = {"version": f"directory {key}"}
    status, text = run(["git", "-C", root, "rev-parse", "--show-toplevel", "HEAD"], env=environment())
    lines = text.split()
    if status == 0 and len(lines) == 2 and pathlib.Path(lines[0]) == root.resolve():
        changed, text = run(["git", "-C", root, "status", "--porcelain"], env=environment())
        if changed == 0 and not text.strip():
            facts["commit"] = lines[1]
    with workshop(to.name) as work:
        check_space(work, UNPACKED_BYTES)
        return put_source(work, root, to.name, facts, called)


def find_git(source):
    found = re.fullmatch(r"git\+([^#]+)#([0-9a-f]{40})", source)
    if not found:
        raise Wrong(f"option boringssl_source: {source}: a git source is git+URL#COMMIT with all 40 (lower case) hex "
                    "digits of the commit, since a branch or a short one may name something else tomorrow")
    url, commit = found.groups()
    if url.startswith("-"):
        raise Wrong(f"option boringssl_source: {source}: that is no URL")
    to = cache_base() / "source" / f"git-{commit}"
    if (to / "ringpost.json").is_file():
        return to
    with workshop(to.name) as work:
        if (to / "ringpost.json").is_file():
            return to
        check_space(work, UNPACKED_BYTES)
        say(f"fetching {commit[:12]} from {url}")
        git = ["git", "-C", work / "git"]
        steps = [["git", "init", "-q", work / "git"],
                 [*git, "fetch", "-q", "--depth", "1", "--", url, commit]]
        for words in steps:
            status, text = run(words, lambda tail: "still fetching", env=environment(GIT_TERMINAL_PROMPT="0"))
        if status:      # a server may give only what a branch or a tag names: then all of them
            status, text = run([*git, "fetch", "-q", "--", url, "+refs/heads/*:refs/r/heads/*", "+refs/tags/*:refs/r/tags/*"],
                               lambda tail: "still fetching, all of it", env=environment(GIT_TERMINAL_PROMPT="0"))
        if status == 0:
            status, text = run([*git, "checkout", "-q", "--detach", commit], env=environment())
        if status:
            raise Wrong(f"option boringssl_source: cannot get commit {commit} from {url}: {last_words(text)}; "
                        f"{ways_out('git+URL#COMMIT')}")
        called = f"option boringssl_source: commit {commit[:12]} of {url}"
        return put_source(work, work / "git", to.name, {"version": f"git {commit[:12]}", "commit": commit}, called)


def find_source(source, update):
    if source in PACKAGES:
        return find_package(source, update)
    if source.startswith("/"):
        return find_directory(source)
    if source.startswith("git+"):
        return find_git(source)
    raise Wrong(f"option boringssl_source: \"{source}\" is none of {WORDS}")


# ---- building ----

def cxx_of(cc):
    folder, name = os.path.split(cc)
    for c, cxx in (("clang", "clang++"), ("gcc", "g++"), ("cc", "c++")):
        if re.search(rf"(^|-){c}(-[\d.]+)?$", name):
            return os.path.join(folder, re.sub(rf"{c}(-[\d.]+)?$", rf"{cxx}\1", name))
    raise Wrong(f"no C++ compiler is known to belong to {cc}: call it gcc, clang or cc")


def choose_compiler(tree, cc):
    if not cc:
        cc = "gcc" if tree.kind == "make" else "clang"
        if not shutil.which(cc) or not shutil.which(cxx_of(cc)):
            other = {"gcc": "clang", "clang": "gcc"}[cc]
            say(f"no {cc} here: compiled with {other}" + (" (its X25519 is half as fast)" if other == "gcc" else ""))
            cc = other
    cxx = cxx_of(cc)
    for each in (cc, cxx):
        if not shutil.which(each):
            raise Wrong(f"{each} is missing, and BoringSSL is partly C++: install g++"
                        + (" or clang" if "clang" in each else ""))
    version = subprocess.run([cxx, "-dumpfullversion", "-dumpversion"], capture_output=True, text=True, check=False)
    family = subprocess.run([cc, "-dM", "-E", "-x", "c", "/dev/null"], capture_output=True, text=True, check=False)
    family = "clang" if "__clang__" in family.stdout else "gcc"
    return cc, cxx, f"{family}-{(version.stdout.split() or ['unknown'])[0]}"


def find_archives(source, tree, cc, sanitize):
    cc, cxx, compiler = choose_compiler(tree, cc)
    recipe = hashlib.sha256(b"".join((HERE / n).read_bytes() for n in ("meson.build", "meson_options.txt")))
    name = ".".join([source.name, compiler, platform.machine(), sanitize.replace(",", "+"), recipe.hexdigest()[:8]])
    to = cache_base() / "build" / name
    if (to / "libcrypto.a").is_file():
        return to
    with workshop(to.name) as work:
        if (to / "libcrypto.a").is_file():
            return to
        check_space(work, UNPACKED_BYTES)
        say(f"building {source.name} with {cc}" + ("" if sanitize == "none" else f", sanitizer {sanitize}"))
        folder, made = work / "build", work / "made"
        begun = time.monotonic()

        def how_far(tail):
            steps = re.findall(r"\[(\d+)/(\d+)\]", tail)
            return f"compiled {steps[-1][0]} of {steps[-1][1]}" if steps else None
        logs = ""
        for words in (["meson", "setup", folder, HERE, f"-Dsource={source}", f"-Db_sanitize={sanitize}",
                       f"-Doptimization={3 if sanitize == 'none' else 2}", "-Db_lundef=false"],
                      ["ninja", "-C", folder]):
            status, text = run(words, how_far, env=environment(CC=cc, CXX=cxx, NINJA_STATUS="[%f/%t] "))
            logs += text
            if status:
                kept = cache_base() / "failed.log"
                kept.write_text(logs)
                raise Wrong(f"building {source.name} with {cc} failed: {last_words(text)} (all of it: {kept})")
        made.mkdir()
        for library in ("libssl.a", "libcrypto.a"):
            shutil.copyfile(folder / library, made / library)
        (made / "build.log").write_text(logs)
        made.rename(to)
        say(f"built in {time.monotonic() - begun:.0f} s")
    return to


# ---- the system's ----

def system_library():
    machine = platform.machine()
    include = pathlib.Path("/usr/include/android")
    libdirs = [pathlib.Path("/usr/lib") / f"{machine}-linux-gnu{s}" / "android" for s in ("", "eabihf", "eabi", "x32")]
    libdir = next((p for p in libdirs if (p / "libssl.so").exists()), None)
    if not (include / "openssl/ssl.h").is_file() or not libdir:
        raise Wrong(f"option boringssl=system: {include}/openssl/ssl.h or {libdirs[0]}/libssl.so is missing: "
                    f"apt-get install {SYSTEM_PACKAGE}, or -Dboringssl=bundled")
    text = (include / "openssl/base.h").read_text(errors="replace")
    if "OPENSSL_IS_BORINGSSL" not in text:
        raise Wrong(f"option boringssl=system: {include}/openssl is not BoringSSL: -Dboringssl=bundled builds one")
    version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", SYSTEM_PACKAGE], capture_output=True, text=True,
                             check=False).stdout.strip() if shutil.which("dpkg-query") else ""
    api = re.search(r"#\s*define\s+BORINGSSL_API_VERSION\s+(\d+)", text)
    return {"include": include, "libdir": libdir, "libssl": libdir / "libssl.so", "libcrypto": libdir / "libcrypto.so",
            "version": f"system {version or 'unknown'}", "commit": "", "api": api.group(1) if api else 0}


def tell(facts):
    for key, value in facts.items():
        if re.search(r"[=\n]", str(value)):
            raise Wrong(f"no '=' please in the name of a cache folder: {value}")
        print(f"{key}={value}")


def main(words):
    options = {"--source": "debian", "--sanitize": "none", "--cc": ""}
    switches = set()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if word in ("-h", "--help"):
            print(__doc__.strip())
            return 0
        if word == "--list" and len(rest) == 3:     # for meson.build beside this: DIRECTORY LIBRARY MACHINE
            print("\n".join(Tree(rest[0], rest[0]).sources(rest[1], rest[2])))
            return 0
        if word in ("--system", "--update", "--fetch-only"):
            switches.add(word)
        elif name in options and (equals or rest):
            options[name] = value if equals else rest.pop(0)
        else:
            print(f"get.py: {word}: no such option, or without its value; --help tells", file=sys.stderr)
            return 2
    if "--system" in switches:
        tell(system_library())
        return 0
    sanitize = options["--sanitize"] or "none"
    if not re.fullmatch(r"[a-z]+(,[a-z]+)*", sanitize):
        print(f"get.py: --sanitize {sanitize}: none, or as clang's -fsanitize=", file=sys.stderr)
        return 2
    source = find_source(options["--source"], "--update" in switches)
    facts = json.loads((source / "ringpost.json").read_text())
    tree = Tree(source, str(source))
    out = {"include": tree.include, "version": facts["version"], "commit": facts["commit"], "api": facts["api"],
           "source": source}
    if "--fetch-only" not in switches:
        archives = find_archives(source, tree, options["--cc"], sanitize)
        out |= {"libssl": archives / "libssl.a", "libcrypto": archives / "libcrypto.a"}
    tell(out)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main(sys.argv[1:]))
    except Wrong as e:
        print(f"boringssl: {e}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
