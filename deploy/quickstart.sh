#!/bin/bash
# quickstart.sh - from a bare Debian 12 to a mail that went through ringpost, in a few minutes
#
#   deploy/quickstart.sh [--keep]
#
# Installs what is missing (root), fetches BoringSSL (tls/boringssl/get.py), builds, makes a self-signed
# certificate, starts ringpost (loopback ports 2525 and 8025, everything below build/quickstart/) and a
# sink that takes its mail, sends a message with swaks by TLS, and shows its trace. Its configuration
# is the built-in one and the certificate. Stops both at the end; --keep leaves them running.
set -eu
keep=
case ${1:-} in
    '') ;;
    --keep) keep=1 ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
root=$PWD
build=$root/build
here=$build/quickstart
step() { printf '\n== %s\n' "$*"; }
fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

step "packages and build"
tests/install.sh quickstart
# meson calls it too, but says nothing for half a minute; a build folder may have another source
source=$(sed -n 's/^boringssl_source = //p' "$build/meson-private/cmd_line.txt" 2> /dev/null || true)
if ! grep -qs '^boringssl = system' "$build/meson-private/cmd_line.txt"; then
    tls/boringssl/get.py --source "${source:-debian}" > /dev/null || fail "no BoringSSL"
fi
if [ ! -e "$build/build.ninja" ]; then
    # the tests are built when tests/run.sh asks for them; Criterion need not be there yet
    tests=false
    if pkg-config --exists criterion; then tests=true; fi
    CC=gcc meson setup "$build" -Dtests=$tests > /dev/null || fail "meson setup failed"
fi
ninja -C "$build" ringpost ringpost-bench | tail -1

mkdir -p "$here"
cd "$here"
for name in ringpost sink; do   # left behind by --keep
    if [ -e $name.pid ]; then
        pid=$(cat $name.pid)
        case $(readlink "/proc/$pid/exe" 2> /dev/null) in "$build"/ringpost*) kill "$pid" 2> /dev/null || true ;; esac
        for _ in $(seq 100); do [ -e "/proc/$pid" ] || break; sleep 0.1; done
        rm -f $name.pid
    fi
done
for port in 2525 2526 8025; do
    if (exec 3<> /dev/tcp/127.0.0.1/$port) 2> /dev/null; then fail "somebody listens on 127.0.0.1:$port already"; fi
done
rm -f ringpost.log sink.received

stop() {
    for pid in ${ringpost_pid:-} ${sink_pid:-}; do kill "$pid" 2> /dev/null && wait "$pid" 2> /dev/null; done
    rm -f ringpost.pid sink.pid
    true
}
[ -n "$keep" ] || trap stop EXIT
await() {   # await SECONDS COMMAND...
    local i n=$(($1 * 20))
    shift
    for ((i = 0; i < n; i++)); do "$@" > /dev/null 2>&1 && return 0; sleep 0.05; done
    return 1
}

step "ringpost cert make: a self-signed certificate; and a configuration that uses it"
rm -rf tls
"$build/ringpost" cert make --name localhost.localdomain --name localhost --out tls > certificate.conf
{
    cat certificate.conf
    cat << 'CONFIG'
hostname = localhost.localdomain
user = ""
spool { directory = spool }
listener "in" {
    addresses = { "127.0.0.1:2525", "[::1]:2525" }
    certificates = { localhost.localdomain }
}
relay { domains = { example.org, "*.example.org", "*.test" } }
limits { per-address = 0 per-v4-24 = 0 per-v6-64 = 0 }
outbound "sink" { type = own state = enforce domains = { "*" } hosts = { "127.0.0.1:2526" } }
admin { socket = admin.sock addresses = { "127.0.0.1:8025" } }
CONFIG
} > ringpost.conf
"$build/ringpost" cert show -c ringpost.conf

step "ringpost serve, and a sink on port 2526"
"$build/ringpost-bench" sink --listen 127.0.0.1:2526 --received sink.received --quiet > sink.log 2>&1 &
sink_pid=$!
echo $sink_pid > sink.pid
"$build/ringpost" serve -c ringpost.conf > ringpost.log 2>&1 &
ringpost_pid=$!
echo $ringpost_pid > ringpost.pid
await 20 curl --noproxy '*' -fs http://127.0.0.1:8025/readyz || { tail -5 ringpost.log; fail "ringpost is not ready"; }
echo "ready: SMTP with STARTTLS on 127.0.0.1:2525, HTTP on 127.0.0.1:8025"

step "a message by swaks, with STARTTLS"
swaks --tls --server 127.0.0.1 --port 2525 --from you@example.com --to friend@example.org \
    --header "Subject: hello" --body "Through ringpost." --hide-informational > swaks.log 2>&1 ||
    { cat swaks.log; fail "swaks could not send"; }
grep -E '^ *(->|~>|<-|<~|\*\*)' swaks.log
id=$(sed -n 's/.*queued as \([0-9A-Z]*\).*/\1/p' swaks.log)
[ -n "$id" ] || fail "no queue id in the reply"

step "its trace in the log: $id"
await 20 grep -q "\"delivered\".*\"$id\"" ringpost.log || { grep "$id" ringpost.log; fail "not delivered"; }
grep "$id" ringpost.log
echo
echo "received by TLS: $(grep "\"received\".*\"$id\"" ringpost.log | grep -oE '"(tls|suite|group|resumed)":("[^"]*"|[a-z]+)' | paste -sd ' ')"
[ "$(wc -l < sink.received)" -ge 1 ] || fail "the sink has nothing"

step "/metrics, some of them"
curl --noproxy '*' -fs http://127.0.0.1:8025/metrics |
    grep -E '^ringpost_(smtp_messages_total|spool_syncs_total|delivery_recipients_total.*delivered|queue_messages|tls_handshakes_total.*server.*full[^ ]*)[{ ]'

step "ringpost queue list"
"$build/ringpost" queue list -c ringpost.conf

step "what to try next"
cat <<NEXT
  deploy/quickstart.sh --keep                          leave it running (here: $here)
  build/ringpost tls probe 127.0.0.1:2525              while it runs: all that a sender sees of its TLS
  build/ringpost-bench source --to 127.0.0.1:2525 --connections 100 --seconds 10 --rcpt x@example.org
                                                       load, with percentiles
  build/ringpost check -c deploy/ringpost.conf.example every key, explained; copy it and make it yours
  deploy/ringpost.service, deploy/sysctl.conf          to run it for good
  tests/run.sh                                         all tests
NEXT
if [ -n "$keep" ]; then
    printf '\nStill running: ringpost %s, sink %s; end them with: kill %s %s\n' $ringpost_pid $sink_pid $ringpost_pid $sink_pid
    disown -a
else
    stop
    trap - EXIT
    printf '\nStopped again. All is well.\n'
fi
