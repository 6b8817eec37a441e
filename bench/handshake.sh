#!/bin/bash
# handshake.sh - what a TLS handshake costs a server's core
#
#   handshake.sh [--help]
#
# ringpost (one shard), ringpost with a full key-share pool, and nginx's mail proxy (OpenSSL, one
# worker) run at the same time on one core, SERVER_CPU, and speak the same SMTP; the load comes from
# another one. Row by row they take turns: COUNT connections by STARTTLS at RATE a second, each with
# EHLO under TLS and then closed, full ones, or such that resume the connection before. What counts
# is the CPU time of the server's cgroup for a connection.
#
# The TLS part of it is what is left when the CPU of the same connections in clear is taken away, measured
# by turns with it, SLICES of each, whose lower quartiles count: others' load comes and goes, and only ever
# adds. In clear NOOPs stand in for STARTTLS and for each flight of the handshake, so that both take the
# same number of packets, whose price is the kernel's. ("all of it" is also shown: a connection with TLS
# less one in clear without the NOOPs.) It holds all that ringpost does for TLS: buffers, opening, sealing,
# choosing the certificate, the memory. Beside it stands the same handshake in BoringSSL alone
# (ringpost-bench tls-loop, on the same core, its median): without a pause, when it has the core's caches to
# itself, and with PAUSE_US before each step of the server, about what lies between two packets at RATE.
#
# The pool moves work to idle time and removes none. So the server's core must have idle time: RATE is
# below half of what it can do (RATE_RSA for the RSA row), and what is measured is a burst out of a full
# pool of 65,536 key shares, which is refilled only when a quarter of it is used up: after it. A run in
# which it was refilled, or missed, is told. What a key share costs in idle time is in its own line.
#
# Environment: BUILD, BENCH_DIR, SERVER_CPU (0), CLIENT_CPU (1), COUNT (4000), SLICES (8), RATE (1500),
# RATE_RSA (500), ROUNDS (3), LOOP_ROUNDS (100), PAUSE_US (100), COMPETITORS ("ringpost ringpost-pool nginx"). About 10 minutes.
# Results: $BENCH_DIR/results/handshake
set -u
TLS=ecdsa
. "$(dirname "$0")/lib.sh"
case ${1:-} in '') ;; -h | --help) bench_usage "$0" ;; *) bench_usage "$0" 2 ;; esac

