#!/usr/bin/env bash
# Starts a server with the built-in small model and a tiny random embedder, and lets the official
# clients at it.
#   interop/clients/run.sh [MMRAG_BINARY]
# Installs the clients from the package index into a virtual environment of its own; CLIENTS_VENV
# names one that has them.
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${1:-${CARGO_TARGET_DIR:-target}/debug/mmrag}
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

venv=${CLIENTS_VENV:-$work/venv}
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet openai cohere
fi
"$binary" serve --port 0 --index "$work/notes" \
    --embedder crates/model/tests/fixtures/bert_tiny --state "$work/state" >"$work/address" 2>"$work/log" &
server=$!
for _ in $(seq 300); do
    [ -s "$work/address" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
"$venv/bin/python" interop/clients/check.py "$(head -n 1 "$work/address")"
