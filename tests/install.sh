#!/bin/bash
# install.sh - Debian packages that building and testing need; quick when all are there
#
#   tests/install.sh quickstart     to build ringpost and send a mail through it
#   tests/install.sh all            also what tests/run.sh uses: clang, Criterion, mail servers to talk to
#
# Only what is missing is installed, by apt-get, which needs root. No service is started: the tests
# start instances of their own.
set -eu

quickstart="gcc g++ libc6-dev dpkg-dev xz-utils meson ninja-build pkg-config python3 liburing-dev libjemalloc-dev libunbound-dev
    libconfuse-dev libmicrohttpd-dev libjansson-dev libidn2-dev libxxhash-dev libsystemd-dev
    libcurl4-gnutls-dev libgnutls28-dev liblmdb-dev zlib1g-dev swaks libnet-ssleay-perl curl"
all="$quickstart git openssl ca-certificates clang clang-14 clang-tidy clang-format llvm libclang-rt-14-dev libcriterion-dev
    postfix nsd ldnsutils dovecot-core dovecot-lmtpd msmtp gnutls-bin python3-cryptography python3-dkim python3-nacl testssl.sh prometheus systemd
    e2fsprogs xfsprogs mount util-linux procps
    libdb5.3 libevent-2.1-7 libgnutls-dane0 libidn12 libnsl2 libpam0g libpcre2-8-0"
# Postfix excludes these: they are unpacked below the cache, with the libraries above, and only root
# runs them (tests/flow/peers.py). Delete the folder to have them fetched anew.
peers="exim4-daemon-light opensmtpd"
peers_folder=${RINGPOST_CACHE:-${XDG_CACHE_HOME:-~/.cache}}/ringpost/peers

case ${1:-} in
    quickstart) wanted=$quickstart ;;
    all) wanted=$all ;;
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac

update() {
    apt-get update -qq || echo "install.sh: apt-get update failed; trying with the lists that are there" >&2
}

unpack_peers() {
    local package new=$peers_folder.new.$$
    if [ "$wanted" != "$all" ] || [ "$(id -u)" != 0 ] || [ -e "$peers_folder" ]; then return; fi
    echo "unpacking: $peers"
    mkdir -p "$new"
    # shellcheck disable=SC2086
    (cd "$new" && { apt-get download -qq -o APT::Sandbox::User=root $peers 2> /dev/null ||
        { update && apt-get download -qq -o APT::Sandbox::User=root $peers; }; } &&
        for package in *.deb; do dpkg-deb -x "$package" . && rm "$package" || exit 1; done) ||
        { rm -rf "$new"; echo "install.sh: cannot fetch and unpack $peers" >&2; exit 1; }
    mv -T "$new" "$peers_folder" 2> /dev/null || rm -rf "$new"   # another one was quicker
}

missing=
# shellcheck disable=SC2086
present=" $(dpkg-query -W -f '${db:Status-Abbrev}${Package} ' $wanted 2> /dev/null | tr -s ' ' '\n' |
    awk '$1 == "ii" { getline; print }' | tr '\n' ' ')"
for package in $wanted; do
    case $present in *" $package "*) ;; *) missing="$missing $package" ;; esac
done
# any of libcurl's flavours has the same interface
case $missing in *libcurl4-gnutls-dev*)
    if pkg-config --exists libcurl 2> /dev/null; then missing=${missing/ libcurl4-gnutls-dev/}; fi ;;
esac
[ -n "$missing" ] || { unpack_peers; exit 0; }

[ "$(id -u)" = 0 ] || { echo "install.sh: these packages are missing, and only root can install them:$missing" >&2; exit 1; }
echo "installing:$missing"

# Postfix asks nothing and is not configured; nothing that is installed here is started.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod 755 $policy
    made=1
fi
trap '[ -z "$made" ] || rm -f $policy' EXIT
export DEBIAN_FRONTEND=noninteractive
update
command -v debconf-set-selections > /dev/null &&
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
# shellcheck disable=SC2086
apt-get install -qq -y --no-install-recommends $missing > /dev/null
unpack_peers
