#!/usr/bin/env bash
# Installs libtorch for cargo as .venv/libtorch (see .cargo/config.toml), unless LIBTORCH is set.
#
#   scripts/setup.sh             for building and training
#   scripts/setup.sh --python    also Python's torch and tensorboard, for the tests
#
# libtorch is the `lib` and `include` of the PyPI wheel `torch`. On a machine without an NVIDIA GPU,
# the wheel's CUDA libraries are left out, except the two that libtorch_cpu is linked to: 1.3 GB on
# disk instead of 4.9 GB. Every failure prints one line with what to install or set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TORCH=2.11.0                      # the version that tch 0.24 binds; torch-sys rejects any other
CUDA_RUNTIME=13.0.96              # both as required by torch==2.11.0
CUDA_CUPTI=13.0.85
TENSORBOARD=2.21.0                # reads the event files in the tests

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
log() { printf 'setup: %s\n' "$*" >&2; }

need=runtime
case "${1:-}" in
  --python) need=python ;;
  "") ;;
  *) die "unknown argument '$1': scripts/setup.sh [--python]" ;;
esac

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

marker=.venv/.grimace-libtorch    # written last, so an interrupted installation runs again
have=$(cat "$marker" 2>/dev/null || true)
if [ -e .venv/libtorch/lib ]; then
  case "$need, $have" in
    "python, $TORCH python, tensorboard $TENSORBOARD" | "runtime, $TORCH runtime" | "runtime, $TORCH python"*) exit 0 ;;
  esac
fi

PYTHON=${PYTHON:-python3}
command -v "$PYTHON" >/dev/null || die "no Python 3 found ($PYTHON). Install one: apt install python3 python3-venv, or set PYTHON or LIBTORCH"
"$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' ||
  die "$("$PYTHON" --version) has no torch $TORCH wheel: Python 3.10 to 3.14 is required. Install one and set PYTHON, or set LIBTORCH"
if [ ! -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
  "$PYTHON" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
    die "this Python has no venv module. Install it: apt install python3-venv (or set LIBTORCH to an unpacked libtorch $TORCH)"
  "$PYTHON" -m venv --clear .venv >/dev/null || die "'$PYTHON -m venv .venv' failed; see above"
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

if [ "$need" = python ]; then
  case "$have" in
    "$TORCH python"*) log "installing tensorboard $TENSORBOARD into .venv, for the tests" ;;
    *) log "installing libtorch $TORCH with Python and CUDA libraries into .venv: 4.9 GB, once, about a minute on a fast connection" ;;
  esac
  pip_install "torch==$torch" numpy "tensorboard==$TENSORBOARD"
else
  log "installing libtorch $TORCH into .venv: 1.3 GB, once, under a minute on a fast connection"
  packages=("torch==$TORCH")
  [ "$(uname -s)" != Linux ] || [ "$(uname -m)" != x86_64 ] || packages+=("nvidia-cuda-runtime==$CUDA_RUNTIME" "nvidia-cuda-cupti==$CUDA_CUPTI")
  pip_install --no-deps "${packages[@]}"
fi
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
ln -sfn "${site#"$PWD"/.venv/}/torch" .venv/libtorch
[ -e .venv/libtorch/lib ] || die "the torch wheel has no lib folder: $site/torch"
[ "$need" = runtime ] || need="python, tensorboard $TENSORBOARD"
printf '%s %s\n' "$TORCH" "$need" >"$marker"
