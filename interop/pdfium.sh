#!/usr/bin/env bash
# Pages read by a PDFium library beside those read by hayro.
#   interop/pdfium.sh
# Takes the library from the Python package that brings one. Where Python or the package index cannot
# be had it says so: that is no failure.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip() { echo "not checked here: PDFium ($*)" >&2; exit 0; }

python3 -m venv "$work/venv" >"$work/log" 2>&1 || skip "no Python with venv"
"$work/venv/bin/pip" install --quiet --retries 1 --timeout 15 pypdfium2 >"$work/log" 2>&1 || skip "the package index cannot be reached"
library=$(find "$work/venv" -name 'libpdfium.*' | head -n 1)
[ -n "$library" ] || skip "the package brings no library"
MMRAG_PDFIUM="$library" cargo test --workspace --test pdfium
