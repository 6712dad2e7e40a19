"""A request whose body comes as it comes: for routes that pass bodies on and never hold them."""

from __future__ import annotations

from collections.abc import Iterable

from .exchange import BodySink, Exchange, ExchangeOwner
from .fields import Header
from .head import RequestHead


class StreamedExchange(Exchange):
    """An exchange that is handed out at the head. A client that breaks its body off is a client that leaves."""

    __slots__ = ("_length", "_paused", "_sink", "continue_due")

    def __init__(self, owner: ExchangeOwner, head: RequestHead, peer: str, length: int | None) -> None:
        super().__init__(owner, head, peer)
        self._length = length
        self._sink: BodySink | None = None
        self._paused = False
        #: Whether the client waits for our word before it sends the body.
        self.continue_due = False

    @property
    def body_bytes(self) -> int | None:
        return self._length

    @property
    def takes_body(self) -> bool:
        """Whether the handler takes what comes."""
        return self._sink is not None and not self._paused

    def take_body(self, sink: BodySink) -> None:
        self._sink = sink
        self._owner.body_wanted()

    def pause_body(self) -> None:
        if not self._paused:
            self._paused = True
            self._owner.body_unwanted()

    def resume_body(self) -> None:
        if self._paused:
            self._paused = False
            self._owner.body_wanted()

    def body_came(self, data: bytes) -> None:
        """The next bytes; called by the connection while the handler takes them."""
        if self._sink is not None:
            self._sink.on_body(data)

    def body_ended(self) -> None:
        """The body is whole; called by the connection."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.on_body_end()

    def body_broke(self) -> bool:
        """The body cannot be read on: whoever took it is told that the client left. Whether it can still be refused."""
        self._sink = None
        callback, self.on_disconnect = self.on_disconnect, None
        self.on_pause = self.on_resume = None
        if callback is not None and not self.ended:
            callback()
        return not self.started

    def respond(
        self, status: int, content_type: bytes, body: bytes, headers: Iterable[Header] = (), lines: bytes = b""
    ) -> None:
        self._settle_continue()
        super().respond(status, content_type, body, headers, lines)

    def start(
        self,
        status: int,
        content_type: bytes,
        length: int | None = None,
        headers: Iterable[Header] = (),
        lines: bytes = b"",
    ) -> None:
        self._settle_continue()
        super().start(status, content_type, length, headers, lines)

    def _settle_continue(self) -> None:
        """A client that still waits for our word may or may not send its body behind a final answer (RFC 9110, 10.1.1):
        nobody can tell where its next request begins."""
        if self.continue_due:
            self.keep_alive = False

    def client_gone(self) -> None:
        self._sink = None
        super().client_gone()
