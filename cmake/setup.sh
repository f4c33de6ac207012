# Sourced by tests/run.sh and examples/ablation.sh: makes a fresh machine ready to build. On Debian and its kin
# missing packages are installed; elsewhere CMake fetches the libraries, given a compiler, CMake, Ninja and git.

jobs="$(nproc)"

install_packages() {
  command -v apt-get >/dev/null || return 0
  local package missing=() as_root=()
  for package in "$@"; do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
  done
  (( ${#missing[@]} )) || return 0
  (( EUID == 0 )) || as_root=(sudo)
  echo "Installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

install_packages g++ cmake ninja-build git ca-certificates libeigen3-dev nlohmann-json3-dev doctest-dev \
  libbenchmark-dev libcli11-dev libfmt-dev
