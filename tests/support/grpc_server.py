"""A gRPC server of ours on a free port, for tests that drive it with a foreign client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from ollama_proxy.net.draining import drain
from ollama_proxy.net.grpc.call import GrpcMethod
from ollama_proxy.net.grpc.server import GrpcServer
from ollama_proxy.net.http2.limits import Http2Limits


@asynccontextmanager
async def serve_grpc(
    methods: Mapping[str, GrpcMethod], reflected: tuple[str, ...] = (), limits: Http2Limits | None = None
) -> AsyncIterator[tuple[GrpcServer, int]]:
    """The server and its port, until the block ends."""
    server = GrpcServer(methods, reflected, limits)
    listener = await asyncio.get_running_loop().create_server(server.protocol_factory, "127.0.0.1", 0)
    try:
        yield server, listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await drain(server, 0)
