#!/bin/bash
# relay.sh - in, on disk, out to a sink: whole relayed messages per second
#
#   relay.sh [--help]
#   relay.sh --connectors  ringpost alone: 1,000 connectors each way beside one
#   relay.sh --against BUILD   ringpost alone: that one beside this one
#
# CONNECTIONS (100) connections hand in 1 KiB messages for SECONDS_EACH; the clock runs until the sink
# has received every one that was acknowledged, then messages/s counts. Competitors take turns:
# ringpost, Postfix (stock, relayhost = the sink), and ringpost that only accepts (hold), against
# which the CPU per relayed message is judged.
#
# --connectors: two of it at once, loaded by turns (turns.sh): CONNECTORS ("1 1000"), BLOCKS (12) of
# four turns, SECONDS_EACH (2); about three minutes.
# --against BUILD: the same with the ringpost of another build directory beside that of $BUILD.
#
# Environment: as for accept.sh; DRAIN_MAX (300): seconds to wait for the sink; SINK=smtp-sink takes
# Postfix's sink; with SOURCE=smtp-source MESSAGES (5000) are sent instead of a time. About 3 minutes.
# Results: $BENCH_DIR/results/relay
set -u
. "$(dirname "$0")/turns.sh"
turns_wanted "$@"
if [ -n "$by_turns" ]; then
    SECONDS_EACH=${SECONDS_EACH:-2}
    LOAD="ringpost-bench, ${BLOCKS:=12} blocks of four turns of $SECONDS_EACH s"
    shift "$taken"
fi
. "$(dirname "$0")/lib.sh"
case ${1:-} in '') ;; -h | --help) bench_usage "$0" ;; *) bench_usage "$0" 2 ;; esac

connections=${CONNECTIONS:-100}
size=${SIZE:-1024}
messages=${MESSAGES:-5000}
bench_begin relay
wanted=${COMPETITORS:-"ringpost postfix"}
[ "${TUNED:-0}" = 1 ] && wanted="$wanted postfix-tuned"
# shellcheck disable=SC2086 # a list of words
competitors=$(competitors_present $wanted)
json=$BENCH_RUN/source.json

# load PORT SECONDS: sets acknowledged
load() {
    if [ "$SOURCE" = smtp-source ]; then
        local count=$((messages * $2 / SECONDS_EACH))
        [ $count -ge "$connections" ] || count=$connections
        chroot "$BENCH_DIR/root" smtp-source -d -s "$connections" -l "$size" -m $count \
            -f sender@example.org -t recipient@example.com "inet:127.0.0.1:$1" > "$BENCH_RUN/source.log" 2>&1 || return 1
        acknowledged=$count
    else
        source_run "$1" "$connections" 0 "$size" "$2" "$json" || return 1
        acknowledged=$(jsonget "$json" messages)
    fi
}

measure() {     # measure NAME ROUND
    local name=$1 round=$2 group port base began ended cpu complete=true
    group=$(competitor_cgroup "$name")
    port=$(competitor_port "$name")
    sink_start && competitor_start "$name" relay || { say "$name did not start"; competitor_stop "$name"; sink_stop; return 1; }
    if [ "$WARMUP" = 0 ] || { load "$port" "$WARMUP" && drained "$acknowledged"; }; then
        sleep 1     # what the warm-up's end cut off, too
        base=$(sink_messages)
        cpu=$(cg_cpu_us "$group")
        began=$(date +%s%N)
        if load "$port" "$SECONDS_EACH"; then
            drained $((base + acknowledged)) || complete=false
            ended=$(date +%s%N)
            cpu=$(($(cg_cpu_us "$group") - cpu))
            result "$BENCH_RESULTS/relay/relay-$name-$round.json" bench=relay cell=relay "connections=$connections" \
                "size=$size" "competitor=$name" "round=$round" "cpu_us=$cpu" "complete=$complete" \
                "messages=$acknowledged" "received=$(($(sink_messages) - base))" "nanoseconds=$((ended - began))"
            say "round $round, relay, $name: $((acknowledged * 1000 / ((ended - began) / 1000000))) messages/s," \
                "$((cpu / acknowledged)) us CPU each$([ $complete = true ] || echo ', INCOMPLETE')"
        fi
    fi
    competitor_stop "$name"
    sink_stop
}

# the same ringpost, same load, nothing delivered
measure_accept() {
    local cpu
    ringpost_start hold || { ringpost_stop; return 1; }
    load "$PORT_RINGPOST" "$WARMUP"
    cpu=$(cg_cpu_us ringpost)
    if load "$PORT_RINGPOST" "$SECONDS_EACH"; then
        cpu=$(($(cg_cpu_us ringpost) - cpu))
        result "$BENCH_RESULTS/relay/accept-ringpost-$1.json" bench=relay cell=accept "connections=$connections" \
            "size=$size" competitor=ringpost "round=$1" "cpu_us=$cpu" "messages=$acknowledged" \
            "connects=$(metric "$METRIC_CONNECTS")"
        say "round $1, accept only, ringpost: $((cpu / acknowledged)) us CPU each"
    fi
    ringpost_stop
}

turn() {
    local base began
    base=$(sink_messages)
    began=$(date +%s%N)
    source_run "$1" "$connections" 0 "$size" "$SECONDS_EACH" "$json" || return 1
    messages=$(jsonget "$json" messages)
    [ "$messages" -gt 0 ] && drained $((base + messages)) || return 1
    nanoseconds=$(($(date +%s%N) - began))
}
if [ -n "$by_turns" ]; then
    sink_start || exit 1
    turns relay relay turn
    exit
fi

for ((round = 1; round <= ROUNDS; round++)); do
    for name in $competitors; do
        measure "$name" "$round"
        if [ "$name" = ringpost ]; then measure_accept "$round"; fi
    done
done
"$BENCH_HERE/compare.py" "$BENCH_RESULTS/relay"
