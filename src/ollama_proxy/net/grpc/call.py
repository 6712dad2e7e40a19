"""One gRPC call as its handler sees it: callbacks only, nothing of the server that carries it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Metadata = Sequence[tuple[str, str | bytes]]


class GrpcCall(Protocol):
    """A call. Its handler may answer at once or later; `finish` is the last word."""

    metadata: Metadata
    #: Set by the handler. The client has gone or its deadline has passed; called at most once, never after `finish`.
    on_cancel: Callable[[], None] | None
    #: The client reads too slowly, and reads again.
    on_pause: Callable[[], None] | None
    on_resume: Callable[[], None] | None
    cancelled: bool
    finished: bool

    def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        """Metadata in front of the first message; at most once."""

    def send_message(self, message: bytes) -> None:
        """The next message."""

    def finish(self, code: int = 0, message: str = "", trailers: Sequence[tuple[str, str]] = ()) -> None:
        """Status and trailers."""


#: Called once with the one request message, for unary and server-streaming methods.
UnaryHandler = Callable[[GrpcCall, bytes], None]
