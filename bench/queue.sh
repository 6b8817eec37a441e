#!/bin/bash
# queue.sh - a full queue: what it takes to keep, to add to, to look at, to start with and to empty
#
#   queue.sh [--help]
#
# MESSAGES (1000000) of SIZE (1024) octets wait for DESTINATIONS ("1 1000 100000") distinct domains in
# turn, whose MX is a closed port of this machine (a name server of our own says so). Of each:
#
#   empty     messages/s that are taken in by an empty queue, SECONDS_EACH (5)
#   full      the same when MESSAGES wait; how much memory (Pss) has come with each of the last four
#             fifths of them, caches for bodies included
#   list, top `ringpost queue list` (first page) and `queue top`, in ms
#   start     from its execution to the first 220, with all that waits on disk (COLD=1: nothing cached);
#             how much more memory it has then than with an empty queue, by message
#   drain     the MX answers again, and `ringpost queue retry --all` says so: messages/s from the first
#             one that it gets to the last, until nothing waits any more; and how long the last 1 % of
#             them took
#
# and once what `relay.sh` measures, messages/s in and out, for comparison. Postfix keeps
# POSTFIX_MESSAGES (100000) in its hold queue: empty, full, list and start. Destinations are tried
# again after RETRY (5m, as shipped): the probes are part of what is measured.
#
# Environment: as for accept.sh; CONNECTIONS (100), COMPETITORS ("ringpost postfix"). A fill may take
# FILL_MAX (600) seconds, a drain DRAIN_MAX (600); what takes longer is told, and the rest goes on.
# About 13 minutes with the defaults, of which Postfix takes 4; 6 GiB of spool. Results:
# $BENCH_DIR/results/queue
set -u
SECONDS_EACH=${SECONDS_EACH:-5}
export ROUNDS=1
. "$(dirname "$0")/lib.sh"
case ${1:-} in '') ;; -h | --help) bench_usage "$0" ;; *) bench_usage "$0" 2 ;; esac

total=${MESSAGES:-1000000}
size=${SIZE:-1024}
connections=${CONNECTIONS:-100}
json=$BENCH_RUN/source.json
PORT_DNS=$((PORT_BASE + 8))
need_program nsd
bench_begin queue
# shellcheck disable=SC2086 # a list of words
competitors=$(competitors_present ${COMPETITORS:-ringpost postfix})

dns_start() {
    local dir=$BENCH_RUN/nsd
    rm -rf "$dir" && mkdir -p "$dir" || return 1
    cat > "$dir/queue.example.com.zone" <<ZONE
\$ORIGIN queue.example.com.
@ 3600 IN SOA ns.queue.example.com. h.queue.example.com. 1 3600 600 86400 60
@ 3600 IN NS ns.queue.example.com.
ns 3600 IN A 127.0.0.1
mx 3600 IN A 127.0.0.1
* 3600 IN MX 10 mx.queue.example.com.
ZONE
    cat > "$dir/nsd.conf" <<CONF
server:
 ip-address: 127.0.0.1@$PORT_DNS
 username: ""
 chroot: ""
 zonesdir: "$dir"
 database: ""
 pidfile: "$dir/pid"
 logfile: "$dir/log"
 xfrdfile: "$dir/xfrd"
 zonelistfile: "$dir/zones"
 xfrdir: "$dir"
 server-count: 1
 rrl-ratelimit: 0
remote-control:
 control-enable: no
zone:
 name: queue.example.com
 zonefile: queue.example.com.zone
CONF
    cg_start nsd "$BENCH_RUN/nsd.log" nsd -d -c "$dir/nsd.conf"
    wait_port "$PORT_DNS"
}

# load PORT DESTINATIONS OPTION...: mail for so many domains
load() {
    local port=$1 count=$2
    shift 2
    timeout "${FILL_MAX:-600}" "$RINGPOST_BENCH" source --to "127.0.0.1:$port" --connections "$connections" --size "$size" \
        --from sender@example.org --rcpt "r@d%d.queue.example.com" --numbers "$count" --quiet --json "$json" "$@" \
        > "$BENCH_RUN/source.log" 2>&1 || { tail -5 "$BENCH_RUN/source.log" >&2; return 1; }
}

memory_kib() {  # of all its processes: Pss, so that what they share counts once
    local pid
    for pid in $(cg_pids "$1"); do cat "/proc/$pid/smaps_rollup" 2> /dev/null; done |
        awk '$1 == "Pss:" { sum += $2 } END { print sum + 0 }'
}

uncache() {     # what is on disk below it is not in memory, too
    find "$1" -type f -exec dd if={} iflag=nocache count=0 status=none \;
}

