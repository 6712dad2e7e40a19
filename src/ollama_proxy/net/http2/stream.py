"""One HTTP/2 stream: what was received is handed on at once, what is sent waits for the client's windows.

Who serves the stream is a subclass: a gRPC call or an HTTP exchange.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from .errors import ErrorCode
from .frames import DATA, END_STREAM, HEAD, build_headers, build_window_update

if TYPE_CHECKING:
    from .connection import Connection
    from .head import RequestHead

_pack_head = HEAD.pack
#: What a DATA frame of ours earns its client: the two WINDOW_UPDATEs and the PING (grpc-go's) that may follow each.
_DATA_CREDIT = 3


class Stream:
    """State and sending side."""

    __slots__ = (
        "_ending",
        "_queue",
        "arrived_bytes",
        "awaits_body",
        "connection",
        "content_left",
        "head",
        "id",
        "local_closed",
        "paused",
        "progress_s",
        "queued_bytes",
        "receive_left",
        "remote_closed",
        "send_left",
        "waited_bytes",
    )

    #: Whether an answer that comes before the end of the request leaves the client its window to send the rest: it is
    #: dropped. Some clients take a RST_STREAM behind the answer for a failure of it.
    lingers = False
    #: Whether the rest of the request is read past however long it is, for some clients send all before they read.
    drains = False
    #: Whether what the client has sent is not given back to its window, for nobody takes more now.
    holds_window = False

    def __init__(self, connection: Connection, stream_id: int, head: RequestHead) -> None:
        self.connection = connection
        self.id = stream_id
        self.head = head
        self.send_left = connection.initial_send_window
        self.receive_left = connection.limits.stream_window_bytes
        self.remote_closed = self.local_closed = False
        #: Body bytes that the client has announced and not yet sent.
        self.content_left = head.content_length
        #: Unsent bytes; the stream then ends with `_ending` when that is set: trailers, or b"" for none.
        self._queue: deque[bytes] | None = None
        self._ending: bytes | None = None
        self.queued_bytes = 0
        self.paused = False
        #: When bytes last moved, or began to wait.
        self.progress_s = 0.0
        #: Sent of what had to wait for the client.
        self.waited_bytes = 0
        #: Of the body, but for its last frame.
        self.arrived_bytes = 0
        #: Whether a client that falls silent before its request is whole loses the stream.
        self.awaits_body = True

    # -- for the subclass ------------------------------------------------------

    def opened(self) -> None:
        """The stream is there; what is already known about it may be answered."""

    def received(self, data: bytes, *, ended: bool) -> None:
        """The next bytes of the body; `ended` once."""
        raise NotImplementedError

    def lost(self) -> None:
        """The client has reset the stream or gone; nothing can be sent any more."""
        raise NotImplementedError

    def pause(self) -> None:
        """The client reads too slowly."""

    def resume(self) -> None:
        """The client reads again."""

    # -- sending -----------------------------------------------------------------

    def send_headers(self, block: bytes, *, ended: bool = False) -> None:
        """HEADERS of the answer; they wait for nothing."""
        if self.local_closed:
            return
        connection = self.connection
        connection.out.append(build_headers(self.id, block, ended=ended))
        if not connection.awake:
            connection.wake()
        if ended:
            self._close_local()

    def send_data(self, data: bytes, *, ended: bool = False) -> None:
        """The next bytes of the answer's body."""
        if self.local_closed or self._ending is not None:
            return
        size = len(data)
        if self.take_window(size):
            head = _pack_head(size >> 16, size & 0xFFFF, DATA, END_STREAM if ended else 0, self.id)
            self.send_frame(head + data)
            if ended:
                self._close_local()
            return
        if ended:
            self._ending = b""
        self._enqueue(data)

    def send_trailers(self, block: bytes) -> None:
        """The last HEADERS, after everything that still waits."""
        if self.local_closed or self._ending is not None:
            return
        if self._queue is None:
            self.send_headers(block, ended=True)
        else:
            self._ending = block

    def take_window(self, size: int) -> bool:
        """Whether so many bytes may go out in one DATA frame at once; then they are off the windows."""
        connection = self.connection
        if (
            self._queue is not None
            or size > connection.frame_bytes
            or size > self.send_left
            or size > connection.send_left
            or connection.write_paused
        ):
            return False
        self.send_left -= size
        connection.send_left -= size
        return True

    def send_frame(self, frame: bytes) -> None:
        """A DATA frame, made by the caller after `take_window`."""
        connection = self.connection
        connection.credit += _DATA_CREDIT
        connection.out.append(frame)
        if not connection.awake:
            connection.wake()

    def send_whole(self, frames: bytes) -> None:
        """All frames of an answer, made by the caller after `take_window`; they end the stream."""
        connection = self.connection
        connection.out.append(frames)
        if not connection.awake:
            connection.wake()
        self._close_local()

    def reset(self, code: int = ErrorCode.CANCEL) -> None:
        """Break the stream off."""
        if not self.local_closed:
            self.local_closed = True
            self.connection.send_reset(self.id, code)

    def break_off(self, code: int) -> None:
        """Break the stream off and tell its owner, who has not asked for it."""
        if not self.local_closed:
            self.reset(code)
            self.lost()

    def _close_local(self) -> None:
        """Our side has ended. A client that still sends may end its side, or is told that nobody reads on."""
        self.local_closed = True
        connection = self.connection
        connection.credit += 2
        if self.remote_closed:
            connection.forget(self.id)
        elif self.lingers and not connection.leaving:
            self.progress_s = connection.clock()
        else:
            self.stop_lingering()

    def stop_lingering(self) -> None:
        """The answer is whole, and no more of the request is wanted (RFC 9113, 8.1)."""
        self.connection.send_reset(self.id, ErrorCode.NO_ERROR)

    def open_window(self) -> None:
        """Give back to the client's window what was received, if that is much or nothing is left."""
        connection = self.connection
        window = connection.limits.stream_window_bytes
        if self.receive_left < window >> 1 and not self.remote_closed and (self.drains or not self.local_closed):
            connection.out.append(build_window_update(self.id, window - self.receive_left))
            self.receive_left = window
            if not connection.awake:
                connection.wake()

    # -- waiting for windows -------------------------------------------------------

    def _enqueue(self, data: bytes) -> None:
        connection = self.connection
        if self._queue is None:
            self._queue = deque()
            self.progress_s = connection.clock()
            connection.waiting[self.id] = self
        self._queue.append(data)
        self.queued_bytes += len(data)
        connection.queued_bytes += len(data)
        if connection.queued_bytes > connection.limits.queued_bytes:
            self.break_off(ErrorCode.ENHANCE_YOUR_CALM)
            return
        self.push()
        limits = connection.limits
        crowded = connection.queued_bytes > limits.queued_bytes >> 2
        if self._queue is not None and (crowded or self.queued_bytes > limits.queue_high_bytes):
            self.hold()

    def push(self) -> None:
        """Send one frame's worth of what waits, as far as the windows allow; end when nothing is left."""
        queue, connection = self._queue, self.connection
        if queue is None or connection.write_paused:
            return
        while queue:
            size = min(len(queue[0]), connection.frame_bytes, self.send_left, connection.send_left)
            if size <= 0 and queue[0]:
                return
            piece = queue.popleft()
            if size < len(piece):
                queue.appendleft(piece[size:])
                piece = piece[:size]
            self._send_piece(piece, last=not queue)
            if queue and len(connection.waiting) > 1:
                break
        if not queue:
            self._drained()

    def _send_piece(self, piece: bytes, *, last: bool) -> None:
        connection, size = self.connection, len(piece)
        self.send_left -= size
        connection.send_left -= size
        self.queued_bytes -= size
        self.waited_bytes += size
        connection.queued_bytes -= size
        connection.credit += _DATA_CREDIT
        self.progress_s = connection.clock()
        flags = END_STREAM if last and self._ending == b"" else 0
        connection.out.append(_pack_head(size >> 16, size & 0xFFFF, DATA, flags, self.id) + piece)
        if not connection.awake:
            connection.wake()

    def _drained(self) -> None:
        self._queue = None
        self.connection.waiting.pop(self.id, None)
        ending, self._ending = self._ending, None
        if ending == b"":
            self._close_local()
        elif ending is not None:
            self.send_headers(ending, ended=True)
        else:
            self.release()

    def drop_queue(self) -> None:
        """Nothing of what waits will be sent; whoever still holds the stream shall not hold that too."""
        self._queue, self.queued_bytes = None, 0

    def hold(self) -> None:
        """Ask the producer to pause, once."""
        if not self.paused:
            self.paused = True
            self.pause()

    def release(self) -> None:
        """Let the producer go on when nothing of its stream waits any more."""
        if self.paused and self._queue is None and not self.connection.write_paused:
            self.paused = False
            self.resume()
