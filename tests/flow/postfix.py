"""postfix.py - a Postfix instance of a test's own: nothing of the system's is touched"""
import os
import pathlib
import pwd
import re
import subprocess

import harness
from harness import program


class Postfix:
    """base: a directory of its own. more: lines for main.cf. Mail that stays here is in mail/all."""

    def __init__(self, test, base, more=""):
        self.port = harness.free_port()
        self.log = base / "log"
        self.config, queue, data, self.mail = (base / n for n in ("etc", "queue", "data", "mail"))
        for path in (self.config, queue, data, self.mail):
            path.mkdir()
        owner, nobody = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
        os.chown(data, owner.pw_uid, owner.pw_gid)
        os.chown(self.mail, nobody.pw_uid, nobody.pw_gid)
        (self.config / "main.cf").write_text(
            f"compatibility_level = 3.6\nmyhostname = mx.postfix.test\ninet_interfaces = 127.0.0.1\n"
            f"inet_protocols = ipv4\nqueue_directory = {queue}\ndata_directory = {data}\n"
            "mydestination =\nmynetworks =\nalias_maps =\nlocal_recipient_maps =\n"
            f"smtpd_peername_lookup = no\nmaillog_file_prefixes = {base}\nmaillog_file = {self.log}\n"
            f"alternate_config_directories =\nmulti_instance_enable = yes\n{more}")
        source = next(p for p in ("/usr/share/postfix/master.cf.dist", "/etc/postfix/master.cf.proto",
                                  "/etc/postfix/master.cf") if os.path.exists(p))
        master = re.sub(r"(?m)^smtp +inet.*", f"127.0.0.1:{self.port} inet n - n - - smtpd",
                        pathlib.Path(source).read_text())
        master = re.sub(r"(?m)^(\w\S* +(?:unix|inet) +[-yn] +[-yn] +)y", r"\1n", master)
        if not re.search(r"(?m)^postlog", master):
            master += "postlog unix-dgram n - n - 1 postlogd\n"
        (self.config / "master.cf").write_text(master)
        words = [program("postfix"), "-c", str(self.config)]
        subprocess.run([*words, "set-permissions"], capture_output=True, check=False)
        done = subprocess.run([*words, "start"], capture_output=True, text=True, check=False)

        def stop():
            subprocess.run([*words, "stop"], capture_output=True, check=False)
            pid = queue / "pid" / "master.pid"
            harness.wait_for(lambda: not pid.exists() or not os.path.exists(
                f"/proc/{pid.read_text().strip()}"), "Postfix to end", 30)
        test.addCleanup(stop)
        test.assertEqual(done.returncode, 0, done.stderr)
        harness.wait_listening("127.0.0.1", self.port)

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
