#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (60 unless set); names as arguments choose among them. What is
# found new goes to fuzz/corpus/TARGET/new, a crash to fuzz/artifacts, and the exit code is not 0.
#
# Needs cargo-fuzz and a nightly toolchain: installed in CI, named otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}

need() { # what is missing, command that installs it
  if [ "${CI:-}" = true ]; then
    $2
  else
    printf 'fuzz/run.sh: %s is missing:\n\n  %s\n\n' "$1" "$2" >&2
    exit 3
  fi
}

cargo +nightly --version >/dev/null 2>&1 || need "a nightly toolchain" "rustup toolchain install nightly --profile minimal"
cargo fuzz --version >/dev/null 2>&1 || need cargo-fuzz "cargo install --locked cargo-fuzz"

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for file in fuzz/fuzz_targets/*.rs; do
    [ -e "$file" ] && targets+=("$(basename "$file" .rs)")
  done
fi
if [ ${#targets[@]} -eq 0 ]; then
  echo "fuzz/run.sh: no targets in fuzz/fuzz_targets" >&2
  exit 1
fi

for target in "${targets[@]}"; do
  echo "--- $target, $seconds s"
  mkdir -p "fuzz/corpus/$target/new"
  cargo +nightly fuzz run "$target" "fuzz/corpus/$target/new" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=0
done
