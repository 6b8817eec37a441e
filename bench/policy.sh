#!/bin/bash
# policy.sh - what connectors cost
#
#   policy.sh [--help]
#
# First the decisions alone, on one core (ringpost-bench policy): FEW and MANY connectors in each
# direction with twice as many domain patterns, MAIL and RCPT and the way out, beside two look-ups in
# a table of as many patterns, the least that anybody could do. Then the whole server: 1 KiB messages over 100 connections that
# are kept, taken into the spool with one connector and with INBOUND_MANY of them, by turns.
#
# The whole server's figures differ by more from round to round, on a shared machine, than decisions
# of a tenth of a microsecond can explain: look at the first table for their price, and at the second
# for surprises.
#
# Environment: BUILD, BENCH_DIR, FEW (2), MANY (10000), INBOUND_MANY (1000), ROUNDS (5), SECONDS_EACH
# (5), WARMUP (1); SERVER=0 leaves the second part out. About a minute and a half. Results:
# $BENCH_DIR/results/policy
set -u
ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-5}
WARMUP=${WARMUP:-1}
. "$(dirname "$0")/lib.sh"
case ${1:-} in '') ;; -h | --help) bench_usage "$0" ;; *) bench_usage "$0" 2 ;; esac

need_root
need_program python3 "$RINGPOST" "$RINGPOST_BENCH"
if [ "${SERVER:-1}" = 1 ]; then "$BENCH_HERE/spooldisk.sh" up || exit 1; fi
bench_open policy
for connectors in "${FEW:-2}" "${MANY:-10000}"; do
    "$RINGPOST_BENCH" policy --connectors "$connectors" --json "$BENCH_RESULTS/policy/decide-$connectors.json" || exit 1
    echo
done
[ "${SERVER:-1}" = 1 ] || exit 0
for ((round = 1; round <= ROUNDS; round++)); do
    for connectors in 1 "${INBOUND_MANY:-1000}"; do
        INBOUND=$connectors ringpost_start hold || exit 1
        source_run "$PORT_RINGPOST" 100 0 1024 "$WARMUP" "$BENCH_RUN/source.json.warm"
        source_run "$PORT_RINGPOST" 100 0 1024 "$SECONDS_EACH" "$BENCH_RESULTS/policy/accept-$connectors-$round.json"
        say "round $round, $connectors connectors: $(jsonget "$BENCH_RESULTS/policy/accept-$connectors-$round.json" messages_per_second) messages/s"
        ringpost_stop
    done
done
python3 - "$BENCH_RESULTS/policy" 1 "${INBOUND_MANY:-1000}" <<'PY'
import glob, json, statistics, sys
folder, few, many = sys.argv[1:]
rates = {n: [json.load(open(p))["messages_per_second"] for p in glob.glob(f"{folder}/accept-{n}-*.json")] for n in (few, many)}
for n in (few, many):
    print(f"{n:>6} connectors: {statistics.median(rates[n]):9,.0f} messages/s (median; {min(rates[n]):,.0f} to {max(rates[n]):,.0f})")
print(f"with {many}: {statistics.median(rates[many]) / statistics.median(rates[few]):.3f} of the rate with {few} (target >= 0.97)")
PY
