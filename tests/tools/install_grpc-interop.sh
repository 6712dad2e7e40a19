#!/bin/sh
# Installs grpc-go's interoperability client into $1 from its Go module; its own name, client, says too little in a folder of tools.
set -eu
command -v go >/dev/null || { echo "go is not installed" >&2; exit 1; }
bin=$(realpath -m "$1")
mkdir -p "$bin"
work=$(mktemp -d "$bin/.grpc-interop.XXXXXX")
trap 'rm -rf "$work"' EXIT
GOBIN="$work" go install google.golang.org/grpc/interop/client@v1.85.0
mv "$work/client" "$bin/grpc-interop"
