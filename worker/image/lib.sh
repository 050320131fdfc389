# What the scripts of this folder share. Sourced, not run; the caller has `set -euo pipefail`.
# shellcheck shell=bash

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=versions
. "$here/versions"

# shellcheck disable=SC2034  # read by those who source this
path_in_image=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

say() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; }
die() { say "$*"; exit 1; }

# Outside the repository, and readable by the workers' uid: below root's home it would not be.
cache_dir() {
  local dir
  if [ -n "${REKINDLE_CACHE:-}" ]; then dir=$REKINDLE_CACHE
  elif [ "$(id -u)" = 0 ]; then dir=/var/cache/rekindle
  else dir=${XDG_CACHE_HOME:-$HOME/.cache}/rekindle; fi
  mkdir -p "$dir"
  printf '%s\n' "$dir"
}

# One builder at a time per thing; the lock goes with the process.
lock() {
  local file
  file="$(cache_dir)/$1.lock"
  exec 9>"$file"
  flock 9
}

# The inputs an image was made from are written on it as a label, so that "is it there" and "is it the right one" are one
# question.
inputs_hash() { sha256sum "$@" | cut -d' ' -f1 | sha256sum | cut -c1-16; }
has_image() {
  local found
  found="$(docker image inspect -f '{{index .Config.Labels "dev.rekindle.inputs"}}' "$1" 2>/dev/null)" || return 1
  [ "$found" = "$2" ]
}

need_engine() {
  command -v docker >/dev/null || die "the docker command is missing: apt-get install docker.io"
  docker version >/dev/null 2>&1 || die "no Docker engine answers on ${DOCKER_HOST:-/var/run/docker.sock}"
}
