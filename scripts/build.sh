#!/usr/bin/env bash
# Builds target/release/grimace. Announces how long a first build takes; silent when nothing changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -x target/release/grimace ]; then
  echo "build: the first build compiles the libtorch bindings and polars: about 10 minutes on 2 cores, 2 on 16" >&2
  exec cargo build --release
fi
exec cargo build --release --quiet
