"""What one HTTP/2 client may cost before it is told to calm down."""

from __future__ import annotations

import msgspec

from ollama_proxy.net.uptake import Pace


class Http2Limits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds, credit in points (see `Connection.spend`)."""

    streams: int = 1000
    stream_window_bytes: int = 1024 * 1024
    connection_window_bytes: int = 16 * 1024 * 1024
    block_bytes: int = 64 * 1024
    block_frames: int = 64
    list_bytes: int = 16 * 1024
    credit: int = 1000
    credit_per_s: int = 500
    #: A stream's unsent bytes before its producer is paused.
    queue_high_bytes: int = 64 * 1024
    #: All unsent bytes of a connection before the stream that adds to them is reset.
    queued_bytes: int = 16 * 1024 * 1024
    preface_s: float = 10.0
    #: A client that reads nothing for so long loses the connection.
    stall_s: float = 30.0
    #: What it must take of an answer that waits for its windows, or it loses the stream.
    pace: Pace = Pace()
    #: How long a request may take to arrive once its head is there, silence only.
    body_idle_s: float = 30.0
    #: A request must bring so much in each window, as in HTTP/1.1: one that drips holds memory for nothing.
    body_min_bytes_per_s: float = 240.0
    body_rate_window_s: float = 10.0
    #: Without calls for so long, the client is asked whether it is still there.
    keepalive_s: float = 7200.0
    keepalive_answer_s: float = 20.0
    #: More than two PINGs sooner than this, with nothing sent in between, end the connection.
    ping_every_s: float = 10.0
    connections: int = 8192
