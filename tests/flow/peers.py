"""peers.py - Exim and OpenSMTPD of a test's own, from packages that are not installed

Debian's mail servers exclude each other, and Postfix is installed. tests/install.sh unpacks the
others below the cache. Here each runs in a mount and process namespace: /etc, /run and /var are
directories of the test's, /mnt is what was unpacked, and the rest is the system's. With the
namespace's first process all others and all mounts are gone. That needs root.

Mail for TITLE.test goes where relays[TITLE] says, to HOST by TLS, if HOST's certificate is good by
`roots`; all other mail goes in clear to the port `inner`.

  Exim       on GnuTLS; each of its listeners and relays has a priority string of its own
  OpenSmtpd  on OpenSSL; a configuration file of OpenSSL's says which versions it has
"""
import os
import pathlib
import shlex
import signal
import subprocess

import harness
from harness import program

CACHE = os.environ.get("RINGPOST_CACHE") or os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
UNPACKED = pathlib.Path(CACHE).absolute() / "ringpost" / "peers"
HOST = "mx.good.test"
USERS = {"Debian-exim": 64710, "opensmtpd": 64711, "opensmtpq": 64712}
NAMESPACE = ("--mount", "--pid", "--fork", "--kill-child")


def skip_unless_possible(test):
    if os.geteuid() != 0:
        test.skipTest("Exim and OpenSMTPD run in a namespace, and only root may make one")
    done = subprocess.run([program("unshare"), *NAMESPACE, "mount", "--bind", "/etc", "/mnt"],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        test.skipTest(f"even root cannot make a namespace here: {done.stderr.strip()}")


class Unpacked:
    """base: a directory that it makes. roots: PEM."""

    def __init__(self, base, roots):
        self.base, self.etc, self.var = base, base / "etc", base / "var"
        for path in (base, self.etc, base / "run", self.var, *(self.var / n for n in ("lib", "log", "spool"))):
            path.mkdir()
        (self.var / "run").symlink_to("/run")
        users = {"root": 0, **USERS}.items()
        for name, text in {
                "passwd": "".join(f"{user}:x:{number}:{number}::/:/bin/false\n" for user, number in users),
                "group": "".join(f"{user}:x:{number}:\n" for user, number in users),
                "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
                "hosts": f"127.0.0.1 {HOST} localhost\n",
                "resolv.conf": "nameserver 127.0.0.1\nlookup file\n",
                "roots.pem": roots}.items():
            (self.etc / name).write_text(text)
        self.log = base / "words"

    def launch(self, test, ports, *words):
        if not (UNPACKED / words[0]).exists():
            raise AssertionError(f"{UNPACKED / words[0]} is not there (tests/install.sh unpacks it)")
        script = "".join(f"mount --bind {shlex.quote(str(source))} {target}\n" for source, target in (
            (UNPACKED, "/mnt"), (self.etc, "/etc"), (self.base / "run", "/run"), (self.var, "/var")))
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [program("unshare"), *NAMESPACE, "sh", "-e", "-c", f"{script}cd /\nexec /mnt/\"$@\"", "sh", *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        test.addCleanup(self.stop)
        try:
            for port in ports:
                harness.wait_listening("127.0.0.1", port, self.process)
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.told()}") from None

    def stop(self):
        """Ends the first process in the namespace; unshare ends after all the others."""
        if self.process.poll() is None:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
            for pid in children.split():
                os.kill(int(pid), signal.SIGKILL)
            if not children:
                self.process.kill()
            self.process.wait(harness.WAIT_SECONDS)

    def told(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def line(self, words):
        """The first line of its log with these, which may be still to come."""
        return harness.wait_for(lambda: next((l for l in self.told().split("\n")[:-1] if words in l), None),
                                lambda: f"{words} in\n{self.told()[-3000:]}")


class Exim(Unpacked):
    """STARTTLS on a port for each of listens, {title: priority string}, which are in ports.
    relays: {title: (port, priority string)}. Each MAIL command is in the log."""

    def __init__(self, test, base, roots, inner, certificates, listens, relays=()):
        super().__init__(base, roots)
        self.ports = {title: harness.free_port() for title in listens}
        for path in (self.var / "spool" / "exim4", self.var / "log" / "exim4"):
            path.mkdir()
            os.chown(path, USERS["Debian-exim"], USERS["Debian-exim"])
        pairs = [certificate.write(self.etc, f"server{n}") for n, certificate in enumerate(certificates)]
        for _, key in pairs:
            os.chown(key, USERS["Debian-exim"], USERS["Debian-exim"])
        chains, keys = (" : ".join(f"/etc/{pair[n].name}" for pair in pairs) for n in (0, 1))
        priorities = " ".join(f"p{self.ports[title]}={priority}" for title, priority in listens.items())
        routers = "".join(f"""
{title}:
  driver = manualroute
  domains = {title}.test
  transport = {title}
  route_list = * {HOST} byname
  self = send
""" for title in relays)
        transports = "".join(f"""
{title}:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_require_tls = *
  tls_require_ciphers = {priority}
  tls_verify_hosts = *
  tls_verify_cert_hostnames = *
  tls_verify_certificates = /etc/roots.pem
  tls_sni = $host
  tls_resumption_hosts = *
""" for title, (port, priority) in dict(relays).items())
        (self.etc / "exim4").mkdir()
        (self.etc / "exim4" / "exim4.conf").write_text(f"""
primary_hostname = mx.exim.test
exim_path = /mnt/usr/sbin/exim4
keep_environment =
log_selector = +tls_resumption +tls_sni
local_interfaces = 127.0.0.1
daemon_smtp_ports = {" : ".join(map(str, self.ports.values()))}
acl_smtp_mail = told
acl_smtp_rcpt = accept
acl_smtp_data = accept
tls_advertise_hosts = *
tls_certificate = {chains}
tls_privatekey = {keys}
tls_require_ciphers = ${{extract{{p$received_port}}{{{priorities}}}{{$value}}{{NORMAL}}}}
tls_resumption_hosts = *
begin acl
told:
  accept logwrite = MAIL FROM:<$sender_address> by ${{if def:tls_in_ver{{$tls_in_ver}}{{clear}}}}
begin routers
{routers}
inner:
  driver = manualroute
  transport = inner
  route_list = * 127.0.0.1 byname
  self = send
begin transports
{transports}
inner:
  driver = smtp
  port = {inner}
  allow_localhost
begin retry
* * F,1h,15m
""")
        self.launch(test, self.ports.values(), "usr/sbin/exim4", "-bdf")
        self.log = self.var / "log" / "exim4" / "mainlog"


class OpenSmtpd(Unpacked):
    """versions: the oldest and the newest, as OpenSSL names them. relays: {title: port}. No STARTTLS
    to others: Debian 12's does not find its key with OpenSSL 3 (OpenSMTPD's issue 1239)."""

    def __init__(self, test, base, roots, inner, versions, relays):
        super().__init__(base, roots)
        self.port = harness.free_port()
        (self.var / "lib" / "opensmtpd" / "empty").mkdir(parents=True)
        (self.var / "spool" / "smtpd").mkdir(0o711)
        (self.etc / "mailname").write_text("mx.opensmtpd.test\n")
        (self.etc / "ssl").mkdir()
        (self.etc / "ssl" / "openssl.cnf").write_text(
            "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = versions\n"
            f"[versions]\nMinProtocol = {versions[0]}\nMaxProtocol = {versions[1]}\n")
        relays = "".join(f'action "{title}" relay host smtp+tls://{HOST}:{port}\n'
                         f'match from any for domain "{title}.test" action "{title}"\n'
                         for title, port in relays.items())
        (self.etc / "smtpd.conf").write_text(f"""
ca "mx.opensmtpd.test" cert "/etc/roots.pem"
listen on 127.0.0.1 port {self.port}
mta limit "conn-delay-relay" 0
mta limit "reconn-delay-route" 0
mta limit "conn-delay-domain" 0
action "inner" relay host smtp+notls://127.0.0.1:{inner}
{relays}
match from any for any action "inner"
""")
        self.launch(test, [self.port], "usr/sbin/smtpd", "-d")
