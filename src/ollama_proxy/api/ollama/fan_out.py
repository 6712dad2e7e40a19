"""One request to several backends at once, its streams of progress merged into one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ollama_proxy.api.ollama.progress import Line, MergedProgress
from ollama_proxy.api.ollama.relaying import Refuse, backend_lines
from ollama_proxy.domain.call import RawRequest
from ollama_proxy.domain.errors import ErrorKind, Failure, ProxyError
from ollama_proxy.domain.ports import Relay, Service
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.endings.errors import error_text
from ollama_proxy.net.http1.exchange import Exchange, Header
from ollama_proxy.net.lanes.framing import EventTooLong, LineBuffer
from ollama_proxy.net.task import spawn

_NDJSON = b"application/x-ndjson"
_JSON = b"application/json"
_MOST_ERROR_BYTES = 64 * 1024

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class _Lane:
    """One backend's answer."""

    def __init__(self, owner: FanOut, backend: str) -> None:
        self._owner = owner
        self.backend = backend
        self.relay: Relay | None = None
        self.status = 0
        self.content_type = b""
        #: The body of an answer that is no stream.
        self.body = bytearray()
        self._lines = LineBuffer()
        self._streams = False

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        self.status = status
        self.content_type = dict(headers).get(b"content-type", b"")
        self._streams = status == 200 and self.content_type.startswith(_NDJSON)

    def on_body(self, data: bytes) -> None:
        if not self._streams:
            if len(self.body) < _MOST_ERROR_BYTES:
                self.body += data
            return
        try:
            self._take(self._lines.feed_whole(data))
        except EventTooLong as error:
            self._give_up(str(error))

    def _take(self, data: bytes) -> None:
        for line in data.splitlines():
            try:
                found = _decode(line)
            except UNREADABLE:
                self._give_up("its progress cannot be read")
                return
            self._owner.tell(self._owner.progress.take(self.backend, found))

    def _give_up(self, text: str) -> None:
        if self.relay is not None:
            self.relay.abort()
        self._owner.tell(self._owner.progress.fail(self.backend, text))

    def on_complete(self) -> None:
        progress = self._owner.progress
        if self._streams:
            self._take(self._lines.rest())
        elif self.status == 200:
            self._take(bytes(self.body).replace(b"\n", b" "))
        else:
            text = error_text(bytes(self.body)) or f"HTTP {self.status}"
            self._owner.tell(progress.fail(self.backend, text))
        self._owner.tell(progress.end(self.backend))

    def on_error(self, failure: Failure) -> None:
        self._owner.tell(self._owner.progress.fail(self.backend, failure.message))


class FanOut:
    """The work on all of them, and the client's hold on it."""

    def __init__(
        self, exchange: Exchange, service: Service, backends: Sequence[str], refuse: Refuse, *, stream: bool
    ) -> None:
        self._exchange = exchange
        self._service = service
        self._refuse = refuse
        self._stream = stream
        self._lanes = [_Lane(self, backend) for backend in backends]
        self._ending = False
        self.progress = MergedProgress(backends)

    def send(self, request: RawRequest) -> None:
        """Ask all of them."""
        exchange = self._exchange
        exchange.on_disconnect = self._abort
        exchange.on_pause = self._pause
        exchange.on_resume = self._resume
        for lane in self._lanes:
            lane.relay = self._service.relay(lane.backend, request, lane)

    def _abort(self) -> None:
        self._ending = True
        for lane in self._lanes:
            if lane.relay is not None:
                lane.relay.abort()

    def _pause(self) -> None:
        for lane in self._lanes:
            if lane.relay is not None:
                lane.relay.pause()

    def _resume(self) -> None:
        for lane in self._lanes:
            if lane.relay is not None:
                lane.relay.resume()

    def tell(self, lines: Sequence[Line]) -> None:
        """Pass on what is new, and end when all are through."""
        if self._stream:
            for line in lines:
                self._write(line)
        if self.progress.over and not self._ending:
            self._ending = True
            spawn(self._end(), "refresh after a change of models")

    def _write(self, line: Line) -> None:
        if not self._exchange.started:
            used = [lane.backend for lane in self._lanes]
            self._exchange.start(200, _NDJSON, None, backend_lines(used))
        self._exchange.write(msgspec.json.encode(line) + b"\n")

    async def _end(self) -> None:
        """The last word, when the lists show what has changed."""
        exchange, progress = self._exchange, self.progress
        if progress.changed:
            await self._service.refresh(progress.changed)
        ending = progress.ending()
        if exchange.started or (self._stream and "error" not in ending):
            self._write(ending)
            exchange.end()
        elif "error" not in ending:
            exchange.respond(200, _JSON, msgspec.json.encode(ending), backend_lines(progress.changed))
        else:
            self._respond_error(ending)

    def _respond_error(self, ending: Line) -> None:
        """All that the client gets is an error: in the words of the backends where they agree."""
        first = self._lanes[0]
        if self.progress.all_failed_alike and first.status >= 300:
            self._exchange.respond(first.status, first.content_type, bytes(first.body), backend_lines([first.backend]))
        else:
            kind = ErrorKind.INTERNAL if any(lane.status for lane in self._lanes) else ErrorKind.BACKEND_FAILED
            self._refuse(self._exchange, ProxyError(kind, str(ending["error"])))
