#!/bin/sh
# Installs a real Ollama (CPU) into $1, as `ollama-0.24`, from its Go module: some five minutes and 1.5 GB of caches, once.
# 0.24.0 is the last version that Go and a C++ compiler alone can build. Its module archive lacks three header libraries
# (archives leave out folders called vendor): Debian packages two, PyPI's source archive of miniaudio carries the third.
# By itself Go has C compiled for the first x86-64, and models then run at a sixth of their speed: Ollama's releases use
# what the processor has. Here it is the same on every machine (AVX2, FMA), as recorded answers hold for one rounding only.
set -eu
bin=$(realpath -m "$1")
root=$(dirname "$(dirname "$(dirname "$(realpath "$0")")")")
for tool in go gcc g++; do command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }; done
flags=-O3
if [ "$(uname -m)" = x86_64 ]; then
    grep -qw avx2 /proc/cpuinfo || { echo "this processor has no AVX2" >&2; exit 1; }
    flags="$flags -march=x86-64-v3"
fi
python=${OLLAMA_PROXY_VENV:-$root/.venv}/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ ! -e /usr/include/nlohmann/json_fwd.hpp ] || [ ! -e /usr/include/stb/stb_image.h ]; then
    [ "$(id -u)" = 0 ] || { echo "install nlohmann-json3-dev and libstb-dev first" >&2; exit 1; }
    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y nlohmann-json3-dev libstb-dev >/dev/null
fi
"$python" -m pip --version >/dev/null 2>&1 || python=python3
"$python" -m pip -q download --no-deps --no-binary :all: --dest "$work" miniaudio==1.71
mkdir "$work/headers"
tar xzf "$work"/miniaudio-*.tar.gz -C "$work/headers" --strip-components=1
CGO_ENABLED=1 CGO_CFLAGS=$flags CGO_CXXFLAGS=$flags CPATH="$work/headers" GOBIN="$work" go install \
    -ldflags '-X github.com/ollama/ollama/version.Version=0.24.0' github.com/ollama/ollama@v0.24.0
mkdir -p "$bin"
mv "$work/ollama" "$bin/ollama-0.24"
