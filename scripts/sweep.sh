#!/usr/bin/env bash
# Sweeps configs/sweep and the forest, on data/ or, if that is missing, on synthetic images.
# Arguments go to `grimace sweep`; --set data.train overrides.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

train=data/my_emotion_train.csv       # data.train of these configs
data=()
if [[ " $* " == *data.train=* ]]; then
  :
elif [ -e "$train" ]; then
  echo "sweeping configs/sweep on $train" >&2
else
  echo "$train not found: sweeping configs/sweep on synthetic images in synthetic/, not on real ones" >&2
  [ -e synthetic/my_emotion_train.csv ] || target/release/grimace data synth --out synthetic --force >&2
  data=(--set data.train=synthetic/my_emotion_train.csv --set data.test=synthetic/my_emotion_test.csv)
fi
exec target/release/grimace sweep configs/sweep/*.toml --forest configs/forest.toml ${data[@]+"${data[@]}"} "$@"
