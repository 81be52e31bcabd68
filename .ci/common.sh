# What .ci/run and .ci/full share: a fresh environment with rawcnn in $venv, the function `step`, and the peak memory.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TF_CPP_MIN_LOG_LEVEL=3

work=$(mktemp -d)
venv=$work/venv/bin
trap finish EXIT

step() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

finish() {
  code=$?
  kill "$watcher" 2> /dev/null || true
  printf '\n== %s after %d s; peak memory of all processes together: %s\n' \
    "$([ "$code" = 0 ] && echo passed || echo FAILED)" "$SECONDS" "$(cat "$work/peak" 2> /dev/null)"
  rm -rf "$work"
}

python3 .ci/peak_memory.py $$ "$work/peak" &
watcher=$!

step "install a browser for the tests that open pages; they skip without one"
command -v chromium > /dev/null || { apt-get update -qq && apt-get install -qq -y chromium; } > /dev/null 2>&1 || true

step "install rawcnn, as the README says"
python3 -m venv "$work/venv"
"$venv/pip" install --quiet --disable-pip-version-check '.[test]'
