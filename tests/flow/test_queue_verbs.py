"""test_queue_verbs.py - an operator's hand in the queue: what is held stays, what is let go goes, once"""
import email
import json
import pwd
import os

import harness
from harness import Peer, Ringpost, Sink

ME = pwd.getpwuid(os.getuid()).pw_name


class Verbs(harness.unittest.TestCase):
    def serve(self, outbound=None, **more):
        """Next hops that do not answer: x.test and y.test; bounces go to a peer."""
        self.home = Peer(self)
        routes = {name: {"domains": [f"{name}.test"], "hosts": [f"127.0.0.1:{harness.free_port()}"], "allow-private": True}
                  for name in ("x", "y")}
        routes["home"] = self.home.route(["example.com"])
        more.setdefault("delivery", {}).setdefault("retry-initial", "1h")
        more["delivery"].setdefault("retry-max", "1h")
        self.server = Ringpost(self, outbound={**routes, **(outbound or {})}, **more).start()
        return self.server

    def verb(self, *words, status=0):
        done = self.server.cli("queue", *words)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout if status == 0 else done.stderr

    def report(self, *words):
        return json.loads(self.verb(*words, "--json"))

    def units(self):
        """{id: {destination: state}}"""
        return {m["id"]: {u["destination"]: u["state"] for u in m["units"]} for m in self.server.queue()}

    def states(self):
        return sorted(state for units in self.units().values() for state in units.values())

    def failed(self, destination):
        """Its next hop was tried, and did not answer: all waits for its back-off."""
        return self.server.wait_log("destination_failed", destination=destination)

    def revive(self, name, **more):
        """The hop of that connector answers from now on."""
        address = self.server.outbound[name]["hosts"][0]
        return Peer(self, port=int(address.rsplit(":", 1)[1]), **more)


