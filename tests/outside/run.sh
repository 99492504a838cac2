#!/usr/bin/env bash
# Has the exports of the audit log read by programs that are not ours: the published schema of
# OCSF 1.8.0, and a parser of CEF. ROWARDEN_BIN names the program, and a virtual environment is made
# in the target folder once.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${CARGO_TARGET_DIR:-target}
rowarden=${ROWARDEN_BIN:-$target/release/rowarden}
python=$target/outside-venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! [ -x "$python" ] || ! "$python" -c 'import ocsf_json_schema, jsonschema, pycef' 2>/dev/null; then
  python3 -m venv "$target/outside-venv"
  "$python" -m pip install --quiet ocsf-json-schema==1.2.0 jsonschema==4.26.0 pycef==1.11
fi

cp tests/outside/every_kind.jsonl "$work/audit-00000000000000000000.jsonl"
for format in ocsf cef; do
  "$rowarden" audit export --dir "$work" --format "$format" >"$work/$format"
  "$python" tests/outside/formats.py "$format" "$work/$format"
done
"$python" tests/outside/formats.py schema policy/audit-event.schema.json tests/outside/every_kind.jsonl
