#!/bin/sh
# What rows of bin/reliability want of the system (Debian), and the fuzzer; where it cannot be had, the rows say so.
#   B1 nginx, HAProxy, Apache, lighttpd    C5 slowhttptest    D7 faketime    F4 stress-ng    A8 atheris    A2 httplint
set -eu
root=$(dirname "$(dirname "$(dirname "$(realpath "$0")")")")
tools=${OLLAMA_PROXY_TOOLS:-$HOME/.cache/ollama-proxy/tools}
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get -qq update
    # Services of their own are not wanted: only the programs.
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        nginx-light haproxy apache2-bin lighttpd slowhttptest faketime stress-ng >/dev/null
fi
if [ ! -d "$tools/atheris/atheris" ]; then
    # Not in the suite's environment: its wheels are for some Pythons only.
    "${OLLAMA_PROXY_VENV:-$root/.venv}/bin/uv" pip install -q --no-deps --target "$tools/atheris" \
        --python "${OLLAMA_PROXY_VENV:-$root/.venv}/bin/python" 'atheris>=3.0'
fi
if [ ! -d "$tools/httplint/httplint" ]; then
    "${OLLAMA_PROXY_VENV:-$root/.venv}/bin/uv" pip install -q --target "$tools/httplint" \
        --python "${OLLAMA_PROXY_VENV:-$root/.venv}/bin/python" 'httplint>=2026.10'
fi
