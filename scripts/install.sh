#!/usr/bin/env bash
# Installs target/release/grimace, its manual pages and shell completions below PREFIX (~/.local).
# The program goes on using the libtorch of this folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

prefix=${PREFIX:-$HOME/.local}
program=target/release/grimace
mkdir -p "$prefix/bin"
# Replaced at once: the old program may be running.
new=$prefix/bin/.grimace.new
cp "$program" "$new"
! command -v strip >/dev/null || strip "$new"
chmod 755 "$new"
mv "$new" "$prefix/bin/grimace"
"$program" generate man --out "$prefix/share/man/man1" --force
completion() {
  mkdir -p "$(dirname "$prefix/share/$2")"
  "$program" generate completions "$1" >"$prefix/share/$2"
}
completion bash bash-completion/completions/grimace
completion zsh zsh/site-functions/_grimace
completion fish fish/vendor_completions.d/grimace.fish
echo "installed $prefix/bin/grimace, its manual pages and completions; it uses libtorch in ${LIBTORCH:-$PWD/.venv/libtorch}"
case ":$PATH:" in
  *":$prefix/bin:"*) ;;
  *) echo "$prefix/bin is not on PATH; add it: export PATH=\"$prefix/bin:\$PATH\"" ;;
esac
