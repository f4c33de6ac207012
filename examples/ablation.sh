#!/usr/bin/env bash
# Runs the ablation and draws it, on a fresh machine too: examples/ablation.sh [folder for the results [options]].
set -euo pipefail
here="$(dirname "$0")"
output="$(realpath -m "${1:-$here/../build/release/ablation}")"
shift || true
cd "$here/.."
source cmake/setup.sh

python=python3
if ! "$python" -c 'import matplotlib' 2>/dev/null; then
  install_packages python3-matplotlib
  [[ ! -x /usr/bin/python3 ]] || python=/usr/bin/python3
fi

cmake --preset release
cmake --build --preset release -j "$jobs" --target example_ablation
build/release/examples/ablation --out "$output" "$@"
"$python" examples/plot.py "$output" >/dev/null

echo
echo "Open these files:"
find "$output" -type f | sort
