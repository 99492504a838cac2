#!/bin/sh
# Real clients, captured clients and raw bytes, each compared with and without the gate; then clients of JIRA. Options go
# to the first three: --policy FOLDER, --control. The captured clients are replayed when the corpora lie beside the tree.
set -eu

here=$(dirname "$0")
command -v python3 >/dev/null || { echo 'python3 not found; install it: apt-get install -y python3 python3-venv' >&2; exit 3; }

failed=0
python3 "$here/run.py" "$@" || failed=1
python3 "$here/differential.py" "$@" || failed=1
if [ -e "$here/../../../shared/corpus/clients/captured.jsonl" ]; then
    python3 "$here/replay.py" "$@" || failed=1
fi
python3 "$here/jira/matrix.py" || failed=1
exit "$failed"
