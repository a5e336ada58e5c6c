#!/usr/bin/env bash
# The official clients and a real browser against the server.
#   interop/serve.sh [MMRAG_BINARY]
# Installs what they need from the package index into a virtual environment of its own. Where Python,
# the index or a browser cannot be had it says so and checks what is left: that is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-${CARGO_TARGET_DIR:-target}/debug/mmrag}
work=$(mktemp -d)
server=
trap '[ $? = 0 ] || cat "$work/log" >&2; [ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$work"' EXIT

skip() { echo "not checked here: $*" >&2; }

python3 -m venv "$work/venv" >"$work/log" 2>&1 || { skip "clients and browser (no Python with venv)"; exit 0; }
install() { "$work/venv/bin/pip" install --quiet --retries 1 --timeout 15 "$@" >"$work/log" 2>&1; }
if install openai cohere; then
    CLIENTS_VENV="$work/venv" interop/clients/run.sh "$binary"
else
    skip "clients (the package index cannot be reached)"
fi

chromium=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
[ -n "$chromium" ] || { skip "browser (there is no Chromium)"; exit 0; }
install playwright || { skip "browser (the package index cannot be reached)"; exit 0; }
"$binary" data make atlas --questions 300 --seed 2 --out "$work/atlas" >"$work/log" 2>&1
cat >"$work/filter.toml" <<TOML
preset = "demo"
out = "$work/runs/filter"
[data]
folder = "$work/atlas"
questions = 24
dev_questions = 4
calibration_questions = 4
[training]
steps = 4
prompts_per_step = 4
TOML
"$binary" train filter "$work/filter.toml" >"$work/log" 2>&1
"$binary" eval run --dataset atlas --data "$work/atlas" --split dev --questions 4 \
    --out "$work/runs/answered" >"$work/log" 2>&1
"$binary" serve --port 0 --dataset atlas --data "$work/atlas" --split test --threshold 0.3 \
    --runs "$work/runs" --state "$work/state" >"$work/address" 2>"$work/log" &
server=$!
for _ in $(seq 600); do
    [ -s "$work/address" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
    sleep 0.1
done
question=$("$work/venv/bin/python" - "$work/atlas/MMQA_test.jsonl.gz" <<'PYTHON'
import gzip, json, sys
print(json.loads(gzip.open(sys.argv[1], "rt").readline())["question"])
PYTHON
)
CHROMIUM="$chromium" "$work/venv/bin/python" interop/browser/drive.py \
    "$(head -n 1 "$work/address")" "${SCREENSHOTS:-$work/screenshots}" "$question"
