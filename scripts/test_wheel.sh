#!/usr/bin/env bash
# Installs the newest wheel in dist/ into an empty environment, and trains and evaluates with it,
# far from this repository and its libtorch.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wheel=$PWD/$(ls -t dist/grimace-*.whl | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
start=$SECONDS
"${PYTHON:-python3}" -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check "$wheel"
installed=$((SECONDS - start))
cp configs/notebook.toml "$work"
cd "$work"
unset LD_LIBRARY_PATH LIBTORCH
PATH=$work/env/bin:$PATH
grimace doctor
grimace data synth --out data --train 2000 --test 500
grimace train notebook.toml --set train.epochs=1 --out run
grimace evaluate run --data data/my_emotion_test.csv --labels data/my_emotion_test_labels.csv
libtorch=$(realpath "$(ldd "$(command -v grimace)" | awk '/libtorch_cpu/ { print $3 }')")
[[ $libtorch == "$work"/env/lib/*/torch/lib/libtorch_cpu.so ]] ||
  { echo "test_wheel: $libtorch is not the libtorch of the environment" >&2; exit 1; }
echo "test_wheel: installed in $installed s, first training finished after $((SECONDS - start)) s"
