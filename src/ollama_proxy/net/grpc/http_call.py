"""A call that an HTTP exchange carries: what gRPC-Web, Connect and the REST gateway share.

A subclass says how messages, errors and ends are written; the handlers of `methods()` notice no difference.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from ollama_proxy.domain.caller import Caller
from ollama_proxy.net.credentials import CREDENTIALS
from ollama_proxy.net.grpc.call import GrpcMethod, Metadata, Trailers
from ollama_proxy.net.grpc.inflate import BadMessage
from ollama_proxy.net.grpc.metadata import decode_metadata, encode_metadata
from ollama_proxy.net.grpc.route import read_field
from ollama_proxy.net.grpc.status import DEADLINE_EXCEEDED, INTERNAL
from ollama_proxy.net.http1.exchange import Exchange, Header
from ollama_proxy.net.http1.status import retry_after
from ollama_proxy.net.timers import Expiring, TimerWheel

_log = logging.getLogger(__name__)

_REQUEST_ID = b"x-request-id"
#: What HTTP and the protocols keep for themselves.
_RESERVED = frozenset(
    (b"te", b"host", b"connection", b"keep-alive", b"transfer-encoding", b"trailer", b"upgrade", b"expect", _REQUEST_ID)
)
_RESERVED |= CREDENTIALS
_RESERVED_BEGINNINGS = (b"content-", b"accept", b"grpc-", b"connect-")
#: Pages of other origins that may ask at all may read every answer header, the explanation among them.
_EXPOSED = (b"Access-Control-Expose-Headers", b"*")


class HttpCall(ABC):
    """A `GrpcCall` over one exchange."""

    protocol = "http"

    def __init__(self, exchange: Exchange, method: GrpcMethod) -> None:
        self.exchange = exchange
        self._method = method
        self.metadata: Metadata = read_metadata(exchange)
        #: Not the head's: two calls with equal heads have different ids here, since the front has named them.
        self.notes: dict[object, Any] = {}
        self.on_cancel: Callable[[], None] | None = None
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.on_message: Callable[[bytes], None] | None = None
        self.on_half_close: Callable[[], None] | None = None
        self.cancelled = self.finished = False
        self.initial: Sequence[Header] = ()
        self._answer: bytes | None = None
        self._bucket: set[Expiring] | None = None

    def run(self, read_message: Callable[[], bytes], wheel: TimerWheel, timeout_s: float | None = None) -> None:
        """Hand the request's message to the handler. `read_message` may raise `BadMessage`."""
        exchange = self.exchange
        if timeout_s is not None and timeout_s <= 0:
            self.finish(DEADLINE_EXCEEDED, "the deadline has passed")
            return
        exchange.on_disconnect, exchange.on_pause, exchange.on_resume = self._leave, self._pause, self._resume
        try:
            self._method.handler(self, read_message())
        except BadMessage as error:
            self.finish(error.code, error.message)
        except Exception:  # noqa: BLE001  # the root of a call: the client must never see our exception's text
            _log.exception("handler failed for %s", exchange.path.decode("latin-1")[:200])
            self.finish(INTERNAL, "internal error")
        if timeout_s is not None and not self.finished and not self.cancelled:
            self._bucket = wheel.add(timeout_s, self)

    @property
    def caller(self) -> Caller:
        """See `GrpcCall`."""
        return self.exchange.caller

    # -- the answer: see `GrpcCall` ---------------------------------------------------

    def send_initial_metadata(self, metadata: Trailers) -> None:
        """See `GrpcCall`."""
        self.initial = read_answer_metadata(metadata)

    def send_message(self, message: bytes) -> None:
        """See `GrpcCall`."""
        if self.finished or self.cancelled:
            return
        if not self._method.server_streaming:
            self._answer = message
            return
        self._start()
        self.exchange.write(self._write_message(message))

    def finish(self, code: int = 0, message: str = "", trailers: Trailers = ()) -> None:
        """See `GrpcCall`."""
        if self.finished or self.cancelled:
            return
        self._let_go()
        fields = read_answer_metadata(trailers)
        answer, self._answer = self._answer, None
        if not self._method.server_streaming:
            self._answer_whole(answer if code == 0 else None, code, message, fields)
        elif code and not self.exchange.started:
            self._refuse_stream(code, message, fields)
        else:
            self._start()
            self.exchange.write(self._write_end(code, message, fields))
            self.exchange.end()

    def respond(self, message: bytes, initial: bytes = b"", trailers: bytes = b"") -> None:
        """See `GrpcCall`."""
        self.send_initial_metadata(initial)
        self.send_message(message)
        self.finish(trailers=trailers)

    def _start(self) -> None:
        if not self.exchange.started:
            self.exchange.start(200, self._content_type(), None, self.head_fields(self.initial))

    def head_fields(self, metadata: Sequence[Header]) -> list[Header]:
        """Metadata as header fields. The request's id is left out: the front puts it on every answer."""
        fields = [(spell(name), value) for name, value in metadata if name != _REQUEST_ID]
        if self.exchange.header(b"origin") is not None:
            fields.append(_EXPOSED)
        return fields

    def error_fields(self, trailers: Sequence[Header]) -> list[Header]:
        """The header fields of a call that has failed as a whole, with HTTP's own word for when to come again."""
        fields = self.head_fields(self.initial)
        fields += [field for field in self.head_fields(trailers) if field not in fields]
        wait_ms = next((value for name, value in trailers if name == b"retry-after-ms"), None)
        if wait_ms is not None:
            fields.append(retry_after(int(wait_ms) / 1000))
        return fields

    # -- how this protocol writes -----------------------------------------------------

    @abstractmethod
    def _content_type(self) -> bytes:
        """Of a good answer."""

    @abstractmethod
    def _write_message(self, message: bytes) -> bytes:
        """The next message of a stream."""

    @abstractmethod
    def _write_end(self, code: int, message: str, trailers: Sequence[Header]) -> bytes:
        """The last bytes of a stream."""

    @abstractmethod
    def _answer_whole(self, answer: bytes | None, code: int, message: str, trailers: Sequence[Header]) -> None:
        """Answer a call that has one message at most; it has none when `code` is an error."""

    def _refuse_stream(self, code: int, message: str, trailers: Sequence[Header]) -> None:
        """Answer a stream that has failed before its first message: a stream with an end alone, unless overridden."""
        self._start()
        self.exchange.write(self._write_end(code, message, trailers))
        self.exchange.end()

    # -- ends that nobody here asked for --------------------------------------------

    def expire(self) -> None:
        """The client's deadline has passed."""
        callback = self.on_cancel
        self.finish(DEADLINE_EXCEEDED, "the deadline has passed")
        if callback is not None:
            callback()

    def _leave(self) -> None:
        finished, callback = self.finished, self.on_cancel
        self._let_go()
        self.finished, self.cancelled = finished, True
        if callback is not None:
            callback()

    def _let_go(self) -> None:
        """Call and work know each other; what forgets is freed at once."""
        self.finished = True
        self.on_cancel = self.on_pause = self.on_resume = None
        if self._bucket is not None:
            self._bucket.discard(self)

    def _pause(self) -> None:
        if self.on_pause is not None:
            self.on_pause()

    def _resume(self) -> None:
        if self.on_resume is not None:
            self.on_resume()


def read_metadata(exchange: Exchange) -> list[tuple[str, str | bytes]]:
    """The request's header fields as metadata, and the id that the front has given it."""
    fields: list[tuple[str, str | bytes]] = [
        read_field(name, value)
        for name, value in exchange.headers
        if name not in _RESERVED and not name.startswith(_RESERVED_BEGINNINGS)
    ]
    fields.append(("x-request-id", exchange.request_id))
    return fields


def read_answer_metadata(metadata: Trailers) -> list[Header]:
    """A handler's metadata as fields, whichever way it has them."""
    return decode_metadata(metadata if isinstance(metadata, bytes) else encode_metadata(metadata))


def spell(name: bytes) -> bytes:
    """`X-Decision-ID`, as the HTTP dialects spell it."""
    words = name.title()
    return words[:-2] + b"ID" if words.endswith(b"-Id") else words
