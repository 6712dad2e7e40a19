#!/bin/sh
# Installs the Connect client of PyPI into an environment of its own beside $1, and into $1 a command `connect-py` that runs a
# script with it.
set -eu
bin=$(realpath -m "$1")
root=$(dirname "$(dirname "$(dirname "$(realpath "$0")")")")
venv=$(dirname "$bin")/connect-py
"${OLLAMA_PROXY_VENV:-$root/.venv}/bin/python" -m venv --clear "$venv"
"$venv/bin/python" -m pip -q install --disable-pip-version-check connectrpc==0.13.0 protobuf==7.36.2
mkdir -p "$bin"
printf '#!/bin/sh\nexec "%s/bin/python" "$@"\n' "$venv" >"$bin/connect-py.new"
chmod +x "$bin/connect-py.new"
mv "$bin/connect-py.new" "$bin/connect-py"
