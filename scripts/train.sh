#!/usr/bin/env bash
# Trains CONFIG (default configs/notebook.toml). If its data.train is in data/ and missing, it
# trains on synthetic images instead. Arguments go to `grimace train`; --set data.train overrides.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

config=${CONFIG:-configs/notebook.toml}
grimace=target/release/grimace
[ -e "$config" ] || { echo "train: $config: no such config; choose one of: $(echo configs/*.toml)" >&2; exit 2; }

# `train = "..."` of [data]; empty if it is written differently, and then the config is used unchanged.
train=$(awk -F'"' '/^[ \t]*\[/ { table = $0 } table ~ /^[ \t]*\[data\]/ && /^[ \t]*train[ \t]*=[ \t]*"/ { print $2; exit }' "$config")
if [[ " $* " == *data.train=* ]] || [ -e "$train" ] || [[ "$train" != data/* ]]; then
  [ ! -e "$train" ] || [[ " $* " == *data.train=* ]] || echo "training $config on $train" >&2
  exec "$grimace" train "$config" "$@"
fi
echo "$train not found: training $config on synthetic images in synthetic/, not on real ones" >&2
[ -e synthetic/my_emotion_train.csv ] || "$grimace" data synth --out synthetic --force >&2
exec "$grimace" train "$config" --set data.train=synthetic/my_emotion_train.csv --set data.test=synthetic/my_emotion_test.csv "$@"
