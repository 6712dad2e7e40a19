"""Every key that lets somebody in, by its hash: those of the configuration and those of `ollama-proxy keys`."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ollama_proxy.config.key_checks import read_key
from ollama_proxy.config.key_file import KeyFileError, keys_path, load_keys, read_expiry, read_hash
from ollama_proxy.config.schema import ApiKey, Auth, Grant
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.quota import Allowance, Quota

_log = logging.getLogger(__name__)

_NEVER = float("inf")
_OF_CERTIFICATES = os.urandom(32)
#: Name, digest and grant of every key that is not off.
Found = list[tuple[str, bytes, Grant]]


class _Held:
    """A key that is good, what it may do, and until when."""

    __slots__ = ("caller", "digest", "expires_unix_s", "grant")

    def __init__(self, digest: bytes, grant: Grant, caller: Caller, expires_unix_s: float) -> None:
        self.digest = digest
        self.grant = grant
        self.caller = caller
        self.expires_unix_s = expires_unix_s


class Keyring:
    """Finds callers by their keys. The file is looked at once a second (`sweep`), so that a key which is revoked opens
    nothing from then on; a file that cannot be read changes nothing, and is said once."""

    def __init__(
        self, auth: Auth, environ: Mapping[str, str] = os.environ, unix_clock: Callable[[], float] = time.time
    ) -> None:
        """Raises `KeyFileError`."""
        self._auth = auth
        self._environ = environ
        self._unix_clock = unix_clock
        self._path = keys_path(auth.keys_file, environ)
        self._held: dict[bytes, _Held] = {}
        self._quotas: dict[str, Quota] = {}
        self._seen = _look_at(self._path)
        self._take(self.read(auth))

    @property
    def is_checked(self) -> bool:
        """Whether requests need a key."""
        return self._auth.enabled

    def __len__(self) -> int:
        return len(self._held)

    def find(self, keys: Sequence[bytes]) -> Caller | None:
        """Whose keys these are: of the first that opens anything."""
        return self._find([hashlib.sha256(key).digest() for key in keys])

    def find_certified(self, names: Sequence[str]) -> Caller | None:
        """Who shows a certificate with these names: of the first that stands for a key."""
        return self._find([_digest_name(name) for name in names])

    def _find(self, digests: Sequence[bytes]) -> Caller | None:
        for digest in digests:
            held = self._held.get(digest)
            # The look-up tells its time by digests, of which nobody can choose one; compared in constant time all the
            # same, so that it stays so whatever becomes of the look-up.
            if held is not None and hmac.compare_digest(held.digest, digest) and held.caller.is_live:
                if held.expires_unix_s > self._unix_clock():
                    return held.caller
                held.caller.is_live = False
        return None

    def find_named(self, name: str) -> Caller | None:
        """Whose key has a name, for what goes on after its request; None for a key that is good no more."""
        for held in self._held.values():
            if held.caller.name == name and held.caller.is_live and held.expires_unix_s > self._unix_clock():
                return held.caller
        return None

    @property
    def limits_energy(self) -> bool:
        """Whether the energy of any key is limited."""
        return any(one.allowance.wh_per_hour or one.allowance.wh_per_day for one in self._quotas.values())

    def spend(self, name: str, joules: float, at_s: float) -> None:
        """A key has taken this much energy at a time, in the past or now; nothing where it has no limits."""
        quota = self._quotas.get(name)
        if quota is not None:
            quota.spend(joules, at_s)

    def sweep(self) -> None:
        """Take up changes of the file, and end keys whose time is over; call about once a second."""
        if not self._auth.enabled:
            return
        seen = _look_at(self._path)
        if seen != self._seen:
            self._seen = seen
            self._take_up()
        now_unix_s = self._unix_clock()
        for held in self._held.values():
            if held.expires_unix_s <= now_unix_s:
                held.caller.is_live = False

    def read(self, auth: Auth) -> Found:
        """The keys of another configuration, which changes nothing yet. Raises `KeyFileError`."""
        if not auth.enabled:
            return []
        try:
            own = [
                (name, _digest(entry, self._environ), entry) for name, entry in auth.api_keys.items() if entry.enabled
            ]
        except OSError as error:
            raise KeyFileError(f"a key cannot be read: {error.strerror}") from None
        stored = [
            (one.name, read_hash(one.key_hash), one)
            for one in load_keys(keys_path(auth.keys_file, self._environ))
            if not one.revoked_unix_s
        ]
        return [(name, digest, grant) for name, digest, grant in (*own, *stored) if digest is not None]

    def replace(self, auth: Auth, found: Found) -> None:
        """Another configuration and its keys, from now on. Those that stay as they are keep what they have used."""
        self._auth = auth
        self._path = keys_path(auth.keys_file, self._environ)
        self._seen = _look_at(self._path)
        before = list(self._held.values())
        self._take(found)
        if not auth.enabled:
            for held in before:
                held.caller.set_free()

    def _take_up(self) -> None:
        try:
            if self._seen is None:
                raise KeyFileError(f"{self._path} is gone")
            self._take(self.read(self._auth))
        except KeyFileError as error:
            _log.error("keys stay as they were: %s", error)
        else:
            _log.info("keys were read anew: %d are good", len(self._held))

    def _take(self, found: Found) -> None:
        """These keys and no others. Who is as before keeps its caller; nobody else's is live any more."""
        now_unix_s = self._unix_clock()
        before, self._held = self._held, {}
        for name, digest, grant in found:
            old = before.get(digest)
            if old is not None and old.grant == grant and old.caller.name == name:
                self._held[digest] = old
                continue
            expires_unix_s = _expiry(grant)
            if expires_unix_s > now_unix_s:
                self._held[digest] = _Held(digest, grant, self._make_caller(name, grant), expires_unix_s)
        for digest, old in before.items():
            if self._held.get(digest) is not old:
                old.caller.is_live = False
        names = {held.caller.name for held in self._held.values()}
        self._quotas = {name: quota for name, quota in self._quotas.items() if name in names}

    def _make_caller(self, name: str, grant: Grant) -> Caller:
        return Caller(
            name,
            frozenset(grant.permissions),
            grant.models,
            frozenset(grant.backends) or None,
            self._make_quota(name, grant),
            continues=grant.continuation == "auto",
        )

    def _make_quota(self, name: str, grant: Grant) -> Quota | None:
        allowance = Allowance(
            grant.requests_per_minute, grant.tokens_per_minute, grant.wh_per_hour, grant.wh_per_day, grant.concurrent
        )
        if allowance == Allowance():
            return None
        quota = self._quotas.get(name)
        if quota is None or quota.allowance != allowance:
            quota = self._quotas[name] = Quota(allowance)
        return quota


def _digest_name(name: str) -> bytes:
    """In the place of a key's digest, and never one: a key is hashed without this secret."""
    return hmac.digest(_OF_CERTIFICATES, name.encode(), "sha256")


def _digest(entry: ApiKey, environ: Mapping[str, str]) -> bytes | None:
    if entry.certificate:
        return _digest_name(entry.certificate)
    if entry.key_hash:
        return read_hash(entry.key_hash)
    key = read_key(entry, environ)
    return hashlib.sha256(key).digest() if key else None


def _expiry(grant: Grant) -> float:
    expires_unix_s = read_expiry(grant.expires)
    return _NEVER if expires_unix_s is None else expires_unix_s


def _look_at(path: Path) -> tuple[int, int, int] | None:
    """What changes when the file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
