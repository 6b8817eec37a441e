# shellcheck shell=bash
# lib.sh - what the bench scripts share: cgroups, CPU and sync counts, configuration, load, results
#
# Sourced by all the others. Everything a bench starts runs in a cgroup
# of its own below ringpost-bench/ (CG_NAME), which gives the CPU time of all its processes (children and
# kernel threads of io_uring included) and the list of pids that may be ended: nothing else is.
# Works with cgroup v2 (preferred, also when it is mounted beside v1) and with v1 cpuacct.
#
# What is where: $BENCH_DIR/root (Postfix's own Debian), spool (the disk under test), run (logs,
# configuration), results (one JSON file per measured run). Figures are made by compare.py only.
#
# Surprise: the time of the client's and the server's TCP work on loopback is charged to whichever
# process happens to run; it is the same for every competitor.

BENCH_HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
BENCH_DIR=${BENCH_DIR:-/var/tmp/ringpost-bench}
BENCH_SPOOL=$BENCH_DIR/spool
BENCH_RUN=$BENCH_DIR/run
BENCH_RESULTS=$BENCH_DIR/results
BUILD=${BUILD:-$BENCH_HERE/../build-release}   # where ringpost and ringpost-bench were built
RINGPOST=${RINGPOST:-$BUILD/ringpost}
RINGPOST_BENCH=${RINGPOST_BENCH:-$BUILD/ringpost-bench}
SECONDS_EACH=${SECONDS_EACH:-10}               # a measured run
WARMUP=${WARMUP:-2}                            # seconds of load before it, thrown away
ROUNDS=${ROUNDS:-3}                            # A B A B A B; the median counts
SINK=${SINK:-ringpost-bench}                   # or smtp-sink
# Between two addresses there are 28,000 ports, and half of them wait in TIME_WAIT at 14,000
# connections a second: the search for a free one would be what is measured.
SOURCE_ADDRESSES=${SOURCE_ADDRESSES:-32}       # 127.0.0.1, 127.0.0.2 ...
SOURCE=${SOURCE:-ringpost-bench}               # or smtp-source, from Postfix's root: a second opinion

PORT_BASE=${PORT_BASE:-26200}
PORT_RINGPOST=$PORT_BASE
PORT_NULL=$((PORT_BASE + 1))
PORT_SINK=$((PORT_BASE + 2))
PORT_POSTFIX=$((PORT_BASE + 3))
PORT_ADMIN=$((PORT_BASE + 4))
PORT_CLOSED=$((PORT_BASE + 5))  # nobody may listen there
PORT_NGINX=$((PORT_BASE + 6))   # and the one after it
PORT_SECOND=$((PORT_BASE + 9))  # of a second ringpost, and its admin port behind it; 8 is queue.sh's

RINGPOST_GROUP=ringpost         # its cgroup

# TLS=ecdsa, rsa, or both in order: what ringpost, Postfix and the sink present, by STARTTLS; empty:
# no TLS anywhere. SOURCE_TLS: what ringpost-bench source is told about it. SINK_RESUME=0: the sink
# resumes nothing.
export TLS=${TLS:-}     # peers.sh is a process of its own
SOURCE_TLS=${SOURCE_TLS:-}
BENCH_TLS=$BENCH_DIR/tls

METRIC_ACCEPTED=${METRIC_ACCEPTED:-ringpost_smtp_messages_total}
METRIC_SYNCS=${METRIC_SYNCS:-ringpost_spool_syncs_total}
METRIC_CONNECTS=${METRIC_CONNECTS:-ringpost_client_connects_total}

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }
die() { say "$*"; exit 1; }
need_root() { [ "$(id -u)" = 0 ] || die "needs root: cgroups, a spool disk, a chroot for Postfix"; }
need_program() {
    local p
    for p in "$@"; do
        command -v "$p" > /dev/null || die "missing: $p (BUILD=$BUILD says where ringpost was built)"
    done
}

# --- cgroups ---------------------------------------------------------------------------------

