"""`grpc.health.v1.Health`: answered for probes, but not reflected."""

from __future__ import annotations

from ollama_proxy.net.grpc.call import GrpcCall, GrpcMethod

_NOT_FOUND = 5
_KNOWN_SERVICES = (b"compute.v1.ComputeService", b"grpc.health.v1.Health")
#: HealthCheckResponse{status: SERVING}
_SERVING = b"\x08\x01"


def _check(call: GrpcCall, message: bytes) -> None:
    # HealthCheckRequest{service}; an empty one asks for the whole server.
    if message not in (b"", b"\x0a\x00") and message[2:] not in _KNOWN_SERVICES:
        call.finish(_NOT_FOUND, "unknown service")
        return
    call.send_message(_SERVING)
    call.finish()


HEALTH_METHODS = {"/grpc.health.v1.Health/Check": GrpcMethod(_check)}
