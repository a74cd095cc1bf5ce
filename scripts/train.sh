#!/usr/bin/env bash
# Trains CONFIG (default configs/notebook.toml) on the images in data/ (scripts/find_data.sh), or
# without any on synthetic ones. Arguments go to `grimace train`; --set data.train overrides.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/find_data.sh

config=${CONFIG:-configs/notebook.toml}
[ -e "$config" ] || { echo "train: $config: no such config; choose one of: $(echo configs/*.toml configs/best/*.toml)" >&2; exit 2; }
find_data train "$config" "training $config" "$@"
exec target/release/grimace train "$config" ${data[@]+"${data[@]}"} "$@"
