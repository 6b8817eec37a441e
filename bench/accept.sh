#!/bin/bash
# accept.sh - how fast mail is taken in when each message is on disk before its 250
#
#   accept.sh [--help]     all cells, then the large sizes; a table with targets at the end
#   accept.sh --connectors ringpost alone: 1,000 connectors each way beside one
#   accept.sh --against BUILD  ringpost alone: that one beside this one
#
# Cells: {many messages per connection, one per connection} x CONNECTIONS ("100 500"), SIZE 1024.
# ringpost, Postfix 3.7 (stock, mail to its hold queue) and the null server take turns on the same
# disk, each started anew with an empty spool, warmed up, then measured: A B C, A B C, ... Then 100
# KiB and 1 MiB messages over LARGE_CONNECTIONS (20), LARGE_SECONDS (5) each, beside a bare
# preallocated write+sync loop; ringpost's log is prepared ahead likewise (spool { ahead = 8G }).
#
# Surprise: stock Postfix has 100 smtpd processes. With 500 connections that are kept, it serves 100
# of them as fast as ever and the other 400 wait without a greeting; the column "up" tells how many
# connections were being served when the time was over. PER_CONNECTION=20 makes each connection end
# after so many messages, so that all get their turn: another cell, and another figure.
#
# --connectors: two of it at once, loaded by turns (turns.sh), 100 connections that are kept:
# CONNECTORS ("1 1000"), BLOCKS (12) of four turns, SECONDS_EACH (1); about a minute and a half.
# --against BUILD: the same with the ringpost of another build directory beside that of $BUILD.
#
# Environment: BUILD (build directory), BENCH_DIR, SECONDS_EACH (10), WARMUP (2), ROUNDS (3),
# COMPETITORS ("ringpost postfix null"), TUNED=1 adds Postfix with raised process limits, LARGE=0
# leaves the large sizes out, CONNECTIONS= all others, SOURCE=smtp-source loads with Postfix's own
# tool (no null server, no large sizes). About 15 minutes with the defaults. Results:
# $BENCH_DIR/results/accept
set -u
. "$(dirname "$0")/turns.sh"
turns_wanted "$@"
if [ -n "$by_turns" ]; then
    SECONDS_EACH=${SECONDS_EACH:-1}
    LOAD="ringpost-bench, ${BLOCKS:=12} blocks of four turns of $SECONDS_EACH s"
    shift "$taken"
fi
. "$(dirname "$0")/lib.sh"
case ${1:-} in '') ;; -h | --help) bench_usage "$0" ;; *) bench_usage "$0" 2 ;; esac

size=${SIZE:-1024}
large_seconds=${LARGE_SECONDS:-5}
large_bytes=$((8 << 30))
bench_begin accept

turn() {
    local json=$BENCH_RUN/source.json
    source_run "$1" "${CONNECTIONS:-100}" 0 "$size" "$SECONDS_EACH" "$json" || return 1
    messages=$(jsonget "$json" messages)
    [ "$messages" -gt 0 ] && nanoseconds=$((messages * 1000000000 / $(jsonget "$json" messages_per_second)))
}
if [ -n "$by_turns" ]; then
    turns accept hold turn
    exit
fi

wanted=${COMPETITORS:-"ringpost postfix null"}
[ "${TUNED:-0}" = 1 ] && wanted="$wanted postfix-tuned"
if [ "$SOURCE" = smtp-source ]; then
    wanted=${wanted//null/}
    LARGE=0
fi
# shellcheck disable=SC2086 # a list of words
competitors=$(competitors_present $wanted)

# measure NAME CELL CONNECTIONS PER_CONNECTION SIZE ROUND
measure() {
    local name=$1 cell=$2 connections=$3 per=$4 bytes=$5 round=$6
    local port group cpu syncs flushes connects json=$BENCH_RUN/source.json
    port=$(competitor_port "$name")
    group=$(competitor_cgroup "$name")
    competitor_start "$name" hold || { say "$name did not start"; competitor_stop "$name"; return 1; }
    [ -z "${SPOOL_AHEAD:-}" ] || ringpost_prepared "$SPOOL_AHEAD"
    [ "$WARMUP" = 0 ] || source_run "$port" "$connections" "$per" "$bytes" "$WARMUP" "$json.warm"
    cpu=$(cg_cpu_us "$group")
    syncs=$(competitor_syncs "$name") || syncs=unknown
    flushes=$(device_flushes)
    if source_run "$port" "$connections" "$per" "$bytes" "$SECONDS_EACH" "$json"; then
        cpu=$(($(cg_cpu_us "$group") - cpu))
        [ "$syncs" = unknown ] || syncs=$(($(competitor_syncs "$name") - syncs))
        flushes=$(($(device_flushes) - flushes))
        connects=0
        if [ "$name" = ringpost ]; then connects=$(metric "$METRIC_CONNECTS") || connects=0; fi
        result "$BENCH_RESULTS/accept/$cell-$connections-$bytes-$name-$round.json" \
            bench=accept "cell=$cell" "connections=$connections" "size=$bytes" "competitor=$name" "round=$round" \
            "cpu_us=$cpu" "syncs=$syncs" "device_flushes=$flushes" "connects=$connects" "source=@$json"
        say "round $round, $cell, $connections connections, $bytes bytes, $name:" \
            "$(jsonget "$json" messages_per_second) messages/s, $(jsonget "$json" errors total) errors, $(jsonget "$json" connections_open) connections up at the end"
    else
        say "$name: the load failed in $cell with $connections connections"
    fi
    competitor_stop "$name"
}

for ((round = 1; round <= ROUNDS; round++)); do
    for connections in ${CONNECTIONS-100 500}; do
        for cell in many one; do
            for name in $competitors; do
                measure "$name" $cell "$connections" "$([ $cell = many ] && echo "${PER_CONNECTION:-0}" || echo 1)" "$size" "$round"
            done
        done
    done
    [ "${LARGE:-1}" = 1 ] || continue
    for bytes in 102400 1048576; do
        # both into what is prepared before: no zeros are written while they are measured
        case $competitors in *ringpost*)
            SPOOL_AHEAD=$large_bytes SECONDS_EACH=$large_seconds WARMUP=1 \
                measure ringpost large "${LARGE_CONNECTIONS:-20}" 0 $bytes "$round"
            ;;
        esac
        if "$RINGPOST_BENCH" disk --file "$BENCH_SPOOL/disk.bench" --size $bytes --seconds "$large_seconds" \
            --json "$BENCH_RUN/disk.json" > "$BENCH_RUN/disk.log" 2>&1; then
            result "$BENCH_RESULTS/accept/large-0-$bytes-disk-$round.json" bench=accept cell=large connections=0 \
                size=$bytes competitor=disk "round=$round" "source=@$BENCH_RUN/disk.json"
            say "round $round, bare write+sync loop of $bytes bytes: done"
        else
            say "the bare disk loop failed: $(tail -1 "$BENCH_RUN/disk.log")"
        fi
        rm -f "$BENCH_SPOOL/disk.bench"
    done
done
"$BENCH_HERE/compare.py" "$BENCH_RESULTS/accept"
