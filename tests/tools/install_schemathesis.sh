#!/bin/sh
# Installs schemathesis, which makes requests out of an OpenAPI document and looks at the answers, into an environment of its
# own beside $1, and a link to it into $1: as a package of the suite's environment it would load with every test run.
set -eu
bin=$(realpath -m "$1")
root=$(dirname "$(dirname "$(dirname "$(realpath "$0")")")")
venv=$(dirname "$bin")/schemathesis
"${OLLAMA_PROXY_VENV:-$root/.venv}/bin/python" -m venv --clear "$venv"
"$venv/bin/python" -m pip -q install --disable-pip-version-check schemathesis==4.32.5
mkdir -p "$bin"
ln -sf "$venv/bin/schemathesis" "$bin/schemathesis"
