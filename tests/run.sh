#!/usr/bin/env bash
# Builds and runs every test, on a fresh machine too: tests/run.sh [preset], by default release.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/setup.sh
prepare_machine doctest-dev libbenchmark-dev

preset="${1:-release}"
cmake --preset "$preset"
cmake --build --preset "$preset" -j "$jobs"
ctest --preset "$preset" -j "$jobs"
