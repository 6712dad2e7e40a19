"""Opens the source of an emulated fleet's words; for real ones, with an embedded model of its own."""

from __future__ import annotations

import asyncio

from ollama_proxy.backends.embedded.supervisor import Supervisor, find_model
from ollama_proxy.lab.text import RealText, SyntheticText, TextSource

_START_S = 30.0


async def open_source(kind: str, seed: int) -> tuple[TextSource, Supervisor | None, str]:
    """The source, the process behind it if there is one, and why it cannot be had ("" when it can)."""
    if kind == "synthetic":
        return SyntheticText(seed), None, ""
    model = find_model("")
    if isinstance(model, str):
        return SyntheticText(seed), None, model
    address: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()

    source: list[RealText] = []

    def up(host: str, port: int) -> None:
        if not address.done():
            address.set_result((host, port))
        elif source:
            source[0].move(host, port)

    supervisor = Supervisor(model, 0, up, lambda reason: None)
    supervisor.start()
    try:
        async with asyncio.timeout(_START_S):
            host, port = await address
    except TimeoutError:
        await supervisor.stop()
        return SyntheticText(seed), None, f"the model was not ready within {_START_S:g} s"
    source.append(RealText(host, port))
    return source[0], supervisor, ""


async def close_source(supervisor: Supervisor | None) -> None:
    """End the process behind the source."""
    if supervisor is not None:
        await supervisor.stop()
