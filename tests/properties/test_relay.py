"""The fast lane's streams: the client gets what the upstream sent, however it was cut, and never half an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.answer import AnswerEvent, Finished
from ollama_proxy.domain.errors import Failure
from ollama_proxy.net.endings.ollama import read_ollama_body, read_ollama_tail
from ollama_proxy.net.endings.openai import read_openai_body, read_openai_tail
from ollama_proxy.net.http1.chunked import ChunkedReader
from ollama_proxy.net.http1.client import Origin, OriginPool
from ollama_proxy.net.http1.upstream_connection import UpstreamConnection
from ollama_proxy.net.lanes.fast_lane import RawAttempt
from tests.support.wire import Wire

TYPES = {"openai": b"text/event-stream", "ollama": b"application/x-ndjson"}
ENDS = {
    "openai": b'data: {"choices":[{"finish_reason":"length"}],"usage":{"completion_tokens":7}}\n\ndata: [DONE]\n\n',
    "ollama": b'{"done":true,"done_reason":"length","eval_count":7}\n',
}


class Client:
    """The attempt's owner: keeps the bytes that a client in HTTP/1.1's framing would have, with the framing off."""

    def __init__(self, *, relays: bool) -> None:
        self.body = b""
        self.seen: list[bytes] = []
        self.end: Finished | Failure | None = None
        self._relays = relays

    def on_head(self, status: int, content_type: bytes, length: int | None) -> None:
        assert (status, length) == (200, None)

    def on_raw(self, data: bytes) -> None:
        self.body += data
        self.seen.append(self.body)

    def relay(self) -> Callable[[bytes], None] | None:
        return self._take_chunk if self._relays else None

    def _take_chunk(self, chunk: bytes) -> None:
        pieces: list[bytes] = []
        assert ChunkedReader().feed(chunk, 0, pieces) == len(chunk)
        self.on_raw(b"".join(pieces))

    def on_whole(self, status: int, content_type: bytes, body: bytes, finished: Finished) -> None:
        raise AssertionError("a stream is not whole")

    def on_events(self, events: Sequence[AnswerEvent]) -> None:
        raise AssertionError("nothing is decoded here")

    def on_end(self, finished: Finished) -> None:
        self.end = finished

    def on_failure(self, failure: Failure) -> None:
        self.end = failure


def event(dialect: str, text: str) -> bytes:
    return b'data: {"x":"%b"}\n\n' % text.encode() if dialect == "openai" else b'{"x":"%b"}\n' % text.encode()


def run(dialect: str, chunks: list[bytes], reads: list[int], *, relays: bool) -> Client:
    return asyncio.run(play(dialect, chunks, reads, relays=relays))


async def play(dialect: str, chunks: list[bytes], reads: list[int], *, relays: bool) -> Client:
    client = Client(relays=relays)
    ends = (read_openai_body, read_openai_tail) if dialect == "openai" else (read_ollama_body, read_ollama_tail)
    attempt = RawAttempt(client, *ends)
    connection = UpstreamConnection(OriginPool(Origin("x", 80)))
    connection.connection_made(Wire())
    attempt.request = b"POST"
    connection.carry(attempt, reused=False)
    framed = [b"%x\r\n%b\r\n" % (len(one), one) for one in chunks] + [b"0\r\n\r\n"]
    connection.data_received(
        b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % TYPES[dialect]
    )
    if not reads:
        for one in framed:
            connection.data_received(one)
    rest = b"".join(framed) if reads else b""
    for size in [*reads, len(rest)]:
        piece, rest = rest[:size], rest[size:]
        if piece:
            connection.data_received(piece)
    return client


pieces = st.lists(st.text("ab\\né", max_size=6).map(lambda text: text.replace("\\", "").replace("\n", "")), max_size=12)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(("openai", "ollama")),
    pieces,
    st.lists(st.integers(1, 60), max_size=12),
    st.lists(st.integers(1, 50), max_size=30),
    st.booleans(),
)
def test_a_stream_passes_whole_and_in_whole_events(
    dialect: str, texts: list[str], cuts: list[int], reads: list[int], relays: bool
) -> None:
    stream = b"".join(event(dialect, text) for text in texts) + ENDS[dialect]
    chunks, rest = [], stream
    for cut in cuts:
        if rest:
            chunks.append(rest[:cut])
            rest = rest[cut:]
    client = run(dialect, [*chunks, rest] if rest else chunks, reads, relays=relays)
    assert client.body == stream
    border = b"\n\n" if dialect == "openai" else b"\n"
    assert all(seen.endswith(border) for seen in client.seen)
    assert isinstance(client.end, Finished)
    assert (client.end.reason, client.end.usage.output_tokens) == ("length", 7)


@pytest.mark.parametrize("relays", [True, False])
@pytest.mark.parametrize("dialect", ["openai", "ollama"])
def test_events_stand_for_tokens_where_no_usage_is_given(dialect: str, relays: bool) -> None:
    end = b"data: [DONE]\n\n" if dialect == "openai" else b'{"done":true}\n'
    client = run(dialect, [event(dialect, "x")] * 9 + [end], [], relays=relays)
    assert isinstance(client.end, Finished)
    assert (client.end.usage.output_tokens, client.end.usage.counted_events) == (8, True)


def test_only_chunks_of_whole_events_are_relayed() -> None:
    client = Client(relays=True)
    relayed: list[bytes] = []
    client.relay = lambda: relayed.append  # type: ignore[method-assign]
    attempt = RawAttempt(client, read_openai_body, read_openai_tail)
    attempt.on_response(200, [(b"content-type", b"text/event-stream")])
    for body in (b"data: {}\n\n", b"data: {}\n\n", b"data: ", b"{}\n\n", b"data: {}\n\n"):
        chunk = b"%x\r\n%b\r\n" % (len(body), body)
        attempt.on_chunk(chunk, chunk.index(b"\n") + 1)
    assert relayed == [b"a\r\ndata: {}\n\n\r\n"] * 2
    assert (client.body, attempt.relayed) == (b"data: {}\n\n" * 2, 2)


async def hear(*reads: bytes) -> Client:
    """What a client gets of these reads behind the head of a stream."""
    client = Client(relays=True)
    attempt = RawAttempt(client, read_ollama_body, read_ollama_tail)
    connection = UpstreamConnection(OriginPool(Origin("x", 80)))
    connection.connection_made(Wire())
    attempt.request = b"POST"
    connection.carry(attempt, reused=False)
    connection.data_received(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for read in reads:
        connection.data_received(read)
    connection.connection_lost(None)
    return client


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def test_half_an_event_is_no_sentence() -> None:
    client = asyncio.run(hear(chunk(event("ollama", "x")), chunk(b'{"response":"sec')))
    assert isinstance(client.end, Failure)
    assert "sec" not in client.end.message
    assert not client.end.told


def test_an_error_that_the_client_has_is_not_told_again() -> None:
    client = asyncio.run(hear(chunk(event("ollama", "x")), chunk(b'{"error":"out of memory"}\n'), b"0\r\n\r\n"))
    assert isinstance(client.end, Failure)
    assert (client.end.message, client.end.told) == ("out of memory", True)
    assert client.body.endswith(b'{"error":"out of memory"}\n')


@pytest.mark.parametrize("after", [b"0\r\nbad trailer\r\n\r\n", b"zz\r\n", b""])
def test_what_breaks_behind_the_end_breaks_nothing(after: bytes) -> None:
    client = asyncio.run(hear(chunk(event("ollama", "x")), chunk(ENDS["ollama"]), *([after] if after else [])))
    assert isinstance(client.end, Finished)
    assert client.body == event("ollama", "x") + ENDS["ollama"]
