"""Requests to a backend of our own choice, outside of routing: its answer passed back, or gathered for us to read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.domain.call import RawHead, RawRequest
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind, ProxyError
from ollama_proxy.domain.ports import Relay, Service
from ollama_proxy.net.endings.errors import error_text
from ollama_proxy.net.http1.exchange import Exchange, Header
from ollama_proxy.net.http1.fetch import Fetched, FetchError
from ollama_proxy.net.http_answer import header_text
from ollama_proxy.net.task import spawn

__all__ = ["Answer", "PassedAnswer", "Refuse", "ask", "backend_lines", "failure_error", "management_head"]

Refuse = Callable[[Exchange, ProxyError], None]

#: No credentials: what a client sends here is a key of this program's, and no backend's business.
_PASSED_HEADERS = (b"content-type", b"user-agent", b"accept")
_SUCCESS = b'"success"'
#: How long a backend may take over what needs no time: a copy, a deletion, a look at a file.
ASK_S = 60.0


class Answer(msgspec.Struct, frozen=True):
    """A whole answer of one backend; `status` 0 when there was none, and `body` then says why."""

    backend: str
    status: int
    content_type: bytes
    body: bytes

    @property
    def well(self) -> bool:
        """Whether what was asked for has been done."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """What went wrong."""
        return (error_text(self.body) or f"HTTP {self.status}") if self.status else self.body.decode()


def management_head(exchange: Exchange, path: bytes = b"") -> RawHead:
    """What is passed on of a request's head."""
    headers = tuple(header for header in exchange.headers if header[0] in _PASSED_HEADERS)
    return RawHead(exchange.method, path or exchange.target, headers)


def backend_lines(backends: Sequence[str]) -> list[Header]:
    """The header that tells who answered."""
    return [(b"X-Backend-Used", header_text(",".join(backends)))]


def failure_error(backend: str, failure: Failure) -> ProxyError:
    """What a client is told when a backend that was named fails."""
    kind = ErrorKind.DEADLINE if failure.kind is FailureKind.TIMEOUT else ErrorKind.BACKEND_FAILED
    return ProxyError(kind, f"{backend}: {failure.message}", backend=backend)


async def ask(service: Service, backend: str, request: RawRequest, timeout_s: float = ASK_S) -> Answer:
    """Send a request and gather the answer, whatever becomes of it."""
    sink = Fetched()
    relay = service.relay(backend, request, sink)
    try:
        async with asyncio.timeout(timeout_s):
            await sink.done
    except TimeoutError:
        return Answer(backend, 0, b"", f"no answer within {timeout_s:g} s".encode())
    except FetchError as error:
        return Answer(backend, 0, b"", error.failure.message.encode())
    finally:
        if not sink.done.done() or sink.done.cancelled() or sink.done.exception() is not None:
            relay.abort()
    return Answer(backend, sink.status, dict(sink.headers).get(b"content-type", b""), bytes(sink.body))


class PassedAnswer:
    """One backend's answer on its way to the client, byte for byte.

    With `changes`, the word of success is held back until the lists show what has changed, so that a client that asks
    for its new model at once is not told that there is none.
    """

    def __init__(self, exchange: Exchange, service: Service, backend: str, refuse: Refuse, *, changes: bool) -> None:
        self._exchange = exchange
        self._service = service
        self._backend = backend
        self._refuse = refuse
        self._changes = changes
        self._streams = False
        self._held: list[bytes] | None = None
        self._whole = False

    def send(self, request: RawRequest) -> None:
        """Ask; the client's leaving and its slowness are the relay's."""
        relay: Relay = self._service.relay(self._backend, request, self)
        self._exchange.on_disconnect = relay.abort
        self._exchange.on_pause = relay.pause
        self._exchange.on_resume = relay.resume

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        index = dict(headers)
        length = index.get(b"content-length", b"")
        content_type = index.get(b"content-type", b"")
        self._streams = content_type.startswith(b"application/x-ndjson")
        size = int(length) if length.isdigit() else None
        if not content_type and self._exchange.method == b"HEAD":
            size = 0
        self._exchange.start(status, content_type, size, backend_lines([self._backend]))

    def on_body(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        elif self._changes and _SUCCESS in data:
            self._held = [data]
            spawn(self._show_change(), "refresh after a change of models")
        else:
            self._exchange.write(data)

    def on_complete(self) -> None:
        self._whole = True
        if self._held is None:
            self._exchange.end()

    def on_error(self, failure: Failure) -> None:
        exchange = self._exchange
        error = failure_error(self._backend, failure)
        if not exchange.started:
            self._refuse(exchange, error)
        elif self._streams:
            exchange.write(msgspec.json.encode({"error": error.message}) + b"\n")
            exchange.end()
        else:
            exchange.abort()

    async def _show_change(self) -> None:
        try:
            await self._service.refresh((self._backend,))
        finally:
            held, self._held = self._held, None
            self._changes = False
            self._exchange.write(b"".join(held or ()))
            if self._whole:
                self._exchange.end()
