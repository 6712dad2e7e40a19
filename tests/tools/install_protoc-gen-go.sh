#!/bin/sh
# Installs the Go plugins of protoc into $1 from their Go modules, in the versions that the committed stubs name.
set -eu
command -v go >/dev/null || { echo "go is not installed" >&2; exit 1; }
bin=$(realpath -m "$1")
stubs=$(dirname "$(dirname "$(dirname "$(realpath "$0")")")")/api/gen/go
version() { sed -n "s,^//.*$2[[:space:]]*v,v,p" "$stubs/$1" | head -n 1; }
GOBIN="$bin" go install "google.golang.org/grpc/cmd/protoc-gen-go-grpc@$(version compute_grpc.pb.go protoc-gen-go-grpc)"
GOBIN="$bin" go install "google.golang.org/protobuf/cmd/protoc-gen-go@$(version compute.pb.go protoc-gen-go)"
