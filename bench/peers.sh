#!/bin/bash
# peers.sh - Postfix beside ringpost, in a Debian 12 root of its own, on loopback
#
#   peers.sh postfix setup        debootstrap (minbase) and the package; idempotent; the only step with network
#   peers.sh postfix start hold   accept and queue: every message goes to the hold queue, no delivery
#   peers.sh postfix start relay [PORT]   deliver to the SMTP server at 127.0.0.1:PORT
#   peers.sh postfix stop         orderly stop, then whatever its cgroup still holds
#   peers.sh postfix wipe         empty queue (while stopped)
#   peers.sh postfix port|pids|cpu|count|held|log   SMTP port; processes; CPU in microseconds since start;
#                                 messages in the queue; of these on hold; last lines of its log (LOG=1)
#   peers.sh postfix remove       unmount and delete the root
#
# Environment: BENCH_DIR (/var/tmp/ringpost-bench), TUNED=1 (process limits raised; an extra row, not
# the base), LOG=1 (log to a file in the root). Without LOG=1 nobody listens at /dev/log in the root
# and Postfix's log lines end there, which costs it less than a real syslog: in its favour.
# The queue lies on $BENCH_DIR/spool (spooldisk.sh), bind-mounted into the root while it runs.
set -u
. "$(dirname "$0")/lib.sh"

case ${1:-} in -h | --help | '') bench_usage "$0" ;; postfix) ;; *) bench_usage "$0" 2 ;; esac
command=${2:-}
mode=${3:-hold}
next_hop_port=${4:-$PORT_SINK}
root=$BENCH_DIR/root
queue=$root/var/spool/postfix
suite=bookworm

sources() {     # the host's own Debian sources for this release; nothing when it runs another one
    apt-get indextargets --format '$(ORIGIN)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -F'|' -v suite=$suite '$1 == "Debian" && index($2, " " suite) { print $2 }' | sort -u
}

setup() {
    local mirror proxy
    [ -e "$root/.ready" ] && { say "Postfix is set up in $root"; return; }
    command -v debootstrap > /dev/null || apt-get install -qq -y debootstrap || die "needs debootstrap"
    mkdir -p "$BENCH_DIR" || exit 1
    findmnt -no OPTIONS -T "$BENCH_DIR" | tr , '\n' | grep -qxE 'nodev|noexec' &&
        die "$BENCH_DIR is mounted nodev or noexec: set BENCH_DIR to a place elsewhere"
    if [ ! -x "$root/usr/bin/dpkg" ]; then
        mirror=$(sources | awk -v suite=$suite '$3 == suite { print $2; exit }')
        eval "$(apt-config shell proxy Acquire::http::Proxy)"
        [ -n "${proxy:-}" ] && export http_proxy=$proxy
        say "debootstrap $suite into $root (about a minute)"
        rm -rf "$root.new"
        debootstrap --variant=minbase $suite "$root.new" ${mirror:+"$mirror"} > "$BENCH_DIR/setup.log" 2>&1 ||
            die "debootstrap failed: $(tail -3 "$BENCH_DIR/setup.log")"
        mv "$root.new" "$root"
    fi
    sources > "$root/etc/apt/sources.list.new"
    [ -s "$root/etc/apt/sources.list.new" ] && mv "$root/etc/apt/sources.list.new" "$root/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-)' > "$root/etc/apt/apt.conf.d/90host"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    echo mx.example.net > "$root/etc/mailname"
    printf '127.0.0.1 localhost mx.example.net\n' > "$root/etc/hosts"
    say "installing postfix in it"
    echo "postfix postfix/main_mailer_type select No configuration" | chroot "$root" debconf-set-selections
    { chroot "$root" apt-get update -q &&
        DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -q -y --no-install-recommends postfix; } \
        >> "$BENCH_DIR/setup.log" 2>&1 || die "apt in the root failed: $(tail -3 "$BENCH_DIR/setup.log")"
    # from here on nothing in there may ask the network for a name
    printf '127.0.0.1 localhost mx.example.net\n' > "$root/etc/hosts"
    echo "nameserver 127.0.0.1" > "$root/etc/resolv.conf"
    sed -i 's/^hosts:.*/hosts: files/' "$root/etc/nsswitch.conf"
    cp -a "$queue" "$queue.pristine"
    touch "$root/.ready"
    say "$(chroot "$root" dpkg-query -W -f '${Package} ${Version}' postfix) is ready"
}

