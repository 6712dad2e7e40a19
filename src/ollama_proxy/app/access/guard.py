"""The gate: every request of every protocol passes it once, with what its route needs and before its handler runs.

What is decided about is what routing found, never a second reading of the path. Whose request it is is noted with its
head, so that the next one of the connection with the same head costs a look-up.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from ollama_proxy.app.access.keyring import Found, Keyring
from ollama_proxy.app.access.rate import RateLimiter
from ollama_proxy.config.schema import Auth, RateLimit
from ollama_proxy.domain.caller import Caller, Permission
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.credentials import CALLER, read_credentials
from ollama_proxy.net.grpc.route import GrpcRoute
from ollama_proxy.net.grpc.status import PERMISSION_DENIED, RESOURCE_EXHAUSTED, UNAUTHENTICATED
from ollama_proxy.net.http1.fields import Header
from ollama_proxy.net.http2.head import RequestHead
from ollama_proxy.net.peer import Peer

_CODES = {
    ErrorKind.UNAUTHENTICATED: UNAUTHENTICATED,
    ErrorKind.PERMISSION_DENIED: PERMISSION_DENIED,
    ErrorKind.RATE_LIMITED: RESOURCE_EXHAUSTED,
}
#: What is more than asking.
CHANGES = frozenset(("models", "admin"))
_NO_KEY = "a key is needed: send it as `Authorization: Bearer <key>` or `x-api-key: <key>`"
_BAD_KEY = "this key opens nothing: it is unknown, revoked or over"
_NOT_FROM_AFAR = (
    "without keys, models and settings are changed from this machine only; "
    "set server.auth.enabled and give the key the permission {permission}"
)


class Guard:
    """Lets requests in, or says why not."""

    def __init__(
        self, keyring: Keyring, limiter: RateLimiter | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`limiter` says how often somebody may ask, by key or else by address."""
        self._keyring = keyring
        self._limiter = limiter
        self._clock = clock
        #: Whether requests are looked at; where they are not, those for `infer` need not ask here at all.
        self.is_checked = keyring.is_checked or limiter is not None

    def read_keys(self, auth: Auth) -> Found:
        """The keys of another configuration. Raises `KeyFileError`, and changes nothing."""
        return self._keyring.read(auth)

    def replace(self, auth: Auth, found: Found, rate_limit: RateLimit) -> None:
        """Another configuration, from now on."""
        self._keyring.replace(auth, found)
        self._limiter = make_limiter(rate_limit)
        self.is_checked = self._keyring.is_checked or self._limiter is not None

    def find_named(self, name: str) -> Caller | None:
        """Whose key has a name; None for one that is good no more, or where no keys are checked."""
        return self._keyring.find_named(name) if self._keyring.is_checked else None

    def recall_spending(self, recall: Callable[[Callable[[str, float, float], None], float], None]) -> None:
        """Have it told what keys have spent, where any key's energy is limited, so that no restart makes it anew.

        `recall` takes who is to be told (name, joules, when) and the time it is.
        """
        if self._keyring.limits_energy:
            recall(self._keyring.spend, self._clock())

    def sweep(self) -> None:
        """Take up changes of keys; call about once a second."""
        self._keyring.sweep()

    def judge(
        self, notes: dict[Any, Any], fields: Sequence[Header], peer: str, permission: Permission
    ) -> ProxyError | None:
        """What is in the way of a request with such a head, or None; its caller is noted."""
        if permission == "open":
            return None
        if not self._keyring.is_checked:
            if permission not in CHANGES or is_near(peer):
                return self._limit(peer.rpartition(":")[0])
            return ProxyError(ErrorKind.PERMISSION_DENIED, _NOT_FROM_AFAR.format(permission=permission))
        caller: Caller | None = notes.get(CALLER)
        if caller is None or not caller.is_live:
            keys = read_credentials(fields)
            names = () if keys or not isinstance(peer, Peer) else peer.names
            # Heads are kept by their connection, and so is what is noted with them: nobody else's certificate counts.
            caller = self._keyring.find_certified(names) if names else self._keyring.find(keys)
            if caller is None:
                notes.pop(CALLER, None)
                return ProxyError(ErrorKind.UNAUTHENTICATED, _BAD_KEY if keys else _NO_KEY)
            notes[CALLER] = caller
        if permission == "key" or permission in caller.permissions:
            return self._limit(caller.name) if self._limiter is not None else None
        has = ", ".join(sorted(caller.permissions))
        message = f"the key {caller.name} has the permission {has}; this takes {permission}"
        return ProxyError(ErrorKind.PERMISSION_DENIED, message)

    def _limit(self, name: str) -> ProxyError | None:
        if self._limiter is None:
            return None
        wait_s = self._limiter.take(name, self._clock())
        if not wait_s:
            return None
        message = f"too many requests: server.rate_limit lets the next one of {name} in in {wait_s:.1f} s"
        return ProxyError(ErrorKind.RATE_LIMITED, message, retry_after_s=wait_s)

    def judge_call(self, head: RequestHead, peer: str, permission: Permission) -> GrpcRoute | None:
        """As `judge`, for a gRPC call: the route of its refusal, or None."""
        error = self.judge(head.notes, head.fields, peer, permission)
        if error is None:
            return None
        wait_ms = math.ceil(error.retry_after_s * 1000)
        trailers = (("retry-after-ms", str(wait_ms)),) if wait_ms else ()
        return GrpcRoute(refusal=(_CODES[error.kind], error.message, trailers))


def make_limiter(config: RateLimit) -> RateLimiter | None:
    """As configured; None where there is no limit."""
    return RateLimiter(config.rate, config.burst) if config.enabled else None


def is_near(peer: str) -> bool:
    """Whether an address and port are of this machine."""
    host = peer.rpartition(":")[0].partition("%")[0]
    if not host:
        return peer == "local"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
