#!/usr/bin/env bash
# Makes sure that what rowarden is built and tested with is on this machine: PostgreSQL's server and
# client programs, clang with libclang, and a C compiler (for PostgreSQL's grammar, which is C).
#
# Installs what is missing with apt when this is root or sudo asks for no password. Otherwise prints
# the line to run and exits 3: a script that is run by `make test` must not stop at a password prompt.
set -euo pipefail

missing=()

has_postgres_server() {
  local bin
  for bin in "${PG_BIN:-}" /usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin; do
    [ -n "$bin" ] && [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && return 0
  done
  command -v initdb >/dev/null 2>&1 && command -v postgres >/dev/null 2>&1
}

# Both parts: libclang reads PostgreSQL's headers, and asks clang where the compiler's own ones are.
has_libclang() {
  command -v clang >/dev/null 2>&1 || return 1
  local lib
  for lib in "${LIBCLANG_PATH:-/nonexistent}"/libclang* /usr/lib/llvm-*/lib/libclang*.so* \
    /usr/lib/*-linux-gnu/libclang*.so* /usr/lib64/libclang*.so* /usr/lib/libclang*.so*; do
    [ -e "$lib" ] && return 0
  done
  return 1
}

# The compiler alone is not enough; without libc's headers the build stops half-way.
has_c_compiler() {
  command -v cc >/dev/null 2>&1 && printf '#include <stdio.h>\n' | cc -E - >/dev/null 2>&1
}

# Go's own transparency log checks ours (tests/audit_outside.rs).
has_go_tlog() {
  [ -x /usr/lib/go-1.19/bin/go ] && [ -d /usr/share/gocode/src/golang.org/x/mod/sumdb ]
}

# Disks that fail (tests/outside/faultfs.py).
has_fuse() {
  command -v fusermount3 >/dev/null 2>&1 && /usr/bin/python3 -c 'import fusepy' 2>/dev/null
}

find_missing() {
  missing=()
  has_postgres_server || missing+=(postgresql)
  # Debian's psql is a wrapper that outlives the client it calls, so being there is not enough.
  psql --version >/dev/null 2>&1 || missing+=(postgresql-client)
  has_libclang || missing+=(clang libclang-dev)
  has_c_compiler || missing+=(build-essential)
  has_go_tlog || missing+=(golang-1.19-go golang-golang-x-mod-dev)
  command -v zstd >/dev/null 2>&1 || missing+=(zstd)
  has_fuse || missing+=(fuse3 python3-fusepy)
}

# Debian starts a server of its own when the package is installed. Nobody here needs it, and it
# would sit on port 5432. A file that is already there is the administrator's word and stays.
wish_no_default_cluster() {
  local file=/etc/postgresql-common/createcluster.conf
  $as_root sh -c "[ -e $file ] || { mkdir -p ${file%/*} && printf '%s\n' \
    '# Written before PostgreSQL was installed for rowarden: no cluster is wanted by default.' \
    '# Delete this file to have the default again.' \
    'create_main_cluster = false' > $file; }"
}

stop_with_line() {
  printf 'rowarden needs these and cannot install them here: %s\n\n' "${missing[*]}" >&2
  printf 'Run this, then the same command again:\n\n  %s\n\n' "$1" >&2
  exit 3
}

if ! command -v cargo >/dev/null 2>&1 && [ -x "${HOME:-}/.cargo/bin/cargo" ]; then
  PATH="$HOME/.cargo/bin:$PATH"
fi
if ! command -v cargo >/dev/null 2>&1; then
  missing=("a Rust toolchain")
  stop_with_line "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
fi

find_missing
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
  if command -v brew >/dev/null 2>&1; then
    stop_with_line "brew install postgresql llvm"
  elif command -v dnf >/dev/null 2>&1; then
    stop_with_line "sudo dnf install postgresql-server postgresql postgresql-contrib clang clang-devel gcc"
  fi
  stop_with_line "install PostgreSQL 14 or later (server and psql), clang with libclang, and a C compiler"
fi

if [ "$(id -u)" -eq 0 ]; then
  as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
  as_root="sudo -n"
else
  install_line="apt-get update && apt-get install --yes --no-install-recommends ${missing[*]}"
  if command -v sudo >/dev/null 2>&1; then
    stop_with_line "sudo sh -c '$install_line'"
  fi
  stop_with_line "su -c '$install_line'"
fi

printf 'installing: %s\n' "${missing[*]}"
case " ${missing[*]} " in *" postgresql "*) wish_no_default_cluster ;; esac
apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Options::=--force-confold -o Dpkg::Use-Pty=0)
# One broken third-party source fails the whole update, though Debian's own lists did arrive.
$as_root "${apt[@]}" update </dev/null ||
  printf 'apt-get update failed; trying to install from the package lists that are here\n' >&2
$as_root "${apt[@]}" install --yes --no-install-recommends "${missing[@]}" </dev/null

find_missing
if [ ${#missing[@]} -ne 0 ]; then
  stop_with_line "apt-get install --yes ${missing[*]}   # it ran without an error and left these missing"
fi
