#!/usr/bin/env python3
"""test_get.py - tls/boringssl/get.py: what it refuses, what it derives for apt, what it builds once

Usage: tests/tls/test_get.py [TestCase.test...]

Uses small trees of its own that look like BoringSSL's, and an apt repository in a folder; fetches
nothing and has a cache of its own. The last line counts the tests.
"""
import hashlib
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GET = ROOT / "tls/boringssl/get.py"
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("get", GET)
get = importlib.util.module_from_spec(spec)
spec.loader.exec_module(get)
PACKAGE = get.PACKAGES["debian"]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ringpost-get-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.cache = self.folder / "cache"

    def environment(self, **more):
        return {**os.environ, "RINGPOST_CACHE": str(self.cache), "GIT_CONFIG_GLOBAL": "/dev/null", **more}

    def get(self, *words, **more):
        return subprocess.run([GET, *words], capture_output=True, text=True, env=self.environment(**more), timeout=100,
                              check=False)

    def facts(self, *words, **more):
        done = self.get(*words, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def refused(self, *words, **more):
        """The one line that it ends with."""
        done = self.get(*words, **more)
        self.assertEqual(done.returncode, 1, done.stderr + done.stdout)
        self.assertEqual(done.stdout, "")
        self.assertNotIn("Traceback", done.stderr)
        return done.stderr.splitlines()[-1]

    def tree(self, name="tree", api=41, body="int f(void);\nint f(void) { return 1; }\n"):
        """As upstream lays it out, with a file for each of the languages."""
        tree = self.folder / name
        write(tree / "include/openssl/base.h", f"#define OPENSSL_IS_BORINGSSL\n#define BORINGSSL_API_VERSION {api}\n")
        write(tree / "include/openssl/ssl.h", "#include <openssl/base.h>\n")
        write(tree / "crypto/a.c", "#include <openssl/base.h>\n" + body)
        write(tree / "crypto/a-linux.S", "")
        write(tree / "ssl/b.cc", "#include <openssl/ssl.h>\nextern \"C\" int g() { return 2; }\n")
        write(tree / "gen/sources.json", json.dumps({
            "crypto": {"srcs": ["crypto/a.c"], "asm": ["crypto/a-linux.S", "crypto/a-win.S"]},
            "ssl": {"srcs": ["ssl/b.cc"]}}))
        return tree

    def android(self, name, api=17):
        tree = self.folder / name
        moved = self.tree(name + ".up", api)
        (tree / "src").mkdir(parents=True)
        for folder in ("include", "crypto", "ssl"):
            shutil.move(moved / folder, tree / "src" / folder)
        write(tree / "src/crypto/test/t.c", "#error not ours\n")
        write(tree / "debian/sources.mk", "crypto_sources := \\\n  src/crypto/a.c\\\n  src/crypto/test/t.c\\\n\n"
                                          "ssl_sources := \\\n  src/ssl/b.cc\\\n\n")
        write(tree / "BORINGSSL_REVISION", "1" * 40 + "\n")
        return tree

    def git(self, *words):
        return subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words], check=True,
                              capture_output=True, text=True, env=self.environment()).stdout.strip()

    def repository(self):
        tree = self.tree("repository")
        self.git("init", "-q", "-b", "main", str(tree))
        commits = []
        for n in (1, 2):
            write(tree / "crypto/a.c", f"int f(void);\nint f(void) {{ return {n}; }}\n")
            self.git("-C", str(tree), "add", "-A")
            self.git("-C", str(tree), "commit", "-q", "-m", "x")
            commits.append(self.git("-C", str(tree), "rev-parse", "HEAD"))
        return tree, commits


