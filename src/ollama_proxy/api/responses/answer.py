"""One client's answer that is kept when it has ended well."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from ollama_proxy.api.responses.writer import ResponsesWriter
from ollama_proxy.domain.answer import Outcome, Progress
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_answer import HttpAnswer
from ollama_proxy.net.lanes.framing import event_data

#: What ends a stream that a backend wrote itself: the end event, and what some servers put behind it.
_LAST_PIECES = 3
_ENDS = frozenset(("response.completed", "response.incomplete"))


class _End(msgspec.Struct):
    type: str = ""
    response: msgspec.Raw = msgspec.Raw(b"null")


_ends = msgspec.json.Decoder(_End)

Keep = Callable[[bytes], None]


class ResponsesAnswer(HttpAnswer):
    """`HttpAnswer`, and the response object at the end for whoever keeps it.

    Of a stream that passes as it came only the first and the last pieces are held, the same bytes that the fast lane
    holds anyway: the last has the whole object in it.
    """

    __slots__ = ("_first", "_keep", "_last")

    def __init__(self, exchange: Exchange, make_writer: Callable[[], ResponsesWriter], keep: Keep | None) -> None:
        """`keep` takes the response object as JSON; None when nobody wants it."""
        super().__init__(exchange, make_writer)
        self._keep = keep
        self._first: list[bytes] = []
        self._last: deque[bytes] = deque(maxlen=_LAST_PIECES)
        self.send_raw = _watch(exchange.write, self._first, self._last)

    def relay(self) -> Callable[[bytes], None] | None:
        relay = super().relay()
        return None if relay is None else _watch(relay, self._first, self._last)

    def send_whole(self, status: int, content_type: bytes, body: bytes) -> None:
        super().send_whole(status, content_type, body)
        if self._keep is not None and status == 200:
            self._keep(body)

    def finish(self, outcome: Outcome) -> None:
        super().finish(outcome)
        if self._keep is None:
            return
        if self._raw:
            document = read_end(b"".join(self._last))
            if document:
                self._keep(document)
        elif isinstance(self._written_by, ResponsesWriter):
            self._keep(msgspec.json.encode(self._written_by.response))

    def fail(self, error: ProxyError) -> None:
        if self._raw and self._first and isinstance(writer := self._writer, ResponsesWriter):
            writer.take_over(Progress((), 0, first=self._first[0], last=self._last[-1]))
        super().fail(error)


def _watch(send: Callable[[bytes], None], first: list[bytes], last: deque[bytes]) -> Callable[[bytes], None]:
    """`send`, with an eye on the first and the last pieces; it knows no answer, so it keeps none alive."""

    def send_and_note(data: bytes) -> None:
        if not first:
            first.append(data)
        last.append(data)
        send(data)

    return send_and_note


def read_end(pieces: bytes) -> bytes:
    """The response object in the last event of a stream, or nothing; chunk framing between events does no harm."""
    for data in reversed(event_data(pieces)):
        try:
            end = _ends.decode(data)
        except UNREADABLE:
            continue
        if end.type in _ENDS:
            return bytes(end.response)
    return b""
