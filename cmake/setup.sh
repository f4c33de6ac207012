# Sourced by tests/run.sh and examples/ablation.sh: makes a fresh machine ready to build. On Debian and its kin
# missing packages are installed, as root or with sudo; elsewhere CMake fetches the libraries, given a compiler, CMake,
# Ninja and git.

jobs="$(nproc)"

# Installs what is missing of the packages, or names it where it may not; tells what apt said only where it failed.
install_packages() {
  command -v apt-get >/dev/null || return 0
  local package missing=() as_root=() log
  for package in "$@"; do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
  done
  (( ${#missing[@]} )) || return 0
  if (( "$(id -u)" != 0 )); then
    if ! command -v sudo >/dev/null; then
      echo "Not installed, for want of root and sudo: ${missing[*]}" >&2
      return 0
    fi
    as_root=(sudo)
  fi
  echo "Installing ${missing[*]}"
  log="$(mktemp)"
  if ! { "${as_root[@]}" apt-get update -qq &&
         "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 \
           --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# What the library and the examples need, and the packages named besides.
prepare_machine() {
  install_packages g++ cmake ninja-build git ca-certificates libeigen3-dev nlohmann-json3-dev libcli11-dev libfmt-dev "$@"
}
