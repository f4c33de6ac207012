#!/usr/bin/env bash
# What cmake/ptxas_gate.sh lets through and what not, by compilers that only say something.
set -u
gate="$(dirname "$0")/../cmake/ptxas_gate.sh"
failed=0
expect() {  # expect STATUS [no-spills] WORDS
  local status="$1"
  shift
  local words="${!#}"
  "$gate" "${@:1:$#-1}" bash -c 'printf "%s\n" "$0" >&2' "$words" 2>/dev/null
  local got=$?
  [[ $got -eq $status ]] || { echo "status $got, not $status, for: $words"; failed=1; }
}
kernel="ptxas info    : Function properties for _ZN7elastic6detail12sm90_forwardINS0_11sm90_kernelE"
logsums="ptxas info    : Function properties for _ZN7elastic6detail25sm90_antidiagonal_logsumsINS_4halfEEE"
other="ptxas info    : Function properties for _ZN7elastic6detail16portable_forwardE"
spills="    8 bytes stack frame, 12 bytes spill stores, 12 bytes spill loads"
frame="    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"
none="    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"

expect 0 "nothing of note"
expect 1 "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized"
expect 1 "ptxas warning : setmaxnreg ignored; (C7508)"
expect 0 "ptxas info    : (C7519) Potential Performance Loss: wgmma.fence was added"
expect 0 "$kernel"$'\n'"$spills"
expect 1 no-spills "$kernel"$'\n'"$spills"
expect 1 no-spills "$kernel"$'\n'"$frame"
expect 1 no-spills "$logsums"$'\n'"$spills"
expect 0 no-spills "$kernel"$'\n'"$none"
expect 0 no-spills "$other"$'\n'"$spills"
expect 0 no-spills "$kernel"$'\n'"$none"$'\n'"$other"$'\n'"$spills"
"$gate" bash -c 'exit 3' 2>/dev/null
[[ $? -eq 3 ]] || { echo "the compiler's status is lost"; failed=1; }
[[ "$("$gate" bash -c 'echo "x.cu(3): warning" >&2; echo "'"$kernel"'" >&2' 2>&1)" == "x.cu(3): warning" ]] ||
  { echo "a warning is lost, or a note is left"; failed=1; }
built="$(mktemp)"
"$gate" bash -c 'echo "(C7510)" >&2' -o "$built" 2>/dev/null
[[ $? -eq 1 && ! -e "$built" ]] || { echo "what was refused is left as if it were built"; failed=1; }
[[ -z "$("$gate" true 2>&1)" ]] || { echo "words out of nothing"; failed=1; }
exit $failed
