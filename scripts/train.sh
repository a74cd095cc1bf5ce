#!/usr/bin/env bash
# Trains CONFIG (default configs/seed.toml). Where its data.train lies in data/ and is not there, faces are drawn instead.
# Arguments go to `grimace train`; those that name data themselves win.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

config=${CONFIG:-configs/seed.toml}
grimace=target/release/grimace
[ -e "$config" ] || { echo "train: $config: no such config; there are: $(echo configs/*.toml)" >&2; exit 2; }

# `train = "..."` of [data]; empty when it is written in some other way, and then the config is taken as it is.
wanted=$(awk -F'"' '/^[ \t]*\[/ { table = $0 } table ~ /^[ \t]*\[data\]/ && /^[ \t]*train[ \t]*=[ \t]*"/ { print $2; exit }' "$config")
if [[ " $* " == *data.train=* ]] || [ -e "$wanted" ] || [[ "$wanted" != data/* ]]; then
  [ ! -e "$wanted" ] || [[ " $* " == *data.train=* ]] || echo "training $config on the faces in $wanted" >&2
  exec "$grimace" train "$config" "$@"
fi
echo "there is no $wanted: training $config on drawn faces in drawn/, not on real ones" >&2
[ -e drawn/my_emotion_train.csv ] || "$grimace" data synth --out drawn --force >&2
exec "$grimace" train "$config" --set data.train=drawn/my_emotion_train.csv --set data.test=drawn/my_emotion_test.csv "$@"