cg_mount() { awk -v t="$1" '$3 == t && (t != "cgroup" || $4 ~ /cpuacct/) { print $2; exit }' /proc/mounts; }
CG_VERSION=2
CG_ROOT=$(cg_mount cgroup2)
if [ -z "$CG_ROOT" ]; then
    CG_VERSION=1
    CG_ROOT=$(cg_mount cgroup)
fi
CG_ROOT=${CG_ROOT:+$CG_ROOT/${CG_NAME:-ringpost-bench}}   # another name lets two benches run at once

cg_pids() { cat "$CG_ROOT/$1/cgroup.procs" 2> /dev/null; }

# cg_start NAME LOG COMMAND...: runs COMMAND in the cgroup, detached; output goes to LOG. CG_CPU=N:
# on this core only.
cg_start() {
    local dir=$CG_ROOT/$1 log=$2
    shift 2
    [ -n "$CG_ROOT" ] || die "neither cgroup v2 nor v1 cpuacct is mounted"
    mkdir -p "$dir" || die "cannot make the cgroup $dir"
    setsid bash -c 'echo $$ > "$0/cgroup.procs" || exit 1; ulimit -n "$(ulimit -H -n)"; exec "$@"' \
        "$dir" ${CG_CPU:+taskset -c "$CG_CPU"} "$@" < /dev/null > "$log" 2>&1 &
    CG_LAST_PID=$!
    disown
    for _ in {1..100}; do   # until it is in there, or over already
        [ -n "$(cg_pids "${dir##*/}")" ] || ! kill -0 $CG_LAST_PID 2> /dev/null && break
        sleep 0.01
    done
}

# cg_wait_empty NAME SECONDS: 0 once no process is left
cg_wait_empty() {
    local i
    for ((i = 0; i < $2 * 50; i++)); do
        [ -z "$(cg_pids "$1")" ] && return 0
        sleep 0.02
    done
    return 1
}

# cg_stop NAME [SECONDS]: TERM, then KILL, to what this cgroup holds: only what we started
cg_stop() {
    local p
    [ -d "$CG_ROOT/$1" ] || return 0
    for p in $(cg_pids "$1"); do kill -TERM "$p" 2> /dev/null; done
    if ! cg_wait_empty "$1" "${2:-10}"; then
        for p in $(cg_pids "$1"); do kill -KILL "$p" 2> /dev/null; done
        cg_wait_empty "$1" 10 || { say "processes left in $CG_ROOT/$1"; return 1; }
    fi
    rmdir "$CG_ROOT/$1" 2> /dev/null
    rmdir "$CG_ROOT" 2> /dev/null
    return 0
}

# microseconds of CPU of everything that ever ran in it
cg_cpu_us() {
    if [ $CG_VERSION = 2 ]; then
        awk '$1 == "usage_usec" { print $2 }' "$CG_ROOT/$1/cpu.stat"
    else
        echo $(($(cat "$CG_ROOT/$1/cpuacct.usage") / 1000))
    fi
}

# Else a bench would measure whoever was there first. Waits a little: the kernel takes a ring apart,
# and the listener registered in it, a moment after its process is gone.
need_free_port() {
    local port i
    for port in "$@"; do
        for ((i = 0; i < 100; i++)); do
            (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || continue 2
            sleep 0.05
        done
        die "port $port is taken by another program (PORT_BASE=$PORT_BASE chooses others)"
    done
}

wait_port() {   # wait_port PORT [SECONDS]
    local i
    for ((i = 0; i < ${2:-10} * 20; i++)); do
        (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null && return 0
        sleep 0.05
    done
    say "port $1 does not answer"
    return 1
}

# --- the machine -----------------------------------------------------------------------------

# the block device below a path, as /sys/block knows it; empty when there is none (tmpfs, overlay)
disk_of() {
    local dev
    dev=$(df --output=source "$1" 2> /dev/null | tail -1)
    dev=$(basename "$(readlink -f "$dev")")
    [ -e "/sys/block/$dev/stat" ] && { echo "$dev"; return; }
    dev=$(basename "$(dirname "$(readlink -f "/sys/class/block/$dev" 2> /dev/null)")")
    [ -e "/sys/block/$dev/stat" ] && echo "$dev"
}

# cache flushes that the spool's device has completed (field 16 of its stat, Linux 5.5 and newer)
device_flushes() {
    local dev
    dev=$(disk_of "$BENCH_SPOOL")
    if [ -n "$dev" ]; then awk '{ print $16 + 0 }' "/sys/block/$dev/stat"; else echo 0; fi
}

machine_facts() {
    local dev
    dev=$(disk_of "$BENCH_SPOOL")
    echo "machine: $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), $(nproc) cores," \
         "$(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo), Linux $(uname -r)"
    echo "spool:   $BENCH_SPOOL on $(df --output=fstype,source "$BENCH_SPOOL" | tail -1 | xargs)" \
         "(${dev:-no device}$([ -e "/sys/block/$dev/loop/dio" ] && echo ", loop, direct I/O $(cat "/sys/block/$dev/loop/dio")"))"
    if [ -n "$TLS" ]; then echo "TLS:     $("$RINGPOST" --version | sed -n 's/^BoringSSL //p')"; fi
    echo "load:    ${LOAD:-$SOURCE, $ROUNDS rounds of $SECONDS_EACH s after $WARMUP s of warm-up, medians};" \
         "$(date -u +%FT%H:%MZ)"
}

# --- ringpost --------------------------------------------------------------------------------

# bench_config FILE hold|relay [SESSIONS]: the one place that knows the configuration's syntax.
# INBOUND=N, OUTBOUND=N: so many connectors more, none of which is about the mail that is sent here.
# hold: the only next hop is a closed port, so mail stays in the spool; the refused probe and its
# recorded deferral are ringpost's own cost, Postfix has none of that with its hold queue.
# QUEUE_DNS=PORT: mail goes to the MX of its domain, as a name server there says, and PORT_CLOSED of it.
# SESSIONS is per shard. Time and memory defaults are the shipped ones, limits per address are off:
# all the load comes from one machine, and Postfix exempts its mynetworks likewise.
bench_config() {
    local file=$1 next_hop=$PORT_SINK sessions=${3:-8192}
    local certificates="" dns="" by_mx="" hosts
    [ "$2" = hold ] && next_hop=$PORT_CLOSED
    hosts="\"127.0.0.1:$next_hop\""
    if [ -n "${QUEUE_DNS:-}" ]; then
        hosts=mx
        by_mx="port = $next_hop allow-private = yes dane = none mta-sts = none"
        dns="dns { forwarders = { \"127.0.0.1:$QUEUE_DNS\" } }"
    fi
    [ -n "$TLS" ] && certificates="certificates = { ${TLS// /, } }"
    {
        bench_config_tls
        bench_config_inbound "${INBOUND:-0}"
        bench_config_outbound "${OUTBOUND:-0}"
        cat <<CONF
hostname = mx.example.net
user = ""
${SHARDS:+shards = $SHARDS}
spool {
    directory = "$BENCH_SPOOL/ringpost"
    ahead = ${SPOOL_AHEAD:-0}
}
listener "in" {
    addresses = { "127.0.0.1:$PORT_RINGPOST" }
    backlog = 4096
    $certificates
}
relay { domains = { example.com, "*.queue.example.com" } }
$dns
limits {
    connections = $sessions
    per-address = 0
    per-v4-24 = 0
    per-v6-64 = 0
    rate-per-minute = 0
    commands = 1000000000
    messages-per-connection = 1000000000
    message-size = 50M
    load-percent = 100
}
outbound "next" {
    type = own
    state = enforce
    domains = { "*" }
    hosts = { $hosts }
    $by_mx
    tls = $([ -n "$TLS" ] && echo encrypt || echo may)
}
delivery {
    retry-initial = ${RETRY:-1h}
    ${RETRY:+retry-max = $RETRY}
    connections-per-hop = ${HOP_CONNECTIONS:-50}
}
log { file = "$BENCH_RUN/ringpost.json.log" }
admin {
    socket = "$BENCH_RUN/admin.sock"
    addresses = { "127.0.0.1:$PORT_ADMIN" }
}
CONF
    } > "$file"
}

# KEY_SHARES: size of the pool; 0: none (default: as shipped). LISTENER_RSA=PORT: a listener more,
# with the RSA certificate alone.
bench_config_tls() {
    local kind
    [ -n "$TLS" ] || return 0
    for kind in ecdsa rsa; do
        echo "certificate \"$kind\" { chain = \"$BENCH_TLS/$kind.pem\" key = \"$BENCH_TLS/$kind.key\" }"
    done
    [ -z "${KEY_SHARES:-}" ] || echo "tls { key-shares = $KEY_SHARES }"
    [ -z "${LISTENER_RSA:-}" ] || cat <<CONF
listener "rsa" { addresses = { "127.0.0.1:$LISTENER_RSA" } backlog = 4096 certificates = { rsa } }
CONF
}

bench_config_inbound() {
    awk -v count="$1" 'BEGIN { for (i = 0; i < count; i++)
        printf "inbound c%d { type = partner state = enforce restrict = yes addresses = { 10.%d.%d.1 }\n" \
            "    sender-domains = { d%d.example, \"*.d%d.example\" } }\n", i, i / 256 % 256, i % 256, i, i }'
}
bench_config_outbound() {
    awk -v count="$1" -v port="$PORT_CLOSED" 'BEGIN { for (i = 0; i < count; i++)
        printf "outbound o%d { type = partner state = enforce domains = { d%d.example, \"*.d%d.example\" }\n" \
            "    hosts = { \"127.0.0.1:%d\" } tls = may }\n", i, i, i, port }'
}

# An ECDSA P-256 and an RSA-2048 leaf, each below an intermediate of its kind, for all competitors:
# $BENCH_TLS/{ecdsa,rsa}.{pem,key}, leaf and intermediate in the one, as a server presents them.
bench_certificates() {
    local kind
    if [ -e "$BENCH_TLS/rsa.pem" ] && openssl x509 -in "$BENCH_TLS/rsa.pem" -noout -checkend 86400 > /dev/null 2>&1; then
        return 0
    fi
    need_program openssl
    rm -rf "${BENCH_TLS:?}"
    mkdir -p "$BENCH_TLS" && chmod 700 "$BENCH_TLS" || exit 1
    for kind in ecdsa rsa; do
        (cd "$BENCH_TLS" && umask 077 && certificates_below $kind) > "$BENCH_TLS/openssl.log" 2>&1 ||
            die "openssl: $(tail -3 "$BENCH_TLS/openssl.log")"
    done
}
certificates_below() {      # of this kind, in this directory
    local new="-newkey rsa:2048"
    [ "$1" = rsa ] || new="-newkey ec -pkeyopt ec_paramgen_curve:P-256"
    # shellcheck disable=SC2086 # words
    openssl req -x509 $new -nodes -days 90 -subj "/CN=bench root $1" -keyout root.key -out root.pem &&
        openssl req $new -nodes -subj "/CN=bench issuer $1" -keyout issuer.key -out issuer.csr &&
        openssl x509 -req -in issuer.csr -CA root.pem -CAkey root.key -set_serial 2 -days 90 -out issuer.pem \
            -extfile <(echo basicConstraints=critical,CA:true; echo keyUsage=keyCertSign) &&
        openssl req $new -nodes -subj /CN=mx.example.net -keyout "$1.key" -out leaf.csr &&
        openssl x509 -req -in leaf.csr -CA issuer.pem -CAkey issuer.key -set_serial 3 -days 90 -out leaf.pem \
            -extfile <(echo subjectAltName=DNS:mx.example.net; echo keyUsage=digitalSignature; echo extendedKeyUsage=serverAuth) &&
        cat leaf.pem issuer.pem > "$1.pem" && rm -f root.* issuer.* leaf.*
}

# metric NAME [LABEL]: the sum over all labels of one metric of ringpost, or of those series that have
# this label; fails when it is not exported
metric() {
    python3 - "$1" "http://127.0.0.1:$PORT_ADMIN/metrics" "${2:-}" <<'PY'
import sys, urllib.request
name, total, found = sys.argv[1], 0.0, False
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
for line in opener.open(sys.argv[2], timeout=10).read().decode().splitlines():
    if line.split("{")[0].split(" ")[0] == name and sys.argv[3] in line:
        total, found = total + float(line.rsplit(" ", 1)[1]), True
if not found:
    sys.exit(f"no metric {name}")
print(int(total))
PY
}

ringpost_start() {  # ringpost_start hold|relay [SESSIONS]: an empty spool, then serve
    need_free_port "$PORT_RINGPOST" "$PORT_ADMIN" "$PORT_CLOSED"
    rm -rf "${BENCH_SPOOL:?}/ringpost"
    mkdir -p "$BENCH_SPOOL/ringpost" "$BENCH_RUN"
    chmod 700 "$BENCH_SPOOL/ringpost" # the server insists
    rm -f "$BENCH_RUN/ringpost.json.log"
    bench_config "$BENCH_RUN/ringpost.conf" "$@"
    cg_start "$RINGPOST_GROUP" "$BENCH_RUN/ringpost.log" "$RINGPOST" serve -c "$BENCH_RUN/ringpost.conf"
    wait_port "$PORT_RINGPOST" 20 || { tail -5 "$BENCH_RUN/ringpost.log" >&2; return 1; }
}
# ringpost_prepared BYTES: waits until it has so much of its log ready (SPOOL_AHEAD asks for it)
ringpost_prepared() {
    local i
    for ((i = 0; i < 600; i++)); do
        [ "$(metric ringpost_spool_segments 'state="free"')" -ge $(($1 / 67108864 - 1)) ] && return 0
        sleep 0.1
    done
    say "ringpost has not prepared its log within a minute"
    return 1
}
ringpost_stop() {
    cg_stop "$RINGPOST_GROUP" 20
    rm -rf "${BENCH_SPOOL:?}/ringpost"
    sync -f "$BENCH_SPOOL" # blocks of removed files are free once the journal has said so
}

null_start() {
    need_free_port "$PORT_NULL"
    mkdir -p "$BENCH_RUN"
    cg_start null "$BENCH_RUN/null.log" "$RINGPOST_BENCH" null --listen "127.0.0.1:$PORT_NULL" --threads "$(nproc)"
    wait_port "$PORT_NULL" || { tail -5 "$BENCH_RUN/null.log" >&2; return 1; }
}
null_stop() { cg_stop null; }

# the sink: ringpost-bench's, or Postfix's smtp-sink with SINK=smtp-sink
sink_start() {
    need_free_port "$PORT_SINK"
    mkdir -p "$BENCH_RUN"
    rm -f "$BENCH_RUN/sink.json"
    if [ "$SINK" = smtp-sink ]; then
        cg_start sink "$BENCH_RUN/sink.log" stdbuf -o0 chroot "$BENCH_DIR/root" smtp-sink -u nobody -c "127.0.0.1:$PORT_SINK" 1000
    else
        cg_start sink "$BENCH_RUN/sink.log" "$RINGPOST_BENCH" sink --listen "127.0.0.1:$PORT_SINK" \
            --threads 1 --json "$BENCH_RUN/sink.json" --quiet ${TLS:+--tls starttls --tls-resume "${SINK_RESUME:-1}" $(sink_pairs)}
    fi
    SINK_PID=$CG_LAST_PID
    wait_port "$PORT_SINK" || { tail -5 "$BENCH_RUN/sink.log" >&2; return 1; }
}
sink_pairs() { for kind in $TLS; do echo "--cert $BENCH_TLS/$kind.pem --key $BENCH_TLS/$kind.key"; done; }
sink_stop() { cg_stop sink; }
sink_messages() {
    local count
    if [ "$SINK" = smtp-sink ]; then
        count=$(tail -c 200 "$BENCH_RUN/sink.log" | tr '\r' '\n' | sed -n 's/.*mesg=\([0-9]*\).*/\1/p' | tail -1)
    else
        kill -USR1 "$SINK_PID" && sleep 0.05 # it writes its counts anew
        count=$(jsonget "$BENCH_RUN/sink.json" messages)
    fi
    echo "${count:-0}"
}

drained() {     # drained COUNT: the sink has got so many
    local end=$((SECONDS + ${DRAIN_MAX:-300}))
    until [ "$(sink_messages)" -ge "$1" ]; do
        [ $SECONDS -lt $end ] || { say "the sink has $(sink_messages) of $1 after ${DRAIN_MAX:-300} s"; return 1; }
        sleep 0.05
    done
}

postfix_start() { "$BENCH_HERE/peers.sh" postfix start "$@"; }
postfix_stop() { "$BENCH_HERE/peers.sh" postfix stop && "$BENCH_HERE/peers.sh" postfix wipe; }

# --- load ------------------------------------------------------------------------------------

# source_run PORT CONNECTIONS PER_CONNECTION SIZE SECONDS JSON: load for a time. PER_CONNECTION 0:
# as many messages on a connection as it takes. smtp-source knows counts only, so it is ended by
# pid after the time and its result has no latencies; the server's own count stands in (COUNTED).
source_run() {
    local port=$1 connections=$2 per=$3 size=$4 seconds=$5 json=$6
    if [ "$SOURCE" = smtp-source ]; then
        local before keep=
        [ "$per" = 0 ] && keep=-d
        before=$(source_counted "$port")
        chroot "$BENCH_DIR/root" smtp-source $keep -s "$connections" -l "$size" -m 100000000 \
            -f sender@example.org -t recipient@example.com "inet:127.0.0.1:$port" > "$BENCH_RUN/source.log" 2>&1 &
        SOURCE_PID=$!
        sleep "$seconds"
        kill "$SOURCE_PID" 2> /dev/null
        wait "$SOURCE_PID" 2> /dev/null
        SOURCE_PID=
        python3 - "$json" "$(($(source_counted "$port") - before))" "$seconds" "$size" <<'PY'
import json, sys
path, messages, seconds, size = sys.argv[1], *map(int, sys.argv[2:])
json.dump({"messages": messages, "seconds": seconds, "messages_per_second": messages / seconds,
           "bytes_per_second": messages * size / seconds, "errors": {"total": 0}, "source": "smtp-source"}, open(path, "w"))
PY
    else
        # shellcheck disable=SC2086 # SOURCE_TLS is words
        "$RINGPOST_BENCH" source --to "127.0.0.1:$port" --connections "$connections" $SOURCE_TLS \
            --per-connection "$per" --size "$size" --seconds "$seconds" --threads "${SOURCE_THREADS:-1}" \
            --from-addresses "$SOURCE_ADDRESSES" --from sender@example.org --rcpt recipient@example.com \
            --json "$json" > "$BENCH_RUN/source.log" 2>&1 \
            || { tail -5 "$BENCH_RUN/source.log" >&2; return 1; }
    fi
}
source_counted() {
    case $1 in
        "$PORT_POSTFIX") "$BENCH_HERE/peers.sh" postfix count ;;
        "$PORT_RINGPOST") metric "$METRIC_ACCEPTED" ;;
        *) die "SOURCE=smtp-source cannot count at port $1" ;;
    esac
}

