#!/bin/bash
# idle.sh - what an idle connection costs in memory
#
#   idle.sh [--help]
#
# CONNECTIONS (20000) connections from many 127.x.y.z addresses are greeted, say EHLO and then
# nothing. ringpost's own memory is its private anonymous memory (Pss_Anon and Pss_Shmem of
# smaps_rollup), read three times: configured for 16 sessions a shard; configured for all of them,
# with none open; and with all open. The first difference is what sizing costs at start, the second
# what connecting costs; the target of 2 KiB is judged on both together, so that memory taken
# beforehand does not hide. Kernel memory (slab, socket buffers) is the whole machine's growth and
# holds both ends of each connection, the client's too.
#
# The number of open files bounds it: each of ringpost and the client's processes may open
# `ulimit -Hn`. Environment: BUILD, BENCH_DIR, CONNECTIONS, HOLD_SECONDS (5). Less than a minute.
# Results: $BENCH_DIR/results/idle
set -u
. "$(dirname "$0")/lib.sh"
case ${1:-} in '') ;; -h | --help) bench_usage "$0" ;; *) bench_usage "$0" 2 ;; esac

connections=${CONNECTIONS:-20000}
SOURCE=idle.py
need_program "$RINGPOST"
bench_begin idle
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

say "opening $connections connections"
cg_start holder "$BENCH_RUN/holder.log" python3 "$BENCH_HERE/idle.py" "$PORT_RINGPOST" "$connections"
for ((i = 0; i < 1200; i++)); do
    if grep -q ^ready "$BENCH_RUN/holder.log"; then break; fi
    [ -n "$(cg_pids holder)" ] || { tail -3 "$BENCH_RUN/holder.log" >&2; exit 1; }
    sleep 0.1
done
read -r _ open failed < <(grep ^ready "$BENCH_RUN/holder.log" || echo ready 0 "$connections")
sleep "${HOLD_SECONDS:-5}"
held=$(own_kib)
slab=$(($(slab_kib) - slab))
sockets=$(($(sockets_kib) - sockets))
lost=$(grep -c ^lost "$BENCH_RUN/holder.log")
cg_stop holder
ringpost_stop
[ "$open" -gt 0 ] || die "no connection was greeted"
result "$BENCH_RESULTS/idle/idle.json" bench=idle "wanted=$connections" "open=$open" "failed=$failed" \
    "lost=$lost" "sessions_per_shard=$sessions" "small_kib=$small" "empty_kib=$empty" "held_kib=$held" \
    "slab_kib=$slab" "sockets_kib=$sockets"
"$BENCH_HERE/compare.py" "$BENCH_RESULTS/idle"
