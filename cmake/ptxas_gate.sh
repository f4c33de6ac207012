#!/usr/bin/env bash
# ptxas_gate.sh [no-spills] COMPILER ARGUMENT…: compiles with -Xptxas=-v, and fails where ptxas says that a Hopper kernel
# is not the one that was written: wgmma made serial or setmaxnreg ignored (notes C7500 to C7599; C7519, a fence that it
# adds, is let through), and with no-spills where a kernel of cuda/sm90 has local memory, as for spilled registers.
set -uo pipefail
no_spills=false
if [[ "$1" == no-spills ]]; then
  no_spills=true
  shift
fi
said="$("$@" 2>&1 >/dev/null)"
status=$?
[[ -z "$said" ]] || grep -vE '^ptxas info +: (0 bytes gmem|[0-9]+ bytes gmem|Compiling entry|Function properties|Used )|^ +[0-9]+ bytes stack frame|^ptxas info +: Compile time' \
  <<<"$said" >&2
[[ $status -eq 0 ]] || exit $status

refuse() {
  printf 'ptxas_gate: %s\n' "$1" >&2
  while [[ $# -gt 1 ]]; do  # what was built must not be taken for good
    [[ "$1" == -o ]] && rm -f "$2"
    shift
  done
  exit 1
}
notes="$(grep -E '\(?C75[0-9]{2}\)?' <<<"$said" | grep -v C7519)"
[[ -z "$notes" ]] || refuse "a Hopper kernel is slower than it was written: see the notes C75xx above" "$@"
if $no_spills; then
  spills="$(awk '/Function properties for/ { name = $NF }
                 /bytes spill stores/ && !/ 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/ && name ~ /sm90_(forward|antidiagonal)/ { print name ":" $0 }' \
            <<<"$said")"
  [[ -z "$spills" ]] || refuse "local memory is used"$'\n'"$spills" "$@"
fi