# milliseconds COMMAND...: how long it takes; its output is dropped
milliseconds() {
    local began
    began=$(date +%s%N)
    "$@" > /dev/null 2> "$BENCH_RUN/command.log" || { echo null; return; }
    echo $((($(date +%s%N) - began) / 1000000))
}

# greeted PORT: when the first 220 came, in nanoseconds of the clock
greeted() {
    python3 - "$1" <<'PY'
import socket, sys, time
end = time.time() + 300
while time.time() < end:
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60) as s:
            if s.recv(512).startswith(b"220"):
                print(time.time_ns())
                break
    except OSError:
        pass
    time.sleep(0.002)
PY
}

started_ms() {  # started_ms PORT BEGAN
    local at
    at=$(greeted "$1")
    if [ -n "$at" ]; then echo $(((at - $2) / 1000000)); else echo null; fi
}

waiting() { metric ringpost_queue_messages; }

# fill PORT DESTINATIONS COUNT: as many more as it takes
fill() {
    [ "$3" -le 0 ] || load "$1" "$2" --messages "$3" --threads 1
}

measure_ringpost() {
    local count=$1 base empty full queued list top start began before again entries cpu fresh drained_rate drained_tail
    say "ringpost, $count destinations: filling"
    QUEUE_DNS=$PORT_DNS RETRY=${RETRY:-5m} ringpost_start hold || return 1
    sleep 1
    fresh=$(memory_kib ringpost)
    load "$PORT_RINGPOST" "$count" --messages 2000 && sleep 1
    load "$PORT_RINGPOST" "$count" --seconds "$SECONDS_EACH" || return 1
    empty=$(jsonget "$json" messages_per_second)
    # Caches have been filled and all destinations are known by now: what it grows by is messages.
    fill "$PORT_RINGPOST" "$count" $(((count > total / 5 ? count : total / 5) - $(waiting)))
    sleep 2
    base=$(memory_kib ringpost)
    before=$(waiting)
    fill "$PORT_RINGPOST" "$count" $((total - $(waiting))) || return 1
    queued=$(waiting)
    sleep 2
    local grown=$(($(memory_kib ringpost) - base))
    before=$((queued - before))
    load "$PORT_RINGPOST" "$count" --seconds "$SECONDS_EACH" || return 1
    full=$(jsonget "$json" messages_per_second)
    list=$(milliseconds "$RINGPOST" queue list --max 100 -s "$BENCH_RUN/admin.sock")
    top=$(milliseconds "$RINGPOST" queue top -s "$BENCH_RUN/admin.sock")
    say "ringpost, $count destinations: $queued wait, $((grown * 1024 / (before > 0 ? before : 1))) bytes each; empty $empty/s," \
        "full $full/s; list $list ms, top $top ms"
    cg_stop ringpost 60
    sync
    [ "${COLD:-0}" = 1 ] && uncache "$BENCH_SPOOL/ringpost"
    began=$(date +%s%N)
    cg_start ringpost "$BENCH_RUN/ringpost.log" "$RINGPOST" serve -c "$BENCH_RUN/ringpost.conf"
    start=$(started_ms "$PORT_RINGPOST" "$began")
    cpu=$(($(cg_cpu_us ringpost) / 1000))
    queued=$(waiting)
    again=$(memory_kib ringpost)
    entries=$(metric ringpost_queue_destinations) # each shard has its own
    say "ringpost, $count destinations: first 220 after $start ms ($cpu ms of CPU) with $queued," \
        "$(((again - fresh) * 1024 / queued)) bytes each"
    drain "$queued"
    say "ringpost, $count destinations: drained at $drained_rate/s, the last 1 % in $drained_tail s"
    result "$BENCH_RESULTS/queue/ringpost-$count.json" bench=queue competitor=ringpost "destinations=$count" \
        "messages=$queued" "grown_kib=$grown" "grown_messages=$before" "base_kib=$base" "fresh_kib=$fresh" "restarted_kib=$again" "entries=$entries" \
        "empty=$empty" "full=$full" "list_ms=$list" "top_ms=$top" "start_ms=$start" "start_cpu_ms=$cpu" "drain=$drained_rate" "drain_tail=$drained_tail"
}

# emptied SECONDS: once there is less than 1 % of what waits now, and once nothing waits any more, the
# time of each in nanoseconds of the clock; what was reached in that time. One process that asks now
# and then: the cores are the server's.
emptied() {
    python3 - "http://127.0.0.1:$PORT_ADMIN/metrics" "$1" <<'PY'
import re, sys, time, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
end, marks, first = time.time() + float(sys.argv[2]), [], None
while time.time() < end and len(marks) < 2:
    text = opener.open(sys.argv[1], timeout=60).read().decode()
    now, left = time.time_ns(), sum(int(n) for n in re.findall(r"^ringpost_queue_messages(?:{.*})? (\d+)$", text, re.M))
    first = first or left
    if not marks and left <= first / 100:
        marks.append(now)
    if marks and left == 0:
        marks.append(now)
    time.sleep(0.2)
print(*marks)
PY
}

