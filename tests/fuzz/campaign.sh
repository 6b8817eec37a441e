#!/usr/bin/env bash
# campaign.sh - long runs of the fuzz targets, with a count for each
#
# Usage: tests/fuzz/campaign.sh [--runs N] [--max-len N] [--plain] [--dir DIR] [TARGET...]
#   --runs N     executions of each target (default 10,000,000)
#   --max-len N  octets of an input (default 4096)
#   --plain      build without sanitizers: many times as fast; CHECKs and crashes still count
#   --dir DIR    where binaries, corpora and logs go (default build-campaign, and build-campaign-session);
#                a corpus found there is gone on with
#   TARGET       some of them, without fuzz_ (default: all)
# Comparisons are not traced here, which halves the time: the corpora, and tests/run.sh, whose targets
# do trace them, have found the way into each parser. BoringSSL under session has no sanitizers: what
# is fuzzed there is our use of it, and whose memory we touch still shows (library_memory.c). Freed
# memory is kept from use for as long as an input runs, not for 256 MB, which leave the caches.
# Prints a line for each: executions, seconds, executions a second, findings. Exit status 1: a finding.
set -eu
cd "$(dirname "$0")/../.."
runs=10000000 length=4096 plain=0 dir=build-campaign targets=()
while [ $# -gt 0 ]; do
  case $1 in
    --runs) runs=$2; shift ;;
    --max-len) length=$2; shift ;;
    --plain) plain=1 ;;
    --dir) dir=$2; shift ;;
    -h|--help) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \?//'; exit 0 ;;
    -*) echo "campaign.sh: unknown option $1" >&2; exit 2 ;;
    *) targets+=("$1") ;;
  esac
  shift
done
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cd tests/fuzz && ls fuzz_*.c | sed 's/fuzz_//; s/\.c//')
sanitize=address,undefined
[ $plain = 0 ] || sanitize=none
export ASAN_OPTIONS=${ASAN_OPTIONS:-quarantine_size_mb=8}
build() {  # DIRECTORY BORINGSSL_SANITIZED TARGET...
  local directory=$1 boringssl=$2; shift 2
  if [ ! -e "$directory/build.ninja" ]; then
    mkdir -p "$directory"
    CC=clang meson setup "$directory" . -Dfuzzers=true -Dtests=false -Dbuildtype=debugoptimized \
      -Db_lto=false -Db_sanitize=$sanitize -Dboringssl_sanitized=$boringssl -Db_lundef=false -Djemalloc=disabled \
      -Dc_args=-fno-sanitize-coverage=trace-cmp > "$directory/setup.log" 2>&1 ||
      { cat "$directory/setup.log" >&2; exit 1; }
  fi
  ninja -C "$directory" $(printf 'tests/fuzz_%s ' "$@") > "$directory/build.log" 2>&1 ||
    { tail -n 40 "$directory/build.log" >&2; exit 1; }
}
for t in "${targets[@]}"; do
  case $t in
    session) build "$dir-session" false "$t" ;;
    *) build "$dir" true "$t" ;;
  esac
done
status=0
printf '%-10s %14s %9s %12s  %s\n' target executions seconds per_second findings
for t in "${targets[@]}"; do
  corpus=$dir/corpus/$t; mkdir -p "$corpus"
  build=$dir; [ "$t" != session ] || build=$dir-session
  dictionary=tests/fuzz/dictionary/fuzz_$t.dict
  [ -e "$dictionary" ] || dictionary=tests/fuzz/dictionary/$t.dict
  seeds=tests/fuzz/corpus/fuzz_$t; [ -d "$seeds" ] || seeds=tests/fuzz/corpus/$t
  begun=$(date +%s)
  found=none
  "$build/tests/fuzz_$t" -runs="$runs" -entropic=0 -max_len="$length" -timeout=300 -rss_limit_mb=4096 -print_final_stats=1 \
    $( [ -e "$dictionary" ] && echo "-dict=$dictionary" ) -artifact_prefix="$dir/finding-$t-" \
    "$corpus" $( [ -d "$seeds" ] && echo "$seeds" ) > "$dir/$t.log" 2>&1 ||
    { found="see $dir/$t.log and $dir/finding-$t-*"; status=1; }
  seconds=$(( $(date +%s) - begun ))
  done_runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$dir/$t.log")
  printf '%-10s %14s %9s %12s  %s\n' "$t" "${done_runs:-?}" "$seconds" \
    "$(( ${done_runs:-0} / (seconds > 0 ? seconds : 1) ))" "$found"
done
exit $status
