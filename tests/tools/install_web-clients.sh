#!/bin/sh
# Installs clients of Connect and gRPC-Web beside $1 from npm, and into $1 a command `web-clients` that runs a script with them.
set -eu
for tool in node npm; do command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }; done
bin=$(realpath -m "$1")
modules=$(dirname "$bin")/web-clients
mkdir -p "$bin" "$modules"
npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix "$modules" \
    @bufbuild/protobuf@2.17.0 @connectrpc/connect@2.2.0 @connectrpc/connect-node@2.2.0 @connectrpc/connect-web@2.2.0 \
    grpc-web@2.1.1 xmlhttprequest@1.8.0
printf '#!/bin/sh\nNODE_PATH="%s/node_modules" exec node "$@"\n' "$modules" >"$bin/web-clients.new"
chmod +x "$bin/web-clients.new"
mv "$bin/web-clients.new" "$bin/web-clients"
