#!/usr/bin/env python3
"""compare.py - results of accept.sh, relay.sh, queue.sh, fair.sh, idle.sh, handshake.sh and tls.sh as tables, with targets

    compare.py [--strict] DIRECTORY

DIRECTORY holds one JSON file per measured run. Runs of the same cell and competitor are reduced to
their median, and the spread is shown. Each target gets a line: PASS, MISS, or "-" when a competitor
is absent. Ends with 0; with --strict with 1 when a target is missed or could not be judged.
"""
import argparse
import collections
import json
import math
import pathlib
import statistics
import sys

RATE_TARGETS = {("many", 100): 14, ("many", 500): 45, ("one", 100): 6, ("one", 500): 35}
CPU_SHARE_MAX = 1 / 15          # ringpost's CPU per message, of Postfix's
NULL_SHARE_MIN = 0.8            # ringpost's rate, of the null server's
SYNCS_MAX = 0.2                 # per message, at SYNCS_CONNECTIONS
SYNCS_CONNECTIONS = 100
LARGE_SHARE_MIN = 0.6           # ringpost's bytes/s, of the bare write+sync loop's
RELAY_MIN = 10                  # ringpost's relayed messages/s, of Postfix's
RELAY_CPU_MAX = 2.5             # CPU of a relayed message, of an accepted one's
IDLE_BYTES_MAX = 2048
IDLE_TLS_BYTES_MAX = 6144       # all told of ringpost and BoringSSL
HOLD_CONNECTS_MAX = 0.01        # attempts to deliver, per message, while mail is only to be held
IDLE_CONNECTIONS = 20000
LOOP_MAX = 1.25                 # the TLS part of ringpost's CPU, of the bare loop's
POOL_SAVES_MIN = 0.15           # of a full ECDSA handshake and of a resumed one of TLS 1.3
RESUMED_12_MAX = 0.2            # of a full handshake of TLS 1.2
HANDSHAKES = {"13-ecdsa": "1.3 full ECDSA", "13-rsa": "1.3 full RSA-2048", "13-resumed": "1.3 resumed",
              "12-ecdsa": "1.2 full ECDSA", "12-ticket": "1.2 resumed, ticket", "12-id": "1.2 resumed, id",
              "13-hybrid": "1.3 full ECDSA, hybrid"}
QUEUE_BYTES_MAX = 256           # of memory, for a message that waits; the table of destinations apart
QUEUE_DESTINATION_BYTES = 832   # of the table of destinations, for one of a shard (queue/queue.h)
QUEUE_FULL_MIN = 0.8            # messages/s taken in by a full queue, of an empty one's
QUEUE_START_MAX = 5000          # ms from the start to the first 220
FAIR_RATE_MIN = 0.9             # messages/s of others beside a slow destination, of those without it
FAIR_P99_MAX = 2                # and their p99 latency
QUEUE_LOOK_MAX = 1000           # ms for queue list, queue top
QUEUE_DRAIN_MIN = 0.7           # messages/s out, of those that are relayed
TLS_MIN = 10                    # ringpost's messages/s by TLS, of Postfix's
SHAPES = {"many": "many per connection", "full": "one, full handshake", "resumed": "one, resumed"}
TURNS_MIN = 0.97                # messages/s of the second one (many connectors, this build), of the first one's
RESUMED = {"13-resumed": "13-ecdsa", "12-ticket": "12-ecdsa", "12-id": "12-ecdsa"}

NAMES = {"many": "many per connection", "one": "one per connection", "postfix": "Postfix",
         "postfix-tuned": "Postfix, tuned", "null": "null server", "disk": "bare write+sync"}
verdicts = []


