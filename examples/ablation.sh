#!/usr/bin/env bash
# Runs the ablation and draws it, on a fresh machine too:
#   examples/ablation.sh [folder for the results] [options of the ablation]
set -euo pipefail
root="$(realpath "$(dirname "$0")/..")"
build="$root/build/ablation"
output="$build/results"
options=()
while (( $# )); do
  case "$1" in
    --out=*) output="${1#--out=}" ;;
    --out) output="${2:?--out wants a folder}"; shift ;;
    [!-]*) (( ${#options[@]} )) && options+=("$1") || output="$1" ;;
    *) options+=("$1") ;;
  esac
  shift
done
output="$(realpath -m -- "$output")"
source "$root/cmake/setup.sh"
prepare_machine

# A build of its own, which needs neither doctest nor benchmark.
cmake --preset release -S "$root" -B "$build" -DELASTIC_BUILD_TESTS=OFF -DELASTIC_BUILD_BENCHMARKS=OFF
cmake --build "$build" -j "$jobs" --target example_ablation
for option in "${options[@]}"; do
  if [[ "$option" == --help || "$option" == -h ]]; then
    echo "examples/ablation.sh [folder for the results] [options], which are those of"
    exec "$build/examples/ablation" --help
  fi
done
touch "$build/begun"
"$build/examples/ablation" --out "$output" "${options[@]}"

# The packages belong to Debian's own Python, which need not be the first on the path.
find_python() {
  for python in python3 /usr/bin/python3; do
    ! "$python" -c 'import matplotlib, numpy' 2>/dev/null || return 0
  done
  return 1
}
find_python || install_packages python3-matplotlib || true
if find_python; then
  "$python" "$root/examples/plot.py" "$output" >/dev/null
else
  echo "Without matplotlib nothing is drawn; examples/plot.py $output draws it."
fi

echo "Open these files:"
find "$output" -type f -newer "$build/begun" | sort  # not what else lies in that folder