class Hold(Verbs):
    def test_over_restarts(self):
        """Held is on disk when it is answered: a kill and an end in order leave it as it was; then it is
        released, and goes once."""
        server = self.serve()
        kept, goes = [server.send(recipients=["a@x.test"], content=f"Subject: {n}\r\n\r\n") for n in ("kept", "goes")]
        self.failed("outbound:x")
        told = self.report("hold", kept, "--reason", "looked at by hand")
        self.assertEqual([told[k] for k in ("messages", "recipients", "active", "failed", "state")], [1, 1, 0, 0, "over"])
        self.assertEqual(self.units(), {kept: {"outbound:x": "held"}, goes: {"outbound:x": "ready"}})
        held = server.wait_log("queue_held", msg=kept)      # the log is not synced: a kill may cost its last lines
        self.assertEqual(server.wait_log("queue_verb_done", verb="hold")[0]["ids"], [kept])
        for end in (server.kill, server.stop):
            end()
            server.start()
            self.assertEqual(self.units()[kept], {"outbound:x": "held"})
        peer = self.revive("x")
        self.verb("retry", "--destination", "outbound:x")
        self.assertIn(b"goes", peer.wait(1)[0].content)
        harness.wait_for(lambda: self.units() == {kept: {"outbound:x": "held"}}, "the other one to be gone")
        self.assertIn(f"held by {ME}: looked at by hand", server.cli("queue", "show", kept).stdout)
        self.verb("release", kept, "--reason", "harmless")
        self.assertIn(b"kept", peer.wait(2)[1].content)
        server.wait_empty()
        self.assertEqual(server.metric("ringpost_mail_balance"), 0)
        released = server.wait_log("queue_released", msg=kept)
        self.assertEqual([(e["by"], e["reason"], e["recipients"]) for e in held + released],
                         [(ME, "looked at by hand", 1), (ME, "harmless", 1)])

    def test_released_over_a_kill(self):
        server = self.serve()
        one = server.send(recipients=["a@x.test"])
        self.failed("outbound:x")
        self.verb("hold", one)
        self.verb("release", one)
        peer = self.revive("x")
        server.kill()
        server.start()
        peer.wait(1)
        server.wait_empty()

    def test_held_mail_expires(self):
        server = self.serve(delivery={"age-max": "3s"})
        one = server.send(recipients=["a@x.test"])
        self.failed("outbound:x")
        self.verb("hold", one)
        self.assertEqual(self.home.wait(1)[0].recipients, ["sender@example.com"])
        server.wait_empty()
        self.assertEqual(server.metric('ringpost_queue_recipients_out_total{outcome="expired"}'), 1)

    def test_recipients_of_one_message(self):
        """Those that are named, not the others of their message; also after a restart."""
        server = self.serve()
        one = server.send(recipients=["a@x.test", "b@x.test", "c@x.test", "b@y.test"])
        self.failed("outbound:x")
        self.failed("outbound:y")
        self.assertEqual(self.report("hold", "--recipient", "B@*")["recipients"], 2)
        held = {u["destination"]: u["recipients"] for u in server.queue()[0]["units"] if u["state"] == "held"}
        self.assertEqual(held, {"outbound:x": 1, "outbound:y": 1})
        server.kill()
        server.start()
        units = [(u["destination"], u["recipients"], u["state"] == "held") for u in server.queue()[0]["units"]]
        self.assertEqual(sorted(units), [("outbound:x", 1, True), ("outbound:x", 2, False), ("outbound:y", 1, True)])
        peer = self.revive("x")
        self.verb("retry", "--all")
        self.assertEqual(peer.wait(1)[0].recipients, ["a@x.test", "c@x.test"])
        self.verb("release", one)
        self.assertEqual(peer.wait(2)[1].recipients, ["b@x.test"])
        other = self.revive("y")
        self.verb("retry", "--all")
        self.assertEqual(other.wait(1)[0].recipients, ["b@y.test"])
        server.wait_empty()
        self.assertEqual(server.metric("ringpost_mail_balance"), 0)

    def test_what_is_being_delivered(self):
        """Left alone until its attempt has settled; what is deferred by that is held then."""
        gate = harness.threading.Event()
        self.addCleanup(gate.set)
        peer = Peer(self, answers={"END": lambda *_: (gate.wait(harness.WAIT_SECONDS), "451 4.3.0 later")[1]})
        server = self.serve({"slow": peer.route(["slow.test"])})
        one = server.send(recipients=["a@slow.test"])
        harness.wait_for(lambda: peer.verbs("BDAT") or peer.verbs("DATA"), "the content")
        told = self.report("hold", one, "--reason", "x")
        self.assertEqual([told[k] for k in ("messages", "recipients", "active", "state")], [1, 0, 1, "done"])
        self.assertEqual(self.states(), ["active"])
        gate.set()
        server.wait_log("queue_held", msg=one)
        self.assertEqual(self.states(), ["held"])
        self.assertEqual(len(server.wait_log("deferred")), 1)

    def test_delivered_meanwhile(self):
        gate = harness.threading.Event()
        self.addCleanup(gate.set)
        peer = Peer(self, answers={"END": lambda *_: (gate.wait(harness.WAIT_SECONDS), None)[1]})
        server = self.serve({"slow": peer.route(["slow.test"])})
        one = server.send(recipients=["a@slow.test"])
        harness.wait_for(lambda: peer.verbs("BDAT") or peer.verbs("DATA"), "the content")
        told = self.report("discard", one, "--reason", "x")
        gate.set()
        server.wait_empty()
        self.assertEqual((told["active"], len(peer.messages), server.log("queue_discarded")), (1, 1, []))
        harness.wait_for(lambda: json.loads(server.http(f"/v1/queue/jobs/{told['job']}")[1])["state"] == "over",
                         "the end of the job")
        self.assertEqual(server.metric("ringpost_mail_balance"), 0)