# jsonget FILE KEY...: a number, rounded; 0 when there is none
jsonget() {
    python3 -c 'import functools, json, sys
print(round(functools.reduce(lambda at, key: at[key], sys.argv[2:], json.load(open(sys.argv[1])))))' "$@" 2> /dev/null || echo 0
}

# result FILE KEY=VALUE...: one measured run; the value @FILE is read as JSON
result() {
    mkdir -p "$(dirname "$1")"
    python3 - "$@" <<'PY'
import json, sys
row = {}
for argument in sys.argv[2:]:
    key, value = argument.split("=", 1)
    if value.startswith("@"):
        row[key] = json.load(open(value[1:]))
        continue
    try:
        row[key] = int(value) if value.lstrip("-").isdigit() else float(value)
    except ValueError:
        row[key] = {"true": True, "false": False}.get(value, value)
json.dump(row, open(sys.argv[1], "w"), indent=1)
PY
}

# --- competitors -----------------------------------------------------------------------------

# competitor_start NAME hold|relay; _stop also empties its spool. Names: ringpost, null, postfix,
# postfix-tuned.
competitor_start() {
    case $1 in
        postfix) TUNED=0 postfix_start "$2" "$PORT_SINK" ;;
        postfix-tuned) TUNED=1 postfix_start "$2" "$PORT_SINK" ;;
        ringpost) ringpost_start "$2" ;;
        null) null_start ;;
        *) die "unknown competitor $1" ;;
    esac
}
competitor_stop() {
    case $1 in
        postfix*) postfix_stop ;;
        *) "$1_stop" ;;
    esac
}
competitor_port() {
    case $1 in
        postfix*) echo "$PORT_POSTFIX" ;;
        ringpost) echo "$PORT_RINGPOST" ;;
        null) echo "$PORT_NULL" ;;
    esac
}
competitor_cgroup() { echo "${1%-tuned}"; }
# syncs asked for: ringpost counts its own; of the others we see what reached the device
competitor_syncs() { if [ "$1" = ringpost ]; then metric "$METRIC_SYNCS"; else device_flushes; fi; }

