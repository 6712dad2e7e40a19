#!/bin/sh
# Takes the tests of the official Python client out of its source distribution, of the version that is locked, and puts them beside
# $1; into $1 comes a command `ollama-python-tests` that prints where they are.
set -eu
version=0.6.3
bin=$(realpath -m "$1")
root=$(dirname "$(dirname "$(dirname "$(realpath "$0")")")")
folder=$(dirname "$bin")/ollama-python
python=${OLLAMA_PROXY_VENV:-$root/.venv}/bin/python
"$python" -m pip --version >/dev/null 2>&1 || python=python3
mkdir -p "$bin" "$folder"
"$python" -m pip -q download --disable-pip-version-check --no-deps --no-binary ollama --dest "$folder" "ollama==$version"
tar xzf "$folder/ollama-$version.tar.gz" -C "$folder"
printf '#!/bin/sh\necho "%s/ollama-%s/tests/test_client.py"\n' "$folder" "$version" >"$bin/ollama-python-tests.new"
chmod +x "$bin/ollama-python-tests.new"
mv "$bin/ollama-python-tests.new" "$bin/ollama-python-tests"
