#!/usr/bin/env bash
# Measures Grimace on a GPU within minutes, and writes results.json, performance.md and logs.
#
#   scripts/gpu.sh --data data/fer2013.csv                   # all stages, 9 minutes at most
#   scripts/gpu.sh --data data/fer2013.csv --only record     # adds a longer run of the record config
#   scripts/gpu.sh --quick                                   # a smoke test, not a measurement
#
# GRIMACE is the program, or the program packed with xz; default target/release/grimace. PYTHON is a
# Python 3.10 or later with torch 2.11, whose libtorch Grimace uses; default python3. Needs scripts/,
# configs/ and the data; no cargo and no network. With GRIMACE_CUDA_LIBRARY, a simulated device,
# PyTorch is not measured. Exit codes: 0 done, 1 a stage failed, 2 a wrong argument or no program.
set -euo pipefail

exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/gpu/main.py" "$@"