# what may be compared here: names whose programs exist
competitors_present() {
    local name
    for name in "$@"; do
        case $name in
            ringpost) [ -x "$RINGPOST" ] || { say "left out: ringpost (no $RINGPOST)"; continue; } ;;
            null | disk) [ -x "$RINGPOST_BENCH" ] || { say "left out: $name (no $RINGPOST_BENCH)"; continue; } ;;
            postfix*) [ -e "$BENCH_DIR/root/.ready" ] || "$BENCH_HERE/peers.sh" postfix setup >&2 ||
                { say "left out: $name (no Postfix)"; continue; } ;;
        esac
        echo "$name"
    done
}

bench_begin() { # bench_begin NAME: what every bench needs, and what is undone when it ends
    need_root
    need_program python3
    if [ "$SOURCE" = ringpost-bench ]; then need_program "$RINGPOST_BENCH"; fi
    "$BENCH_HERE/spooldisk.sh" up || exit 1
    "$BENCH_HERE/peers.sh" postfix setup || say "going on without Postfix"
    bench_open "$1"
}
bench_open() {  # the part that needs no disk and no Postfix
    mkdir -p "$BENCH_RUN" "$BENCH_SPOOL" "$BENCH_RESULTS"
    rm -rf "${BENCH_RESULTS:?}/$1"
    mkdir -p "$BENCH_RESULTS/$1"
    trap bench_end EXIT
    trap 'exit 130' INT TERM
    machine_facts | tee "$BENCH_RESULTS/$1/machine.txt"
}
bench_end() {
    local name
    [ -z "${SOURCE_PID:-}" ] || kill "$SOURCE_PID" 2> /dev/null
    for name in holder ringpost ringpost-pool ringpost-few ringpost-many nginx null sink nsd; do cg_stop $name; done
    rm -rf "${BENCH_SPOOL:?}"/{ringpost,few,many} "$BENCH_SPOOL/disk.bench"
    if [ -n "$(cg_pids postfix)" ]; then postfix_stop; fi
    true
}
bench_usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$1"; exit "${2:-0}"; }
