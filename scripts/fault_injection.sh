#!/usr/bin/env bash
# Fault injection: checks that a training run survives crashes, signals, full disks and corrupt files. See --help.
# Builds nothing; GRIMACE overrides target/release/grimace.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

export GRIMACE=${GRIMACE:-$root/target/release/grimace}
if [ ! -x "$GRIMACE" ]; then
  echo "fault_injection: ${GRIMACE#"$root/"} not found; build it first: make build (or set GRIMACE)" >&2
  exit 2
fi
PYTHON=${PYTHON:-python3}
if ! command -v "$PYTHON" >/dev/null; then
  echo "fault_injection: Python 3 not found ($PYTHON); install it, or set PYTHON" >&2
  exit 2
fi

# A small tmpfs is the full or read-only disk. A mount namespace removes it when this script exits, and a user namespace
# makes root unnecessary. Without either, the table says what was skipped.
flags=(--user --map-root-user --mount)
[ "$(id -u)" != 0 ] || flags=(--mount)
if command -v unshare >/dev/null && unshare "${flags[@]}" true 2>/dev/null; then
  exec unshare "${flags[@]}" "$PYTHON" "$root/scripts/fault_injection.py" "$@"
fi
exec "$PYTHON" "$root/scripts/fault_injection.py" "$@"
