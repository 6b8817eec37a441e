#!/bin/bash
# peers.sh - Postfix and nginx beside ringpost, in a Debian 12 root of their own, on loopback
#
#   peers.sh postfix setup        debootstrap (minbase) and the package; idempotent; the only step with network
#   peers.sh postfix start hold   accept and queue: every message goes to the hold queue, no delivery
#   peers.sh postfix start relay [PORT]   deliver to the SMTP server at 127.0.0.1:PORT
#   peers.sh postfix stop         orderly stop, then whatever its cgroup still holds
#   peers.sh postfix wipe         empty queue (while stopped)
#   peers.sh postfix port|pids|cpu|count|held|log   SMTP port; processes; CPU in microseconds since start;
#                                 messages in the queue; of these on hold; last lines of its log (LOG=1)
#   peers.sh postfix remove       unmount and delete the root
#   peers.sh nginx setup          nginx and its mail module into the same root
#   peers.sh nginx start          its mail proxy: speaks SMTP and STARTTLS by itself, proxies nothing; ECDSA
#                                 certificate at port 6 of PORT_BASE, RSA at 7; one worker
#   peers.sh nginx stop
#
# TLS=ecdsa, rsa or both: Postfix offers STARTTLS with these, and asks its next hop for it; sessions are
# resumed both ways, by tickets in and from a cache out. Postfix has OpenSSL.
#
# Environment: BENCH_DIR (/var/tmp/ringpost-bench), TUNED=1 (process limits raised; an extra row, not
# the base), LOG=1 (log to a file in the root). Without LOG=1 nobody listens at /dev/log in the root
# and Postfix's log lines end there, which costs it less than a real syslog: in its favour.
# The queue lies on $BENCH_DIR/spool (spooldisk.sh), bind-mounted into the root while it runs.
set -u
. "$(dirname "$0")/lib.sh"

case ${1:-} in -h | --help | '') bench_usage "$0" ;; postfix | nginx) ;; *) bench_usage "$0" 2 ;; esac
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

online() {
    sources > "$root/etc/apt/sources.list.new"
    [ -s "$root/etc/apt/sources.list.new" ] && mv "$root/etc/apt/sources.list.new" "$root/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-)' > "$root/etc/apt/apt.conf.d/90host"
    cp -L /etc/resolv.conf "$root/etc/resolv.conf"
    sed -i 's/^hosts:.*/hosts: files dns/' "$root/etc/nsswitch.conf"
}
offline() {     # nothing in there may ask the network for a name
    printf '127.0.0.1 localhost mx.example.net\n' > "$root/etc/hosts"
    echo "nameserver 127.0.0.1" > "$root/etc/resolv.conf"
    sed -i 's/^hosts:.*/hosts: files/' "$root/etc/nsswitch.conf"
}
install_packages() {
    { chroot "$root" apt-get update -q &&
        DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -q -y --no-install-recommends "$@"; } \
        >> "$BENCH_DIR/setup.log" 2>&1 || die "apt in the root failed: $(tail -3 "$BENCH_DIR/setup.log")"
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
    online
    printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
    echo mx.example.net > "$root/etc/mailname"
    printf '127.0.0.1 localhost mx.example.net\n' > "$root/etc/hosts"
    say "installing postfix in it"
    echo "postfix postfix/main_mailer_type select No configuration" | chroot "$root" debconf-set-selections
    install_packages postfix
    offline
    cp -a "$queue" "$queue.pristine"
    touch "$root/.ready"
    say "$(chroot "$root" dpkg-query -W -f '${Package} ${Version}' postfix) is ready"
}

configure_tls() {
    local kind prefix
    cp -r "$BENCH_TLS" "$root/etc/postfix/" || die "no certificates in $BENCH_TLS"
    for kind in $TLS; do
        prefix=smtpd_tls_
        [ "$kind" = rsa ] || prefix=smtpd_tls_ec
        echo "${prefix}cert_file = /etc/postfix/tls/$kind.pem"
        echo "${prefix}key_file = /etc/postfix/tls/$kind.key"
    done
    printf '%s\n' "smtpd_tls_security_level = may" "smtp_tls_security_level = encrypt" \
        "smtp_tls_session_cache_database = btree:\${data_directory}/smtp_scache"
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
        [ -n "$TLS" ] && configure_tls
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

# --- nginx ----------------------------------------------------------------------------------

nginx_setup() {
    [ -x "$root/usr/sbin/nginx" ] && { say "nginx is set up in $root"; return; }
    setup
    say "installing nginx in it"
    online
    install_packages nginx-light libnginx-mod-mail
    offline
    say "$(chroot "$root" dpkg-query -W -f '${Package} ${Version} ' nginx-light libssl3)is ready"
}

# Keepalive, logs and limits aside it is as shipped; auth_http is never asked: nobody sends mail.
nginx_configure() {
    local kind port=$PORT_NGINX
    mkdir -p "$root/etc/nginx/bench" && cp -r "$BENCH_TLS" "$root/etc/nginx/bench/" || die "no certificates in $BENCH_TLS"
    {
        echo "daemon off; user root; worker_processes 1; worker_rlimit_nofile 65536; pid /run/nginx-bench.pid;"
        echo "error_log /dev/null crit; load_module /usr/lib/nginx/modules/ngx_mail_module.so;"
        echo "events { worker_connections 20000; }"
        echo "mail {"
        echo "  server_name mx.example.net; auth_http 127.0.0.1:1/; smtp_auth none;"
        echo '  smtp_capabilities PIPELINING "SIZE 50000000" 8BITMIME SMTPUTF8 CHUNKING ENHANCEDSTATUSCODES DSN;'
        echo "  ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:bench:20m; starttls on;"
        for kind in ecdsa rsa; do
            echo "  server { listen 127.0.0.1:$port backlog=4096; protocol smtp;"
            echo "    ssl_certificate /etc/nginx/bench/tls/$kind.pem; ssl_certificate_key /etc/nginx/bench/tls/$kind.key; }"
            port=$((port + 1))
        done
        echo "}"
    } > "$root/etc/nginx/bench/nginx.conf"
}

nginx_start() {
    [ -x "$root/usr/sbin/nginx" ] || die "not set up: $0 nginx setup"
    need_free_port "$PORT_NGINX" $((PORT_NGINX + 1))
    nginx_configure
    mkdir -p "$BENCH_RUN" "$root/dev"
    [ -e "$root/dev/null" ] || mknod -m 666 "$root/dev/null" c 1 3
    cg_start nginx "$BENCH_RUN/nginx.log" chroot "$root" nginx -c /etc/nginx/bench/nginx.conf
    wait_port "$PORT_NGINX" 20 || { cat "$BENCH_RUN/nginx.log" >&2; exit 1; }
}

need_root
if [ "$1" = nginx ]; then
    case $command in
        setup) nginx_setup ;;
        start) nginx_start ;;
        stop) cg_stop nginx ;;
        *) bench_usage "$0" 2 ;;
    esac
    exit
fi
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
