"""`grpc.health.v1.Health`: answered for probes and for clients that watch, but not reflected."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ollama_proxy.net.grpc.call import GrpcCall, GrpcMethod

CHECK = "/grpc.health.v1.Health/Check"
_NOT_FOUND = 5
_UNAVAILABLE = 14
_STOPPING = "this server is stopping"
_KNOWN_SERVICES = (b"compute.v1.ComputeService", b"grpc.health.v1.Health")
#: HealthCheckResponse{status}
_SERVING, _NOT_SERVING, _SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"


class Health:
    """Serving until `leave`, or until `is_leaving` says so."""

    def __init__(self, is_leaving: Callable[[], bool] = lambda: False) -> None:
        self._left = False
        self._is_leaving = is_leaving
        self._watchers: set[GrpcCall] = set()
        # Whoever watches over the proxy need not be anybody.
        self.methods = {
            CHECK: GrpcMethod(self._check, permission="open"),
            "/grpc.health.v1.Health/Watch": GrpcMethod(self._watch, server_streaming=True, permission="open"),
        }

    def leave(self, *, followed: bool = False) -> None:
        """Let go whoever watches, for a watch would hold up the end. Unless a successor has `followed`, and serves at
        the same address, whoever asks is told from now on that nobody does."""
        self._left = not followed
        for call in list(self._watchers):
            if not followed:
                call.send_message(_NOT_SERVING)
            call.finish(_UNAVAILABLE, _STOPPING)
        self._watchers.clear()

    def _status(self) -> bytes:
        return _NOT_SERVING if self._left or self._is_leaving() else _SERVING

    def _check(self, call: GrpcCall, message: bytes) -> None:
        if not _is_known(message):
            call.finish(_NOT_FOUND, "unknown service")
            return
        call.send_message(self._status())
        call.finish()

    def _watch(self, call: GrpcCall, message: bytes) -> None:
        call.send_message(self._status() if _is_known(message) else _SERVICE_UNKNOWN)
        if self._left:
            call.finish(_UNAVAILABLE, _STOPPING)
        else:
            self._watchers.add(call)
            call.on_cancel = partial(self._watchers.discard, call)


def _is_known(message: bytes) -> bool:
    """HealthCheckRequest{service}; an empty one asks for the whole server."""
    return message in (b"", b"\x0a\x00") or message[2:] in _KNOWN_SERVICES
