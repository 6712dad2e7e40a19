"""A proxy of this process's own, with nothing but the built-in model that makes vectors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.schema import Config, Embedded, Energy, Learning, Meters, Monitoring, Server
from ollama_proxy.config.sections.vectors import VectorStores


@asynccontextmanager
async def start_alone() -> AsyncIterator[Proxy]:
    """It keeps what it has to keep in a folder that goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = folder
        proxy = Proxy(
            Config(
                server=Server(http_port=0, grpc_port=0),
                # One thread: two of them wait for each other on a machine that has other things to do.
                embedded=Embedded(enabled="never", threads=1),
                monitoring=Monitoring(prometheus_port=0, trace_requests=False),
                meters=Meters(enabled="never"),
                energy=Energy(ledger=False),
                learning=Learning(keep=False),
                vectors=VectorStores(folder=folder),
            )
        )
        await proxy.start()
        try:
            yield proxy
        finally:
            await proxy.stop()