configure() {
    # stock, but: our port, no chroot jails within the chroot, loopback may relay, no name service
    sed -e "s/^smtp  *inet.*/127.0.0.1:$PORT_POSTFIX inet n - n - - smtpd/" \
        -e 's/^\([a-z]* *\(unix\|inet\) *[-yn] *[-yn] *\)y/\1n/' \
        "$root/usr/share/postfix/master.cf.dist" > "$root/etc/postfix/master.cf"
    {
        echo "compatibility_level = 3.6"
        echo "myhostname = mx.example.net"
        echo "mydestination ="
        echo "inet_interfaces = 127.0.0.1"
        echo "inet_protocols = ipv4"
        echo "mynetworks = 127.0.0.0/8"
        echo "alias_maps ="
        echo "local_recipient_maps ="
        echo "biff = no"
        echo "message_size_limit = 50000000"
        echo "relayhost = [127.0.0.1]:$next_hop_port"
        [ "$mode" = hold ] && echo "smtpd_sender_restrictions = check_sender_access static:HOLD"
        [ "${LOG:-0}" = 1 ] && echo "maillog_file = /var/log/postfix.log"
        [ "${TUNED:-0}" = 1 ] && printf '%s\n' "default_process_limit = 1100" \
            "default_destination_concurrency_limit = 100" "in_flow_delay = 0"
    } > "$root/etc/postfix/main.cf"
    [ "${LOG:-0}" = 1 ] && ! grep -q ^postlog "$root/etc/postfix/master.cf" &&
        echo "postlog unix-dgram n - n - 1 postlogd" >> "$root/etc/postfix/master.cf"
    true
}

queue_up() {    # the queue is a directory of the spool disk
    mountpoint -q "$queue" && return 0
    mkdir -p "$BENCH_SPOOL" && { [ -d "$BENCH_SPOOL/postfix" ] || cp -a "$queue.pristine" "$BENCH_SPOOL/postfix"; } &&
        mount --bind "$BENCH_SPOOL/postfix" "$queue"
}

start() {
    case $mode in hold | relay) ;; *) bench_usage "$0" 2 ;; esac
    [ -e "$root/.ready" ] || die "not set up: $0 postfix setup"
    [ -z "$(cg_pids postfix)" ] || die "Postfix is running already"
    need_free_port "$PORT_POSTFIX"
    configure
    queue_up || die "cannot mount its queue"
    mkdir -p "$BENCH_RUN"
    cg_start postfix "$BENCH_RUN/postfix.log" chroot "$root" postfix start
    wait_port "$PORT_POSTFIX" 20 || { cat "$BENCH_RUN/postfix.log" >&2; exit 1; }
}

stop() {
    if [ -n "$(cg_pids postfix)" ]; then
        chroot "$root" postfix stop > /dev/null 2>&1
        cg_wait_empty postfix 20
    fi
    cg_stop postfix || exit 1
    if mountpoint -q "$queue"; then umount "$queue" || exit 1; fi
}

need_root
case $command in
    setup) setup ;;
    start) start ;;
    stop) stop ;;
    wipe)
        [ -z "$(cg_pids postfix)" ] || die "Postfix is running"
        rm -rf "${BENCH_SPOOL:?}/postfix" ;;
    port) echo "$PORT_POSTFIX" ;;
    pids) cg_pids postfix ;;
    cpu) cg_cpu_us postfix ;;
    # names are queue identifiers; a file becomes executable (0700) when the message is complete
    count) find "$BENCH_SPOOL/postfix/"{incoming,active,deferred,hold} -type f -perm 0700 2> /dev/null | wc -l ;;
    held) find "$BENCH_SPOOL/postfix/hold" -type f | wc -l ;;
    log) tail -20 "$root/var/log/postfix.log" ;;
    remove)
        stop
        grep -q " $root/" /proc/mounts && die "something is still mounted below $root"
        rm -rf "${root:?}" ;;
    *) bench_usage "$0" 2 ;;
esac
