#!/bin/sh
# Installs buf, which lints the contract and compares it with the frozen one, beside $1 from npm, and a link to it into $1.
set -eu
command -v npm >/dev/null || { echo "npm is not installed" >&2; exit 1; }
bin=$(realpath -m "$1")
modules=$(dirname "$bin")/buf
mkdir -p "$bin" "$modules"
npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix "$modules" @bufbuild/buf@1.75.0
program=$(find "$modules/node_modules/@bufbuild" -path '*/bin/buf' -not -path '*/buf/bin/*' -type f | head -n 1)
[ -n "$program" ] || { echo "there is no buf for this machine" >&2; exit 1; }
ln -sf "$program" "$bin/buf"
