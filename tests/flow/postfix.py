"""postfix.py - a Postfix instance of a test's own: nothing of the system's is touched

Its master is started as it is, without the scripts around it, which take five seconds and set
permissions of the system's files. So the queue's directories are made here.

No key may stand twice in main.cf. Each service warns of that when it starts, to the socket that
postlogd reads. Ten lines fit in; postlogd's own warning, when it is a little late, is the eleventh,
and waits for postlogd. Then all the others wait for it, too.
"""
import grp
import os
import pathlib
import pwd
import re
import signal
import subprocess

import harness
from harness import program

PRIVATE = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")


class Postfix:
    """base: a directory of its own. more: lines for main.cf, which replace those here. services:
    lines for master.cf. Mail that stays here is in mail/all."""

    def __init__(self, test, base, more="", services=""):
        self.port = harness.free_port()
        self.log = base / "log"
        self.config, queue, data, self.mail = (base / n for n in ("etc", "queue", "data", "mail"))
        for path in (self.config, queue, data, self.mail):
            path.mkdir()
        owner, nobody, postdrop = pwd.getpwnam("postfix"), pwd.getpwnam("nobody"), grp.getgrnam("postdrop")
        os.chown(data, owner.pw_uid, owner.pw_gid)
        os.chown(self.mail, nobody.pw_uid, nobody.pw_gid)
        for name, group, mode in (*((n, 0, 0o700) for n in PRIVATE), ("maildrop", postdrop.gr_gid, 0o730),
                                  ("public", postdrop.gr_gid, 0o710)):
            (queue / name).mkdir()
            os.chown(queue / name, owner.pw_uid, group)
            (queue / name).chmod(mode)
        (queue / "pid").mkdir()
        keys = dict(line.split(" = ", 1) if " = " in line else (line.removesuffix(" ="), "") for line in (
            f"compatibility_level = 3.6\nmyhostname = mx.postfix.test\ninet_interfaces = 127.0.0.1\n"
            f"inet_protocols = ipv4\nqueue_directory = {queue}\ndata_directory = {data}\n"
            "mydestination =\nmynetworks =\nalias_maps =\nlocal_recipient_maps =\n"
            f"smtpd_peername_lookup = no\nmaillog_file_prefixes = {base}\nmaillog_file = {self.log}\n{more}").splitlines())
        (self.config / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in keys.items()))
        source = next(p for p in ("/usr/share/postfix/master.cf.dist", "/etc/postfix/master.cf.proto",
                                  "/etc/postfix/master.cf") if os.path.exists(p))
        master = re.sub(r"(?m)^smtp +inet.*", f"127.0.0.1:{self.port} inet n - n - - smtpd",
                        pathlib.Path(source).read_text())
        master = re.sub(r"(?m)^(\w\S* +(?:unix|inet) +[-yn] +[-yn] +)y", r"\1n", master)
        if not re.search(r"(?m)^postlog", master):
            master += "postlog unix-dgram n - n - 1 postlogd\n"
        (self.config / "master.cf").write_text(master + services)
        daemons = subprocess.run([program("postconf"), "-c", self.config, "-h", "daemon_directory"], capture_output=True,
                                 text=True, check=True).stdout.strip()
        words = base / "words"      # what it says before it has a log
        with open(words, "wb") as said:
            self.process = subprocess.Popen([f"{daemons}/master", "-d", "-c", self.config], stdin=subprocess.DEVNULL,
                                            stdout=said, stderr=said, start_new_session=True)
        test.addCleanup(self.stop)
        try:
            harness.wait_listening("127.0.0.1", self.port, self.process)
        except AssertionError as e:
            raise AssertionError(f"{e}: {words.read_text()}{self.told()}") from None

    def stop(self):
        """The master passes the signal to all of its group, and ends."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(harness.WAIT_SECONDS)

        def gone():
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return True
        harness.wait_for(gone, lambda: f"Postfix to end\n{self.told()[-2000:]}")

    @staticmethod
    def mailboxes(base):
        """Lines for main.cf: mail for example.org stays here."""
        return ("virtual_mailbox_domains = example.org\n"
                f"virtual_mailbox_base = {base}/mail\nvirtual_mailbox_maps = static:all/\n"
                "virtual_uid_maps = static:65534\nvirtual_gid_maps = static:65534\nvirtual_minimum_uid = 100\n"
                "smtpd_relay_restrictions = reject_unauth_destination\n")

    def kept(self):
        return list(self.mail.glob("all/new/*"))

    def told(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""
