"""Event borders in byte streams: NDJSON lines and server-sent events, however the bytes were cut.

What is passed on to a client always ends with a whole event, so that a stream can be ended with an honest error, or
continued, at any moment.
"""

from __future__ import annotations

#: A line longer than this is not an event any more but an attack or a fault.
MAX_EVENT_BYTES = 16 * 1024 * 1024


class EventTooLong(Exception):
    """An event grew beyond `MAX_EVENT_BYTES`."""


class LineBuffer:
    """Cuts a byte stream into lines at LF."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        #: Bytes of a piece that is not whole yet.
        self.held = b""

    def feed_whole(self, data: bytes) -> bytes:
        """All whole lines so far, as one piece; the rest is held back."""
        if self.held:
            data = self.held + data
        if data.endswith(b"\n"):
            self.held = b""
            return data
        cut = data.rfind(b"\n") + 1
        self._hold(data[cut:])
        return data[:cut]

    def feed(self, data: bytes) -> list[bytes]:
        """The whole lines so far, without their ends; empty lines are dropped."""
        return [line for raw in self.feed_whole(data).split(b"\n") if (line := raw.rstrip(b"\r"))]

    def rest(self) -> bytes:
        """What is left at the end of the stream: a last line without its end, or nothing."""
        held, self.held = self.held, b""
        return held

    def _hold(self, data: bytes) -> None:
        if len(data) > MAX_EVENT_BYTES:
            raise EventTooLong(f"a line is longer than {MAX_EVENT_BYTES} bytes")
        self.held = data


class EventBuffer:
    """Cuts a byte stream into server-sent events at blank lines (LF, CRLF or CR)."""

    __slots__ = ("held",)

    def __init__(self) -> None:
        #: Bytes of a piece that is not whole yet.
        self.held = b""

    def feed_whole(self, data: bytes) -> bytes:
        """All whole events so far, as one piece; the rest is held back."""
        if self.held:
            data = self.held + data
        if data.endswith(b"\n\n"):
            self.held = b""
            return data
        cut = _last_border(data)
        self._hold(data[cut:])
        return data[:cut]

    def feed(self, data: bytes) -> list[bytes]:
        """The data of each whole event so far; comments and events without data are dropped."""
        return event_data(self.feed_whole(data))

    def rest(self) -> bytes:
        """What is left at the end of the stream: a last event without its blank line, or nothing."""
        held, self.held = self.held, b""
        return held

    def _hold(self, data: bytes) -> None:
        if len(data) > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event is longer than {MAX_EVENT_BYTES} bytes")
        self.held = data


def _last_border(data: bytes) -> int:
    """Index behind the last blank line. A trailing CR CR is not yet one: its LF may follow."""
    lf = data.rfind(b"\n\n")
    crlf = data.rfind(b"\r\n\r\n")
    cr = data.rfind(b"\r\r", 0, -1) if len(data) > 2 else -1
    return max(lf + 2 if lf >= 0 else 0, crlf + 4 if crlf >= 0 else 0, cr + 2 if cr >= 0 else 0)


def event_data(events: bytes) -> list[bytes]:
    """The joined `data:` lines of each event in a piece that holds whole events (WHATWG HTML, 9.2.6)."""
    if b"\r" in events:
        events = events.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found = []
    for block in events.split(b"\n\n"):
        lines = [_data_value(line) for line in block.split(b"\n") if line.startswith(b"data:")]
        if lines:
            found.append(lines[0] if len(lines) == 1 else b"\n".join(lines))
    return found


def _data_value(line: bytes) -> bytes:
    value = line[5:]
    return value[1:] if value.startswith(b" ") else value
