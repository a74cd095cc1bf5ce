#!/usr/bin/env bash
# Fuzzes the untrusted inputs: CSV of images, archive, config, checkpoint, forest, labels, soft labels,
# picture, initial weights.
# fuzz/README.md lists the invariants.
#
#   scripts/fuzz.sh              10 minutes per target, one after another
#   scripts/fuzz.sh 60           a minute per target
#   scripts/fuzz.sh 60 csv       one target
#
# Installs nothing. Output is in fuzz/target: new inputs in corpus/, failing ones in artifacts/, logs in
# logs/. A table with a row per target comes last; the exit code is 1 if an input failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf 'fuzz: %s\n' "$*" >&2; exit 2; }

seconds=${1:-600}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "'$seconds' is not a number of seconds: scripts/fuzz.sh [SECONDS] [TARGET]..."
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || targets=(csv archive config checkpoint forest labels soft_labels packed picture weights)
for target in "${targets[@]}"; do
  [ -e "fuzz/fuzz_targets/$target.rs" ] || die "unknown target '$target'; expected csv, archive, config, checkpoint, forest, labels, soft_labels, packed, picture or weights"
done

command -v cargo-fuzz >/dev/null || die "cargo-fuzz is missing. Install it: cargo install cargo-fuzz"
cargo +nightly --version >/dev/null 2>&1 ||
  die "a nightly toolchain is missing. Install one: rustup toolchain install nightly --profile minimal"
[ -n "${LIBTORCH:-}" ] || [ -e .venv/libtorch/lib ] ||
  die "libtorch is missing. Install it: make setup, or set LIBTORCH"

# No sanitizer: libtorch is not instrumented, and these inputs reach no unsafe code of ours.
options=(--fuzz-dir fuzz --sanitizer none)
export RUSTC_WRAPPER=$PWD/fuzz/rustc.sh
# Inputs are small: more threads would only make runs nondeterministic.
export OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1 POLARS_MAX_THREADS=1
# A backtrace takes seconds per panic and is not needed to find one.
export RUST_BACKTRACE=0

# libFuzzer's -max_len, in bytes.
declare -A max_len=([csv]=8192 [archive]=8192 [config]=16384 [checkpoint]=16384 [forest]=8192 [labels]=4096 [soft_labels]=4096 [packed]=8192 [picture]=8192 [weights]=16384)

[ -d fuzz/target ] || echo "fuzz: the first build compiles polars once more: about 10 minutes on 2 cores" >&2
for target in "${targets[@]}"; do
  cargo +nightly fuzz build "${options[@]}" "$target"
done

work=fuzz/target
mkdir -p "$work/logs"
failed=0
for target in "${targets[@]}"; do
  mkdir -p "$work/corpus/$target" "$work/artifacts/$target"
  log=$work/logs/$target.log
  echo "fuzz: $target for $seconds seconds, log in $log" >&2
  cargo +nightly fuzz run "${options[@]}" "$target" "$work/corpus/$target" "fuzz/corpus/$target" -- \
    -max_total_time="$seconds" -rss_limit_mb=6000 -timeout=60 -report_slow_units=5 -max_len="${max_len[$target]}" \
    -dict="fuzz/dictionaries/$target.dict" -artifact_prefix="$work/artifacts/$target/" -print_final_stats=1 \
    >"$log" 2>&1 || { failed=1; echo "fuzz: $target failed: tail $log" >&2; }
done

stat() { awk -v name="stat::$1:" '$1 == name { value = $2 } END { print value == "" ? "-" : value }' "$log"; }
edges() { awk '{ for (i = 1; i < NF; i++) if ($i == "cov:") n = $(i + 1) } END { print n == "" ? "-" : n }' "$log"; }
files() { find "$work/$1/$target" -type f | wc -l; }
line() { printf '%-12s %12s %8s %8s %8s %10s %10s\n' "$@"; }
line target executions per_s edges corpus memory_MB artifacts
for target in "${targets[@]}"; do
  log=$work/logs/$target.log
  line "$target" "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" "$(edges)" "$(files corpus)" \
    "$(stat peak_rss_mb)" "$(files artifacts)"
done
exit "$failed"
