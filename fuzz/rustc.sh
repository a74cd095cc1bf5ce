#!/usr/bin/env bash
# cargo's RUSTC_WRAPPER for fuzzing: libFuzzer's instrumentation and debug assertions for the crates
# under test, an ordinary release build for the others. Otherwise polars alone would take half an
# hour to compile, and its branches would dominate the coverage.
set -euo pipefail

fuzzed=" grimace grimace_fuzz csv archive config checkpoint labels csv_core polars_io safetensors serde_json serde_path_to_error toml toml_parser "

name='' before=''
for argument in "$@"; do
  [ "$before" != --crate-name ] || name=$argument
  before=$argument
done
if [[ $fuzzed == *" $name "* ]]; then
  exec "$@"
fi
release_arguments=()
for argument in "$@"; do
  case "$argument" in
    -Cpasses=sancov-module | -Cllvm-args=-sanitizer-coverage-* | -Cllvm-args=-simplifycfg-* | -Cdebug-assertions | -Ccodegen-units=1) ;;
    *) release_arguments+=("$argument") ;;
  esac
done
exec "${release_arguments[@]}"
