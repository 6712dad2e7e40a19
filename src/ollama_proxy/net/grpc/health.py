"""`grpc.health.v1.Health`: answered for probes, but not reflected."""

from __future__ import annotations

from ollama_proxy.net.grpc.call import GrpcCall, UnaryHandler

#: HealthCheckResponse{status: SERVING}
_SERVING = b"\x08\x01"


def _check(call: GrpcCall, message: bytes) -> None:
    call.send_message(_SERVING)
    call.finish()


HEALTH_METHODS: dict[str, UnaryHandler] = {"/grpc.health.v1.Health/Check": _check}
