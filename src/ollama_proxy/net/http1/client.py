"""The HTTP/1.1 client pool: idle connections by origin, one pop and one append a request.

The answer comes to a sink in the upstream's own `data_received` callback; no task and no queue lie between an
upstream's bytes and whoever writes them on.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol

from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.net.task import spawn
from ollama_proxy.net.tls import make_client_context

from .dialing import Origin, describe_os_error, dial
from .fields import Headers
from .upstream_connection import UpstreamConnection

__all__ = ["Origin", "OriginPool", "ResponseSink", "Upload"]

_MAX_IDLE = 256


class ResponseSink(Protocol):
    """Takes one upstream answer."""

    def on_response(self, status: int, headers: Headers) -> None:
        """The head; names are in lower case."""

    def on_body(self, data: bytes) -> None:
        """The body in one read, chunk framing removed."""

    def on_complete(self) -> None:
        """The body is complete by its framing."""

    def on_error(self, failure: Failure) -> None:
        """The connection failed; nothing more follows."""


class Upload:
    """One request on its way and its answer; the caller's hold on it.

    Defaults are the class's, so that sending a request stores only what differs.
    """

    #: Whether an answer that came in one piece is to be told in one call, `on_answer`.
    takes_answers = False
    aborted = False
    #: Whether the bytes have left on an open connection.
    connected = False
    attempts = 0
    #: The opening of a connection for it, while that is under way.
    dialing: asyncio.Task[None] | None = None
    _connection: UpstreamConnection | None = None
    _paused = False

    #: Whether a part of the request is not handed to the connection yet: then its answer ends the connection, too.
    unsent = False

    def __init__(self, request: bytes, sink: ResponseSink) -> None:
        self.request = request
        self._sink = sink

    @property
    def sink(self) -> ResponseSink:
        """Who hears the answer."""
        return self._sink

    def may_resend(self) -> bool:
        """Asked when the connection was closed as the request was sent, so that it is probably safe to send it again;
        whoever says yes has it sent once more, and no more than that."""
        return True

    def on_chunk(self, chunk: bytes, begin: int) -> None:
        """A whole chunk of the body with its framing; the body begins at an offset."""
        self.sink.on_body(chunk[begin:-2])

    def on_answer(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole answer; nothing more follows."""
        raise NotImplementedError

    def attach(self, connection: UpstreamConnection) -> None:
        """The connection that carries it."""
        self._connection = connection
        self.connected = True
        if self._paused:
            connection.pause()

    def may_send(self) -> None:
        """The server has said that it wants the body."""

    def send_buffer(self, *, full: bool) -> None:
        """The connection's send buffer has filled up, or emptied."""

    def detach(self) -> None:
        """The answer is over; the connection belongs to the pool again."""
        self._connection = None

    def abort(self) -> None:
        """Drop it now; the sink hears nothing more. The connection is never used again."""
        self.aborted = True
        if self.dialing is not None:
            self.dialing.cancel()
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

    def __init__(
        self,
        origin: Origin,
        *,
        connect_timeout_s: float = 5.0,
        idle_s: float = 60.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """A connection that nobody has used for `idle_s` is closed, at the latest after twice that."""
        self.origin = origin
        self._idle_s = idle_s
        self._connect_timeout_s = connect_timeout_s
        self._tls = tls
        #: Since which period each is idle, the longest first; a dictionary, so that one that closes is taken out in one
        #: step. Periods last `idle_s`, and what was idle through a whole one is closed.
        self._idle: dict[UpstreamConnection, int] = {}
        self._period = 0
        self._expiry: asyncio.TimerHandle | None = None
        self._closed = False
        self.open = 0

    @property
    def idle(self) -> int:
        """Connections waiting for work."""
        return len(self._idle)

    def send(self, request: bytes, sink: ResponseSink) -> Upload:
        """Send a whole request; the answer goes to `sink`, after this call has returned."""
        upload = Upload(request, sink)
        self.start(upload)
        return upload

    def start(self, upload: Upload) -> None:
        """Use the youngest idle connection, or open one."""
        upload.attempts += 1
        # A second try never takes another idle connection: it may be as stale as the first.
        while self._idle and upload.attempts == 1:
            connection, _ = self._idle.popitem()
            if connection.is_usable():
                connection.carry(upload, reused=True)
                return
        upload.dialing = spawn(self._connect(upload), f"connect {self.origin.authority}")

    async def _connect(self, upload: Upload) -> None:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await dial(self.origin, lambda: UpstreamConnection(self), self._context())
        except TimeoutError:
            self._fail(upload, FailureKind.TIMEOUT, f"no connection within {self._connect_timeout_s:g} s")
        except ssl.SSLError as error:
            self._fail(upload, FailureKind.UNREACHABLE, f"TLS failed: {error.reason or 'handshake'}")
        except OSError as error:
            self._fail(upload, *describe_os_error(error))
        except UnicodeError:
            self._fail(upload, FailureKind.UNREACHABLE, "the host name is not one")
        else:
            upload.dialing = None
            if upload.aborted:
                self.release(connection)
            else:
                connection.carry(upload, reused=False)

    def _context(self) -> ssl.SSLContext | None:
        """Made once: reading the machine's certificates costs milliseconds."""
        if self.origin.tls and self._tls is None:
            self._tls = make_client_context()
        return self._tls if self.origin.tls else None

    def _fail(self, upload: Upload, kind: FailureKind, message: str) -> None:
        upload.dialing = None
        if not upload.aborted:
            upload.sink.on_error(Failure(kind, message))

    def release(self, connection: UpstreamConnection) -> None:
        """Take a connection back for the next request."""
        if connection.is_usable() and len(self._idle) < _MAX_IDLE and not self._closed:
            self._idle[connection] = self._period
            if self._expiry is None:
                self._expiry = asyncio.get_running_loop().call_later(self._idle_s, self._expire)
        else:
            connection.abort()

    def _expire(self) -> None:
        """Close what nobody needed for a while: a burst must not hold the server's connections for ever."""
        self._expiry = None
        for connection, since in list(self._idle.items()):
            if since == self._period:
                break
            del self._idle[connection]
            connection.abort()
        self._period += 1
        if self._idle:
            self._expiry = asyncio.get_running_loop().call_later(self._idle_s, self._expire)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection has gone."""
        self.open -= 1
        self._idle.pop(connection, None)

    def close(self) -> None:
        """Close the idle connections, and the others when they have carried what they carry."""
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        while self._idle:
            self._idle.popitem()[0].abort()
