"""The HTTP/1.1 client pool: idle connections by origin, one pop and one append a request.

The answer comes to a sink in the upstream's own `data_received` callback; no task and no queue lie between an
upstream's bytes and whoever writes them on.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Any, Protocol, cast

import httptools
import msgspec

from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.net.task import spawn

from .exchange import Headers

_MAX_IDLE = 256
_MAX_HEAD_BYTES = 64 * 1024


class Origin(msgspec.Struct, frozen=True):
    """Where an upstream listens."""

    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        """The Host header's value; the default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class ResponseSink(Protocol):
    """Takes one upstream answer."""

    def on_response(self, status: int, headers: Headers) -> None:
        """The head; names are in lower case."""

    def on_body(self, data: bytes) -> None:
        """A piece of the body, chunk framing removed."""

    def on_complete(self) -> None:
        """The body is complete by its framing."""

    def on_error(self, failure: Failure) -> None:
        """The connection failed; nothing more follows."""


class Upload:
    """One request on its way and its answer; the caller's hold on it."""

    __slots__ = ("_connection", "_paused", "_pool", "aborted", "attempts", "connected", "request", "sink")

    def __init__(self, pool: OriginPool, request: bytes, sink: ResponseSink) -> None:
        self._pool = pool
        self.request = request
        self.sink = sink
        self.aborted = False
        #: Whether the bytes have left on an open connection.
        self.connected = False
        self.attempts = 0
        self._connection: UpstreamConnection | None = None
        self._paused = False

    def attach(self, connection: UpstreamConnection) -> None:
        """The connection that carries it."""
        self._connection = connection
        self.connected = True
        if self._paused:
            connection.pause()

    def detach(self) -> None:
        """The answer is over; the connection belongs to the pool again."""
        self._connection = None

    def abort(self) -> None:
        """Drop it now; the sink hears nothing more. The connection is never used again."""
        self.aborted = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def pause(self) -> None:
        """Stop reading the answer."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read the answer again."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()


class OriginPool:
    """Connections to one origin."""

    def __init__(self, origin: Origin, *, connect_timeout_s: float = 5.0, tls: ssl.SSLContext | None = None) -> None:
        self.origin = origin
        self._connect_timeout_s = connect_timeout_s
        self._tls = tls
        self._idle: deque[UpstreamConnection] = deque()
        self.open = 0

    @property
    def idle(self) -> int:
        """Connections waiting for work."""
        return len(self._idle)

    def send(self, request: bytes, sink: ResponseSink) -> Upload:
        """Send a whole request; the answer goes to `sink`, after this call has returned."""
        upload = Upload(self, request, sink)
        self.start(upload)
        return upload

    def start(self, upload: Upload) -> None:
        """Use the youngest idle connection, or open one."""
        upload.attempts += 1
        # A second try never takes another idle connection: it may be as stale as the first.
        while self._idle and upload.attempts == 1:
            connection = self._idle.pop()
            if connection.usable:
                connection.carry(upload, reused=True)
                return
        spawn(self._connect(upload), f"connect {self.origin.authority}")

    async def _connect(self, upload: Upload) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._open_connection()
        except TimeoutError:
            self._fail(upload, FailureKind.TIMEOUT, f"no connection within {self._connect_timeout_s:g} s")
        except ConnectionRefusedError:
            self._fail(upload, FailureKind.REFUSED, "connection refused")
        except ssl.SSLError as error:
            self._fail(upload, FailureKind.UNREACHABLE, f"TLS failed: {error.reason or 'handshake'}")
        except OSError as error:
            self._fail(upload, *describe_os_error(error))
        except UnicodeError:
            self._fail(upload, FailureKind.UNREACHABLE, "the host name is not one")
        else:
            if upload.aborted:
                self.release(connection)
            else:
                connection.carry(upload, reused=False)

    async def _open_connection(self) -> UpstreamConnection:
        origin = self.origin
        tls = (self._tls or ssl.create_default_context()) if origin.tls else None
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: UpstreamConnection(self), origin.host, origin.port, ssl=tls
        )
        return connection

    def _fail(self, upload: Upload, kind: FailureKind, message: str) -> None:
        if not upload.aborted:
            upload.sink.on_error(Failure(kind, message))

    def release(self, connection: UpstreamConnection) -> None:
        """Take a connection back for the next request."""
        if connection.usable and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.abort()

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection has gone."""
        self.open -= 1
        if connection.idle:
            try:
                self._idle.remove(connection)
            except ValueError:
                return

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().abort()


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream, carrying one request at a time."""

    transport: asyncio.Transport

    def __init__(self, pool: OriginPool) -> None:
        self._pool = pool
        self._parser: Any = httptools.HttpResponseParser(self)
        self._upload: Upload | None = None
        self._reused = False
        self._lost = False
        self._begun = False
        self._head_done = False
        self._by_close = False
        self._keep = False
        self._done = self._surplus = False
        self._status = 0
        self._fields: Headers = []
        self._head_size = 0

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return not self._lost and self._upload is None and not self.transport.is_closing()

    @property
    def idle(self) -> bool:
        """Whether it carries nothing."""
        return self._upload is None

    def carry(self, upload: Upload, *, reused: bool) -> None:
        """Send a request."""
        self._upload = upload
        self._reused = reused
        self._begun = self._head_done = self._done = False
        # A parser of its own for each answer: no byte left over from the last one can become part of this one.
        self._parser = httptools.HttpResponseParser(self)
        upload.attach(self)
        self.transport.write(upload.request)

    def abort(self) -> None:
        """Drop the connection; whatever it carried hears nothing."""
        self._upload = None
        self._lost = True
        self.transport.abort()

    def pause(self) -> None:
        """Stop reading."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    # -- transport callbacks -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._pool.open += 1

    def data_received(self, data: bytes) -> None:
        if self._upload is None:
            # Bytes nobody asked for must never become the start of the next answer.
            self._lost = True
            self.transport.abort()
            return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._done:
                self._break(FailureKind.GARBAGE, f"unreadable HTTP answer: {error}")
                return
            self._surplus = True
        if self._done:
            self._complete()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._pool.forget(self)
        upload, self._upload = self._upload, None
        if upload is None or upload.aborted:
            return
        upload.detach()
        if self._head_done and self._by_close and exc is None:
            upload.sink.on_complete()
        elif self._reused and not self._begun and upload.attempts == 1:
            # The server closed an idle connection as we used it: nothing was read of the request, a fresh one is safe.
            self._pool.start(upload)
        else:
            kind = FailureKind.CUT if self._head_done else FailureKind.RESET
            upload.sink.on_error(
                Failure(kind, "connection lost in mid-answer" if self._head_done else "connection reset")
            )

    # -- parser callbacks ----------------------------------------------------

    def on_message_begin(self) -> None:
        self._surplus = self._done
        self._fields = []
        self._head_size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value)
        if self._head_size > _MAX_HEAD_BYTES:
            raise ValueError("the head is too large")
        self._fields.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self._done:
            return
        self._status = status
        if status < 200 or self._upload is None:
            return
        self._head_done = True
        self._by_close = status not in (204, 304) and not any(
            name in (b"content-length", b"transfer-encoding") for name, _ in self._fields
        )
        self._keep = not self._by_close and self._parser.should_keep_alive()
        self._upload.sink.on_response(status, self._fields)

    def on_body(self, data: bytes) -> None:
        if self._upload is not None and not self._done:
            self._upload.sink.on_body(data)

    def on_message_complete(self) -> None:
        # Told on only when the whole read is parsed: what else is in it belongs to nobody.
        if self._status >= 200 and self._upload is not None:
            self._done = True

    def _complete(self) -> None:
        upload, self._upload = self._upload, None
        if upload is None:
            return
        upload.detach()
        if self._surplus:
            self._lost = True
            self.transport.abort()
        elif self._keep:
            self.resume()
            self._pool.release(self)
        else:
            self.transport.close()
        upload.sink.on_complete()

    def _break(self, kind: FailureKind, message: str) -> None:
        upload, self._upload = self._upload, None
        self._lost = True
        self.transport.abort()
        if upload is not None and not upload.aborted:
            upload.detach()
            upload.sink.on_error(Failure(kind, message))


def describe_os_error(error: OSError) -> tuple[FailureKind, str]:
    """Failure kind and clause of an error while connecting.

    asyncio joins the errors of several addresses (`::1`, `127.0.0.1`) into one without an errno: when all of them were
    refused, nothing listens.
    """
    text = str(error)
    if "refused" in text.lower() or "Errno 111" in text:
        return FailureKind.REFUSED, "connection refused"
    return FailureKind.UNREACHABLE, (error.strerror or text or "unreachable").lower()[:120]
