#!/usr/bin/env bash
# Shows that nothing is lost when a training dies: kills, signals, full disks, damaged files. --help tells the
# options. It builds nothing; GRIMACE names another program than target/release/grimace.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

export GRIMACE=${GRIMACE:-$root/target/release/grimace}
if [ ! -x "$GRIMACE" ]; then
  echo "chaos: there is no ${GRIMACE#"$root/"}; build it first: make build (or let GRIMACE name a built one)" >&2
  exit 2
fi
PYTHON=${PYTHON:-python3}
if ! command -v "$PYTHON" >/dev/null; then
  echo "chaos: no Python 3 found ($PYTHON); install one, or set PYTHON" >&2
  exit 2
fi

# A small tmpfs stands in for a disk that is full or read-only. In a mount namespace of its own it cannot outlive this
# script, and with a user namespace, too, nobody needs to be root. Where neither can be had, the table says what was not
# tested.
flags=(--user --map-root-user --mount)
[ "$(id -u)" != 0 ] || flags=(--mount)
if command -v unshare >/dev/null && unshare "${flags[@]}" true 2>/dev/null; then
  exec unshare "${flags[@]}" "$PYTHON" "$root/scripts/chaos.py" "$@"
fi
exec "$PYTHON" "$root/scripts/chaos.py" "$@"
