#!/bin/sh
# Installs grpcurl into $1 from its Go module.
set -eu
command -v go >/dev/null || { echo "go is not installed" >&2; exit 1; }
GOBIN=$(realpath -m "$1") go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4
