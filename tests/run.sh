#!/bin/bash
# run.sh - everything that is tested, from a bare Debian 12 on; run it again whenever you like
#
#   tests/run.sh [STEP...]      all steps, or those named; tests/run.sh --help lists them
#
# Installs what is missing (root), then tests/run.py builds and tests. Everything is kept in build*/
# (git ignores them), logs in build/logs/. The last line is "N passed, M failed".
set -eu
cd "$(dirname "$0")/.."
case ${1:-} in -h | --help) ;; *) tests/install.sh all ;; esac
exec python3 tests/run.py "$@"
