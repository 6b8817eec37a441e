#!/bin/bash
# fair.sh - what a slow destination costs the others, and what a flood of bulk costs urgent mail
#
#   fair.sh [--help]
#
# Others: RATE (3000) messages of 1 KiB a second to DOMAINS (1000) domains, each a next hop of its own
# whose host answers at once. slow: as many again, at the same time, to one domain more whose host
# takes DELAY_MS (1000) for each message. Their share of connections is the shipped one. The rate is
# given, and so are the cores: what others lose is what they do not get in that time. From arrival to
# delivery, as the log says, in ms.
#
# Lanes: URGENT_RATE (50) urgent messages a second beside BULK_RATE (4000) of bulk, to one next hop that
# takes at most 2500 (50 connections, 20 ms each); with classes, and without.
#
# Environment: as for accept.sh; CONNECTIONS (20) of each source. No Postfix is needed. About 2 minutes.
# Results: $BENCH_DIR/results/fair
set -u
PORT_BASE=${PORT_BASE:-26200}
. "$(dirname "$0")/lib.sh"
case ${1:-} in '') ;; -h | --help) bench_usage "$0" ;; *) bench_usage "$0" 2 ;; esac

rate=${RATE:-3000}
domains=${DOMAINS:-1000}
PORT_SLOW=$((PORT_BASE + 9))
export LOAD="$ROUNDS rounds of $SECONDS_EACH s, medians"
need_root
need_program python3 "$RINGPOST" "$RINGPOST_BENCH"
"$BENCH_HERE/spooldisk.sh" up || exit 1
bench_open fair
trap 'fair_end; bench_end' EXIT

fair_end() { local name; for name in slow source-a source-b; do cg_stop $name; done; }

# fair_start CLASSES: an empty spool, a next hop for each domain
fair_start() {
    local file=$BENCH_RUN/ringpost.conf
    need_free_port "$PORT_RINGPOST" "$PORT_ADMIN"
    rm -rf "${BENCH_SPOOL:?}/ringpost"
    mkdir -p "$BENCH_SPOOL/ringpost" "$BENCH_RUN"
    chmod 700 "$BENCH_SPOOL/ringpost" # the server insists
    rm -f "$BENCH_RUN/ringpost.json.log"
    bench_config "$file" relay
    sed -i 's/^relay { .*/relay { domains = { example.com, "*.example.com" } }/' "$file"
    python3 - "$domains" "$PORT_SINK" "$PORT_SLOW" >> "$file" <<'PY'
import sys
domains, sink, slow = map(int, sys.argv[1:])
own = "type = own state = enforce"
for i in range(domains):
    print(f'outbound "d{i}" {{ {own} domains = {{ "d{i}.example.com" }} hosts = {{ "127.0.0.1:{sink}" }} }}')
print(f'outbound "slow" {{ {own} domains = {{ "slow.example.com", "urgent.example.com" }} hosts = {{ "127.0.0.1:{slow}" }} }}')
PY
    [ "$1" = yes ] && cat >> "$file" <<'CONF'
class "alarms" { priority = urgent recipient-domains = { "urgent.example.com" } }
class "news" { priority = bulk recipient-domains = { "slow.example.com" } }
CONF
    cg_start ringpost "$BENCH_RUN/ringpost.log" "$RINGPOST" serve -c "$file"
    wait_port "$PORT_RINGPOST" 20 || { tail -5 "$BENCH_RUN/ringpost.log" >&2; return 1; }
}

slow_start() {  # slow_start DELAY_MS
    need_free_port "$PORT_SLOW"
    cg_start slow "$BENCH_RUN/slow.log" "$RINGPOST_BENCH" sink --listen "127.0.0.1:$PORT_SLOW" --delay-ms "$1" \
        --json "$BENCH_RUN/slow.json" --quiet
    wait_port "$PORT_SLOW"
}

