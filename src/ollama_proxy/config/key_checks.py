"""What types cannot say of keys, and the one rule of safety: nobody else is let in without one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from ollama_proxy.config.key_file import KeyFileError, keys_path, load_keys, read_expiry, read_hash
from ollama_proxy.config.problems import Problem
from ollama_proxy.config.schema import ApiKey, Config, Grant

#: A key that somebody made up: fewer characters than this can be found by trying.
LEAST_CHARS = 20
#: What an entry of the file is known by.
_KINDS = ("certificate", "key_env", "key_file", "key_hash")
_HOW = "`ollama-proxy keys add NAME` makes one"


def check_keys(config: Config, environ: Mapping[str, str], *, is_local: bool) -> list[Problem]:
    """Every problem of `server.auth` and of who may connect; `is_local` where only this machine can."""
    server = config.server
    ids = frozenset(one.id for one in config.backends) | {"embedded"}
    problems = []
    signed = server.tls.enabled and bool(server.tls.client_ca_file)
    for name, entry in server.auth.api_keys.items():
        path = f"server.auth.api_keys.{name}"
        problems += _check_entry(entry, path, environ, signed=signed) if server.auth.enabled else []
        problems += check_grant(entry, path, ids)
    try:
        there = server.auth.enabled and count_keys(config, environ) > 0
    except KeyFileError as error:
        return [*problems, Problem("server.auth.keys_file", str(error))]
    if not is_local and not there and not server.allow_public_without_keys:
        message = (
            f"{server.host} is open to others; set server.auth.enabled and have a key ({_HOW}), "
            "or listen on a loopback address such as 127.0.0.1"
        )
        problems.append(Problem("server.host", message))
    elif server.auth.enabled and not there:
        problems.append(Problem("server.auth.enabled", f"is true and there is no key; {_HOW}"))
    return problems


def count_keys(config: Config, environ: Mapping[str, str]) -> int:
    """Keys that can let somebody in. Raises `KeyFileError`."""
    auth = config.server.auth
    own = sum(one.enabled and any(getattr(one, kind) for kind in _KINDS) for one in auth.api_keys.values())
    return own + sum(not one.revoked_unix_s for one in load_keys(keys_path(auth.keys_file, environ)))


def check_grant(grant: Grant, path: str, ids: frozenset[str]) -> list[Problem]:
    """What is wrong with what a key may do; `ids` are the backends that there are."""
    problems = []
    if not grant.permissions:
        problems.append(Problem(f"{path}.permissions", "is empty; name infer, models or admin, or revoke the key"))
    unknown = [one for one in grant.backends if one not in ids]
    if unknown:
        problems.append(Problem(f"{path}.backends", f"no backend is called {unknown[0]}; there is {_join(ids)}"))
    broad = [one for one in grant.permissions if one != "infer"]
    if broad and (grant.models or grant.backends):
        message = f"{' and '.join(broad)} cannot be had for some models or backends only; give that key infer alone"
        problems.append(Problem(f"{path}.permissions", message))
    try:
        read_expiry(grant.expires)
    except ValueError:
        problems.append(Problem(f"{path}.expires", f"{grant.expires} is no day of the calendar"))
    return problems


def _check_entry(entry: ApiKey, path: str, environ: Mapping[str, str], *, signed: bool) -> list[Problem]:
    """Where a key is to be found; `signed` where clients have to show certificates.

    Values are never shown: somebody may have written the key itself here.
    """
    given = [name for name in _KINDS if getattr(entry, name)]
    if not entry.enabled:
        return []
    if len(given) != 1:
        return [Problem(path, f"needs one of {_join(_KINDS)}; it has {' and '.join(given) or 'none'}")]
    fault = _find_fault(entry, environ, signed=signed)
    return [Problem(f"{path}.{given[0]}", fault)] if fault else []


def _find_fault(entry: ApiKey, environ: Mapping[str, str], *, signed: bool) -> str:
    if entry.certificate:
        return "" if signed else "takes certificates: set server.tls.enabled and server.tls.client_ca_file"
    if entry.key_hash:
        good = read_hash(entry.key_hash) is not None
        return "" if good else "must be sha256: and 64 hexadecimal digits, as `ollama-proxy keys hash` prints it"
    if entry.key_env and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", entry.key_env):
        return "must be the name of a variable in capitals, never the key itself"
    try:
        key = read_key(entry, environ)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if len(key) >= LEAST_CHARS and key.isascii() and b" " not in key:
        return ""
    what = f"holds {len(key)} characters" if key else "is not set, or empty"
    return f"{what}; a key has at least {LEAST_CHARS}, ASCII without blanks; {_HOW}"


def read_key(entry: ApiKey, environ: Mapping[str, str]) -> bytes:
    """The key that an entry of the file names; empty where there is none. Raises `OSError`."""
    if entry.key_env:
        return environ.get(entry.key_env, "").strip().encode()
    return Path(entry.key_file).read_bytes().strip() if entry.key_file else b""


def _join(ids: Collection[str]) -> str:
    return ", ".join(sorted(ids))
