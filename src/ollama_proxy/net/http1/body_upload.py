"""A request to an upstream whose body follows its head in pieces, as the upstream takes them.

The server is asked whether it wants the body at all (`Expect: 100-continue`): one that has it already, or refuses it,
answers at once and nothing is sent. A server that says nothing gets the body after a moment (RFC 9110, 10.1.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ollama_proxy.domain.errors import Failure, FailureKind

from .client import OriginPool, ResponseSink, Upload
from .upstream_connection import UpstreamConnection

__all__ = ["BodyUpload", "UploadSink", "framing_lines"]

_WAIT_S = 1.0
#: How long a server may take nothing of a body that waits for it.
_STALL_S = 30.0


class UploadSink(ResponseSink, Protocol):
    """Takes the answer, and is told when the body may be sent."""

    def on_ready(self) -> None:
        """The server waits for the body; not before this call."""

    def on_full(self) -> None:
        """More is waiting to be sent than is good."""

    def on_drained(self) -> None:
        """Send on."""


def framing_lines(length: int | None) -> bytes:
    """The end of a request's head, its empty line included: how its body is framed, and the question for it."""
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    expect = b"Expect: 100-continue\r\n" if length != 0 else b""
    return b"%b\r\n%b\r\n" % (framing, expect)


class BodyUpload(Upload):
    """`request` is a head that ends in `framing_lines(length)`."""

    unsent = True
    _ready = False
    _timer: asyncio.TimerHandle | None = None
    #: Runs while more waits to be sent than is good.
    _stall: asyncio.TimerHandle | None = None

    def __init__(self, request: bytes, length: int | None, sink: UploadSink, stall_s: float = _STALL_S) -> None:
        super().__init__(request, sink)
        self._hearer = sink
        self._stall_s = stall_s
        self._chunked = length is None
        self._wait_s = _WAIT_S if length != 0 else 0.0

    @classmethod
    def send(
        cls, pool: OriginPool, request: bytes, length: int | None, sink: UploadSink, stall_s: float = _STALL_S
    ) -> BodyUpload:
        """Send the head; everything else comes later, through the sink."""
        upload = cls(request, length, sink, stall_s)
        pool.start(upload)
        return upload

    def attach(self, connection: UpstreamConnection) -> None:
        super().attach(connection)
        self._timer = asyncio.get_running_loop().call_later(self._wait_s, self.may_send)

    def may_send(self) -> None:
        if not self._ready and not self.aborted and self._connection is not None:
            self._ready = True
            self._stop_timer()
            self._hearer.on_ready()

    def send_buffer(self, *, full: bool) -> None:
        self._stop_stall()
        if full and self._connection is not None:
            self._watch(self._connection.unsent_bytes)
        if self._ready and self.unsent:
            tell: Callable[[], None] = self._hearer.on_full if full else self._hearer.on_drained
            tell()

    def _watch(self, waiting: int) -> None:
        self._stall = asyncio.get_running_loop().call_later(self._stall_s, self._look, waiting)

    def _look(self, before: int) -> None:
        """Give up on a server that has taken nothing since the last look."""
        connection = self._connection
        if connection is None:
            return
        if (waiting := connection.unsent_bytes) < before:
            self._watch(waiting)
            return
        self.abort()
        told = f"it took nothing of the body for {self._stall_s:g} s"
        self._hearer.on_error(Failure(FailureKind.TIMEOUT, told))

    def write(self, data: bytes) -> None:
        """Send a piece of the body. What comes behind the answer is nobody's."""
        connection = self._connection
        if connection is not None and data and self.unsent:
            connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """The body is whole."""
        if self.unsent:
            self.unsent = False
            if self._connection is not None and self._chunked:
                self._connection.write(b"0\r\n\r\n")

    def detach(self) -> None:
        super().detach()
        self._stop_timer()
        self._stop_stall()

    def abort(self) -> None:
        self._stop_timer()
        self._stop_stall()
        super().abort()

    def _stop_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
