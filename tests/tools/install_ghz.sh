#!/bin/sh
# Installs ghz, a load tool on grpc-go, into $1 from its Go module.
set -eu
command -v go >/dev/null || { echo "go is not installed" >&2; exit 1; }
GOBIN=$(realpath -m "$1") go install github.com/bojand/ghz/cmd/ghz@v0.93.0
