#!/bin/bash
# tls.sh - mail in and mail through by TLS, beside Postfix
#
#   tls.sh [--help]
#
# Cells: {accept, relay} x CONNECTIONS ("100 1000") x SHAPES: "many" messages on each connection,
# one on each connection with a full handshake ("full"), or one that resumes the connection before it
# ("resumed"). STARTTLS everywhere, in and out; TLS 1.3, X25519, ECDSA P-256 (TLS=rsa: RSA-2048); the
# sink resumes but for "full". Messages of SIZE (1024) octets. accept: messages a second that are on
# disk; relay: the clock runs until the sink has all that was acknowledged.
#
# ringpost and Postfix 3.7 (stock, OpenSSL) take turns: the same disk, an empty spool, the same source,
# whose own CPU is shown, since it runs on the same cores and shakes as many hands as they do (its key
# shares are made beforehand). See accept.sh about 500 connections and more to a stock Postfix. Postfix
# gives no new ticket to who resumes by TLS 1.3, and the source uses each once (RFC 8446 C.4): every second
# handshake with it is a full one, as the columns tell.
#
# Environment: as for accept.sh and relay.sh; CELLS ("accept relay"). About 40 minutes with the
# defaults. Results: $BENCH_DIR/results/tls
set -u
TLS=${TLS:-ecdsa}
. "$(dirname "$0")/lib.sh"
case ${1:-} in '') ;; -h | --help) bench_usage "$0" ;; *) bench_usage "$0" 2 ;; esac

size=${SIZE:-1024}
[ "$SOURCE" = ringpost-bench ] || die "SOURCE: only ringpost-bench knows TLS"
bench_begin tls
bench_certificates
# shellcheck disable=SC2086 # a list of words
competitors=$(competitors_present ${COMPETITORS:-ringpost postfix})
json=$BENCH_RUN/source.json

# measure CELL CONNECTIONS SHAPE NAME ROUND
measure() {
    local cell=$1 connections=$2 shape=$3 name=$4 round=$5 per=1 mode=relay group port cpu base=0 began messages complete=true
    local SOURCE_TLS="--tls starttls --tls-version 1.3 --tls-group X25519 --tls-key-shares 65536" SINK_RESUME=1
    group=$(competitor_cgroup "$name")
    port=$(competitor_port "$name")
    [ "$shape" = many ] && per=0
    [ "$shape" = full ] && SINK_RESUME=0
    [ "$shape" = resumed ] && SOURCE_TLS="$SOURCE_TLS --tls-resume 1"
    [ "$cell" = accept ] && mode=hold
    if ! { [ "$cell" = accept ] || sink_start; } || ! competitor_start "$name" $mode; then
        say "$name did not start"
    elif [ "$WARMUP" != 0 ] && ! source_run "$port" "$connections" "$per" "$size" "$WARMUP" "$json"; then
        say "$name: the warm-up failed in $cell, $shape, $connections connections"
    else
        if [ "$cell" = relay ]; then
            [ "$WARMUP" = 0 ] || drained "$(jsonget "$json" messages)"
            sleep 1     # what the warm-up's end cut off, too
            base=$(sink_messages)
        fi
        cpu=$(cg_cpu_us "$group")
        began=$(date +%s%N)
        if source_run "$port" "$connections" "$per" "$size" "$SECONDS_EACH" "$json"; then
            messages=$(jsonget "$json" messages)
            if [ "$cell" = relay ]; then drained $((base + messages)) || complete=false; fi
            began=$(($(date +%s%N) - began))
            cpu=$(($(cg_cpu_us "$group") - cpu))
            result "$BENCH_RESULTS/tls/$cell-$connections-$shape-$name-$round.json" bench=tls "cell=$cell" "connections=$connections" \
                "shape=$shape" "competitor=$name" "round=$round" "cpu_us=$cpu" "nanoseconds=$began" "complete=$complete" "source=@$json"
            say "round $round, $cell, $connections connections, $shape, $name: $messages messages, $(jsonget "$json" messages_per_second)/s in," \
                "$((messages * 1000 / (began / 1000000)))/s all told, $((cpu / (messages + 1))) us CPU each, handshakes $(jsonget "$json" tls full) full $(jsonget "$json" tls resumed) resumed, $(jsonget "$json" errors total) errors"
        else
            say "$name: the load failed in $cell, $shape, $connections connections"
        fi
    fi
    competitor_stop "$name"
    sink_stop
}

for ((round = 1; round <= ROUNDS; round++)); do
    for cell in ${CELLS:-accept relay}; do
        for connections in ${CONNECTIONS:-100 1000}; do
            for shape in ${SHAPES:-many full resumed}; do
                for name in $competitors; do measure "$cell" "$connections" "$shape" "$name" "$round"; done
            done
        done
    done
done
"$BENCH_HERE/compare.py" "$BENCH_RESULTS/tls"
