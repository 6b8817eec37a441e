"""test_operation.py - what an operator does with it: check, reload, look, drain, start from systemd"""
import contextlib
import json
import os
import pathlib
import pwd
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

import harness
from harness import Peer, Ringpost, Sink, Smtp, program


class Operation(unittest.TestCase):
    def serve(self, **config):
        self.peer = Peer(self)
        config.setdefault("outbound", {"peer": self.peer.route()})
        self.server = Ringpost(self, **config).start()
        self.addCleanup(self.server.stop)
        return self.server


@harness.one_thread("the command line")
class Check(Operation):
    def check(self, *more, **config):
        server = Ringpost(self, **config)
        server.spool.mkdir(0o700)
        return server.cli("check", *more)

    def test_broken_configurations(self):
        for config, word in (({"top": {"no-such-key": "1"}}, "no-such-key"),
                             ({"limits": {"recipients": 5}}, "recipients"),
                             ({"relay": {"networks": ["0.0.0.0/0"]}}, "open relay"),
                             ({"outbound": {"x": {"domains": ["*"], "hosts": ["no host!"]}}}, "hosts"),
                             ({"listeners": {"in": {"proxy-from": ["0.0.0.0/0"]}}}, "proxy-from"),
                             ({"delivery": {"retry-initial": "soon"}}, "retry-initial")):
            with self.subTest(word=word):
                done = self.check(**config)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(word, done.stdout)
                self.assertIn("ringpost.conf", done.stdout)

    def test_syntax_error_names_the_line(self):
        server = Ringpost(self)
        server.config_path.write_text('hostname = a.example\nlistener "in" {\n  addresses = {\n')
        done = server.cli("check")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"ringpost\.conf:\d+:")

    def test_missing_file(self):
        done = Ringpost(self).cli("check", "-c", "/nowhere/ringpost.conf", config=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere/ringpost.conf", done.stdout + done.stderr)

    def test_usage(self):
        server = Ringpost(self)
        for words in (("check", "--no-such-option"), ("queue",), ("queue", "burn"), ("nonsense",),
                      ("serve", "surplus")):
            done = server.cli(*words, config=False)
            self.assertEqual(done.returncode, 2, words)
            self.assertNotEqual(done.stderr + done.stdout, "")
        for words in (("--help",), ("check", "--help"), ("queue", "--help"), ("reload", "--help"),
                      ("serve", "--help"), ("--version",)):
            done = server.cli(*words, config=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)

    def test_good(self):
        done = self.check()
        self.assertEqual(done.returncode, 0, done.stdout)
        done = self.check("--json")
        self.assertEqual(done.returncode, 0)
        json.loads(done.stdout)

    def test_example_of_the_tree(self):
        example = harness.TREE / "deploy" / "ringpost.conf.example"
        done = Ringpost(self).cli("check", "-c", str(example), config=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_serve_refuses_what_check_refuses(self):
        server = Ringpost(self, limits={"recipients": 5})
        server.launch()
        self.assertEqual(server.process.wait(harness.WAIT_SECONDS), 1)
        self.assertIn("recipients", server.words())
        server.process = None

    def test_address_in_use(self):
        """Two of them share ports only when they are one user's; anybody else's port is a refusal."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server = Ringpost(self)
            server.port = taken.getsockname()[1]
            server.write_config()
            server.launch()
            self.assertEqual(server.process.wait(harness.WAIT_SECONDS), 1)
            self.assertIn(f"127.0.0.1:{server.port}", server.words())
            server.process = None


class Admin(Operation):
    def test_metrics_pass_promtool(self):
        server = self.serve()
        server.send()
        self.peer.wait(1)
        server.wait_empty()
        status, text = server.http("/metrics")
        self.assertEqual(status, 200)
        done = subprocess.run([program("promtool"), "check", "metrics"], input=text, capture_output=True,
                              text=True, timeout=harness.WAIT_SECONDS, check=False)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))

    def test_labels_are_bounded(self):
        """Nothing a stranger chose becomes a label."""
        server = self.serve()
        for n in range(5):
            server.send(recipients=[f"r{n}@d{n}.example.org"], sender=f"s{n}@stranger{n}.example.com")
        self.peer.wait(5)
        text = server.http("/metrics")[1]
        self.assertNotIn("stranger", text)
        self.assertNotIn("example.org", text)

    def test_balance(self):
        server = self.serve()
        for _ in range(10):
            server.send(recipients=["a@example.org", "b@example.org"])
        self.peer.wait(10)
        server.wait_empty()
        numbers = server.metrics()
        self.assertEqual(numbers["ringpost_queue_recipients_in_total"], 20)
        self.assertEqual(numbers["ringpost_queue_recipients_out_total"], 20)
        for name in ('ringpost_mail_balance{by="counters"}', 'ringpost_mail_balance{by="scan"}', "ringpost_mail_unlisted",
                     "ringpost_queue_overdue"):
            self.assertEqual(numbers.get(name, "missing"), 0)

    def test_pages(self):
        server = self.serve()
        self.assertEqual(server.http("/healthz")[0], 200)
        self.assertEqual(server.http("/readyz")[0], 200)
        self.assertEqual(server.http("/nowhere")[0], 404)
        self.assertEqual(server.http("/metrics", "DELETE")[0], 405)
        self.assertEqual(server.http("/v1/reload", "POST")[0], 403)     # only where the file system guards it
        self.assertEqual(server.http("/v1/reload", "POST", unix=True)[0], 200)
        self.assertEqual(server.socket.stat().st_mode & 0o007, 0)

    def test_half_requests_do_not_matter(self):
        server = self.serve()
        for _ in range(300):
            s = socket.socket()
            self.addCleanup(s.close)
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", server.admin_port))
            with contextlib.suppress(OSError):      # beyond the backlog nobody is let in
                s.send(b"GET /metr")
        server.send()
        self.peer.wait(1)
        self.assertEqual(server.http("/healthz", unix=True)[0], 200)

    def test_queue(self):
        dead = harness.free_port()
        server = self.serve(outbound={"dead": {"domains": ["*"], "hosts": [f"127.0.0.1:{dead}"], "allow-private": True}})
        self.assertEqual(server.cli("queue", "list").stdout, "0 message(s)\n")
        ids = [server.send(sender=f"s{n}@example.com", recipients=[f"r{m}@example.org" for m in range(n + 1)])
               for n in range(3)]
        ids.append(server.send(sender=""))
        listed = {m["id"]: m for m in server.queue()}
        self.assertEqual(set(listed), set(ids))
        self.assertEqual(listed[ids[2]]["sender"], "s2@example.com")
        self.assertEqual(listed[ids[2]]["recipients"], [f"r{m}@example.org" for m in range(3)])
        text = server.cli("queue", "list")
        self.assertEqual(text.returncode, 0)
        self.assertIn("4 message(s)", text.stdout)
        self.assertIn("from <>", text.stdout)
        done = server.cli("queue", "show", ids[1])
        self.assertEqual(done.returncode, 0)
        self.assertIn("r1@example.org", done.stdout)
        self.assertEqual(server.cli("queue", "show", "0000000000000").returncode, 1)
        self.assertEqual(server.cli("queue", "show", "x").returncode, 1)
        self.assertIn("2 message(s)", server.cli("queue", "list", "--max", "2").stdout)

    def test_queue_of_thousands(self):
        dead = harness.free_port()
        server = self.serve(outbound={"dead": {"domains": ["*"], "hosts": [f"127.0.0.1:{dead}"], "allow-private": True}})
        harness.source("--to", f"127.0.0.1:{server.port}", "--connections", 10, "--messages", 3000,
                       "--rcpt", "r%d@example.org")
        done = server.cli("queue", "list", "--json", "--max", "10000")
        self.assertEqual(len({json.loads(line)["id"] for line in done.stdout.splitlines()}), 3000)

    def test_queue_without_server(self):
        done = Ringpost(self).cli("queue", "list")
        self.assertEqual(done.returncode, 1)
        self.assertIn("admin.sock", done.stderr)


class Reload(Operation):
    def test_new_route_while_mail_flows(self):
        server = self.serve()
        second = Peer(self)
        stop = threading.Event()
        failures, sent = [], []

        def flow():
            while not stop.is_set():
                try:
                    sent.append(server.send())
                except (AssertionError, OSError, EOFError) as e:
                    failures.append(e)
        threads = [threading.Thread(target=flow) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            self.peer.wait(20)
            for generation in range(2, 8):
                server.outbound = {"peer": (second if generation % 2 == 0 else self.peer).route()}
                server.write_config()
                done = server.cli("reload")
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(server.metric("ringpost_config_generation"), generation)
                target = second if generation % 2 == 0 else self.peer
                target.wait(len(target.messages) + 20)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        server.wait_empty()
        arrived = b"".join(m.content for m in self.peer.messages + second.messages)
        for queue_id in sent:
            self.assertEqual(arrived.count(b"id " + queue_id.encode()), 1)

    def test_refused_with_reasons(self):
        server = self.serve()
        server.write_config(limits={"recipients": 3})
        done = server.cli("reload", "--socket", str(server.socket), config=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("recipients", done.stderr)
        self.assertEqual(server.metric("ringpost_config_generation"), 1)
        self.assertEqual(server.metric('ringpost_reloads_total{result="refused"}'), 1)
        server.wait_log("reload", result="refused")
        server.send()
        self.peer.wait(1)

    def test_what_needs_a_restart(self):
        server = self.serve()
        server.top["shards"] = 1
        server.write_config()
        done = server.cli("reload")
        self.assertEqual(done.returncode, 1)
        self.assertIn("shards", done.stderr)

    def test_hangup_signal(self):
        server = self.serve()
        server.write_config(relay={"domains": ["new.test"]})
        server.process.send_signal(signal.SIGHUP)
        server.wait_metric("ringpost_config_generation", 2)
        server.send(recipients=["x@new.test"])

    def test_sessions_keep_their_generation(self):
        server = self.serve()
        client = server.client()
        client.hello()
        server.write_config(relay={"domains": ["other.test"]})
        self.assertEqual(server.cli("reload").returncode, 0)
        client.message(recipients=["old@example.org"])
        self.assertEqual(server.client().hello().code, 250)
        with Smtp(server.address) as fresh:
            fresh.hello()
            fresh.expect(250, "MAIL FROM:<a@example.com>")
            fresh.expect(550, "RCPT TO:<old@example.org>")
            fresh.expect(250, "RCPT TO:<new@other.test>")

    def test_log_is_opened_anew(self):
        server = self.serve()
        server.send()
        self.peer.wait(1)
        server.wait_log("delivered")
        moved = server.directory / "log.1"
        server.log_path.rename(moved)
        server.process.send_signal(signal.SIGUSR1)
        harness.wait_for(server.log_path.exists, "a new log file")
        server.send()
        server.wait_log("delivered")
        self.assertEqual(len(moved.read_text().split('"delivered"')), 2)


class Stop(Operation):
    def test_drain_under_load(self):
        sink = Sink(self)
        server = self.serve(outbound={"sink": sink.route()})
        acked = server.directory / "acked"
        load = subprocess.Popen([str(harness.BENCH), "source", "--to", f"127.0.0.1:{server.port}", "--connections",
                                 "20", "--seconds", "20", "--rcpt", "x@example.org", "--acked", str(acked),
                                 "--give-up", "1", "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(load.wait)
        sink.wait(200)
        server.stop()   # exit status 0, with everybody talking
        load.wait(harness.WAIT_SECONDS)
        server.start()
        server.wait_empty()
        ids, wanted = sink.ids(), acked.read_text().split()
        self.assertEqual(set(wanted) - set(ids), set())
        self.assertEqual(len(ids), len(set(ids)), "a drain doubles nothing")

    def test_drain_lets_a_transaction_end(self):
        server = self.serve()
        client, idle = server.client(), server.client()
        client.hello()
        idle.hello()
        client.begin()
        client.expect(354, "DATA")
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(idle.reply().code, 421)
        idle.close()
        harness.wait_for(lambda: server.http("/readyz")[0] == 503, "no readiness while draining")
        self.assertEqual(server.http("/healthz")[0], 200)

        def nobody_new():   # each shard closes its sockets when it hears of it
            try:
                Smtp(server.address, timeout=2).close()
            except (OSError, EOFError):
                return True
            return False
        harness.wait_for(nobody_new, "a connection refused")
        client.send(b"Subject: last\r\n\r\nwords\r\n.\r\n")
        queue_id = client.reply().text.split()[-1]
        self.assertEqual(client.reply().code, 421)
        client.close()
        self.assertEqual(server.process.wait(harness.WAIT_SECONDS), 0)
        server.process = None
        server.start()  # it may have been delivered, or waits
        harness.wait_for(lambda: any(queue_id.encode() in m.content for m in self.peer.messages), "the last words")

    def test_second_signal(self):
        server = self.serve()
        client = server.client()
        client.hello()
        kept = client.message()
        client.begin()
        client.expect(354, "DATA")
        server.process.send_signal(signal.SIGTERM)
        harness.wait_for(lambda: server.http("/readyz")[0] == 503, "draining")
        self.assertIsNone(server.process.poll())
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(harness.WAIT_SECONDS), 0)
        server.process = None
        server.start()
        harness.wait_for(lambda: any(kept.encode() in m.content for m in self.peer.messages), "the acknowledged one")

    def test_interrupt(self):
        self.serve().stop(signal.SIGINT)


@harness.one_thread("how a process starts")
class Systemd(Operation):
    def test_notify(self):
        path = None
        server = Ringpost(self)
        path = str(server.directory / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(harness.WAIT_SECONDS)

            def told(word):
                while word not in (text := notify.recv(4096).decode()):
                    pass
                return text
            server.launch(env={"NOTIFY_SOCKET": path})
            self.assertIn("READY=1", told("READY=1"))
            with Smtp(server.address) as client:    # ready means that it answers
                client.hello()
            server.process.send_signal(signal.SIGHUP)
            told("RELOADING=1")
            told("READY=1")
            server.process.send_signal(signal.SIGTERM)
            told("STOPPING=1")
            server.stop()

    def activated(self, server, words, env=None):
        server.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL, cwd=server.directory, env=env)
        server.wait_ready()
        peer = Peer(self, port=self.route_port)
        with Smtp(server.address) as client:
            client.hello()
            client.message()
        peer.wait(1)
        server.stop()

    def activation_server(self):
        self.route_port = harness.free_port()
        return Ringpost(self, outbound={"p": {"domains": ["*"], "hosts": [f"127.0.0.1:{self.route_port}"],
                                            "allow-private": True}})

    def test_activation(self):
        """Descriptor 3 is the listener; its address is one that we could not have bound (in use)."""
        server = self.activation_server()
        launcher = ("import os, socket, sys\ns = socket.socket()\n"
                    "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
                    f"s.bind(('127.0.0.1', {server.port}))\ns.listen(100)\n"
                    "f = os.dup(s.fileno())\nos.dup2(f, 3)\nos.set_inheritable(3, True)\n"
                    "os.environ['LISTEN_FDS'] = '1'\nos.environ['LISTEN_PID'] = str(os.getpid())\n"
                    "os.execv(sys.argv[1], sys.argv[1:])\n")
        self.activated(server, [sys.executable, "-c", launcher, str(harness.RINGPOST), "serve", "-c",
                                str(server.config_path)], server.environment())

    def test_systemd_socket_activate(self):
        server = self.activation_server()
        process = [program("systemd-socket-activate"), "-l", f"127.0.0.1:{server.port}"]
        for name in harness.SANITIZER_ENV:
            process += ["-E", name]
        opener = threading.Thread(target=self.knock, args=(server.port,), daemon=True)
        opener.start()  # it starts the program at the first connection
        self.activated(server, [*process, str(harness.RINGPOST), "serve", "-c", str(server.config_path)],
                       server.environment())

    @staticmethod
    def knock(port):
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except OSError:
                time.sleep(0.02)


@harness.one_thread("how a process starts")
class Privileges(Operation):
    def test_root_only_to_bind(self):
        if os.geteuid() != 0:
            self.fail("this test needs root: it shows how root is given up")
        user = pwd.getpwnam("nobody")
        server = Ringpost(self, top={"user": "nobody"})
        self.peer = Peer(self)
        server.outbound = {"peer": self.peer.route()}
        own = server.directory / "own"
        own.mkdir()
        os.chown(own, user.pw_uid, user.pw_gid)
        server.log_path = own / "log.json"
        server.write_config()
        harness.RINGPOST.parent.stat()
        server.start()
        self.addCleanup(server.stop)
        threads = list(pathlib.Path(f"/proc/{server.process.pid}/task").iterdir())
        self.assertGreaterEqual(len(threads), 3)
        for thread in threads:
            status = (thread / "status").read_text()
            ids = re.search(r"Uid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", status).groups()
            self.assertEqual(set(ids), {str(user.pw_uid)})
            self.assertEqual(set(re.search(r"Gid:\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)", status).groups()),
                             {str(user.pw_gid)})
            self.assertEqual(int(re.search(r"CapEff:\s+(\w+)", status).group(1), 16), 0)
            self.assertEqual(int(re.search(r"CapPrm:\s+(\w+)", status).group(1), 16), 0)
            self.assertEqual(re.search(r"NoNewPrivs:\s+(\d)", status).group(1), "1")
            self.assertEqual(re.search(r"Groups:[ \t]*(.*)", status).group(1).strip(), "")
        server.send()
        self.peer.wait(1)
        self.assertEqual(server.spool.stat().st_uid, user.pw_uid)
        self.assertEqual(server.spool.stat().st_mode & 0o777, 0o700)

    def test_unknown_user(self):
        server = Ringpost(self, top={"user": "no-such-user"})
        server.launch()
        self.assertEqual(server.process.wait(harness.WAIT_SECONDS), 1)
        self.assertIn("no-such-user", server.words())
        server.process = None


if __name__ == "__main__":
    harness.main()
