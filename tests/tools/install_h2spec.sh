#!/bin/sh
# Installs h2spec into $1 from its Go module. Later versions moved to a module path the Go proxy does not serve.
set -eu
command -v go >/dev/null || { echo "go is not installed" >&2; exit 1; }
GOBIN=$(realpath -m "$1") go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible
