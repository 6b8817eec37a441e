# shellcheck shell=bash
# turns.sh - two ringposts at once, one with few connectors and one with many, which are loaded by turns
#
# Sourced by accept.sh and relay.sh, for --connectors. Both run all the time, on the same disk; a turn
# is SECONDS_EACH of load for one of them while the other one rests. Turns come as few, many, many,
# few: what drifts meanwhile (the disk, the neighbours) weighs on both alike, and each four of them
# give one ratio. compare.py takes the median of these, and tells how sure it is.
#
# Surprise: each has the memory and the threads of a whole server, so that there is less of a cache
# for each than usual; for both alike.

# side few|many COMMAND...: with that one's ports, directories and cgroup
side() {
    local RINGPOST_GROUP=ringpost-$1 BENCH_RUN=$BENCH_RUN/$1 BENCH_SPOOL=$BENCH_SPOOL/$1
    if [ "$1" = many ]; then local PORT_RINGPOST=$PORT_SECOND PORT_ADMIN=$((PORT_SECOND + 1)); fi
    mkdir -p "$BENCH_SPOOL" "$BENCH_RUN"
    shift
    "$@"
}

# turns BENCH hold|relay TURN: of CONNECTORS, BLOCKS times. TURN PORT loads that one, and sets messages
# and nanoseconds.
turns() {
    local few many block name connectors port cpu turn=0 messages nanoseconds
    read -r few many <<< "${CONNECTORS:-1 1000}"
    INBOUND=$few OUTBOUND=$((few - 1)) side few ringpost_start "$2" || die "ringpost with $few connectors did not start"
    INBOUND=$many OUTBOUND=$((many - 1)) side many ringpost_start "$2" || die "ringpost with $many connectors did not start"
    for ((block = 0; block <= BLOCKS; block++)); do     # the first one warms up, and counts for nothing
        for name in few many many few; do
            if [ $name = few ]; then connectors=$few port=$PORT_RINGPOST; else connectors=$many port=$PORT_SECOND; fi
            cpu=$(cg_cpu_us ringpost-$name)
            "$3" "$port" || die "the load failed with $connectors connectors"
            cpu=$(($(cg_cpu_us ringpost-$name) - cpu))
            [ "$block" -gt 0 ] || continue
            turn=$((turn + 1))
            result "$BENCH_RESULTS/$1/turn-$(printf %04d $turn).json" bench=turns "kind=$1" "block=$block" \
                "connectors=$connectors" "cpu_us=$cpu" "messages=$messages" "nanoseconds=$nanoseconds"
        done
        [ "$block" = 0 ] || say "block $block of $BLOCKS"
    done
    side few ringpost_stop
    side many ringpost_stop
    "$BENCH_HERE/compare.py" "$BENCH_RESULTS/$1"
}
