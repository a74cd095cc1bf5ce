#!/usr/bin/env bash
# Sweeps configs/sweep and the forest on the images in data/ (scripts/find_data.sh), or without any on
# synthetic ones. Arguments go to `grimace sweep`; --set data.train overrides.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/find_data.sh

# All these configs have the same [data].
find_data sweep configs/sweep/notebook.toml "sweeping configs/sweep" "$@"
exec target/release/grimace sweep configs/sweep/*.toml --forest configs/forest.toml ${data[@]+"${data[@]}"} "$@"