class Ends(Verbs):
    def test_discard(self):
        """Gone for good, and nobody is told but the log."""
        server = self.serve()
        spam = [server.send(sender="spam@bad.example", recipients=["a@x.test", "b@y.test"]) for _ in range(3)]
        good = server.send(recipients=["a@x.test"])
        self.failed("outbound:x")
        self.failed("outbound:y")
        self.assertIn("reason", self.verb("discard", "--sender", "bad.example", status=1))
        self.verb("hold", spam[0])
        self.assertEqual(self.report("discard", "--sender", "bad.example", "--reason", "spam")["recipients"], 6)
        self.assertEqual(list(self.units()), [good])
        server.wait_log("discarded", 6)
        server.wait_log("queue_discarded", 6)
        server.kill()
        server.start()
        self.assertEqual(list(self.units()), [good])
        self.assertEqual(self.home.messages, [])
        lines = server.log("discarded")
        self.assertEqual({(e["msg"], e["to"], e["from"], e["reply"]) for e in lines},
                         {(i, to, "spam@bad.example", "spam") for i in spam for to in ("a@x.test", "b@y.test")})
        self.assertEqual({e["by"] for e in server.log("queue_discarded")}, {ME})

    def test_bounce(self):
        """A report in the operator's words; none for the null sender, whose mail goes all the same."""
        server = self.serve()
        one = server.send(recipients=["a@x.test", "b@x.test"])
        null = server.send(sender="", recipients=["a@x.test"])
        self.failed("outbound:x")
        self.verb("hold", one)
        told = self.report("bounce", "--destination", "outbound:x", "--reason", "the domain was closed")
        self.assertEqual((told["messages"], told["recipients"]), (2, 3))
        report = email.message_from_bytes(self.home.wait(1)[0].content)
        self.assertEqual(report.get_content_type(), "multipart/report")
        status = [part for part in report.walk() if part.get_content_type() == "message/delivery-status"][0]
        rows = status.get_payload()[1:]
        self.assertEqual([(row["Final-Recipient"], row["Action"], row["Status"]) for row in rows],
                         [(f"rfc822; {to}@x.test", "failed", "5.7.0") for to in "ab"])
        self.assertIn("the domain was closed", report.as_string())
        server.wait_empty()
        self.assertEqual(len(self.home.messages), 1)
        self.assertEqual({e["msg"] for e in server.wait_log("queue_bounced", 2)}, {one, null})
        self.assertEqual(server.metric("ringpost_mail_balance"), 0)


class Retry(Verbs):
    def test_deferred_and_back_off(self):
        """Deferred mail is due now, and a destination's back-off is over."""
        answers = {"RCPT": "451 4.2.0 later"}
        peer = Peer(self, answers=answers)
        server = self.serve({"later": peer.route(["later.test"])})
        server.send(recipients=["a@later.test"])
        server.send(recipients=["a@x.test"])
        server.wait_log("deferred")
        self.failed("outbound:x")
        harness.wait_for(lambda: self.states() == ["deferred", "ready"], "both to wait")
        answers.clear()
        other = self.revive("x")
        told = self.report("retry", "--all")
        self.assertEqual((told["messages"], told["recipients"]), (2, 2))
        peer.wait(1)
        other.wait(1)
        server.wait_empty()


