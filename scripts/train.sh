#!/usr/bin/env bash
# Trains CONFIG (default configs/seed.toml) on data/ when it is there, and on drawn faces when it is not.
# Arguments go to `grimace train`; those that name data themselves win.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

config=${CONFIG:-configs/seed.toml}
grimace=target/release/grimace
[ -e "$config" ] || { echo "train: $config: no such config; there are: $(echo configs/*.toml)" >&2; exit 2; }

if [[ " $* " == *data.train=* ]]; then
  exec "$grimace" train "$config" "$@"
fi
if [ -d data ]; then
  echo "training $config on the faces in data/" >&2
  exec "$grimace" train "$config" "$@"
fi
echo "there is no data/: training $config on drawn faces in drawn/, not on real ones (put my_emotion_train.csv into data/ for those)" >&2
[ -e drawn/my_emotion_train.csv ] || "$grimace" data synth --out drawn >&2
exec "$grimace" train "$config" --set data.train=drawn/my_emotion_train.csv --set data.test=drawn/my_emotion_test.csv "$@"
