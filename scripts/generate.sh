#!/usr/bin/env bash
# Writes the generated parts of the repository: the reference of keys and commands in docs/, and the
# JSON Schemas in configs/. A test fails if one of them is stale.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/build.sh

generate() {
  local out=$1
  shift
  target/release/grimace generate "$@" >"$out.tmp"
  mv "$out.tmp" "$out"
}
generate docs/configuration.md page configuration
generate docs/cli.md page cli
generate configs/train.schema.json schema train
generate configs/forest.schema.json schema forest
