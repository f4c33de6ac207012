#!/usr/bin/env bash
# What cmake/setup.sh does where packages are missing, by an apt-get that only says what it was told.
set -u
root="$(realpath "$(dirname "$0")/..")"
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
failed=0

# Programs by their bodies; nothing else is on the path but what a shell needs.
program() {
  printf '#!%s\n%s\n' "$BASH" "$2" >"$folder/bin/$1"
  chmod +x "$folder/bin/$1"
}
fresh() {
  rm -rf "$folder/bin"
  mkdir "$folder/bin"
  for name in cat env mktemp nproc rm; do ln -s "$(command -v "$name")" "$folder/bin/"; done
  program apt-get 'echo "$*" >>'"'$folder/told'"
  program dpkg-query '[[ "${*: -1}" != here ]] || printf installed'
  program id 'echo 1000'
}
setup() {  # setup PACKAGES: what it said stands in $said, what apt was told in $told
  : >"$folder/told"
  said="$(PATH="$folder/bin" "$BASH" -euc 'source "$0"; install_packages "$@"; echo went on' "$root/cmake/setup.sh" "$@" 2>&1)"
  status=$?
  told="$(cat "$folder/told")"
}
expect() {  # expect WHAT HOLDS
  eval "$2" || { echo "$1: status $status, said: $said; apt was told: $told"; failed=1; }
}

fresh
setup here one two
expect "without root and sudo" '[[ $status -eq 0 && -z "$told" && "$said" == *"one two"*"went on" && "$said" != *here* ]]'
program id 'echo 0'
setup here one two
expect "as root" '[[ $status -eq 0 && "$told" == update*install*"one two" && "$said" == *"went on" ]]'
setup here
expect "nothing missing" '[[ $status -eq 0 && -z "$told" && "$said" == "went on" ]]'
fresh
program sudo 'echo sudo >>'"'$folder/told'"'; exec "$@"'
setup one
expect "with sudo" '[[ $status -eq 0 && "$told" == sudo*update*sudo*install*one && "$said" == *"went on" ]]'
program apt-get 'echo no network; exit 100'
setup one
expect "apt fails" '[[ $status -eq 1 && "$said" == *"no network"* && "$said" != *"went on"* ]]'
rm "$folder/bin/apt-get"
setup one
expect "without apt" '[[ $status -eq 0 && "$said" == "went on" ]]'
exit $failed
