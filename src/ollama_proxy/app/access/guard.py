"""The gate: every request of every protocol passes it once, with what its route needs and before its handler runs.

What is decided about is what routing found, never a second reading of the path. Whose request it is is noted with its
head, so that the next one of the connection with the same head costs a look-up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Any

from ollama_proxy.app.access.keyring import Keyring
from ollama_proxy.config.schema import Auth
from ollama_proxy.domain.caller import Caller, Permission
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.credentials import CALLER, read_credentials
from ollama_proxy.net.grpc.route import GrpcRoute
from ollama_proxy.net.grpc.status import PERMISSION_DENIED, UNAUTHENTICATED
from ollama_proxy.net.http1.fields import Header
from ollama_proxy.net.http2.head import RequestHead

_CODES = {ErrorKind.UNAUTHENTICATED: UNAUTHENTICATED, ErrorKind.PERMISSION_DENIED: PERMISSION_DENIED}
_CHANGES = frozenset(("models", "admin"))
_NO_KEY = "a key is needed: send it as `Authorization: Bearer <key>` or `x-api-key: <key>`"
_BAD_KEY = "this key opens nothing: it is unknown, revoked or over"
_NOT_FROM_AFAR = (
    "without keys, models and settings are changed from this machine only; "
    "set server.auth.enabled and give the key the permission {permission}"
)


class Guard:
    """Lets requests in, or says why not."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        #: Whether requests need keys; where they need none, those for `infer` need not ask here at all.
        self.is_checked = keyring.is_checked

    def replace(self, auth: Auth) -> None:
        """Another configuration, from now on. Raises `KeyFileError` and `OSError`, having changed nothing."""
        self._keyring.replace(auth)
        self.is_checked = self._keyring.is_checked

    def judge(
        self, notes: dict[Any, Any], fields: Sequence[Header], peer: str, permission: Permission
    ) -> ProxyError | None:
        """What is in the way of a request with such a head, or None; its caller is noted."""
        if not self.is_checked:
            if permission not in _CHANGES or is_near(peer):
                return None
            return ProxyError(ErrorKind.PERMISSION_DENIED, _NOT_FROM_AFAR.format(permission=permission))
        if permission == "open":
            return None
        caller: Caller | None = notes.get(CALLER)
        if caller is None or not caller.is_live:
            keys = read_credentials(fields)
            caller = self._keyring.find(keys)
            if caller is None:
                notes.pop(CALLER, None)
                return ProxyError(ErrorKind.UNAUTHENTICATED, _BAD_KEY if keys else _NO_KEY)
            notes[CALLER] = caller
        if permission == "key" or permission in caller.permissions:
            return None
        has = ", ".join(sorted(caller.permissions))
        message = f"the key {caller.name} has the permission {has}; this takes {permission}"
        return ProxyError(ErrorKind.PERMISSION_DENIED, message)

    def judge_call(self, head: RequestHead, peer: str, permission: Permission) -> GrpcRoute | None:
        """As `judge`, for a gRPC call: the route of its refusal, or None."""
        error = self.judge(head.notes, head.fields, peer, permission)
        return None if error is None else GrpcRoute(refusal=(_CODES[error.kind], error.message, ()))


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
