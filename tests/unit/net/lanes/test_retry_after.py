"""What a server's `Retry-After` says."""

from __future__ import annotations

import pytest

from ollama_proxy.net.lanes.upstream import read_retry_after

#: Sun, 06 Nov 1994 08:49:37 GMT.
THEN_S = 784111777.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"17", 17.0),
        (b"99999999999999999999", 86_400.0),
        (b"Sun, 06 Nov 1994 08:50:37 GMT", 60.0),
        (b"Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        (b"Sun, 06 Nov 9999 08:00:00 GMT", 86_400.0),
        (b"soon", 0.0),
        (b"-3", 0.0),
        (b"\xff", 0.0),
        (b"", 0.0),
    ],
)
def test_seconds_and_dates_are_read_and_neither_is_for_ever(value: bytes, seconds: float) -> None:
    assert read_retry_after(value, THEN_S) == seconds
