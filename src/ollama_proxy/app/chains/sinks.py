"""Sinks that wait for a whole answer: of a typed stream, and of a request that only its server can read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ollama_proxy.domain.answer import AnswerEvent, Outcome, Progress, Route, TextDelta
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import Ticket
from ollama_proxy.domain.typed_sink import TypedSink


class TextSink(TypedSink):
    """A text as it comes. `done` has the outcome, or the error that ended it."""

    def __init__(self, told: Callable[[str], None], check: Callable[[TextSink], ProxyError | None]) -> None:
        """`check` looks at every piece, and may say that it is enough."""
        self.text: list[str] = []
        self.tokens = 0
        self.route: Route | None = None
        #: Monotonic seconds of the first piece.
        self.began_s = 0.0
        self.done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._told = told
        self._check = check

    def routed(self, route: Route) -> None:
        self.route = route
        self.began_s = asyncio.get_running_loop().time()

    def continued(self, route: Route) -> None:
        self.route = route

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        if self.done.done():
            return
        for event in events:
            self.tokens += 1
            if isinstance(event, TextDelta) and event.text:
                self.text.append(event.text)
                self._told(event.text)
        error = self._check(self)
        if error is not None:
            self.fail(error)

    def finish(self, outcome: Outcome) -> None:
        if not self.done.done():
            self.done.set_result(outcome)

    def fail(self, error: ProxyError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class BodySink:
    """A raw answer's whole body, with where it came from."""

    def __init__(self, most_bytes: int) -> None:
        self.route: Route | None = None
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._most_bytes = most_bytes
        self._body = bytearray()

    def routed(self, route: Route) -> None:
        self.route = route

    def continued(self, route: Route) -> None:
        self.route = route

    def start_raw(self, status: int, content_type: bytes, length: int | None) -> None:
        """The body follows."""

    def send_raw(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._most_bytes:
            self.fail(ProxyError(ErrorKind.BACKEND_FAILED, f"the answer is larger than {self._most_bytes} bytes"))

    def send_whole(self, status: int, content_type: bytes, body: bytes) -> None:
        self._body += body
        self._end()

    def relay(self) -> None:
        """Pieces come to `send_raw`."""

    def take_over(self, progress: Progress) -> None:
        """What came so far is all there is of it."""

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        raise AssertionError(f"{len(events)} events in answer to a raw request")

    def finish(self, outcome: Outcome) -> None:
        self._end()

    def fail(self, error: ProxyError) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(bytes(self._body))


async def wait_for(done: asyncio.Future[Outcome] | asyncio.Future[bytes], ticket: Ticket) -> None:
    """Wait for an answer; whoever stops waiting takes the work along. Raises as it ended."""
    try:
        await done
    except BaseException:
        # Safe at any time: what has ended by itself does not hear of it.
        ticket.cancel()
        raise