class Refused(Case):
    def test_words(self):
        for source in ("", "trixie", "tree", "./tree", "git", "http://example.org/x.git"):
            line = self.refused("--source", source)
            self.assertIn("option boringssl_source", line)
            self.assertIn("git+URL#COMMIT", line)

    def test_calls(self):
        for words in (["--no-such"], ["--source"], ["--sanitize", "thread; rm"], ["tree"]):
            self.assertEqual(self.get(*words).returncode, 2)

    def test_git_without_whole_commit(self):
        for commit in ("", "#", "#main", "#3a9254f1", "#" + "A" * 40, "#" + "0" * 41):
            self.assertIn("40 (lower case) hex", self.refused("--source", "git+file:///nowhere" + commit))

    def test_git_that_is_not_there(self):
        line = self.refused("--source", f"git+file://{self.folder}/none#{'0' * 40}")
        self.assertIn("cannot get commit", line)
        self.assertIn("-Dboringssl_source=debian", line)
        tree, _ = self.repository()
        self.assertIn("cannot get commit", self.refused("--source", f"git+file://{tree}#{'0' * 40}"))

    def test_directories(self):
        tree = self.tree()
        self.assertIn("is no directory", self.refused("--source", "/no/such/folder"))
        write(self.folder / "empty/x", "")
        self.assertIn("no include/openssl/ssl.h", self.refused("--source", str(self.folder / "empty")))
        (tree / "gen/sources.json").unlink()
        self.assertIn("neither gen/sources.json", self.refused("--source", str(tree)))
        write(tree / "include/openssl/base.h", "#define OPENSSL_NO_SSL2\n")
        line = self.refused("--source", str(tree))
        self.assertIn("is OpenSSL, not BoringSSL", line)
        self.assertIn("-Dboringssl=system", line)

    def test_cache_that_cannot_be_written(self):
        for cache in ("/dev/null/x", "/proc/x"):
            self.assertIn("set RINGPOST_CACHE", self.refused("--source", str(self.tree()), RINGPOST_CACHE=cache))

    def test_compilers(self):
        tree = str(self.tree())
        self.assertIn("/usr/bin/gcc-99 is missing", self.refused("--source", tree, "--cc", "/usr/bin/gcc-99"))
        self.assertIn("no C++ compiler is known", self.refused("--source", tree, "--cc", "tcc"))

    def test_tree_that_does_not_compile(self):
        line = self.refused("--source", str(self.tree(body="#error broken\n")), "--cc", "gcc")
        self.assertIn("failed", line)
        self.assertIn("broken", (self.cache / "ringpost/boringssl/failed.log").read_text())
        self.assertEqual(list((self.cache / "ringpost/boringssl/build").iterdir()), [])

    def test_system(self):
        done = self.get("--system")     # there or not, as this machine has it
        if done.returncode:
            self.assertIn(get.SYSTEM_PACKAGE, done.stderr)
        else:
            self.assertIn("include=/usr/include/android\n", done.stdout)

    def test_meson_passes_it_on(self):
        write(self.folder / "empty/x", "")
        for option, words in (("boringssl_source=trixie", "none of debian, chromium"),
                              (f"boringssl_source={self.folder}/empty", "no include/openssl/ssl.h")):
            done = subprocess.run(["meson", "setup", self.folder / "build", ROOT, "-Dtests=false", f"-D{option}"],
                                  capture_output=True, text=True, env=self.environment(), timeout=100, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertRegex(done.stdout, r"ERROR: (Problem encountered: )?boringssl: option boringssl_source")
            self.assertIn(words, done.stdout)


class Lists(Case):
    def test_one_line(self):
        self.assertEqual(get.turn_list("""
# deb http://a.example/debian old main
deb http://a.example/debian bookworm main contrib   # words
 deb [arch=amd64 signed-by=/k.gpg] http://b.example/x ./
deb [ arch=amd64,arm64 ] http://c.example/debian trixie main
deb-src http://a.example/debian bookworm main contrib
deb cdrom:[Debian 12]/ bookworm main
debug http://d.example/debian bookworm main
"""), ["deb-src http://a.example/debian bookworm main contrib",
       "deb-src [ signed-by=/k.gpg ] http://b.example/x ./",
       "deb-src http://c.example/debian trixie main"])

    def test_deb822(self):
        self.assertEqual(get.turn_deb822("""# head

Types: deb
# a comment inside
URIs: http://a.example/debian
 http://b.example/debian
Suites: bookworm bookworm-updates
Components: main
Architectures: amd64
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://c.example/debian
Suites: bookworm

types: deb-src deb
uris: http://d.example/debian
suites: ./
"""), ["Types: deb-src\nURIs: http://a.example/debian\n http://b.example/debian\nSuites: bookworm bookworm-updates\n"
       "Components: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n"
       " -----END PGP PUBLIC KEY BLOCK-----",
       "Types: deb-src\nuris: http://d.example/debian\nsuites: ./"])

    def test_folder(self):
        parts = self.folder / "sources.list.d"
        write(self.folder / "sources.list", "deb http://a.example/debian bookworm main\n")
        write(parts / "a.list", "deb http://a.example/debian bookworm main\ndeb http://b.example/debian x y\n")
        write(parts / "b.sources", "Types: deb\nURIs: http://c.example/debian\nSuites: x\nComponents: y\n")
        write(parts / "c.list.disabled", "deb http://no.example/debian x y\n")
        lists, stanzas = get.derive_sources(self.folder / "sources.list", parts)
        self.assertEqual(lists, ["deb-src http://a.example/debian bookworm main", "deb-src http://b.example/debian x y"])
        self.assertEqual(len(stanzas), 1)
        self.assertEqual(get.derive_sources("/no/such", "/no/such"), ([], []))


class Built(Case):
    def archives(self):
        return sorted(p for p in (self.cache / "ringpost/boringssl/build").iterdir())

    def nothing_left(self):
        left = [p for p in (self.cache / "ringpost/boringssl/tmp").iterdir() if p.suffix != ".lock"]
        self.assertEqual(left, [])

    def test_directory(self):
        tree = self.tree()
        facts = self.facts("--source", str(tree), "--cc", "gcc", CFLAGS="-no-such-flag", HOME="")
        self.assertEqual(facts["api"], "41")
        self.assertEqual(facts["commit"], "")
        self.assertRegex(facts["version"], r"^directory [0-9a-f]{12}$")
        self.assertTrue(pathlib.Path(facts["include"], "openssl/ssl.h").is_file())
        symbols = subprocess.run(["nm", facts["libcrypto"], facts["libssl"]], capture_output=True, text=True,
                                 check=True).stdout
        self.assertIn("T f\n", symbols)
        self.assertIn("T g\n", symbols)
        with open(facts["libssl"], "rb") as f:
            self.assertEqual(f.read(8), b"!<arch>\n", "not a thin archive")
        begun = time.monotonic()
        self.assertEqual(self.facts("--source", str(tree), "--cc", "gcc"), facts)
        self.assertLess(time.monotonic() - begun, 20, "nothing is built again")
        write(tree / "crypto/a.c", "int f(void);\nint f(void) { return 3; }\n")
        self.assertNotEqual(self.facts("--source", str(tree), "--fetch-only")["version"], facts["version"])
        self.assertEqual(len(self.archives()), 1)
        self.nothing_left()

    def test_two_at_once_and_one_that_was_killed(self):
        tree = self.tree()
        write(self.cache / "ringpost/boringssl/tmp/left/half.tar.xz", "cut")
        both = [subprocess.Popen([GET, "--source", tree, "--cc", "gcc", "--sanitize", "address,undefined"],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment())
                for _ in range(2)]
        said = [p.communicate(timeout=100) for p in both]
        self.assertEqual([p.returncode for p in both], [0, 0], said)
        self.assertEqual(said[0][0], said[1][0])
        self.assertEqual(sum("built in" in s[1] for s in said), 1, said)
        self.assertEqual(len(self.archives()), 1)
        self.nothing_left()

    def test_git(self):
        tree, (old, new) = self.repository()
        for commit in (old, new):       # the older one is the tip of no branch
            facts = self.facts("--source", f"git+file://{tree}#{commit}", "--fetch-only")
            self.assertEqual(facts["commit"], commit)
            self.assertEqual(facts["version"], f"git {commit[:12]}")
        shutil.rmtree(tree)
        self.facts("--source", f"git+file://{tree}#{old}", "--fetch-only")
        # a work tree without changes tells its commit, one with changes does not
        tree, (_, head) = self.repository()
        self.assertEqual(self.facts("--source", str(tree), "--fetch-only")["commit"], head)
        write(tree / "crypto/a.c", "int changed;\n")
        self.assertEqual(self.facts("--source", str(tree), "--fetch-only")["commit"], "")


@unittest.skipUnless(shutil.which("apt-get") and shutil.which("dpkg-source"), "no apt-get or dpkg-source")
class Apt(Case):
    def offer(self, versions):
        """An apt repository in a folder, and a machine that has it as `deb`. versions: {version: how}"""
        repository = self.folder / "apt"
        index = ""
        for version, how in versions.items():
            tree = self.android(f"v{version}")
            tarball = repository / f"{PACKAGE}_{version}.tar.xz"
            tarball.parent.mkdir(exist_ok=True)
            with tarfile.open(tarball, "w:xz") as tar:
                tar.add(tree, f"{PACKAGE}-{version}")
            head = f"Format: 3.0 (native)\nBinary: x\nArchitecture: any\nVersion: {version}\nMaintainer: x <x@example.org>\n"
            dsc = repository / f"{PACKAGE}_{version}.dsc"
            dsc.write_text(f"Source: {PACKAGE}\n{head}Checksums-Sha256:\n {self.sum(tarball)}\n"
                           f"Files:\n {self.sum(tarball, 'md5')}\n")
            index += (f"Package: {PACKAGE}\n{head}Directory: .\nChecksums-Sha256:\n {self.sum(tarball)}\n"
                      f" {self.sum(dsc)}\n\n")
            if how == "gone":
                tarball.unlink()
            elif how == "tampered":
                tarball.write_bytes(tarball.read_bytes()[:-1] + b"x")
        sources = repository / "Sources"
        sources.write_text(index)
        (repository / "Release").write_text(f"Suite: x\nSHA256:\n {self.sum(sources)}\n")
        write(self.folder / "etc/sources.list", f"deb [trusted=yes arch=amd64] file:{repository} ./\n")
        (self.folder / "etc/parts").mkdir()
        write(self.folder / "apt.conf", f'Dir::Etc::sourcelist "{self.folder}/etc/sources.list";\n'
                                        f'Dir::Etc::sourceparts "{self.folder}/etc/parts";\n')
        return {"APT_CONFIG": str(self.folder / "apt.conf")}

    @staticmethod
    def sum(path, kind="sha256"):
        data = path.read_bytes()
        return f"{hashlib.new(kind, data).hexdigest()} {len(data)} {path.name}"

    def test_newest_that_is_there(self):
        apt = self.offer({"9.0": "good", "14.0~rc1": "good", "14.0": "gone", "14.1": "tampered"})
        done = self.get("--fetch-only", **apt)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("version=debian 14.0~rc1\n", done.stdout)
        self.assertIn("commit=" + "1" * 40, done.stdout)
        self.assertIn("14.1: ", done.stderr)
        self.assertIn(f"took {PACKAGE} 14.0~rc1, the newest on the mirror", done.stderr)
        # from now on without apt, unless told to look
        shutil.rmtree(self.folder / "apt")
        self.assertIn("version=debian 14.0~rc1\n", self.get("--fetch-only", **apt).stdout)
        self.refused("--fetch-only", "--update", **apt)
        self.assertEqual(self.get(**apt).returncode, 0)

    def test_none(self):
        apt = self.offer({"14.0": "gone", "14.1": "gone"})
        line = self.refused(**apt)
        for words in ("14.0: ", "14.1: ", "-Dboringssl_source=chromium", "-Dboringssl=system"):
            self.assertIn(words, line)
        self.assertIn("the index does not list it", self.refused("--source", "chromium", **apt))
        write(self.folder / "etc/sources.list", "")
        self.assertIn("apt has no sources", self.refused(**apt))


def main():
    tests = unittest.main(exit=False, verbosity=1).result
    bad = len({getattr(t, "test_case", t).id() for t, _ in tests.failures + tests.errors})
    print(f"{max(tests.testsRun - bad - len(tests.skipped), 0)} passed, {bad} failed", flush=True)
    return 1 if bad or tests.testsRun == 0 else 0


if __name__ == "__main__":
    if sys.argv[1:2] in (["-h"], ["--help"]):
        print(__doc__)
        sys.exit(0)
    sys.exit(main())
