#!/usr/bin/env bash
# Builds rowarden for release and runs the corpora in ../shared against it (scripts/jira_corpora.py,
# scripts/http_corpus.py and scripts/corpora.py say how). Arguments go on to the last; `scripts/corpora.sh --control` shows the
# bare server.
set -euo pipefail
cd "$(dirname "$0")/.."

shared=${ROWARDEN_SHARED:-../shared}
if [ ! -d "$shared/corpus/pg" ] || [ ! -d "$shared/corpus/sql" ]; then
  echo "corpora.sh: no corpora in $shared (set ROWARDEN_SHARED to their folder)" >&2
  exit 3
fi
if ! command -v python3 >/dev/null 2>&1; then
  echo "corpora.sh: python3 is missing: sudo apt-get install python3" >&2
  exit 3
fi

binary=${ROWARDEN_BINARY:-}
case " $* " in
  *" --control "*) binary=/nonexistent ;; # no gate is started
esac
if [ -z "$binary" ]; then
  cargo build --locked --release
  binary=${CARGO_TARGET_DIR:-target}/release/rowarden
fi
judged=0
if [ "$binary" != /nonexistent ]; then
  python3 scripts/jira_corpora.py --binary "$binary" --shared "$shared" || judged=$?
  if [ -d "$shared/corpus/http" ]; then
    python3 scripts/http_corpus.py "$shared"/corpus/http/*.jsonl --program "$binary" || judged=$?
  fi
fi
python3 scripts/corpora.py --binary "$binary" --shared "$shared" "$@" || judged=$?
exit "$judged"
