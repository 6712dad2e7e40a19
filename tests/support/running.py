"""A proxy on an event loop of its own in this process, for tests that ask it over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.schema import Auth, Config, Embedded, Energy, Learning, Meters, Monitoring, Server


@contextmanager
def running_proxy(config: Config) -> Iterator[Proxy]:
    """The proxy from its start to its end."""
    ready, stop = threading.Event(), asyncio.Event()
    found: list[Proxy] = []
    failures: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        proxy = Proxy(config)
        try:
            await proxy.start()
            found.append(proxy)
            ready.set()
            await stop.wait()
        finally:
            await proxy.stop()

    def run() -> None:
        try:
            uvloop.run(serve())
        except BaseException as error:  # noqa: BLE001  # told in the test's own thread
            failures.append(error)
        ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(30)
    if failures:
        raise failures[0]
    try:
        yield found[0]
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(30)
    assert not failures, failures


def quiet_config(auth: Auth, server: Server | None = None) -> Config:
    """No backend, no file, no meter: who is let in does not depend on them."""
    server = server or Server(http_port=0, grpc_port=0, auth=auth)
    return Config(
        server=server,
        embedded=Embedded(enabled="never"),
        monitoring=Monitoring(prometheus_port=0, trace_requests=False),
        meters=Meters(enabled="never"),
        energy=Energy(ledger=False),
        learning=Learning(keep=False),
    )
