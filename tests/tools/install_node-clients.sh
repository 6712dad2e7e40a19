#!/bin/sh
# Installs what examples/typescript needs beside $1 from npm, and into $1 a command `node-clients` that runs node with it.
set -eu
for tool in node npm; do command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }; done
bin=$(realpath -m "$1")
root=$(dirname "$(dirname "$(dirname "$(realpath "$0")")")")
modules=$(dirname "$bin")/node-clients
mkdir -p "$bin" "$modules"
cp "$root/examples/typescript/package.json" "$modules/"
npm install --silent --no-audit --no-fund --no-package-lock --ignore-scripts --prefix "$modules"
printf '#!/bin/sh\nNODE_PATH="%s/node_modules" exec node "$@"\n' "$modules" >"$bin/node-clients.new"
chmod +x "$bin/node-clients.new"
mv "$bin/node-clients.new" "$bin/node-clients"