source_start() {    # source_start NAME RATE RCPT
    cg_start "source-$1" "$BENCH_RUN/source-$1.log" "$RINGPOST_BENCH" source --to "127.0.0.1:$PORT_RINGPOST" \
        --connections "${CONNECTIONS:-20}" --rate "$2" --seconds "$SECONDS_EACH" --size 1024 --rcpt "$3" \
        --numbers "$domains" --from-addresses "$SOURCE_ADDRESSES" --json "$BENCH_RUN/source-$1.json" --quiet
}

# delivered PREFIX...: "rate p50 p99 count" of what the log says was delivered to such recipients, in
# the time from the first to the last that was handed in
delivered() {
    python3 - "$BENCH_RUN/ringpost.json.log" "$SECONDS_EACH" "$1" <<'PY'
import datetime, json, sys
path, seconds, domain = sys.argv[1], float(sys.argv[2]), sys.argv[3]
ages, first, late = [], None, 0
for line in open(path, errors="replace"):
    if '"event":"log_dropped"' in line:
        sys.exit("the log has dropped lines")
    if '"event":"delivered"' not in line or domain not in line:
        continue
    event = json.loads(line)
    if not event["to"].split("@")[1].startswith(domain):
        continue
    at = datetime.datetime.fromisoformat(event["t"].replace("Z", "+00:00")).timestamp()
    first = at if first is None else first
    late += at > first + seconds + 1
    ages.append(event["age_ms"])
ages.sort()
if not ages:
    sys.exit("nothing was delivered")
print(round((len(ages) - late) / seconds), ages[len(ages) // 2], ages[len(ages) * 99 // 100], len(ages))
PY
}

measure() { # measure CELL ROUND: others, alone or beside the slow one
    local cell=$1 round=$2 found
    sink_start && slow_start "${DELAY_MS:-1000}" && fair_start no || return 1
    source_start a "$rate" "r@d%d.example.com"
    [ "$cell" = slow ] && source_start b "$rate" "r@slow.example.com"
    cg_wait_empty source-a $((SECONDS_EACH + 30)) && cg_wait_empty source-b 30
    sleep 2
    found=$(delivered d) && read -r per_second p50 p99 count <<< "$found" &&
        result "$BENCH_RESULTS/fair/$cell-$round.json" bench=fair "cell=$cell" "round=$round" "rate=$per_second" "p50=$p50" \
            "p99=$p99" "count=$count" "offered=$rate" "waits=$(metric ringpost_delivery_hop_waits_total)" \
            "queued=$(metric ringpost_queue_messages)" &&
        say "round $round, $cell: others get $per_second/s, p50 $p50 ms, p99 $p99 ms ($count)"
    fair_stop
}

measure_lanes() {   # measure_lanes CELL ROUND: urgent beside bulk, to the same next hop
    local cell=$1 round=$2 found
    sink_start && slow_start 20 && fair_start "$([ "$cell" = lanes ] && echo yes || echo no)" || return 1
    source_start a "${URGENT_RATE:-50}" "r@urgent.example.com"
    source_start b "${BULK_RATE:-4000}" "r@slow.example.com"
    cg_wait_empty source-a $((SECONDS_EACH + 30)) && cg_wait_empty source-b 30
    for _ in {1..600}; do [ "$(metric ringpost_queue_messages)" -gt 0 ] || break; sleep 0.1; done
    found=$(delivered urgent) && read -r _ p50 p99 count <<< "$found" &&
        result "$BENCH_RESULTS/fair/$cell-$round.json" bench=fair "cell=$cell" "round=$round" "p50=$p50" "p99=$p99" \
            "count=$count" "bulk_p50=$(delivered slow | cut -d' ' -f2)" &&
        say "round $round, $cell: urgent mail waits p50 $p50 ms, p99 $p99 ms ($count)"
    fair_stop
}

fair_stop() {
    fair_end
    ringpost_stop
    sink_stop
}

for ((round = 1; round <= ROUNDS; round++)); do
    measure alone "$round"
    measure slow "$round"
    measure_lanes "one-lane" "$round"
    measure_lanes lanes "$round"
done
"$BENCH_HERE/compare.py" "$BENCH_RESULTS/fair"
