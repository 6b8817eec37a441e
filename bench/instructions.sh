#!/bin/bash
# instructions.sh - instructions of a TLS handshake: the server's, and those of BoringSSL alone
#
#   instructions.sh [--help]
#   instructions.sh --connectors   of a message, taken in and relayed, with 1 and 1,000 connectors each way
#
# What bench/handshake.sh measures in time is counted here by callgrind: the same figures, within some 2,000
# (turns of the loop), however busy the machine is, and nothing of caches. ringpost, one shard and no key-share
# pool, serves COUNT connections of each kind; its program is counted, not the kernel. What those in clear take,
# with NOOPs in place of each flight, is taken away. Beside it: the server's side of the same handshake in
# ringpost-bench tls-loop.
#
# Valgrind's processor has neither SHA instructions nor ADX: hashes and X25519 weigh more than they do, on
# both sides alike. Below valgrind a ring now and then does not wake its program, for a minute: then
# handshakes fail and so does this; run it again.
#
# --connectors: messages one after the other on one connection, so that each takes the same turns of
# the loop, and what a turn costs is not shared by a batch of them: more than under load, and the same
# with one connector and with 1,000 (CONNECTORS). What differs is what connectors cost. Only the shard's
# thread is counted: what others do now and then (metrics, sums) is no part of a message. Needs root.
#
# Environment: BUILD, BENCH_DIR, COUNT (60; --connectors: 2000). Needs valgrind; about 2 minutes.
set -u
connectors=
if [ "${1:-}" = --connectors ]; then
    connectors=${CONNECTORS:-1 1000}
    COUNT=${COUNT:-2000}
    shift
else
    TLS=ecdsa
fi
. "$(dirname "$0")/lib.sh"
case ${1:-} in '') ;; -h | --help) bench_usage "$0" ;; *) bench_usage "$0" 2 ;; esac

count=${COUNT:-60}
run=$BENCH_RUN/instructions
server=
need_program valgrind callgrind_control "$RINGPOST" "$RINGPOST_BENCH"
end_server() {      # it does not hear TERM while it waits below valgrind
    [ -z "$server" ] || { kill -KILL "$server" && wait "$server"; } 2> /dev/null
    server=
}

serve() {           # serve hold|relay: one shard, counted
    need_free_port "$PORT_RINGPOST" "$PORT_ADMIN"
    rm -rf "${run:?}"
    mkdir -p "$run/ringpost" && chmod 700 "$run/ringpost" || exit 1
    SHARDS=1 KEY_SHARES=0 BENCH_SPOOL=$run BENCH_RUN=$run bench_config "$run/ringpost.conf" "$1"
    valgrind --tool=callgrind --separate-threads="$([ -n "$connectors" ] && echo yes || echo no)" --callgrind-out-file="$run/counted" "$RINGPOST" serve -c "$run/ringpost.conf" > "$run/ringpost.log" 2>&1 &
    server=$!
    wait_port "$PORT_RINGPOST" 60 || { tail -5 "$run/ringpost.log" >&2; exit 1; }
}
control() { callgrind_control "$@" "$server" > "$run/control.log" 2>&1 || die "$(tail -1 "$run/control.log")"; }
dump() {            # sets counted: instructions since the last `control -z`, by COUNT; of the thread with the most
    rm -f "$run"/counted.*
    control -d counted
    counted=$(awk -v n="$count" '$1 ~ /^(summary|totals):$/ && $2 > most { most = $2 } END { print int(most / n) }' "$run"/counted.*)
    [ "${counted:-0}" -gt 0 ] || die "callgrind counted nothing: $run"
}

send() {            # send MESSAGES MODE: and waits until they are where they go to
    local base=0
    [ "$2" = hold ] || base=$(sink_messages)
    timeout 300 "$RINGPOST_BENCH" source --to "127.0.0.1:$PORT_RINGPOST" --connections 1 --messages "$1" --size 1024 \
        --from sender@example.org --rcpt recipient@example.com --threads 1 --quiet > "$run/source.log" 2>&1 ||
        die "the load: $(tail -1 "$run/source.log")"
    [ "$2" = hold ] || drained $((base + $1)) || exit 1
}
if [ -n "$connectors" ]; then
    need_root
    mkdir -p "$BENCH_RUN"
    trap 'end_server; sink_stop' EXIT
    sink_start || exit 1
    printf '%-12s %12s %12s %10s\n' instructions connectors 'a message' 'of few'
    for mode in hold relay; do
        few=
        for each in $connectors; do
            INBOUND=$each OUTBOUND=$((each - 1)) serve $mode
            send 200 $mode
            control -z
            send "$count" $mode
            dump
            few=${few:-$counted}
            awk -v mode="$([ $mode = hold ] && echo 'taken in' || echo relayed)" -v n="$each" -v i="$counted" -v few="$few" \
                'BEGIN { printf "%-12s %12d %12d %10.3f\n", mode, n, i, i / few }'
            end_server
        done
    done
    exit
fi

trap end_server EXIT
bench_certificates
serve hold

shake() {
    timeout 300 "$RINGPOST_BENCH" handshakes --to "127.0.0.1:$PORT_RINGPOST" --connections 1 --rate 50 --count "$@" \
        > "$run/shake.log" 2>&1 || die "handshakes: $(tail -1 "$run/shake.log")"
}

# served OPTIONS...: sets counted, the server's instructions of a connection
served() {
    shake 10 "$@"
    control -z
    shake "$count" "$@"
    dump
}
# looped ROW ROUNDS: prints the server's instructions of so many rounds, and some more
looped() {
    valgrind --tool=callgrind --callgrind-out-file="$run/loop" --toggle-collect='timed_*' "$RINGPOST_BENCH" tls-loop \
        --only "$1" --rounds "$2" --cert "$BENCH_TLS/ecdsa.pem" --key "$BENCH_TLS/ecdsa.key" > "$run/loop.log" 2>&1 ||
        die "the bare loop failed: $(tail -1 "$run/loop.log")"
    awk '$1 == "summary:" { print $2 }' "$run/loop"
}

served --tls none --noops 2 --split
clear[2]=$counted
served --tls none --noops 3
clear[3]=$counted
printf '%-12s %12s %12s %12s %12s %8s\n' instructions connection 'in clear' 'TLS part' 'bare loop' 'of loop'
while read -r row noops options; do
    # shellcheck disable=SC2086 # words
    served --tls starttls --tls-group X25519 --tls-version $options
    case $row in
        *-ecdsa) full=$counted ;;
        *) counted=$(((counted * count - full) / (count - 1))) ;; # the first of them was a full one
    esac
    loop=$((($(looped "$row" 50) - $(looped "$row" 10)) / 40))
    awk -v row="$row" -v all="$counted" -v clear="${clear[$noops]}" -v loop="$loop" \
        'BEGIN { printf "%-12s %12d %12d %12d %12d %8.3f\n", row, all, clear, all - clear, loop, (all - clear) / loop }'
done << ROWS
13-ecdsa   2 1.3
13-resumed 2 1.3 --tls-resume 1
12-ecdsa   3 1.2
12-ticket  2 1.2 --tls-resume 1
12-id      2 1.2 --tls-resume 1 --tls-no-tickets
ROWS
