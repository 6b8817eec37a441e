#!/usr/bin/env python3
"""compare.py - results of accept.sh, relay.sh and idle.sh as tables, with their targets

    compare.py [--strict] DIRECTORY

DIRECTORY holds one JSON file per measured run. Runs of the same cell and competitor are reduced to
their median, and the spread is shown. Each target gets a line: PASS, MISS, or "-" when a competitor
is absent. Ends with 0; with --strict with 1 when a target is missed or could not be judged.
"""
import argparse
import collections
import json
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
HOLD_CONNECTS_MAX = 0.01        # attempts to deliver, per message, while mail is only to be held
IDLE_CONNECTIONS = 20000

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
        judge("ringpost's own memory per idle connection", own, IDLE_BYTES_MAX, at_least=False,
              unit=" bytes", digits=0)


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
    for name, print_table in (("accept", accept), ("relay", relay), ("idle", idle)):
        if rows[name]:
            print_table(rows[name])
    return 1 if arguments.strict and any(verdict != "PASS" for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