class Selection(Verbs):
    def ids(self, *criteria):
        done = self.server.cli("queue", "list", "--json", *criteria)
        self.assertEqual(done.returncode, 0, done.stderr)
        return {json.loads(line)["id"] for line in done.stdout.splitlines()}

    def test_each_criterion(self):
        """What list shows by a criterion is what a dry run of a verb says, and that changes nothing."""
        server = self.serve()
        one = server.send(sender="one@a.example", recipients=["u@x.test"])
        two = server.send(sender="two@b.example", recipients=["u@x.test", "v@y.test"])
        null = server.send(sender="", recipients=["w@y.test"])
        self.failed("outbound:x")
        self.failed("outbound:y")
        for criteria, ids in ((["--sender", "a.example"], {one}), (["--sender", "*@?.example"], set()),
                              (["--sender", "<>"], {null}), (["--sender", "T*"], set()), (["--sender", "T*@*"], {two}),
                              (["--recipient", "u@x.test"], {one, two}), (["--recipient", "y.test"], {two, null}),
                              (["--destination", "outbound:y"], {two, null}), (["--destination", "outbound:*"], {one, two, null}),
                              (["--connector", "x"], {one, two}), (["--connector", ""], set()),
                              (["--connector", "x", "--sender", "b.example"], {two}),
                              (["--younger", "1h"], {one, two, null}), (["--older", "1h"], set()), (["--older", "0s"], {one, two, null}),
                              (["--state", "ready"], {one, two, null}), (["--state", "held"], set()),
                              ([one, null], {one, null}), (["--all"], {one, two, null})):
            with self.subTest(criteria=criteria):
                self.assertEqual(self.ids(*criteria), ids)
                dry = self.server.cli("queue", "hold", *criteria, "--dry-run", "--json")
                self.assertEqual({json.loads(line)["id"] for line in dry.stdout.splitlines()}, ids)
        self.assertRegex(self.verb("discard", "--recipient", "u@x.test", "--dry-run"),
                         r"2 recipient\(s\) of 2 message\(s\) would be discarded; nothing was changed")
        counted = json.loads(server.http("/v1/queue/discard?recipient=u@x.test&dry-run=1", "POST", unix=True)[1])
        self.assertEqual((counted["messages"], counted["recipients"], counted["dry_run"]), (2, 2, True))
        self.assertEqual(self.states(), ["ready"] * 4)
        self.assertEqual(server.log("queue_verb"), [])
        self.verb("hold", two)
        self.assertEqual(self.ids("--state", "held"), {two})

    def test_refusals(self):
        server = self.serve()
        self.assertIn("say --all", self.verb("hold", status=2))
        self.assertIn("not a message id", self.verb("hold", "nonsense", status=1))
        self.assertIn("being delivered", self.verb("hold", "--state", "active", status=1))
        self.assertIn("not an age", self.verb("hold", "--older", "soon", status=1))
        self.assertIn("state is", self.verb("hold", "--state", "odd", status=1))
        self.verb("hold", "0000000000001", status=1)
        self.assertEqual(server.http("/v1/queue/hold?all=1", "POST")[0], 403)
        self.assertEqual(server.http("/v1/queue/hold", "POST", unix=True)[0], 400)
        self.assertEqual(server.http("/v1/queue/nonsense?all=1", "POST", unix=True)[0], 404)
        self.assertEqual(server.http("/v1/queue/jobs/99")[0], 404)
        self.assertEqual([e["ids"] for e in server.wait_log("queue_verb")], [["0000000000001"]])

    def test_pages_and_many(self):
        """More than a page and than a slice: each once, and a verb takes all of them while mail goes on."""
        sink = Sink(self)
        server = self.serve({"sink": sink.route(["sink.test"])}, limits={"connections": 256})
        harness.source("--to", f"127.0.0.1:{server.port}", "--messages", 1500, "--connections", 8, "--rcpt", "u%d@x.test")
        self.assertEqual(len(self.ids("--all", "--max", "5000")), 1500)
        status, text = server.http("/v1/queue?limit=7&recipient=x.test")
        page = json.loads(text)
        self.assertEqual((status, len(page["messages"])), (200, 7))
        told = self.report("hold", "--recipient", "x.test")
        self.assertEqual((told["messages"], told["recipients"]), (1500, 1500))
        server.send(recipients=["a@sink.test"])
        sink_numbers = harness.wait_for(lambda: sink.numbers().get("messages") or None, "mail that goes on")
        self.assertEqual(sink_numbers, 1)
        self.assertEqual(self.report("discard", "--all", "--reason", "test")["recipients"], 1500)
        server.wait_empty()
        self.assertEqual(server.metric("ringpost_mail_balance"), 0)


