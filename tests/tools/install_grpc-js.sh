#!/bin/sh
# Installs @grpc/grpc-js beside $1 from npm, and into $1 a command `grpc-js` that runs a script with it.
set -eu
for tool in node npm; do command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }; done
bin=$(realpath -m "$1")
modules=$(dirname "$bin")/grpc-js
mkdir -p "$bin" "$modules"
npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix "$modules" \
    @grpc/grpc-js@1.14.7 @grpc/proto-loader@0.8.1
printf '#!/bin/sh\nNODE_PATH="%s/node_modules" exec node "$@"\n' "$modules" >"$bin/grpc-js.new"
chmod +x "$bin/grpc-js.new"
mv "$bin/grpc-js.new" "$bin/grpc-js"
