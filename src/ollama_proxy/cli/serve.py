"""Serving: the event loop, the signals, the lines at the start."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_proxy.config.schema import Config

if TYPE_CHECKING:
    from ollama_proxy.app.process.handover import Heritage
    from ollama_proxy.app.reload import Source

_log = logging.getLogger(__name__)


def serve(config: Config, config_path: Path, read_config: Callable[[], Config], *, take_over: bool = False) -> int:
    """Run until a signal; returns the exit code. `read_config` reads the file again, with the same flags; `take_over`
    follows a proxy that runs.

    The first signal lets answers end, the second does not wait for them.
    """
    import uvloop

    from ollama_proxy.app.process import handover
    from ollama_proxy.app.reload import Source
    from ollama_proxy.observability.logs import set_up_logging

    set_up_logging(config.monitoring.log_level)
    heritage = None
    try:
        path = handover.control_path(config)
        if take_over and path is not None:
            heritage = handover.take_over(path)
    except handover.CannotTakeOver as error:
        print(f"ollama-proxy: {error}", file=sys.stderr)
        return 2
    if take_over and heritage is None:
        _log.info("no proxy is there to be followed; this is an ordinary start")
    return uvloop.run(_serve(config, Source(config_path, read_config), heritage))


async def _serve(config: Config, source: Source, heritage: Heritage | None) -> int:
    from ollama_proxy.app.process.banner import write_banner
    from ollama_proxy.app.process.ports import CannotListen
    from ollama_proxy.app.proxy import Proxy

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    proxy = Proxy(config, source, heritage, stop.set)

    def end() -> None:
        if stop.is_set():
            proxy.hurry()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, proxy.request_reload, "SIGHUP")
    starting = asyncio.ensure_future(proxy.start())  # noqa: TID251  # owned here: awaited or cancelled below
    stopping = asyncio.ensure_future(stop.wait())  # noqa: TID251  # owned here: awaited or cancelled below
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    try:
        if starting.done():
            starting.result()
            server, problem = config.server, proxy.embedded_problem
            banner = write_banner(
                proxy.service.fleet(),
                server.host,
                proxy.http_port,
                proxy.grpc_port,
                str(source.path),
                problem,
                tls=server.tls.enabled,
            )
            print(banner, file=sys.stderr, flush=True)
            await stopping
    except CannotListen as error:
        print(f"ollama-proxy: {error}", file=sys.stderr)
        return 2
    finally:
        starting.cancel()
        stopping.cancel()
        await asyncio.wait({starting, stopping})
        _log.debug("stopping")
        await proxy.stop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # It is ending well: who asks again while the loop is taken down must not make it a death by signal.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
    return 0
