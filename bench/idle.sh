#!/bin/bash
# idle.sh - what an idle connection costs in memory
#
#   idle.sh [--tls] [--help]
#
# CONNECTIONS (20000) connections from many 127.x.y.z addresses are greeted, say EHLO and then
# nothing. ringpost's own memory is its private anonymous memory (Pss_Anon and Pss_Shmem of
# smaps_rollup), read three times: configured for 16 sessions a shard; configured for all of them,
# with none open; and with all open. The first difference is what sizing costs at start, the second
# what connecting costs; the target of 2 KiB is judged on both together, so that memory taken
# beforehand does not hide. Kernel memory (slab, socket buffers) is the whole machine's growth and
# holds both ends of each connection, the client's too.
#
# --tls: the same by STARTTLS (TLS 1.3, ECDSA), with EHLO under it. All that BoringSSL keeps is in
# ringpost's memory and counts; the target is 6 KiB. ringpost-bench source holds these connections.
#
# The number of open files bounds it: each of ringpost and the client's processes may open
# `ulimit -Hn`. Environment: BUILD, BENCH_DIR, CONNECTIONS, HOLD_SECONDS (5). Less than a minute.
# Results: $BENCH_DIR/results/idle, idle-tls
set -u
. "$(dirname "$0")/lib.sh"
name=idle
case ${1:-} in '') ;; --tls) name=idle-tls TLS=ecdsa ;; -h | --help) bench_usage "$0" ;; *) bench_usage "$0" 2 ;; esac

connections=${CONNECTIONS:-20000}
SOURCE=idle.py
need_root
need_program python3 "$RINGPOST" "$RINGPOST_BENCH"
LOAD="$connections connections held" bench_open $name
[ -z "$TLS" ] || bench_certificates
hard=$(ulimit -H -n)
if [ "$hard" != unlimited ] && [ "$hard" -lt $((connections + 200)) ]; then
    ulimit -H -n $((connections + 1000)) 2> /dev/null ||
        say "note: at most $hard open files per process here; ringpost may have to refuse some of $connections"
fi
sessions=$((connections * 115 / 100 / ${SHARDS:-$(nproc)} + 1))

own_kib() {     # of all processes in its cgroup
    local p
    sleep 1
    for p in $(cg_pids ringpost); do cat "/proc/$p/smaps_rollup"; done |
        awk '$1 == "Pss_Anon:" || $1 == "Pss_Shmem:" { kib += $2 } END { print kib + 0 }'
}
slab_kib() { awk '$1 == "Slab:" { print $2 }' /proc/meminfo; }
sockets_kib() { awk '$1 == "TCP:" { print $NF * 4 }' /proc/net/sockstat; }   # the last field is mem, in pages

ringpost_start hold 16 || exit 1
small=$(own_kib)
ringpost_stop
ringpost_start hold "$sessions" || exit 1
empty=$(own_kib)
slab=$(slab_kib)
sockets=$(sockets_kib)

hold_plain() {
    local i
    cg_start holder "$BENCH_RUN/holder.log" python3 "$BENCH_HERE/idle.py" "$PORT_RINGPOST" "$connections"
    for ((i = 0; i < 1200; i++)); do
        if grep -q ^ready "$BENCH_RUN/holder.log"; then break; fi
        [ -n "$(cg_pids holder)" ] || { tail -3 "$BENCH_RUN/holder.log" >&2; exit 1; }
        sleep 0.1
    done
    read -r _ open failed < <(grep ^ready "$BENCH_RUN/holder.log" || echo ready 0 "$connections")
}

# One process for each 5000; their counts come in a file each, anew every second.
held_tls() { for ((h = 0; h < holders; h++)); do jsonget "$BENCH_RUN/holder-$h.json" "$@"; done | awk '{ n += $1 } END { print n }'; }
hold_tls() {
    local i
    holders=$(((connections + 4999) / 5000))
    rm -f "$BENCH_RUN"/holder-*.json
    for ((i = 0; i < holders; i++)); do
        cg_start holder "$BENCH_RUN/holder.log" "$RINGPOST_BENCH" source --to "127.0.0.1:$PORT_RINGPOST" --idle --tls starttls \
            --tls-version 1.3 --connections $((connections / holders)) --from-addresses 250 --quiet --json "$BENCH_RUN/holder-$i.json"
    done
    for ((i = 0; i < 120; i++)); do
        sleep 1
        [ -n "$(cg_pids holder)" ] || { tail -3 "$BENCH_RUN/holder.log" >&2; exit 1; }
        open=$(held_tls connections_open)
        [ "$open" -lt $((connections / holders * holders)) ] || break
    done
    failed=$(held_tls errors total)
}

say "opening $connections connections"
if [ -n "$TLS" ]; then hold_tls; else hold_plain; fi
sleep "${HOLD_SECONDS:-5}"
held=$(own_kib)
slab=$(($(slab_kib) - slab))
sockets=$(($(sockets_kib) - sockets))
if [ -n "$TLS" ]; then
    lost=$(($(held_tls errors total) - failed))
else
    lost=$(grep -c ^lost "$BENCH_RUN/holder.log")
fi
cg_stop holder
ringpost_stop
[ "$open" -gt 0 ] || die "no connection was greeted"
result "$BENCH_RESULTS/$name/idle.json" bench=idle "tls=${TLS:-none}" "wanted=$connections" "open=$open" "failed=$failed" \
    "lost=$lost" "sessions_per_shard=$sessions" "small_kib=$small" "empty_kib=$empty" "held_kib=$held" \
    "slab_kib=$slab" "sockets_kib=$sockets"
"$BENCH_HERE/compare.py" "$BENCH_RESULTS/$name"