server_cpu=${SERVER_CPU:-0}
client_cpu=${CLIENT_CPU:-1}
count=${COUNT:-4000}
slices=${SLICES:-8}
pool=65536
port_pool=$((PORT_BASE + 10))
competitors=${COMPETITORS:-"ringpost ringpost-pool nginx"}
SHARDS=1
need_root
need_program python3 taskset "$RINGPOST" "$RINGPOST_BENCH"
[ "$(nproc)" -gt "$client_cpu" ] || die "needs two cores: the server's and the client's"
bench_certificates
LOAD="$count connections at ${RATE:-1500}/s, $ROUNDS rounds, medians" bench_open handshake
"$RINGPOST" --version > "$BENCH_RESULTS/handshake/version.txt"
case $competitors in *nginx*)
    "$BENCH_HERE/peers.sh" nginx setup || competitors=${competitors//nginx/} ;;
esac

# ringpost_here NAME PORT KEY_SHARES: ports PORT (ECDSA), PORT + 1 (RSA), PORT + 2 (metrics)
ringpost_here() {
    local PORT_RINGPOST=$2 LISTENER_RSA=$(($2 + 1)) PORT_ADMIN=$(($2 + 2)) KEY_SHARES=$3
    local BENCH_SPOOL=$BENCH_RUN/$1 BENCH_RUN=$BENCH_RUN/$1
    need_free_port "$PORT_RINGPOST" "$LISTENER_RSA" "$PORT_ADMIN"
    rm -rf "${BENCH_SPOOL:?}"
    mkdir -p "$BENCH_SPOOL/ringpost" && chmod 700 "$BENCH_SPOOL/ringpost" || exit 1
    bench_config "$BENCH_RUN/ringpost.conf" hold
    CG_CPU=$server_cpu cg_start "$1" "$BENCH_RUN/ringpost.log" "$RINGPOST" serve -c "$BENCH_RUN/ringpost.conf"
    wait_port "$LISTENER_RSA" 20 || { tail -5 "$BENCH_RUN/ringpost.log" >&2; return 1; }
}
pool_number() { PORT_ADMIN=$((port_pool + 2)) metric "ringpost_tls_keyshare_$1" 'group="x25519"'; }
pool_full() {
    local i
    for ((i = 0; i < 100; i++)); do
        [ "$(pool_number level)" -ge $((pool - 100)) ] && return 0
        sleep 0.1
    done
    die "the pool did not fill: $(pool_number level) of $pool"
}
# pool_enough COUNT: so many can be drawn before it is refilled; else that is made to happen now
pool_enough() {
    local spare
    spare=$(($(pool_number level) - pool * 3 / 4 - 200))
    [ $spare -lt "$1" ] || return 0
    shake ringpost-pool $port_pool $((spare + 400)) 100000 --tls starttls --tls-version 1.3 --tls-group X25519
    pool_full
}

start() {
    case $1 in
        ringpost) ringpost_here ringpost "$PORT_BASE" 0 ;;
        ringpost-pool) ringpost_here ringpost-pool $port_pool $pool ;;
        nginx) CG_CPU=$server_cpu "$BENCH_HERE/peers.sh" nginx start ;;
    esac || die "$1 did not start"
}
port_of() {     # port_of NAME ecdsa|rsa
    local port=$PORT_BASE
    [ "$1" = ringpost-pool ] && port=$port_pool
    [ "$1" = nginx ] && port=$PORT_NGINX
    if [ "$2" = rsa ]; then port=$((port + 1)); fi
    echo "$port"
}

# shake NAME PORT COUNT RATE OPTIONS...: sets spent (nanoseconds of a connection)
shake() {
    local name=$1 port=$2 connections=$3 rate=$4 before
    shift 4
    before=$(cg_cpu_us "$name")
    timeout 300 taskset -c "$client_cpu" "$RINGPOST_BENCH" handshakes --to "127.0.0.1:$port" --count "$connections" --rate "$rate" \
        --connections 8 --from-addresses "$SOURCE_ADDRESSES" --json "$BENCH_RUN/shake.json" "$@" > "$BENCH_RUN/shake.log" 2>&1 ||
        { say "$name: $(tail -1 "$BENCH_RUN/shake.log")"; return 1; }
    sleep 0.1   # the last ones are still being closed
    spent=$((($(cg_cpu_us "$name") - before) * 1000 / connections))
}
quartile() { printf '%s\n' "$@" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 3) / 4)] }'; }

# measure NAME ROW ROUND KIND NOOPS OPTIONS...
measure() {
    local name=$1 row=$2 round=$3 kind=$4 noops=$5 port rate=${RATE:-1500} connections=$count made=0 misses=0 i
    local spent bare with=() without=() split=
    [ "$noops" = "${noops%s}" ] || split=1
    shift 5
    port=$(port_of "$name" "$kind")
    if [ "$kind" = rsa ]; then
        rate=${RATE_RSA:-500}
        connections=$((count / 3))
    fi
    if [ "$name" = ringpost-pool ]; then
        pool_enough "$connections"
        made=$(pool_number made_total)
        misses=$(pool_number misses_total)
    fi
    shake "$name" "$port" $((connections / slices)) "$rate" --tls none --noops 0 || return 1
    bare=$spent
    for ((i = 0; i < slices; i++)); do
        shake "$name" "$port" $((connections / slices)) "$rate" --tls none --noops "${noops%s}" ${split:+--split} || return 1
        without+=("$spent")
        shake "$name" "$port" $((connections / slices)) "$rate" --tls starttls "$@" || return 1
        with+=("$spent")
    done
    if [ "$name" = ringpost-pool ]; then
        made=$(($(pool_number made_total) - made))
        misses=$(($(pool_number misses_total) - misses))
    fi
    result "$BENCH_RESULTS/handshake/$row-$name-$round.json" bench=handshake "row=$row" "competitor=$name" "round=$round" \
        "tls_ns=$(quartile "${with[@]}")" "clear_ns=$(quartile "${without[@]}")" "bare_ns=$bare" "made=$made" "misses=$misses" \
        "source=@$BENCH_RUN/shake.json"
    say "round $round, $row, $name: ns with TLS ${with[*]}, in clear ${without[*]}"
}

