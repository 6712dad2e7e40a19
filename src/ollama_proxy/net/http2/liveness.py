"""Time on an HTTP/2 connection: PINGs, a client that is silent or reads nothing, and the two steps of leaving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import ConnectionFault, ErrorCode
from .frames import MAX_WINDOW, PING, build_frame, build_goaway, build_pong

if TYPE_CHECKING:
    from .connection import Connection
    from .stream import Stream

_DRAIN_PING = b"draining"
_ALIVE_PING = b"alive???"
_STRIKES = 2
#: How long a client gets to answer the PING behind the first GOAWAY.
_DRAIN_ANSWER_S = 1.0


class Liveness:
    """What a connection owes to time. Call `sweep` about once a second."""

    __slots__ = (
        "_asked_s",
        "_connection",
        "_drain_s",
        "_mark",
        "_pinged_s",
        "_readers",
        "_strikes",
        "_windows",
        "began_s",
        "final_id",
        "used_s",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.began_s = self.used_s = connection.clock()
        #: Set while a PING of ours is not answered.
        self._asked_s: float | None = None
        self._drain_s: float | None = None
        #: New streams above it are refused; the connection closes when the others have ended.
        self.final_id = MAX_WINDOW
        self._pinged_s = -1e9
        self._strikes = 0
        self._mark = (0, 0)
        #: By stream whose body is waited for: since when it is measured, and what had arrived by then.
        self._windows: dict[int, tuple[float, int]] = {}
        #: The same by stream whose answer waits for its client, of what was sent.
        self._readers: dict[int, tuple[float, int]] = {}

    def take_ping(self, payload: bytes, *, ack: bool) -> None:
        """Answer a PING, or take the answer to ours. Raises `ConnectionFault` for the third hasty one."""
        connection = self._connection
        connection.spend(1)
        if ack:
            self._take_answer(payload)
            return
        now_s = connection.clock()
        # The second grows with every byte sent, also when the client has given the window back since.
        mark = (connection.ids.last, connection.send_granted - connection.send_left)
        if mark != self._mark:
            # Something was asked or sent since: clients measure the line's bandwidth with PINGs.
            self._strikes, self._mark = 0, mark
        elif now_s - self._pinged_s < connection.limits.ping_every_s:
            self._strikes += 1
            if self._strikes > _STRIKES:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")
        self._pinged_s = now_s
        connection.out.append(build_pong(payload))

    def _take_answer(self, payload: bytes) -> None:
        if payload == _ALIVE_PING:
            self._asked_s = None
            self.used_s = self._connection.clock()
        elif payload == _DRAIN_PING and self._drain_s is not None:
            self._finish_drain()

    def drain(self) -> None:
        """Leave: announce it, let what is on its way arrive, then take no new streams."""
        if self._drain_s is not None or self._connection.closed:
            return
        self._drain_s = self._connection.clock()
        self._connection.send(build_goaway(MAX_WINDOW, ErrorCode.NO_ERROR) + build_frame(PING, 0, 0, _DRAIN_PING))

    def _finish_drain(self) -> None:
        connection = self._connection
        if self.final_id == MAX_WINDOW:
            self.final_id = connection.ids.last
            connection.send(build_goaway(self.final_id, ErrorCode.NO_ERROR))
            for stream in [one for one in connection.streams.values() if one.local_closed]:
                stream.stop_lingering()
            if not connection.streams:
                connection.close()

    def sweep(self, now_s: float) -> None:
        """Look after everything that is late."""
        connection, limits = self._connection, self._connection.limits
        if connection.closed:
            return
        if not connection.ready and now_s - self.began_s > limits.preface_s:
            connection.fail(ErrorCode.PROTOCOL_ERROR, "the preface did not arrive in time")
        elif connection.write_paused and now_s - connection.write_paused_s > limits.stall_s:
            connection.fail(ErrorCode.ENHANCE_YOUR_CALM, "nothing is read")
        elif self._drain_s is not None and now_s - self._drain_s > _DRAIN_ANSWER_S:
            self._finish_drain()
        self._sweep_streams(now_s)
        self._ask(now_s)

    def _sweep_streams(self, now_s: float) -> None:
        connection, limits = self._connection, self._connection.limits
        before, self._windows = self._windows, {}
        readers, self._readers = self._readers, {}
        for stream in list(connection.streams.values()):
            if stream.queued_bytes:
                if self._takes_too_little(stream, now_s, readers.get(stream.id)):
                    stream.break_off(ErrorCode.CANCEL)
            elif stream.local_closed:
                # Counted from the answer, whatever still comes: nobody keeps a stream by dripping into it.
                if now_s - stream.progress_s > limits.body_idle_s:
                    stream.stop_lingering()
            elif stream.awaits_body and not stream.remote_closed:
                # Begun here, so that a stream that comes and goes between two sweeps costs nothing.
                stream.progress_s = stream.progress_s or now_s
                late = now_s - stream.progress_s > limits.body_idle_s
                if late or self._drips(stream, now_s, before.get(stream.id)):
                    stream.break_off(ErrorCode.CANCEL)

    def _drips(self, stream: Stream, now_s: float, window: tuple[float, int] | None) -> bool:
        """Whether a body has come too slowly for a whole window."""
        limits = self._connection.limits
        since_s, seen = window or (now_s, stream.arrived_bytes)
        over = now_s - since_s >= limits.body_rate_window_s
        if over and stream.arrived_bytes - seen < limits.body_min_bytes_per_s * (now_s - since_s):
            return True
        self._windows[stream.id] = (now_s, stream.arrived_bytes) if over else (since_s, seen)
        return False

    def _takes_too_little(self, stream: Stream, now_s: float, window: tuple[float, int] | None) -> bool:
        """Whether a client has opened its windows too little in the one that is over now.

        Whoever is being answered may have its reasons to send little, so this is asked in place of `_drips`.
        """
        pace = self._connection.limits.pace
        since_s, seen = window or (now_s, stream.waited_bytes)
        over = now_s - since_s >= pace.window_s
        if over and stream.waited_bytes - seen < max(1.0, pace.min_bytes_per_s * (now_s - since_s)):
            return True
        self._readers[stream.id] = (now_s, stream.waited_bytes) if over else (since_s, seen)
        return False

    def _ask(self, now_s: float) -> None:
        connection, limits = self._connection, self._connection.limits
        if self._asked_s is not None:
            if now_s - self._asked_s > limits.keepalive_answer_s:
                connection.fail(ErrorCode.NO_ERROR, "the client does not answer")
        elif not connection.streams and now_s - self.used_s > limits.keepalive_s:
            self._asked_s = now_s
            connection.send(build_frame(PING, 0, 0, _ALIVE_PING))