class Suspend(Verbs):
    def wait_passed(self, peer, count, others):
        """Mail to another one has gone, so a suspended one had its time."""
        others.wait(count)
        self.assertEqual(len(peer.messages), 0)

    def test_a_destination(self):
        """Nothing goes there, over a kill and an end in order, until it is resumed; others' mail goes."""
        one, two = Peer(self), Peer(self)
        server = self.serve({"one": one.route(["one.test"]), "two": two.route(["two.test"])})
        self.assertIn("mail waits", self.verb("suspend", "--destination", "outbound:one", "--reason", "they asked for it"))
        server.wait_log("queue_order")      # a kill may cost the log its last lines
        for number, end in enumerate((None, server.kill, server.stop), 1):
            if end is not None:
                end()
                server.start()
            server.send(recipients=["a@one.test"])
            server.send(recipients=["a@two.test"])
            self.wait_passed(one, number, two)
        harness.wait_for(lambda: len(server.queue()) == 3, "the others to be gone")
        order, = [json.loads(line) for line in self.verb("orders", "--json").splitlines()]
        self.assertEqual([order[k] for k in ("kind", "destination", "by", "reason")],
                         ["suspend", "outbound:one", ME, "they asked for it"])
        self.assertIn("they asked for it", self.verb("orders"))
        self.assertEqual(server.wait_log("queue_order_kept")[0]["destination"], "outbound:one")
        self.verb("resume", "--destination", "outbound:one")
        one.wait(3)
        server.wait_empty()
        self.assertEqual(self.verb("orders"), "")
        self.assertEqual([e["by"] for e in server.wait_log("queue_order") + server.wait_log("queue_order_over")], [ME, ME])
        self.assertIn("not suspended", self.verb("resume", "--destination", "outbound:one", status=1))

    def test_a_connector_with_connections(self):
        """Also over connections that are open; mail that is not delivered by then expires as any other."""
        one = Peer(self)
        server = self.serve({"one": one.route(["one.test"])}, delivery={"age-max": "4s"})
        server.send(recipients=["a@one.test"])
        one.wait(1)
        self.verb("suspend", "--connector", "one")
        server.send(recipients=["b@one.test"])
        self.assertEqual(self.home.wait(1)[0].recipients, ["sender@example.com"])
        server.wait_empty()
        self.assertEqual(len(one.messages), 1)
        self.verb("resume", "--connector", "one")
        server.send(recipients=["c@one.test"])
        one.wait(2)

    def test_by_domain_and_taken_back(self):
        one = Peer(self)
        server = self.serve({"one": one.route(["*"])})
        self.verb("suspend", "--destination", "outbound:one")
        server.send(recipients=["a@one.test"])
        number = json.loads(self.verb("orders", "--json"))["number"]
        self.assertIn("no such order", self.verb("forget", str(number + 1), status=1))
        self.verb("forget", str(number))
        one.wait(1)
        server.wait_empty()

    def test_refusals(self):
        server = self.serve()
        self.assertIn("no such outbound connector", self.verb("suspend", "--connector", "nobody", status=1))
        self.assertIn("nothing else", self.verb("suspend", "--destination", "x.test", "--sender", "y", status=1))
        self.assertIn("destination, or a connector", self.verb("suspend", status=1))
        self.verb("suspend", "--destination", "outbound:x", "extra", status=2)
        self.assertEqual(server.http("/v1/queue/suspend?destination=x", "POST")[0], 403)
        self.assertEqual(self.verb("orders"), "")

    def test_a_damaged_file_keeps_it_down(self):
        server = self.serve()
        self.verb("suspend", "--connector", "x")
        server.stop()
        file = server.spool / "queue-orders.json"
        text = file.read_text()
        for bad in (text[:-20], text.replace("suspend", "suspects"), text.replace('"format": 1', '"format": 2')):
            file.write_text(bad)
            done = server.cli("serve")
            self.assertEqual(done.returncode, 1)
            self.assertIn("queue-orders.json", done.stderr)
        file.write_text(text)
        server.start()
        self.assertEqual(json.loads(self.verb("orders", "--json"))["connector"], "x")


