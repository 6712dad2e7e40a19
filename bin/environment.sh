# Sourced by the scripts beside it: finds Python, makes the virtual environment, installs the locked packages.
# Needs $root; sets $venv. Everything it says goes to standard error.

say() { printf '%s\n' "$*" >&2; }
die() { say "ollama-proxy: $*"; exit 1; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
        # A name may be there and not work (version managers leave such shims): run it before trusting it.
        if found=$("$candidate" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); print(sys.executable)' 2>/dev/null); then
            printf '%s\n' "$found"
            return
        fi
    done
    die "Python 3.11 or newer is needed${PYTHON:+ (PYTHON=$PYTHON is not)}; install it, or name it with PYTHON=/path/to/python3"
}

choose_venv() {
    if [ -n "${OLLAMA_PROXY_VENV:-}" ]; then
        printf '%s\n' "$OLLAMA_PROXY_VENV"
    elif [ -w "$root" ]; then
        printf '%s\n' "$root/.venv"
    else
        printf '%s\n' "${XDG_CACHE_HOME:-$HOME/.cache}/ollama-proxy/venv-$(printf '%s' "$root" | cksum | cut -d' ' -f1)"
    fi
}

make_venv() {
    python=$(find_python)
    say "  a virtual environment in $venv ($("$python" --version))"
    if ! "$python" -m venv --clear "$venv" >/dev/null 2>&1; then
        # Debian keeps ensurepip in a package of its own; any uv or pip will do instead.
        if command -v uv >/dev/null 2>&1; then
            uv venv -q --clear --python "$python" "$venv" || die "uv could not make $venv"
        else
            "$python" -m venv --clear --without-pip "$venv" 2>/dev/null && "$python" -m pip --version >/dev/null 2>&1 \
                || die "this Python cannot make virtual environments; on Debian or Ubuntu run: apt install python3-venv"
        fi
    fi
}

# The hashes in the requirements file hold whichever pip installs it.
install_uv() {
    say "  uv, the installer"
    if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        pip_python=$venv/bin/python
        set --
    else
        pip_python=$(find_python)
        set -- --python "$venv/bin/python"
    fi
    "$pip_python" -m pip "$@" install -q --disable-pip-version-check --require-hashes -r "$root/bin/uv-requirements.txt" >&2 \
        || die "uv could not be installed; is the network there? (needed for the first start only)"
}

sync_packages() {
    if [ -x "$venv/bin/uv" ]; then uv=$venv/bin/uv; else uv=$(command -v uv) || { install_uv; uv=$venv/bin/uv; }; fi
    say "  the locked packages ($1)"
    case $1 in run) groups="--no-dev" ;; *) groups="--group dev" ;; esac
    # shellcheck disable=SC2086  # the groups are words
    UV_PROJECT_ENVIRONMENT=$venv UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 "$uv" sync --project "$root" --frozen --no-install-project \
        --inexact -q $groups --python "$venv/bin/python" >&2 \
        || die "the packages could not be installed; is the network there? (needed for the first start only)"
}

# set_up_environment run|dev
set_up_environment() {
    venv=$(choose_venv)
    stamp=$venv/.ready-$1
    want=$(cat "$root/uv.lock" "$root/pyproject.toml" "$root/bin/uv-requirements.txt" | cksum)
    if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then return; fi
    mkdir -p "$(dirname "$venv")"
    lock=$venv.lock
    # One set-up at a time; the kernel drops the lock with its holder, so a killed start leaves nothing behind.
    if command -v flock >/dev/null 2>&1; then
        exec 9>"$lock"
        flock 9
        if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then exec 9>&-; return; fi
    fi
    say "Setting up (this start only, needs the network):"
    if ! "$venv/bin/python" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1)' 2>/dev/null; then make_venv; fi
    sync_packages "$1"
    printf '%s\n' "$want" >"$stamp"
    if command -v flock >/dev/null 2>&1; then exec 9>&-; fi
    say "Done."
}
