#!/usr/bin/env bash
# ptxas_gate.sh [no-spills] COMPILER ARGUMENT…: compiles with -Xptxas=-v, and fails where ptxas says that a Hopper kernel
# is not the one that was written: wgmma made serial or setmaxnreg ignored (notes C7500 to C7599; C7519, a fence that it
# adds, is let through), and with no-spills where a kernel of cuda/sm90 keeps registers in memory.
set -uo pipefail
no_spills=false
if [[ "$1" == no-spills ]]; then
  no_spills=true
  shift
fi
said="$("$@" 2>&1 >/dev/null)"
status=$?
grep -vE '^ptxas info +: (0 bytes gmem|[0-9]+ bytes gmem|Compiling entry|Function properties|Used )|^ +[0-9]+ bytes stack frame|^ptxas info +: Compile time' \
  <<<"$said" >&2
[[ $status -eq 0 ]] || exit $status

notes="$(grep -E '\(?C75[0-9]{2}\)?' <<<"$said" | grep -v C7519)"
if [[ -n "$notes" ]]; then
  echo "ptxas_gate: a Hopper kernel is slower than it was written: see the notes C75xx above" >&2
  exit 1
fi
if $no_spills; then
  spills="$(awk '/Function properties for/ { name = $NF }
                 /bytes spill stores/ && !/ 0 bytes spill stores, 0 bytes spill loads/ && name ~ /sm90_forward/ { print name ":" $0 }' \
            <<<"$said")"
  if [[ -n "$spills" ]]; then
    printf 'ptxas_gate: registers are kept in memory\n%s\n' "$spills" >&2
    exit 1
  fi
fi
