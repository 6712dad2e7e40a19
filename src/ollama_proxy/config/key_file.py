"""The file that `ollama-proxy keys` writes and a proxy reads: names, hashes, what each key may do. No key is in it.

Keys are 256 random bits, so there is nothing to guess or to look up in a table: one round of SHA-256 keeps them as well
as a slow hash would, and costs a microsecond where that would cost a tenth of a second for every stranger who asks.
The file is replaced as a whole, so that a kill at any instant leaves the old one or the new one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ollama_proxy.config.schema import Grant
from ollama_proxy.config.sections.keys import NotBlank

_VERSION = 1
_PREFIX = "ocp_"
_KEY_BYTES = 32
_MOST_BYTES = 16_000_000
_HASH = re.compile(r"(?:sha256:)?([0-9a-fA-F]{64})")


class StoredKey(Grant, frozen=True, kw_only=True, omit_defaults=False):
    """One key. Times in seconds of Unix; `revoked_unix_s` is 0 for one that is good.

    Unlike in a file that people write, an empty list is no slip here: it is how no limit is written.
    """

    models: tuple[NotBlank, ...] = ()
    backends: tuple[NotBlank, ...] = ()
    name: str
    key_hash: str
    created_unix_s: float
    revoked_unix_s: float = 0.0


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: tuple[StoredKey, ...]


class KeyFileError(Exception):
    """A file that cannot be read or written; the text says why and what to do."""


def make_key() -> str:
    """A new key, to be shown once."""
    return _PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def hash_key(key: bytes) -> str:
    """What is kept of a key."""
    return "sha256:" + hashlib.sha256(key).hexdigest()


def read_hash(text: str) -> bytes | None:
    """The digest of a hash as it is written; None for what is none."""
    match = _HASH.fullmatch(text.strip())
    return bytes.fromhex(match[1]) if match else None


def read_expiry(text: str) -> float | None:
    """Seconds of Unix of an `expires`, None for never. Raises `ValueError` for a day that no calendar has."""
    if not text:
        return None
    return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp()


def keys_path(configured: str, environ: Mapping[str, str]) -> Path:
    """Where the keys are: as configured, else `ollama-proxy/keys.json` in the user's state folder."""
    return Path(configured) if configured else state_folder(environ) / "keys.json"


def state_folder(environ: Mapping[str, str]) -> Path:
    """`ollama-proxy` in XDG_STATE_HOME, else in ~/.local/state."""
    state = environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return folder / "ollama-proxy"


def load_keys(path: Path) -> tuple[StoredKey, ...]:
    """The keys of a file, revoked ones too; none where there is no file. Raises `KeyFileError`."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise KeyFileError(f"{path} is no file of keys: it is too large")
        found = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KeyFileError(f"the keys in {path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Not what stands there: it may be a key.
        raise KeyFileError(f"{path} is no file of keys; restore it, or move it away and add keys anew") from None
    if found.version != _VERSION:
        raise KeyFileError(f"{path} has version {found.version}; this program reads {_VERSION}: update it")
    return found.keys


@contextmanager
def changing(path: Path) -> Iterator[list[StoredKey]]:
    """The keys as a list to be changed, which is written back at the end unless something is raised.

    Two who change at once take turns. Raises `KeyFileError`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KeyFileError(f"keys cannot be kept in {path}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = list(load_keys(path))
        yield keys
        _write(path, keys)
    finally:
        os.close(lock)


def _write(path: Path, keys: list[StoredKey]) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    data = msgspec.json.format(msgspec.json.encode(_File(_VERSION, tuple(keys)))) + b"\n"
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(handle, "wb") as file:
            os.fchmod(handle, 0o600)
            file.write(data)
            file.flush()
            os.fsync(handle)
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise KeyFileError(f"keys cannot be kept in {path}: {error.strerror}") from None


def _sync_folder(folder: Path) -> None:
    """So that the new name of the file outlasts a loss of power."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
