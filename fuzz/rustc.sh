#!/usr/bin/env bash
# cargo's RUSTC_WRAPPER for fuzzing: libFuzzer's instrumentation and debug assertions for what is fuzzed, an ordinary release
# build for everything else. Polars alone would otherwise take half an hour to compile and drown the rest in its branches.
set -euo pipefail

fuzzed=" grimace grimace_fuzz csv config checkpoint labels csv_core polars_io safetensors serde_json serde_path_to_error toml toml_parser "

name='' before=''
for argument in "$@"; do
  [ "$before" != --crate-name ] || name=$argument
  before=$argument
done
if [[ $fuzzed == *" $name "* ]]; then
  exec "$@"
fi
plain=()
for argument in "$@"; do
  case "$argument" in
    -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-* | -Cllvm-args=-simplifycfg-* | -Cdebug-assertions | -Ccodegen-units=1) ;;
    *) plain+=("$argument") ;;
  esac
done
exec "${plain[@]}"