class Ways(Verbs):
    def test_reroute(self):
        """Mail that waits for one goes by another; what comes later does not; also over a restart."""
        other = Peer(self)
        server = self.serve({"other": other.route(["nobody.test"])})
        ids = [server.send(recipients=["a@x.test", "b@y.test"]) for _ in range(2)]
        kept = server.send(recipients=["c@x.test"])
        self.failed("outbound:x")
        self.verb("hold", ids[1])
        told = self.report("reroute", "--recipient", "a@x.test", "--to", "other", "--reason", "their host burned")
        self.assertEqual((told["messages"], told["recipients"]), (1, 1))
        self.assertEqual(other.wait(1)[0].recipients, ["a@x.test"])
        self.assertEqual(server.wait_log("queue_rerouted")[0]["reason"], "their host burned")
        self.assertEqual(self.units()[kept], {"outbound:x": "ready"})
        harness.wait_for(lambda: "outbound:other" not in self.units()[ids[0]], "the outcome: else it goes twice")
        server.kill()
        server.start()
        self.assertEqual(self.units()[ids[1]], {"outbound:other": "held", "outbound:y": "held"})
        late = server.send(recipients=["a@x.test"])
        self.assertEqual(self.units()[late], {"outbound:x": "ready"})
        self.verb("release", ids[1])
        self.assertEqual(other.wait(2)[1].recipients, ["a@x.test"])
        self.assertEqual(len(other.messages), 2)
        self.assertEqual(server.metric("ringpost_mail_balance"), 0)

    def test_what_is_held_meanwhile(self):
        """It looks for its way when it is released, though its old next hop is dead."""
        other = Peer(self)
        server = self.serve({"other": other.route(["nobody.test"])})
        one = server.send(recipients=["a@x.test"])
        self.failed("outbound:x")
        self.verb("hold", one)
        self.assertEqual(self.report("move", "--from", "x", "--to", "other")["recipients"], 0)
        self.assertEqual(self.units()[one], {"outbound:x": "held"})
        self.verb("release", one)
        other.wait(1)
        server.wait_empty()

    def test_move_from_one_that_is_off(self):
        """A connector that was turned off keeps its mail, until that is moved."""
        other = Peer(self)
        server = self.serve({"other": other.route(["nobody.test"])})
        one = server.send(recipients=["a@x.test"])
        self.failed("outbound:x")
        server.outbound["x"]["state"] = "off"
        server.write_config()
        self.assertEqual(server.cli("reload").returncode, 0)
        harness.wait_for(lambda: list(self.units()[one]) == ["parked:"], "the mail to be parked")
        self.assertIn("no outbound connector in state enforce", self.verb("move", "--from", "other", "--to", "x", status=1))
        self.verb("move", "--from", "x", "--to", "other")
        other.wait(1)
        server.wait_empty()

    def test_never_below_the_level_on_record(self):
        """Rerouted mail of a connector that demands TLS waits at one that has none, until it is relaxed, by name."""
        plain = Peer(self)
        server = self.serve({"plain": plain.route(["nobody.test"], tls="may")})
        server.outbound["x"]["tls"] = "encrypt"
        server.write_config()
        self.assertEqual(server.cli("reload").returncode, 0)
        one = server.send(recipients=["a@x.test"])
        self.failed("outbound:x")
        self.verb("move", "--from", "x", "--to", "plain")
        self.failed("outbound:plain!encrypt")
        self.assertEqual(self.units()[one], {"outbound:plain!encrypt": "ready"})
        self.assertEqual(plain.messages, [])
        self.assertIn("a level", self.verb("relax", "--connector", "x", "--to", "weak", status=1))
        self.verb("relax", "--connector", "x", "--to", "may", "--reason", "agreed by telephone")
        plain.wait(1)
        server.wait_empty()
        event, = server.wait_log("queue_order", kind="relax")
        self.assertEqual([event[k] for k in ("connector", "to", "by", "reason")], ["x", "may", ME, "agreed by telephone"])

    def test_relaxed_over_a_restart(self):
        """Of the mail that was there; what comes later has its own level."""
        plain = Peer(self)
        server = self.serve({"strict": plain.route(["strict.test"], tls="encrypt")})
        one = server.send(recipients=["a@strict.test"])
        self.failed("outbound:strict")
        server.outbound["strict"]["tls"] = "may"
        server.write_config()
        self.assertEqual(server.cli("reload", "--accept-weaker").returncode, 0)
        self.assertEqual(self.units()[one], {"outbound:strict": "ready"})
        server.kill()
        server.start()
        self.assertEqual(self.units()[one], {"outbound:strict!encrypt": "ready"})
        self.verb("suspend", "--connector", "strict")
        self.verb("relax", "--connector", "strict", "--to", "none")
        self.assertEqual(self.units()[one], {"outbound:strict": "ready"})
        server.kill()
        server.start()
        self.assertEqual(self.units()[one], {"outbound:strict": "ready"})
        self.verb("resume", "--connector", "strict")
        plain.wait(1)
        server.wait_empty()


