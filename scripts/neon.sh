#!/usr/bin/env bash
# Tests the NEON kernels on another processor: the crates with vector code, compiled for aarch64 and run
# by qemu's user emulation. It says nothing about their speed.
#
#   scripts/neon.sh
#
# Needs rustup's target aarch64-unknown-linux-gnu, which it installs, a cross compiler (for the linker
# and the C library) and qemu: apt install gcc-aarch64-linux-gnu qemu-user. Without one of them it says
# which, and exits with 0. On an aarch64 machine it runs the tests directly.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TARGET=aarch64-unknown-linux-gnu
CRATES=(-p simd -p kernels -p face-detect)

skip() { printf 'neon: skipped: %s\n' "$*" >&2; exit 0; }

case "$(uname -m)" in
  aarch64 | arm64) exec cargo test --release "${CRATES[@]}" ;;
esac

command -v aarch64-linux-gnu-gcc >/dev/null || skip "no cross compiler (apt install gcc-aarch64-linux-gnu)"
# The names of Debian's and Fedora's packages for dynamic and static programs.
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static) || skip "no qemu (apt install qemu-user)"
has_target() { [ -d "$(rustc --print sysroot)/lib/rustlib/$TARGET/lib" ]; }
if ! has_target; then
  command -v rustup >/dev/null || skip "rustc has no target $TARGET, and there is no rustup to install it"
  rustup target add "$TARGET" >/dev/null 2>&1 || skip "rustup could not install the target $TARGET (no network?)"
  has_target || skip "rustup installed the target $TARGET for a toolchain other than that of $(command -v rustc)"
fi
# The loader and the C library of the other processor, where Debian's cross compiler has them.
root=$(aarch64-linux-gnu-gcc -print-sysroot)
[ -n "$root" ] && [ "$root" != / ] || root=/usr/aarch64-linux-gnu
[ -e "$root/lib/ld-linux-aarch64.so.1" ] || skip "no C library for aarch64 in $root (apt install libc6-dev-arm64-cross)"

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$qemu -L $root"
# Finding faces in many pictures takes minutes in the emulator; the network itself is compared.
exec cargo test --release "${CRATES[@]}" --target "$TARGET" --lib --test real -- --skip faces_of_many_sizes