# drain COUNT: the destinations come back; sets drained_rate, messages/s from the first one to the last,
# and drained_tail, seconds of the last 1 % of them; null: not within DRAIN_MAX
drain() {
    local at before=0 last most first end=$((SECONDS + ${DRAIN_MAX:-600}))
    drained_rate=null drained_tail=null
    PORT_SINK=$PORT_CLOSED sink_start || return 1
    "$RINGPOST" queue retry --all -s "$BENCH_RUN/admin.sock" > "$BENCH_RUN/command.log" 2>&1 &
    until [ "$(sink_messages)" -gt 0 ]; do
        [ $SECONDS -lt $end ] || { say "nothing goes out"; return 1; }
        sleep 0.02
    done
    first=$(date +%s%N)
    before=$(sink_messages)
    read -r most last < <(emptied $((end - SECONDS)))
    at=$(sink_messages)
    PORT_SINK=$PORT_CLOSED sink_stop
    if [ -z "${last:-}" ]; then
        say "$(waiting) of $1 still wait after ${DRAIN_MAX:-600} s: $at have gone" \
            "${most:+, all but 1 % of them at $(((at - before) * 1000 / ((most - first) / 1000000 + 1)))/s}"
        return 1
    fi
    drained_rate=$(((at - before) * 1000 / ((last - first) / 1000000 + 1)))
    drained_tail=$(((last - most) / 1000000000))
}

# what relay.sh measures, in and out at the same time
measure_relay() {
    local began ended
    sink_start && ringpost_start relay || return 1
    source_run "$PORT_RINGPOST" "$connections" 0 "$size" "$WARMUP" "$json" && drained "$(jsonget "$json" messages)"
    sleep 1
    local base
    base=$(sink_messages)
    began=$(date +%s%N)
    source_run "$PORT_RINGPOST" "$connections" 0 "$size" "$SECONDS_EACH" "$json" &&
        drained $((base + $(jsonget "$json" messages))) || return 1
    ended=$(date +%s%N)
    relayed=$(($(jsonget "$json" messages) * 1000 / ((ended - began) / 1000000)))
    say "ringpost, relay: $relayed/s"
    result "$BENCH_RESULTS/queue/relay.json" bench=queue competitor=relay "rate=$relayed"
    ringpost_stop
    sink_stop
}

measure_postfix() {
    local most=${POSTFIX_MESSAGES:-100000} empty full list start began base grown left
    postfix_start hold || return 1
    load "$PORT_POSTFIX" 1 --messages 500 && sleep 1
    base=$(memory_kib postfix)
    load "$PORT_POSTFIX" 1 --seconds "$SECONDS_EACH" || return 1
    empty=$(jsonget "$json" messages_per_second)
    left=$((most - $("$BENCH_HERE/peers.sh" postfix count)))
    fill "$PORT_POSTFIX" 1 "$left" || return 1
    sleep 2
    grown=$(($(memory_kib postfix) - base))
    load "$PORT_POSTFIX" 1 --seconds "$SECONDS_EACH" || return 1
    full=$(jsonget "$json" messages_per_second)
    list=$(milliseconds chroot "$BENCH_DIR/root" postqueue -p)
    "$BENCH_HERE/peers.sh" postfix stop
    began=$(date +%s%N)
    postfix_start hold
    start=$(started_ms "$PORT_POSTFIX" "$began")
    say "Postfix, $most: empty $empty/s, full $full/s, postqueue -p $list ms, first 220 after $start ms"
    result "$BENCH_RESULTS/queue/postfix.json" bench=queue competitor=postfix destinations=1 "messages=$most" \
        "grown_kib=$grown" "grown_messages=$most" "base_kib=$base" "empty=$empty" "full=$full" "list_ms=$list" \
        top_ms=null "start_ms=$start" drain=null
    postfix_stop
}

for name in $competitors; do
    [ "$name" = postfix ] && { measure_postfix || postfix_stop; continue; }
    measure_relay || say "no rate of relaying to compare with"
    dns_start || die "no name server"
    for count in ${DESTINATIONS:-1 1000 100000}; do
        measure_ringpost "$count" || say "$count destinations: not measured"
        PORT_SINK=$PORT_CLOSED sink_stop
        ringpost_stop
    done
    cg_stop nsd
done
"$BENCH_HERE/compare.py" "$BENCH_RESULTS/queue"
say "all of it took $((SECONDS / 60)) minutes and $((SECONDS % 60)) seconds"
