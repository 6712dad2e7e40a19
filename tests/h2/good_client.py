"""The client that must not suffer from others, and a watch over the server's memory."""

from __future__ import annotations

from tests.h2.frames import RawClient, grpc_block, grpc_call
from tests.h2.servers import read_rss_bytes
from tests.h2.testservice import SERVICE

_MOST_GROWTH_BYTES = 32 * 1024 * 1024
_BLOCK = grpc_block(f"/{SERVICE}/EmptyCall".encode())


class GoodClient(RawClient):
    """Makes one call after another on a connection of its own."""

    _next_id = 1

    def call(self) -> None:
        """A unary call, which must succeed."""
        self.call_with(_BLOCK)

    def call_with(self, block: bytes) -> None:
        """The same with a head of one's own."""
        stream_id, self._next_id = self._next_id, self._next_id + 2
        self.send(grpc_call(stream_id, block))
        answer = self.read_answer(stream_id)
        assert b"grpc-status\x010" in answer[-1].payload, answer
        self.frames.clear()


class Watch:
    """Context manager: the process may not have grown by more than 32 MiB at any sample, nor at the end."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = self._most = read_rss_bytes(pid)

    def sample(self) -> None:
        self._most = max(self._most, read_rss_bytes(self._pid))

    @property
    def growth_bytes(self) -> int:
        return self._most - self._before

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *error: object) -> None:
        self.sample()
        if error[0] is None:
            assert self.growth_bytes <= _MOST_GROWTH_BYTES, f"grown by {self.growth_bytes / 2**20:.1f} MiB"
