"""The last in the chain: reads requests with h11, keeps them, and answers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import cast

import h11

from bench.reliability.smuggling.mutator import find_tag

#: Method, target, body.
Read = tuple[bytes, bytes, bytes]


class Recorder:
    """Keeps what came, by the number of the stream it belongs to; None for what names none."""

    def __init__(self) -> None:
        self.seen: dict[int | None, list[Read]] = defaultdict(list)
        #: Messages that h11 refused: sent on by the server before us, so they should not exist.
        self.refused: list[str] = []
        self.port = 0
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, backlog=1024)
        self.port = self._listener.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()

    def keep(self, read: Read) -> None:
        """A whole request."""
        self.seen[find_tag(read[1])[0]].append(read)


class _Connection(asyncio.Protocol):
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        self._head: h11.Request | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._h11.receive_data(data)
        try:
            self._read()
        except h11.RemoteProtocolError as error:
            self._recorder.refused.append(f"{error}: {data[:200]!r}")
            self._transport.close()

    def _read(self) -> None:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._head = event
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data
            elif isinstance(event, h11.EndOfMessage):
                self._answer()
            else:
                return

    def _answer(self) -> None:
        head = self._head
        assert head is not None
        self._recorder.keep((head.method, head.target, bytes(self._body)))
        response = h11.Response(status_code=200, headers=[("Content-Length", "2"), ("Content-Type", "text/plain")])
        self._transport.write(self._h11.send(response) or b"")
        if head.method != b"HEAD":
            self._transport.write(self._h11.send(h11.Data(b"ok")) or b"")
        self._transport.write(self._h11.send(h11.EndOfMessage()) or b"")
        if self._h11.our_state is h11.MUST_CLOSE:
            self._transport.close()
        else:
            self._h11.start_next_cycle()
