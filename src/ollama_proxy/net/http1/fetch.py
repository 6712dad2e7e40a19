"""A whole answer in one await, for what is not hot: probes, lists, control calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ollama_proxy.domain.errors import Failure, FailureKind

from .client import OriginPool
from .exchange import Header

_MAX_BODY_BYTES = 64 * 1024 * 1024


class FetchError(Exception):
    """The fetch failed; carries the failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Fetched:
    """A sink that gathers an answer and wakes the one who waits."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: Sequence[Header] = ()
        self.body = bytearray()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_response(self, status: int, headers: Sequence[Header]) -> None:
        self.status = status
        self.headers = headers

    def on_body(self, data: bytes) -> None:
        if len(self.body) + len(data) > _MAX_BODY_BYTES:
            self._settle(FetchError(Failure(FailureKind.GARBAGE, "the answer is too large")))
        else:
            self.body += data

    def on_complete(self) -> None:
        self._settle(None)

    def on_error(self, failure: Failure) -> None:
        self._settle(FetchError(failure))

    def _settle(self, error: FetchError | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


async def fetch(pool: OriginPool, request: bytes, timeout_s: float) -> Fetched:
    """Send a request and gather the answer. Raises `FetchError`; a timeout is one, too."""
    sink = Fetched()
    upload = pool.send(request, sink)
    try:
        async with asyncio.timeout(timeout_s):
            await sink.done
    except TimeoutError:
        raise FetchError(Failure(FailureKind.TIMEOUT, f"timeout after {timeout_s:g} s")) from None
    finally:
        if not sink.done.done() or sink.done.cancelled() or sink.done.exception() is not None:
            upload.abort()
    return sink
