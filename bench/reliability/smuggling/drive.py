"""Sends streams, a few at a time, and reads until the server closes or says nothing more."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from bench.reliability.smuggling.mutator import make_stream

_AT_ONCE = 32
#: A server that waits for the rest of a body says nothing.
_QUIET_S = 0.4
_CONNECT_S = 20.0


async def send_streams(seed: int, numbers: Iterable[int], port: int, progress: Callable[[], None]) -> int:
    """Each of these streams on a connection of its own; how many answers came in all."""
    waiting = iter(numbers)
    answers = 0

    async def work() -> None:
        nonlocal answers
        for number in waiting:
            count = await _send(make_stream(seed, number), port)
            answers += count
            progress()

    async with asyncio.TaskGroup() as group:
        for _ in range(_AT_ONCE):
            group.create_task(work())
    return answers


async def _send(data: bytes, port: int) -> int:
    async with asyncio.timeout(_CONNECT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = bytearray()
    with contextlib.suppress(OSError, TimeoutError):
        writer.write(data)
        while piece := await asyncio.wait_for(reader.read(65536), _QUIET_S):
            answer += piece
    writer.close()
    return answer.count(b"HTTP/1.1 ")
