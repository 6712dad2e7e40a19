"""One gRPC call as its handler sees it: callbacks only, nothing of the server that carries it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ollama_proxy.domain.caller import Caller, Permission

Metadata = Sequence[tuple[str, str | bytes]]
#: What a server may send: pairs, the value text, or bytes for names that end in `-bin`; or what `encode_metadata` has
#: made of them, for who sends the same more than once.
Trailers = Sequence[tuple[str, str | bytes]] | bytes


class GrpcCall(Protocol):
    """A call. Its handler may answer at once or later; `finish` is the last word."""

    @property
    def protocol(self) -> str:
        """What carries it: `grpc`, `grpc-web`, `connect` or `rest`."""

    @property
    def metadata(self) -> Metadata:
        """What the client sent, names in lower case."""

    @property
    def notes(self) -> dict[object, Any]:
        """What was found out about equal metadata before."""

    @property
    def caller(self) -> Caller:
        """Whose call it is."""

    #: Set by the handler. The client has gone or its deadline has passed; called at most once, never after `finish`.
    on_cancel: Callable[[], None] | None
    #: The client reads too slowly, and reads again.
    on_pause: Callable[[], None] | None
    on_resume: Callable[[], None] | None
    #: For client-streaming methods: the next message, and the end of them.
    on_message: Callable[[bytes], None] | None
    on_half_close: Callable[[], None] | None
    cancelled: bool
    finished: bool

    def send_initial_metadata(self, metadata: Trailers) -> None:
        """Metadata in front of the first message; at most once."""

    def send_message(self, message: bytes) -> None:
        """The next message."""

    def finish(self, code: int = 0, message: str = "", trailers: Trailers = ()) -> None:
        """Status and trailers; no callback follows."""

    def respond(self, message: bytes, initial: bytes = b"", trailers: bytes = b"") -> None:
        """The whole of a good answer that is one message: as the three above, in one step."""


#: Called once with the one request message, for unary and server-streaming methods.
UnaryHandler = Callable[[GrpcCall, bytes], None]
#: Called once when the call begins; sets `on_message` and `on_half_close`.
StreamingHandler = Callable[[GrpcCall], None]


@dataclass(frozen=True, slots=True)
class GrpcMethod:
    """A method: a `StreamingHandler` where the client streams, else a `UnaryHandler`."""

    handler: Callable[..., Any]
    client_streaming: bool = False
    #: Messages of other methods wait for `finish`, so that a whole answer is one write.
    server_streaming: bool = False
    permission: Permission = "infer"