# bare_loop ROUND NAME PAUSE_US ROW COMPETITOR: right before that is measured, since the machine's pace drifts by a third
bare_loop() {
    timeout 300 "$RINGPOST_BENCH" tls-loop --cpu "$server_cpu" --rounds "${LOOP_ROUNDS:-100}" --pause "$3" \
        --cert "$BENCH_TLS/ecdsa.pem" --key "$BENCH_TLS/ecdsa.key" --cert "$BENCH_TLS/rsa.pem" --key "$BENCH_TLS/rsa.key" \
        --json "$BENCH_RUN/loop.json" > "$BENCH_RUN/loop.log" 2>&1 || die "the bare loop failed: $(tail -1 "$BENCH_RUN/loop.log")"
    result "$BENCH_RESULTS/handshake/$2-$4-$5-$1.json" bench=handshake row=loop "competitor=$2" "round=$1" "beside=$4" \
        "loop=@$BENCH_RUN/loop.json"
}

# From its start, when all that it does is fill the pool, until that is full.
measure_filling() {
    local before made=0
    cg_stop ringpost-pool
    start ringpost-pool
    before=$(cg_cpu_us ringpost-pool)
    made=$(pool_number made_total)
    pool_full
    made=$(($(pool_number made_total) - made))
    [ "$made" -gt 0 ] || return 0
    result "$BENCH_RESULTS/handshake/filling.json" bench=handshake row=filling competitor=ringpost-pool round=1 "made=$made" \
        "cpu_us=$(($(cg_cpu_us ringpost-pool) - before))"
}

#     row         certificate, NOOPs in clear (s: and the last EHLO in two packets), options
rows=(
    "13-ecdsa     ecdsa 2s --tls-version 1.3 --tls-group X25519"
    "13-rsa       rsa   2s --tls-version 1.3 --tls-group X25519"
    "13-resumed   ecdsa 2s --tls-version 1.3 --tls-group X25519 --tls-resume 1"
    "12-ecdsa     ecdsa 3  --tls-version 1.2 --tls-group X25519"
    "12-ticket    ecdsa 2s --tls-version 1.2 --tls-group X25519 --tls-resume 1"
    "12-id        ecdsa 2s --tls-version 1.2 --tls-group X25519 --tls-resume 1 --tls-no-tickets"
)
hybrid="13-hybrid    ecdsa 2s --tls-version 1.3 --tls-group X25519MLKEM768"
if "$RINGPOST" --version | grep -q X25519MLKEM768; then rows+=("$hybrid"); fi

for name in $competitors; do start "$name"; done
case $competitors in *ringpost-pool*) pool_full ;; esac
for ((round = 1; round <= ROUNDS; round++)); do
    for row in "${rows[@]}"; do
        # shellcheck disable=SC2086 # words
        set -- $row
        for name in $competitors; do
            if [ "$name" != nginx ]; then
                bare_loop "$round" loop 0 "$1" "$name"
                bare_loop "$round" loop-idle "${PAUSE_US:-100}" "$1" "$name"
            fi
            # OpenSSL 3.0 has no hybrid
            [ "$name-$1" = nginx-13-hybrid ] || measure "$name" "$1" "$round" "$2" "$3" "${@:4}"
        done
    done
done
case $competitors in *ringpost-pool*) measure_filling ;; esac
"$BENCH_HERE/compare.py" "$BENCH_RESULTS/handshake"
