#!/usr/bin/env bash
# Sweeps the configs of configs/sweep beside the forest, on data/ or, when there is none, on drawn faces. Arguments go to
# `grimace sweep`; those that name data themselves win.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wanted=data/my_emotion_train.csv       # what the configs there name
data=()
if [[ " $* " == *data.train=* ]]; then
  :
elif [ -e "$wanted" ]; then
  echo "sweeping configs/sweep on the faces in $wanted" >&2
else
  echo "there is no $wanted: sweeping configs/sweep on drawn faces in drawn/, not on real ones" >&2
  [ -e drawn/my_emotion_train.csv ] || target/release/grimace data synth --out drawn --force >&2
  data=(--set data.train=drawn/my_emotion_train.csv --set data.test=drawn/my_emotion_test.csv)
fi
exec target/release/grimace sweep configs/sweep/*.toml --forest configs/forest.toml ${data[@]+"${data[@]}"} "$@"