class Top(Verbs):
    def top(self, *words):
        return json.loads(self.verb("top", "--json", *words))

    def test_counts_and_what_binds(self):
        """By state, over all shards; why each waits; the largest first, or the oldest."""
        peer = Peer(self, answers={"RCPT": "451 4.2.0 later"})
        server = self.serve({"later": peer.route(["later.test"]), "paused": peer.route(["paused.test"])})
        self.assertEqual(self.top()["destinations"], [])
        self.verb("suspend", "--connector", "paused")
        first = server.send(recipients=["a@y.test"])
        for _ in range(4):
            server.send(recipients=["a@x.test", "b@x.test"])
        for _ in range(3):
            server.send(recipients=["a@later.test"])
        server.send(recipients=["a@paused.test"])
        self.failed("outbound:x")
        self.failed("outbound:y")
        self.verb("hold", first)
        harness.wait_for(lambda: self.states().count("deferred") == 3, "three to be deferred")
        told = self.top()
        rows = {row["destination"]: row for row in told["destinations"]}
        self.assertEqual([row["destination"] for row in told["destinations"]][:2], ["outbound:x", "outbound:later"])
        self.assertEqual((told["total"], told["total_is_exact"], told["units"]), (4, True, 9))
        self.assertEqual({name: [rows[name][k] for k in ("ready", "active", "deferred", "held", "recipients")] for name in rows},
                         {"outbound:x": [4, 0, 0, 0, 8], "outbound:y": [0, 0, 0, 1, 1], "outbound:later": [0, 0, 3, 0, 3],
                          "outbound:paused": [1, 0, 0, 0, 1]})
        self.assertEqual({name: rows[name]["binds"] for name in rows},
                         {"outbound:x": "back-off", "outbound:y": "nothing", "outbound:later": "nothing",
                          "outbound:paused": "suspended"})
        self.assertGreater(rows["outbound:x"]["retry_in_s"], 0)
        self.assertIn("refused", rows["outbound:x"]["error"])
        self.assertEqual([row["destination"] for row in self.top("--by", "age", "--max", "1")["destinations"]], ["outbound:y"])
        self.assertRegex(self.verb("top"), r"(?m)^ +4 +0 +0 +0 +\d+[smhd] +back-off +outbound:x$")
        self.assertEqual(server.http("/v1/queue/top?limit=2")[0], 200)

    def test_many_destinations(self):
        """More of them than rows that a shard tells of: the largest are among these all the same."""
        sink = Sink(self)
        server = self.serve({"all": sink.route(["*"], hosts=["mx"])})
        self.verb("suspend", "--connector", "all")
        harness.source("--to", f"127.0.0.1:{server.port}", "--messages", 3000, "--connections", 8, "--rcpt", "u@d%d.test")
        harness.source("--to", f"127.0.0.1:{server.port}", "--messages", 40, "--connections", 4, "--rcpt", "u@large.test")
        told = self.top("--max", "3")
        self.assertEqual(len(told["destinations"]), 3)
        self.assertEqual([told["destinations"][0][k] for k in ("destination", "binds")],
                         ["outbound:all:large.test", "suspended"])
        # A shard that has one of the 40 may tell of others instead: what one has is half at least.
        self.assertIn(told["destinations"][0]["ready"], range(20, 41))
        self.assertEqual((told["total_is_exact"], told["units"]), (False, 3040))
        self.verb("discard", "--all", "--reason", "test")
        server.wait_empty()


if __name__ == "__main__":
    harness.main()
