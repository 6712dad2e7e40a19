"""Limits of the HTTP/1.1 server: what one client may cost before it is refused."""

from __future__ import annotations

import msgspec

from ollama_proxy.net.uptake import Pace


class HttpLimits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds, rates in bytes a second."""

    head_bytes: int = 32 * 1024
    head_fields: int = 100
    target_bytes: int = 8 * 1024
    body_bytes: int = 32 * 1024 * 1024
    #: All the chunk extensions of one body.
    extension_bytes: int = 16 * 1024
    head_s: float = 10.0
    body_idle_s: float = 30.0
    #: A body must bring so much in each window; a client that drips holds memory for nothing.
    body_min_bytes_per_s: float = 240.0
    body_rate_window_s: float = 10.0
    idle_s: float = 120.0
    connections: int = 8192
    #: Bytes waiting in the kernel's and our send buffers before the producer is paused.
    write_high_bytes: int = 64 * 1024
    #: What a client must take of an answer that waits for it.
    pace: Pace = Pace()
    #: What is still read, and dropped, after a refusal, so that a client that sends all before it reads sees the answer
    #: and no reset.
    linger_bytes: int = 64 * 1024 * 1024
    linger_s: float = 5.0
    #: Bytes of pipelined requests that are kept while one is being answered.
    ahead_bytes: int = 64 * 1024
