#!/usr/bin/env bash
# Runs every fuzz target for FUZZ_SECONDS (60 unless set); names as arguments choose among them. What is
# found new goes to fuzz/corpus/TARGET/new, a crash to fuzz/artifacts, and the exit code is not 0.
#
# Needs cargo-fuzz: installed in CI, named otherwise. The sanitizer and the coverage that it asks for
# count as unstable; RUSTC_BOOTSTRAP opens them on the one toolchain that rowarden is built with, so no
# nightly is needed.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${FUZZ_SECONDS:-60}
export RUSTC_BOOTSTRAP=1

if ! cargo fuzz --version >/dev/null 2>&1; then
  install="cargo install --locked cargo-fuzz"
  if [ "${CI:-}" = true ]; then
    env -u RUSTC_BOOTSTRAP $install
  else
    printf 'fuzz/run.sh: cargo-fuzz is missing:\n\n  %s\n\n' "$install" >&2
    exit 3
  fi
fi

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
  cargo fuzz run "$target" "fuzz/corpus/$target/new" "fuzz/corpus/$target" -- \
    -dict="fuzz/dictionaries/$target.dict" -max_len=4096 -max_total_time="$seconds" \
    -rss_limit_mb=2048 -timeout=10 -print_final_stats=0
done
