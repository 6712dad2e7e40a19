# Sourced by the scripts beside it: finds Python, makes the virtual environment, installs the locked packages.
# Needs $root; sets $venv. Everything it says goes to standard error.

say() { printf '%s\n' "$*" >&2; }
die() { say "ollama-proxy: $*"; exit 1; }

# A name may be there and not work (version managers leave such shims): run it before trusting it.
try_python() {
    "$1" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); print(sys.executable)' 2>/dev/null
}

# Microseconds that it takes for a little work of the kind that requests are made of.
time_python() {
    "$1" -I -c 'import time
class Work:
    def __init__(self, count): self.count = count
    def go(self):
        found = {}
        for at in range(self.count): found[at & 63] = b"%d" % at, at * 0.5
        return len(found)
def take():
    began = time.process_time()
    Work(4000).go()
    return time.process_time() - began
print(round(min(take() for _ in range(10)) * 1e6))' 2>/dev/null
}

can_make_venvs() { command -v uv >/dev/null 2>&1 || "$1" -I -c 'import ensurepip' 2>/dev/null; }

# Whether the second takes under 87 % of what the first does, in most of nine short looks in turn: processors that others
# share run at half their speed for a tenth of a second and longer, now beside this one and now beside that one.
is_faster() {
    times=0
    for _ in 1 2 3 4 5 6 7 8 9; do
        if ! us=$(time_python "$1") || ! other_us=$(time_python "$2"); then return 1; fi
        if [ $((other_us * 100)) -lt $((us * 87)) ]; then times=$((times + 1)); fi
    done
    [ "$times" -ge 5 ]
}

# The first on the path; but version managers build without the compiler's profile, and such a Python takes a third longer
# over every request: then one of the system's is taken instead.
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        if try_python "$PYTHON"; then return; fi
    else
        best=
        for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
            found=$(try_python "$candidate") || continue
            if [ -z "$best" ] || { ! [ "$found" -ef "$best" ] && can_make_venvs "$found" && is_faster "$best" "$found"; }; then
                best=$found
            fi
        done
        if [ -n "$best" ]; then printf '%s\n' "$best"; return; fi
    fi
    die "Python 3.11 or newer is needed${PYTHON:+ (PYTHON=$PYTHON is not)}; install it, or name it with PYTHON=/path/to/python3"
}

choose_venv() {
    if [ -n "${OLLAMA_PROXY_VENV:-}" ]; then
        # Absolute: uv would take a relative one from the project's folder.
        case $OLLAMA_PROXY_VENV in /*) printf '%s\n' "$OLLAMA_PROXY_VENV" ;; *) printf '%s\n' "$PWD/$OLLAMA_PROXY_VENV" ;; esac
    elif [ -w "$root" ]; then
        printf '%s\n' "$root/.venv"
    else
        printf '%s\n' "${XDG_CACHE_HOME:-${HOME:?is not set; name a folder with OLLAMA_PROXY_VENV}/.cache}/ollama-proxy/venv-$(printf '%s' "$root" | cksum | cut -d' ' -f1)"
    fi
}

make_venv() {
    python=$(find_python) || exit 1
    say "  a virtual environment in $venv ($("$python" --version), $python)"
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
        pip_python=$(find_python) || exit 1
        set -- --python "$venv/bin/python"
    fi
    "$pip_python" -m pip "$@" install -q --disable-pip-version-check --require-hashes -r "$root/bin/uv-requirements.txt" >&2 \
        || die "uv could not be installed; is the network there? (needed for the first start only)"
}

sync_packages() {
    uv=$venv/bin/uv
    if [ ! -x "$uv" ]; then
        if uv --version >/dev/null 2>&1; then uv=$(command -v uv); else install_uv; fi
    fi
    say "  the locked packages ($1)"
    case $1 in run) groups="--no-dev" ;; *) groups="--group dev" ;; esac
    # shellcheck disable=SC2086  # the groups are words
    UV_PROJECT_ENVIRONMENT=$venv UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 "$uv" sync --project "$root" --frozen --no-install-project \
        --inexact -q $groups --python "$venv/bin/python" >&2 \
        || die "the packages could not be installed; is the network there? (needed for the first start only)"
}

# Without bytecode every start compiles every module, which takes two seconds. Images often forbid it, and checkouts may be
# read-only: then it is kept beside the packages.
keep_bytecode() {
    if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ] || [ ! -w "$root/src" ]; then
        unset PYTHONDONTWRITEBYTECODE
        export PYTHONPYCACHEPREFIX="${PYTHONPYCACHEPREFIX:-$venv/bytecode}"
    fi
}

# What a finished set-up was made from; the interpreter is in it because a system upgrade can change it underneath.
print_stamp() {
    cat "$root/uv.lock" "$root/pyproject.toml" "$root/bin/uv-requirements.txt" | cksum
    realpath "$venv/bin/python" 2>/dev/null || true
}

is_ready() { [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.ready-$1" 2>/dev/null)" = "$(print_stamp)" ]; }

# The environment's interpreter runs and is the one its packages were installed for.
is_sound() {
    "$venv/bin/python" -c 'import os, sys
major, minor = sys.version_info[:2]
(major, minor) >= (3, 11) and os.path.isdir(f"{sys.prefix}/lib/python{major}.{minor}/site-packages") or sys.exit(1)' 2>/dev/null
}

# set_up_environment run|dev
set_up_environment() {
    venv=$(choose_venv) || exit 1
    if is_ready "$1"; then return; fi
    lock=$venv.lock
    # Only what we made, or another tool made as an environment, is ever cleared.
    if [ ! -e "$lock" ] && [ ! -e "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
        die "$venv holds files and is no virtual environment; name another folder with OLLAMA_PROXY_VENV"
    fi
    mkdir -p "$(dirname "$venv")"
    exec 9>>"$lock"
    # One set-up at a time; the kernel drops the lock with its holder, so a killed start leaves nothing behind.
    if command -v flock >/dev/null 2>&1; then
        flock 9
        if is_ready "$1"; then exec 9>&-; return; fi
    fi
    say "Setting up (this start only, needs the network):"
    # A lock file with text in it was left by a set-up that was killed: its packages may be half there, and uv would not see it.
    if [ -s "$lock" ] || ! is_sound; then
        echo busy >"$lock"
        make_venv
    fi
    rm -f "$venv/.ready-run" "$venv/.ready-dev"
    echo busy >"$lock"
    sync_packages "$1"
    print_stamp >"$venv/.ready-run"
    if [ "$1" = dev ]; then print_stamp >"$venv/.ready-dev"; fi
    : >"$lock"
    exec 9>&-
    say "Done."
}