def table(rows):
    """Left-aligned first two columns, the rest to the right."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("  ".join(str(cell).ljust(w) if i < 2 else str(cell).rjust(w)
                        for i, (cell, w) in enumerate(zip(row, widths))).rstrip())
        if number == 0:
            print("  ".join("-" * w for w in widths))
    print()


def judge(what, value, wanted, at_least=True, unit="", digits=2):
    """One target; value None: not measured."""
    if value is None:
        verdict, shown = "-", "not measured"
    else:
        verdict = "PASS" if (value >= wanted if at_least else value <= wanted) else "MISS"
        shown = f"{value:.{digits}f}{unit}"
    verdicts.append(verdict)
    sign = ">=" if at_least else "<="
    print(f"{verdict:4}  {what}: {shown} (target {sign} {wanted:.{digits}f}{unit})")


def ratio(above, below):
    return above / below if above is not None and below else None


class Runs:
    """All runs of one cell and competitor."""

    def __init__(self, rows=()):
        self.rows = list(rows)

    def values(self, pick):
        out = []
        for row in self.rows:
            try:
                out.append(pick(row))
            except (KeyError, TypeError, ZeroDivisionError):
                continue
        return out

    def median(self, pick):
        values = self.values(pick)
        return statistics.median(values) if values else None

    def spread(self, pick):
        values = self.values(pick)
        return f"{min(values):,.0f}-{max(values):,.0f}" if len(values) > 1 else ""


def shown(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def rate(row):
    return row["source"]["messages_per_second"]


def byte_rate(row):
    return row["source"]["bytes_per_second"]


def cpu(row):
    return row["cpu_us"] / row["source"]["messages"]


def syncs(row):
    return row["syncs"] / row["source"]["messages"]


def latency(quantile):
    return lambda row: row["source"]["latency_us"][quantile] / 1000


def at_rest(rows):
    """Rows in which mail was held as it should be; says which were not: their CPU is no measure."""
    good = []
    for row in rows:
        messages = row["messages"] if "messages" in row else row["source"]["messages"]
        attempts = row.get("connects", 0)
        if isinstance(attempts, int) and attempts <= max(10, messages * HOLD_CONNECTS_MAX):
            good.append(row)
        else:
            print(f"NOT AT REST: {row['competitor']}, {row['cell']}, round {row['round']}: {attempts} "
                  f"attempts to deliver {messages} messages to a closed port while only accepting")
    return good


def accept(rows):
    at_rest([row for row in rows if row["competitor"] != "disk"])  # told only: it can but make us worse
    groups = collections.defaultdict(Runs)
    for row in rows:
        groups[row["cell"], row["connections"], row["size"], row["competitor"]].rows.append(row)
    order = {"ringpost": 0, "postfix": 1, "postfix-tuned": 2, "null": 3, "disk": 4}
    small = sorted((key for key in groups if key[0] != "large"),
                   key=lambda key: (key[0], key[1], key[2], order.get(key[3], 9)))
    cells = sorted({key[:3] for key in small})
    if small:
        out = [("cell", "competitor", "messages/s", "range", "x Postfix", "CPU us/msg", "syncs/msg",
                "p50 ms", "p99 ms", "errors", "up")]
        for key in small:
            runs = groups[key]
            base = groups[(*key[:3], "postfix")].median(rate)
            out.append((f"{NAMES[key[0]]}, {key[1]}", NAMES.get(key[3], key[3]),
                        shown(runs.median(rate)), runs.spread(rate),
                        shown(ratio(runs.median(rate), base), 1), shown(runs.median(cpu)),
                        shown(runs.median(syncs), 2) if key[3] != "null" else "",
                        shown(runs.median(latency("p50")), 1), shown(runs.median(latency("p99")), 1),
                        shown(runs.median(lambda row: row["source"]["errors"]["total"])),
                        shown(runs.median(lambda row: row["source"]["connections_open"]))))
        table(out)
        print("syncs: ringpost's own count; of Postfix the cache flushes that reached the device\n"
              "up: connections being served when the time was over (with one message per connection: "
              "at that moment)\n")
    for cell, connections, size in cells:
        def of(name, pick, here=(cell, connections, size)):
            return groups[(*here, name)].median(pick)
        where = f"{NAMES[cell]}, {connections} connections"
        mine = of("ringpost", rate)
        if (cell, connections) in RATE_TARGETS:
            judge(f"{where}: messages/s, of Postfix's", ratio(mine, of("postfix", rate)),
                  RATE_TARGETS[cell, connections], unit="x", digits=1)
        judge(f"{where}: CPU per message, of Postfix's",
              ratio(of("ringpost", cpu), of("postfix", cpu)), CPU_SHARE_MAX, at_least=False, digits=3)
        judge(f"{where}: messages/s, of the null server's", ratio(mine, of("null", rate)), NULL_SHARE_MIN)
        if connections == SYNCS_CONNECTIONS:
            judge(f"{where}: syncs per message", of("ringpost", syncs), SYNCS_MAX, at_least=False)
    print()
    sizes = sorted({key[2] for key in groups if key[0] == "large" and groups[key].rows})
    if not sizes:
        return
    out = [("size", "competitor", "MB/s", "range", "syncs or writes/s", "p50 ms", "p99 ms")]
    pairs = {}
    for size in sizes:
        for name in ("ringpost", "disk"):
            runs = next((groups[key] for key in list(groups)
                         if key[0] == "large" and key[2] == size and key[3] == name), Runs())
            pairs[size, name] = runs.median(byte_rate)
            per_second = runs.median(lambda row: row["syncs"] / row["source"]["seconds"]
                                     if "syncs" in row else row["source"]["writes_per_second"])
            out.append((f"{size // 1024} KiB", NAMES.get(name, name),
                        shown(runs.median(lambda row: byte_rate(row) / 1e6)),
                        runs.spread(lambda row: byte_rate(row) / 1e6), shown(per_second),
                        shown(runs.median(latency("p50")), 1), shown(runs.median(latency("p99")), 1)))
    table(out)
    for size in sizes:
        judge(f"{size // 1024} KiB: bytes/s, of the bare write+sync loop's",
              ratio(pairs[size, "ringpost"], pairs[size, "disk"]), LARGE_SHARE_MIN)


def relay(rows):
    groups = collections.defaultdict(Runs)
    for row in rows:
        groups[row["cell"], row["competitor"]].rows.append(row)
    # an accepted message that costs too much would make a relayed one look cheap
    groups["accept", "ringpost"].rows = at_rest(groups["accept", "ringpost"].rows)

    def relayed(row):
        # what was acknowledged and did not arrive is no slow result, it is none
        return row["messages"] / (row["nanoseconds"] / 1e9) if row["complete"] else None

    def cpu_each(row):
        return row["cpu_us"] / row["messages"]

    for runs in groups.values():
        runs.rows = [row for row in runs.rows if row.get("complete", True)]
    lost = [row for row in rows if not row.get("complete", True)]
    out = [("competitor", "", "relayed/s", "range", "CPU us/msg")]
    for name in ("ringpost", "postfix", "postfix-tuned"):
        runs = groups["relay", name]
        if runs.rows:
            out.append((NAMES.get(name, name), "in, disk, out", shown(runs.median(relayed)),
                        runs.spread(relayed), shown(runs.median(cpu_each))))
    if groups["accept", "ringpost"].rows:
        out.append(("ringpost", "accept only", "", "", shown(groups["accept", "ringpost"].median(cpu_each))))
    table(out)
    for row in lost:
        print(f"INCOMPLETE: {row['competitor']}, round {row['round']}: "
              f"{row['received']} of {row['messages']} reached the sink")
    judge("relayed messages/s, of Postfix's",
          ratio(groups["relay", "ringpost"].median(relayed), groups["relay", "postfix"].median(relayed)),
          RELAY_MIN, unit="x", digits=1)
    judge("CPU per relayed message, of an accepted one's",
          ratio(groups["relay", "ringpost"].median(cpu_each), groups["accept", "ringpost"].median(cpu_each)),
          RELAY_CPU_MAX, at_least=False, unit="x")
    if lost:
        judge("everything acknowledged reached the sink: incomplete runs", len(lost), 0,
              at_least=False, digits=0)


def sure(values):
    """The range in which the median of more of these would lie, 19 times of 20; by order alone."""
    values, most = sorted(values), len(values)
    below = 0
    for number in range(most // 2):
        below += math.comb(most, number) / 2 ** most
        if below > 0.025:
            return None if number == 0 else (values[number - 1], values[most - number])
    return None


def turns(rows):
    kind = {"accept": "taken in", "relay": "relayed"}[rows[0]["kind"]]
    label = {side: rows[0][side] for side in ("first", "second")}
    groups, blocks = collections.defaultdict(Runs), collections.defaultdict(Runs)
    for row in rows:
        groups[row["side"]].rows.append(row)
        blocks[row["side"], row["block"]].rows.append(row)

    def speed(row):
        return row["messages"] / (row["nanoseconds"] / 1e9)

    def cpu_each(row):
        return row["cpu_us"] / row["messages"]

    out = [("ringpost", "", f"{kind}/s", "range", "CPU us/msg", "turns")]
    for side, words in label.items():
        runs = groups[side]
        out.append((words, "", shown(runs.median(speed)), runs.spread(speed), shown(runs.median(cpu_each), 2),
                    shown(len(runs.rows))))
    table(out)
    numbers = sorted({row["block"] for row in rows})
    for what, pick, at_least in ((f"messages/s {kind}", speed, True), (f"CPU of a message {kind}", cpu_each, False)):
        # of both turns in a block that each of them had: the middle one of two is their mean
        ratios = [blocks["second", n].median(pick) / blocks["first", n].median(pick) for n in numbers]
        between = sure(ratios)
        judge(f"{what}, {label['second']}, of that with {label['first']}: median of {len(ratios)} blocks "
              f"({min(ratios):.3f}-{max(ratios):.3f}; 95 % sure: {'too few' if between is None else '%.3f-%.3f' % between})",
              statistics.median(ratios), TURNS_MIN if at_least else 2 - TURNS_MIN, at_least=at_least, digits=3)


def queue(rows):
    relayed = next((row["rate"] for row in rows if row["competitor"] == "relay"), None)
    rows = sorted((row for row in rows if row["competitor"] != "relay"),
                  key=lambda row: (row["competitor"] == "postfix", row["destinations"]))

    def number(row, key):
        return row[key] if isinstance(row[key], (int, float)) else None

    def message_bytes(row):
        return row["grown_kib"] * 1024 / row["grown_messages"] if row["grown_messages"] > 0 else None

    def restarted_bytes(row):
        return (row["restarted_kib"] - row["fresh_kib"]) * 1024 / row["messages"] if "restarted_kib" in row else None

    out = [("competitor", "destinations", "messages", "grown by", "bytes each", "empty/s", "full/s", "of empty",
            "list ms", "top ms", "start ms", "its CPU ms", "drained/s", "of relayed", "last 1 % s")]
    for row in rows:
        full = ratio(number(row, "full"), number(row, "empty"))
        out.append((NAMES.get(row["competitor"], row["competitor"]), shown(row["destinations"]), shown(row["messages"]),
                    shown(message_bytes(row)), shown(restarted_bytes(row)), shown(number(row, "empty")), shown(number(row, "full")), shown(full, 2),
                    shown(number(row, "list_ms")), shown(number(row, "top_ms")), shown(number(row, "start_ms")),
                    shown(row.get("start_cpu_ms")),
                    shown(number(row, "drain")), shown(ratio(number(row, "drain"), relayed), 2),
                    shown(row["drain_tail"] if isinstance(row.get("drain_tail"), int) else None)))
    table(out)
    print(f"relayed, in and out at the same time: {shown(relayed)} messages/s\n")
    for row in rows:
        if row["competitor"] != "ringpost":
            continue
        where = f"{row['destinations']:,} destinations"
        each = restarted_bytes(row)
        entries = row.get("entries", row["destinations"])
        judge(f"{where}: memory of a message that waits, without the table of destinations ({entries:,} times {QUEUE_DESTINATION_BYTES})",
              each and each - entries * QUEUE_DESTINATION_BYTES / row["messages"], QUEUE_BYTES_MAX,
              at_least=False, unit=" bytes", digits=0)
        judge(f"{where}: messages/s into a full queue, of an empty one's",
              ratio(number(row, "full"), number(row, "empty")), QUEUE_FULL_MIN)
        for key, what, most in (("list_ms", "queue list", QUEUE_LOOK_MAX), ("top_ms", "queue top", QUEUE_LOOK_MAX),
                                ("start_ms", "start to the first 220", QUEUE_START_MAX)):
            judge(f"{where}: {what}", number(row, key), most, at_least=False, unit=" ms", digits=0)
        judge(f"{where}: messages/s out, of those relayed", ratio(number(row, "drain"), relayed), QUEUE_DRAIN_MIN)


def fair(rows):
    groups = collections.defaultdict(Runs)
    for row in rows:
        groups[row["cell"]].rows.append(row)

    def of(key):
        return lambda row: row[key]
    out = [("mail", "", "messages/s", "p50 ms", "p99 ms")]
    for cell, mail, beside in (("alone", "to a thousand", "alone"), ("slow", "to a thousand", "beside a slow one"),
                               ("one-lane", "urgent", "beside bulk, no classes"), ("lanes", "urgent", "beside bulk, in its lane")):
        if groups[cell].rows:
            out.append((mail, beside, shown(groups[cell].median(of("rate"))), shown(groups[cell].median(of("p50"))),
                        shown(groups[cell].median(of("p99")))))
    table(out)
    judge("messages/s of others beside a slow destination, of those without it",
          ratio(groups["slow"].median(of("rate")), groups["alone"].median(of("rate"))), FAIR_RATE_MIN, unit="x")
    judge("p99 latency of others beside it, of those without it",
          ratio(groups["slow"].median(of("p99")), groups["alone"].median(of("p99"))), FAIR_P99_MAX, at_least=False, unit="x")


def idle(rows):
    for row in rows:
        each = 1024 / row["open"]
        own = (row["held_kib"] - row["small_kib"]) * each
        table([("memory", "", "bytes per connection", "KiB in all"),
               ("ringpost: taken at start", "beyond a start for 16 sessions",
                shown((row["empty_kib"] - row["small_kib"]) * each), shown(row["empty_kib"])),
               ("ringpost: by connecting", "", shown((row["held_kib"] - row["empty_kib"]) * each),
                shown(row["held_kib"])),
               ("ringpost: both", "", shown(own), ""),
               ("kernel: slab", "both ends, whole machine", shown(row["slab_kib"] * each), shown(row["slab_kib"])),
               ("kernel: TCP buffers", "both ends, whole machine", shown(row["sockets_kib"] * each),
                shown(row["sockets_kib"]))])
        print(f"{row['open']} of {row['wanted']} connections greeted and held, {row['failed']} failed, "
              f"{row['lost']} lost while idle")
        judge("connections held", row["open"] - row["lost"], IDLE_CONNECTIONS, digits=0)
        secured = row.get("tls", "none") != "none"
        judge(f"ringpost's own memory per idle connection{' by TLS' if secured else ''}", own,
              IDLE_TLS_BYTES_MAX if secured else IDLE_BYTES_MAX, at_least=False, unit=" bytes", digits=0)


def handshake(rows):
    groups = collections.defaultdict(Runs)
    for row in rows:
        groups[row["row"], row["competitor"]].rows.append(row)

    def part(key, name):
        """Of a row; the few full handshakes among resumed ones are taken out."""
        def pick(row):
            value = (row["tls_ns"] - row["clear_ns"]) / 1000
            base = groups[RESUMED[key], name].median(part(RESUMED[key], name)) if key in RESUMED else None
            if base is None:
                return value
            full, resumed = row["source"]["tls"]["full"], row["source"]["tls"]["resumed"]
            return (value * (full + resumed) - base * full) / resumed
        return pick

    def tls(name, key):
        return groups[key, name].median(part(key, name))

    def loop(key, pool, name="loop"):
        beside = Runs(row for row in groups["loop", name].rows if row["beside"] == key)
        return beside.median(lambda row: row["loop"]["rows"][key]["with_us" if pool else "without_us"])

    present = [key for key in HANDSHAKES if any(groups[key, name].rows for name in ("ringpost", "ringpost-pool", "nginx"))]
    out = [("server CPU, us", "competitor", "connection", "in clear", "TLS part", "range", "all of it", "bare loop",
            "of loop", "idle loop", "of it", "resumed", "failed")]
    for key in present:
        for name, pool in (("ringpost", False), ("ringpost-pool", True), ("nginx", None)):
            runs = groups[key, name]
            if not runs.rows:
                continue
            limits = [] if pool is None else [loop(key, pool), loop(key, pool, "loop-idle")]
            beside = [words for limit in limits for words in (shown(limit, 1), shown(ratio(tls(name, key), limit), 2))]
            out.append((HANDSHAKES[key], name, shown(runs.median(lambda row: row["tls_ns"] / 1000), 1),
                        shown(runs.median(lambda row: row["clear_ns"] / 1000), 1), shown(tls(name, key), 1),
                        runs.spread(part(key, name)),
                        shown(runs.median(lambda row: (row["tls_ns"] - row["bare_ns"]) / 1000), 1),
                        *(beside or [""] * 4),
                        shown(runs.median(lambda row: row["source"]["tls"]["resumed"])),
                        shown(runs.median(lambda row: row["source"]["tls"]["failed"]))))
    table(out)
    for row in rows:
        if row["competitor"] == "ringpost-pool" and row["row"] != "filling" and (row["made"] or row["misses"]):
            print(f"NOT OUT OF A FULL POOL: {row['row']}, round {row['round']}: {row['made']} key shares made "
                  f"meanwhile, {row['misses']} missed")
    filling = groups["filling", "ringpost-pool"].median(lambda row: row["cpu_us"] / row["made"])
    if filling is not None:
        print(f"a key share made in idle time: {filling:.1f} us\n")
    for key in present:
        for name, pool in (("ringpost", False), ("ringpost-pool", True)):
            judge(f"{HANDSHAKES[key]}{', pool' if pool else ''}: TLS part, of the bare loop's",
                  ratio(tls(name, key), loop(key, pool)), LOOP_MAX, at_least=False)
    for key in ("13-ecdsa", "12-ecdsa", "13-resumed"):
        saved = ratio(tls("ringpost-pool", key), tls("ringpost", key))
        judge(f"{HANDSHAKES[key]}: the pool saves", None if saved is None else 1 - saved, POOL_SAVES_MIN)
    for key in ("12-ticket", "12-id"):
        judge(f"{HANDSHAKES[key]}: of a full one", ratio(tls("ringpost", key), tls("ringpost", "12-ecdsa")),
              RESUMED_12_MAX, at_least=False)
    for key in present:
        if key == "13-rsa":  # OpenSSL's RSA is faster: shown above, not judged
            continue
        if key != "13-hybrid":
            judge(f"{HANDSHAKES[key]}: TLS part, of nginx's", ratio(tls("ringpost", key), tls("nginx", key)), 1,
                  at_least=False)


def tls(rows):
    groups = collections.defaultdict(Runs)
    for row in rows:
        groups[row["cell"], row["connections"], row["shape"], row["competitor"]].rows.append(row)

    def speed(row):
        if row["cell"] == "accept":
            return rate(row)
        return row["source"]["messages"] / (row["nanoseconds"] / 1e9)

    out = [("by TLS", "competitor", "messages/s", "range", "x Postfix", "CPU us/msg", "Postfix / it", "source's us/msg",
            "full", "resumed", "failed", "errors", "up")]
    cells = sorted({key[:3] for key in groups})
    for cell in cells:
        base = groups[(*cell, "postfix")].median(speed)
        for name in ("ringpost", "postfix", "postfix-tuned"):
            runs = groups[(*cell, name)]
            if not runs.rows:
                continue
            def of(pick, runs=runs):
                return shown(runs.median(pick))
            out.append((f"{cell[0]}, {cell[1]}, {SHAPES[cell[2]]}", NAMES.get(name, name), of(speed), runs.spread(speed),
                        shown(ratio(runs.median(speed), base), 1), of(cpu),
                        shown(ratio(groups[(*cell, "postfix")].median(cpu), runs.median(cpu)), 1),
                        of(lambda row: row["source"]["cpu_us_self_per_message"]),
                        of(lambda row: row["source"]["tls"]["full"]), of(lambda row: row["source"]["tls"]["resumed"]),
                        of(lambda row: row["source"]["tls"]["failed"]), of(lambda row: row["source"]["errors"]["total"]),
                        of(lambda row: row["source"]["connections_open"])))
    table(out)
    for row in rows:
        if not row["complete"]:
            print(f"INCOMPLETE: {row['competitor']}, {row['cell']}, {row['shape']}, {row['connections']} connections, "
                  f"round {row['round']}: not all that was acknowledged reached the sink in time")
    print("On the cores that the source has too, its own handshakes count against whoever makes more of them: the\n"
          "second line of a pair, server CPU, is what the rate would be with a source elsewhere.\n")
    for cell in cells:
        mine, theirs = groups[(*cell, "ringpost")], groups[(*cell, "postfix")]
        where = f"{cell[0]}, {cell[1]} connections, {SHAPES[cell[2]]}"
        judge(f"{where}: messages/s, of Postfix's", ratio(mine.median(speed), theirs.median(speed)), TLS_MIN, unit="x",
              digits=1)
        judge(f"{where}: messages of a second of server CPU, of Postfix's", ratio(theirs.median(cpu), mine.median(cpu)),
              TLS_MIN, unit="x", digits=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--strict", action="store_true", help="end with 1 when a target is not met")
    arguments = parser.parse_args()
    machine = arguments.directory / "machine.txt"
    print()
    if machine.exists():
        print(machine.read_text())
    rows = collections.defaultdict(list)
    for path in sorted(arguments.directory.glob("*.json")):
        row = json.loads(path.read_text())
        rows[row["bench"]].append(row)
    if not rows:
        print(f"no results in {arguments.directory}")
        return 1 if arguments.strict else 0
    for name, print_table in (("accept", accept), ("relay", relay), ("queue", queue), ("fair", fair), ("idle", idle), ("handshake", handshake), ("tls", tls),
                              ("turns", turns)):
        if rows[name]:
            print_table(rows[name])
    return 1 if arguments.strict and any(verdict != "PASS" for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
