# shellcheck shell=bash disable=SC2034 # variables are for those that source this, and lib.sh
# turns.sh - two ringposts at once that are loaded by turns: with few connectors and with many, or two builds
#
# Sourced by accept.sh and relay.sh, for --connectors and --against. Both run all the time, on the same
# disk; a turn is SECONDS_EACH of load for one of them while the other one rests. Turns come as first,
# second, second, first: what drifts meanwhile (the disk, the neighbours) weighs on both alike, and each
# four of them give one ratio. compare.py takes the median of these, and tells how sure it is.
#
# Surprise: each has the memory and the threads of a whole server, so that there is less of a cache
# for each than usual; for both alike.

# turns_wanted WORD..: sets by_turns, against, and how many words were taken, when the command asks for that
turns_wanted() {
    by_turns='' against='' taken=0
    case ${1:-} in
        --connectors) by_turns=1 taken=1 ;;
        --against)
            [ -x "${2:-}/ringpost" ] || { echo "--against: no ringpost in '${2:-}'" >&2; exit 2; }
            by_turns=1 taken=2 against=$2 ;;
    esac
}

# side first|second COMMAND...: with that one's ports, directories and cgroup
side() {
    local RINGPOST_GROUP=ringpost-$1 BENCH_RUN=$BENCH_RUN/$1 BENCH_SPOOL=$BENCH_SPOOL/$1
    if [ "$1" = second ]; then local PORT_RINGPOST=$PORT_SECOND PORT_ADMIN=$((PORT_SECOND + 1)); fi
    if [ -n "$against" ] && [ "$1" = first ]; then local RINGPOST=$against/ringpost; fi
    mkdir -p "$BENCH_SPOOL" "$BENCH_RUN"
    shift
    "$@"
}

# turns BENCH hold|relay TURN: BLOCKS times. TURN PORT loads that one, and sets messages and nanoseconds.
turns() {
    local few many labels block name port cpu turn=0 messages nanoseconds
    read -r few many <<< "${CONNECTORS:-1 1000}"
    labels=("$few connectors each way" "$many connectors each way")
    if [ -n "$against" ]; then
        few=1 many=1 labels=("$against" "$BUILD")
    fi
    INBOUND=$few OUTBOUND=$((few - 1)) side first ringpost_start "$2" || die "${labels[0]}: ringpost did not start"
    INBOUND=$many OUTBOUND=$((many - 1)) side second ringpost_start "$2" || die "${labels[1]}: ringpost did not start"
    for ((block = 0; block <= BLOCKS; block++)); do     # the first one warms up, and counts for nothing
        for name in first second second first; do
            if [ $name = first ]; then port=$PORT_RINGPOST; else port=$PORT_SECOND; fi
            cpu=$(cg_cpu_us ringpost-$name)
            "$3" "$port" || die "the load of the $name one failed"
            cpu=$(($(cg_cpu_us ringpost-$name) - cpu))
            [ "$block" -gt 0 ] || continue
            turn=$((turn + 1))
            result "$BENCH_RESULTS/$1/turn-$(printf %04d $turn).json" bench=turns "kind=$1" "block=$block" "side=$name" \
                "first=${labels[0]}" "second=${labels[1]}" "cpu_us=$cpu" "messages=$messages" "nanoseconds=$nanoseconds"
        done
        [ "$block" = 0 ] || say "block $block of $BLOCKS"
    done
    side first ringpost_stop
    side second ringpost_stop
    "$BENCH_HERE/compare.py" "$BENCH_RESULTS/$1"
}
