"""Serving: the event loop, the signals, the lines at the start."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from ollama_proxy.config.schema import Config


def serve(config: Config, config_path: Path, read_config: Callable[[], Config]) -> int:
    """Run until a signal; returns the exit code. `read_config` reads the file again, with the same flags.

    The first signal lets answers end, the second does not wait for them.
    """
    import uvloop

    from ollama_proxy.observability.logs import set_up_logging

    set_up_logging(config.monitoring.log_level)
    return uvloop.run(_serve(config, config_path, read_config))


async def _serve(config: Config, config_path: Path, read_config: Callable[[], Config]) -> int:
    from ollama_proxy.app.banner import write_banner
    from ollama_proxy.app.ports import CannotListen
    from ollama_proxy.app.proxy import Proxy
    from ollama_proxy.app.reload import Source

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    proxy = Proxy(config, Source(config_path, read_config))

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
                proxy.fleet(),
                server.host,
                proxy.http_port,
                proxy.grpc_port,
                str(config_path),
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
        logging.getLogger(__name__).debug("stopping")
        await proxy.stop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # It is ending well: who asks again while the loop is taken down must not make it a death by signal.
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
    return 0
