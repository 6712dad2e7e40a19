"""HealthCheck of compute.v1 on grpc.aio and uvloop: `python -m bench.participants.grpc_aio_server PORT BACKENDS`."""

from __future__ import annotations

import sys
import time
from typing import Any

import grpc  # type: ignore[import-untyped]  # a test dependency that has no types
import uvloop

from ollama_proxy.api.gen.compute.v1 import compute_pb2 as pb


def _serve_health(backends: int) -> Any:
    states = {f"mock-{number}": "healthy" for number in range(1, backends + 1)}

    async def check_health(request: pb.HealthCheckRequest, context: object) -> pb.HealthCheckResponse:
        return pb.HealthCheckResponse(status="healthy", backend_health=states, timestamp_unix=int(time.time()))

    method = grpc.unary_unary_rpc_method_handler(
        check_health,
        request_deserializer=pb.HealthCheckRequest.FromString,
        response_serializer=pb.HealthCheckResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("compute.v1.ComputeService", {"HealthCheck": method})


async def main(port: int, backends: int) -> None:
    """Until somebody ends it."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_serve_health(backends),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
