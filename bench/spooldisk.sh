#!/bin/bash
# spooldisk.sh - a disk of its own for the spools, so that the state of the root filesystem does
# not decide the figures
#
#   spooldisk.sh up       ext4 (journal, default options, no discard) on a loop device with direct
#                         I/O over a fully written image of $SPOOL_MB MiB (12288); mounted at
#                         $BENCH_DIR/spool. Where loop devices are not to be had (containers), or
#                         with SPOOL_LOOP=0, a plain directory stands in, and is told as such
#   spooldisk.sh fresh    make the filesystem anew (nothing may be using it)
#   spooldisk.sh down     unmount and detach; the image is kept
#   spooldisk.sh remove   down, and delete the image
#
# Competitors must share it: start all of them on the same one. BENCH_DIR: /var/tmp/ringpost-bench
set -u
. "$(dirname "$0")/lib.sh"

image=$BENCH_DIR/spool.img
spool_mb=${SPOOL_MB:-12288}

device() { losetup -j "$image" 2> /dev/null | head -1 | cut -d: -f1; }
format_and_mount() {
    # no lazy initialisation: the kernel must not write behind our backs while we measure
    mkfs.ext4 -q -F -m 0 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$(device)" &&
        mount -o nodiscard "$(device)" "$BENCH_SPOOL"
}
plain() {
    say "$1: $BENCH_SPOOL is a plain directory on $(df --output=fstype,source "$BENCH_SPOOL" | tail -1 | xargs)"
    exit 0
}

up() {
    mkdir -p "$BENCH_SPOOL" || exit 1
    mountpoint -q "$BENCH_SPOOL" && { say "the spool disk is up: $BENCH_SPOOL"; return; }
    [ "${SPOOL_LOOP:-1}" = 1 ] || plain "SPOOL_LOOP=0"
    losetup -f > /dev/null 2>&1 || plain "no loop devices here"
    if [ ! -e "$image" ]; then
        say "writing an image of $spool_mb MiB"
        dd if=/dev/zero of="$image.new" bs=1M count="$spool_mb" oflag=direct status=none ||
            { rm -f "$image.new"; plain "cannot write an image of $spool_mb MiB"; }
        mv "$image.new" "$image"
    fi
    if [ -z "$(device)" ]; then
        losetup -f --direct-io=on "$image" || plain "losetup refused"
    fi
    format_and_mount || plain "cannot mount the image"
    say "the spool disk is up: $BENCH_SPOOL on $(device)"
}

down() {
    if mountpoint -q "$BENCH_SPOOL"; then umount "$BENCH_SPOOL" || exit 1; fi
    [ -z "$(device)" ] || losetup -d "$(device)"
}

case ${1:-} in
    up) need_root; up ;;
    fresh)
        need_root
        [ -n "$(device)" ] || die "no spool disk is up"
        if mountpoint -q "$BENCH_SPOOL"; then umount "$BENCH_SPOOL" || exit 1; fi
        format_and_mount ;;
    down) need_root; down ;;
    remove) need_root; down; rm -f "$image" ;;
    -h | --help) bench_usage "$0" ;;
    *) bench_usage "$0" 2 ;;
esac
