"""A WebSocket on a connection that HTTP has handed over: text messages in and out, closes, pings, and slow readers.

Frames are the business of `websockets` and its protocol without I/O; this class gives it bytes and keeps the times.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable
from typing import Protocol, cast

import msgspec
from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol as FrameProtocol
from websockets.protocol import Side, State
from websockets.utils import accept_key

from .credentials import choose_subprotocol
from .http1.exchange import Exchange
from .uptake import Pace, Uptake, forget_unsent

_log = logging.getLogger(__name__)

_VERSION = b"13"
#: How much is heard before others have their turn: frames may be six bytes long, and each takes its time.
_TURN_BYTES = 8 * 1024
#: Would show what people write, at its finest level.
_SILENT = logging.Logger("websocket frames", logging.CRITICAL + 1)


class WebSocketLimits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds."""

    message_bytes: int = 4 * 1024 * 1024
    #: What may wait for a client that does not read before it is read from no more.
    unread_bytes: int = 512 * 1024
    write_high_bytes: int = 128 * 1024
    #: What a client must take of what waits for it.
    pace: Pace = Pace()
    #: A client that has said nothing for so long is sent a ping, and is given up after as long again.
    ping_s: float = 20.0
    #: How long a client may take to close after our close.
    close_s: float = 5.0


class Talk(Protocol):
    """What is said over one WebSocket: the side that understands the messages."""

    def heard(self, text: str) -> None:
        """A message."""

    def pause(self) -> None:
        """The client reads too slowly."""

    def resume(self) -> None:
        """It reads again."""

    def finish_soon(self) -> None:
        """Begin nothing new, and close when what runs has ended."""

    def ended(self) -> None:
        """The client has gone, or is as good as gone: nothing that is sent from here on arrives."""


def accept_upgrade(exchange: Exchange, start: Callable[[WebSocket], Talk], limits: WebSocketLimits) -> None:
    """Answer the opening handshake (RFC 6455, 4.2): the upgrade, or what is wrong with the request."""
    if exchange.upgrade.lower() != b"websocket":
        _refuse(exchange, 426, b"this is a WebSocket: ask for an upgrade")
        return
    if exchange.header(b"sec-websocket-version") != _VERSION:
        _refuse(exchange, 426, b"version 13 of WebSocket is spoken here")
        return
    key = exchange.header(b"sec-websocket-key", b"")
    if not _is_key(key):
        _refuse(exchange, 400, b"Sec-WebSocket-Key must be 16 bytes in base64")
        return
    socket = WebSocket(start, limits)
    accept = accept_key(key.decode("ascii")).encode("ascii")
    answer = [(b"Sec-WebSocket-Accept", accept)]
    subprotocol = choose_subprotocol(exchange.headers)
    if subprotocol:
        answer.append((b"Sec-WebSocket-Protocol", subprotocol))
    transport, rest = exchange.take_over(answer, socket)
    transport.set_protocol(socket)
    socket.connection_made(transport)
    if rest:
        socket.data_received(rest)


