"""A steady stream of requests from a thread of its own, for tests in which a proxy changes or ends meanwhile.

Each request begins at its time, whatever became of those before it. Nothing is tried again, so whoever is refused, cut
off or reset shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, deque
from collections.abc import Callable

from tests.support.beside import Beside
from tests.support.processes import wait_until

_BODY = json.dumps({"model": "qwen2.5:0.5b", "prompt": "hi", "options": {"num_predict": 2}}).encode()
_TIMEOUT_S = 30.0


class SteadyLoad(Beside):
    """Context manager. Every third request has a connection of its own, the others keep theirs."""

    def __init__(self, port: Callable[[], int] | int, rate_per_s: float) -> None:
        """`port` may move."""
        self._port = port if callable(port) else lambda: port
        self._rate_per_s = rate_per_s
        self.done: Counter[str] = Counter()
        self.sent = 0
        self._kept: deque[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = deque()
        super().__init__("steady load", lambda: asyncio.run(self._run()))

    @property
    def good(self) -> int:
        return self.done["good"]

    def wait_for_one(self) -> None:
        """Until a request was answered well; fails when none is."""
        wait_until(lambda: self.good, "an answer")

    @property
    def bad(self) -> dict[str, int]:
        """What went wrong, and how often."""
        return {name: count for name, count in self.done.items() if name != "good"}

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with asyncio.TaskGroup() as group:
            while not self._stop.is_set():
                group.create_task(self._ask(self.sent))
                self.sent += 1
                await asyncio.sleep(max(0.0, began_s + self.sent / self._rate_per_s - loop.time()))
        for _, writer in self._kept:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _ask(self, number: int) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                self.done[await self._exchange(keep=number % 3 > 0)] += 1
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.done[f"{type(error).__name__}: {error}"] += 1

    def _take_kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The connection that was kept the longest, unless its server has ended it: as pools do."""
        while self._kept:
            reader, writer = self._kept.popleft()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def _exchange(self, *, keep: bool) -> str:
        reader, writer = (self._take_kept() if keep else None) or await asyncio.open_connection(
            "127.0.0.1", self._port()
        )
        closes = True
        try:
            leaves = b"" if keep else b"Connection: close\r\n"
            head = b"POST /api/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n" + leaves
            writer.write(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(_BODY), _BODY))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            body = await _read_chunks(reader) if b"chunked" in head else await reader.readexactly(_length(head))
            closes = not keep or b"connection: close" in head
        finally:
            if closes:
                writer.close()
        if not closes:
            self._kept.append((reader, writer))
        status = head.split(b" ", 2)[1].decode()
        return "good" if status == "200" and b'"done":true' in body else f"{status} {body[-200:].decode()}"


def _length(head: bytes) -> int:
    return int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    found = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        found += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return found
