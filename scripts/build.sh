#!/usr/bin/env bash
# Builds target/release/grimace; says beforehand how long a first build takes, and nothing when there is nothing to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -x target/release/grimace ]; then
  echo "build: the first build compiles libtorch's bindings and polars: about 10 minutes on 2 cores, 2 on 16" >&2
  exec cargo build --release
fi
exec cargo build --release --quiet