def _refuse(exchange: Exchange, status: int, message: bytes) -> None:
    offer = [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", _VERSION)] if status == 426 else []
    if offer and exchange.keep_alive and not exchange.http10:
        offer.append((b"Connection", b"Upgrade"))
    exchange.respond(status, b"text/plain; charset=utf-8", message + b"\n", offer)


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


class WebSocket(asyncio.Protocol):
    """The server's end. `send` and `close` do nothing once the connection is closing."""

    transport: asyncio.Transport

    def __init__(self, start: Callable[[WebSocket], Talk], limits: WebSocketLimits) -> None:
        self._limits = limits
        self._frames = FrameProtocol(Side.SERVER, max_size=limits.message_bytes, logger=_SILENT)
        self._loop = asyncio.get_running_loop()
        self._message = bytearray()
        #: What has arrived and waits for its turn; as long as there is any, nothing more is read.
        self._unheard = bytearray()
        self._write_paused = self._read_paused = False
        self._over = False
        self._heard_s = self._loop.time()
        self._pinged = False
        #: Since when our close waits for the client's.
        self._waiting_since_s = 0.0
        self._uptake = Uptake()
        self.on_lost: Callable[[], None] = _do_nothing
        self._talk = start(self)

    # -- transport callbacks -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._limits.write_high_bytes)

    def data_received(self, data: bytes) -> None:
        self._heard_s = self._loop.time()
        self._pinged = False
        if not self._unheard and len(data) <= _TURN_BYTES:
            self._hear(data)
            return
        waits = bool(self._unheard)
        self._unheard += data
        if not waits:
            self.transport.pause_reading()
            self._take_turn()

    def _take_turn(self) -> None:
        """Hear a part of what waits. Who does not read is not heard either, until it does."""
        if self._read_paused or not self._unheard:
            return
        part = bytes(self._unheard[:_TURN_BYTES])
        del self._unheard[:_TURN_BYTES]
        self._hear(part)
        self._hear_on()

    def _hear_on(self) -> None:
        """What waits has its turn before anything new is read."""
        if self._read_paused or self.transport.is_closing():
            return
        if self._unheard:
            self._loop.call_soon(self._take_turn)
        else:
            self.transport.resume_reading()

    def _hear(self, data: bytes) -> None:
        frames = self._frames
        frames.receive_data(data)
        for event in frames.events_received():
            if frames.state is not State.OPEN:
                # No answer would arrive: what stands before a close or an error is not begun either.
                break
            self._take(cast(Frame, event))
        self._flush()
        transport = self.transport
        if transport.get_write_buffer_size() > self._limits.unread_bytes and not self._over and not self._read_paused:
            # Its own messages make us write, errors and pongs at least: so it is not heard until it reads.
            self._read_paused = True
            transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._unheard.clear()
        self._end()
        self.on_lost()

    def pause_writing(self) -> None:
        self._write_paused = True
        if not self._over:
            self._talk.pause()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._hear_again()
        if not self._over:
            self._talk.resume()

    def _hear_again(self) -> None:
        if self._read_paused and not self.transport.is_closing():
            self._read_paused = False
            self._heard_s = self._loop.time()
            self._hear_on()

    # -- messages ------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        """One frame that the protocol has found in order; pings are answered already."""
        opcode = frame.opcode
        if opcode is Opcode.BINARY:
            self.close(CloseCode.UNSUPPORTED_DATA, "messages are JSON texts", at_once=True)
        elif opcode is Opcode.TEXT or opcode is Opcode.CONT:
            self._message += frame.data
            if frame.fin:
                message, self._message = self._message, bytearray()
                self._read(message)

    def _read(self, message: bytearray) -> None:
        try:
            text = message.decode()
        except UnicodeDecodeError:
            self.close(CloseCode.INVALID_DATA, "the message is no UTF-8", at_once=True)
            return
        try:
            self._talk.heard(text)
        except Exception:  # noqa: BLE001  # the root of a request: its failure must not go unsaid
            _log.exception("a message could not be taken")
            self.close(CloseCode.INTERNAL_ERROR, "internal error", at_once=True)

    def send(self, message: bytes) -> None:
        """Send a text message, UTF-8."""
        if self._frames.state is State.OPEN and not self._over:
            self._frames.send_text(message)
            self._flush()

    @property
    def paused(self) -> bool:
        """Whether the client reads too slowly."""
        return self._write_paused

    def close(self, code: int, reason: str = "", *, at_once: bool = False) -> None:
        """Close with a word on why; `at_once` without waiting for the client's own close."""
        if self._frames.state is not State.OPEN:
            return
        if at_once:
            self._frames.fail(code, reason)
        else:
            self._frames.send_close(code, reason)
            self._waiting_since_s = self._loop.time()
        self._flush()
        self._end()

    # -- the listener that looks after it --------------------------------------

    def sweep(self, now_s: float) -> None:
        """Give up on a client that does not read, does not answer, or does not close."""
        limits = self._limits
        if self._write_paused:
            if self._uptake.is_too_slow(self.transport, limits.pace, now_s):
                forget_unsent(self.transport)
                self.transport.abort()
            return
        self._uptake.caught_up()
        if self._over:
            if now_s - self._waiting_since_s > limits.close_s:
                self.transport.abort()
        elif now_s - self._heard_s > 2 * limits.ping_s and self._pinged:
            self.transport.abort()
        elif now_s - self._heard_s > limits.ping_s and not self._pinged:
            self._pinged = True
            self._frames.send_ping(b"")
            self._flush()

    def finish_soon(self) -> None:
        """Let what runs end, then close."""
        if not self._over:
            self._talk.finish_soon()

    def leave(self) -> None:
        """Close now."""
        self.close(CloseCode.GOING_AWAY, "the server stops", at_once=True)

    # -- ends ----------------------------------------------------------------

    def _flush(self) -> None:
        """Write what the protocol has to say."""
        for data in self._frames.data_to_send():
            if data:
                self.transport.write(data)
            else:
                self._end_stream()

    def _end_stream(self) -> None:
        """The last frame is out. What a client sends on, unaware of it, is dropped for a while, or a reset would take
        our close from it.
        """
        self._end()
        self._waiting_since_s = self._loop.time()
        transport = self.transport
        if transport.is_closing():
            return
        if self._frames.close_rcvd is None and transport.can_write_eof():
            transport.write_eof()
            self._hear_again()
        else:
            transport.close()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._message = bytearray()
            self._talk.ended()


def _do_nothing() -> None:
    """Before a listener looks after it."""
