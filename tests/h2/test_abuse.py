"""Clients that ask for nothing and cost something: how each ends, what it leaves behind, who is served meanwhile.

Credit does not grow on the server of the exact counts, so that the frame that is one too many is known. The floods run
against the limits that the proxy has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.h2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    SETTINGS,
    RawClient,
    frame,
    grpc_block,
    grpc_call,
    headers,
    request_block,
    reset,
    settings,
    window_update,
)
from tests.h2.good_client import GoodClient, Watch
from tests.h2.hpack_blocks import write_integer, write_literal
from tests.h2.servers import TestServer
from tests.h2.testservice import SERVICE, load_messages
from tests.support.lab import LabProcess
from tests.support.processes import http_get, wait_until
from tests.support.proxy import ProxyProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

_FLOOD = 50_000
#: What is left of 1000 points when a client has sent its SETTINGS and acknowledged ours.
_CREDIT = 998
_UNKNOWN = 0xFA
_MODEL = "qwen2.5:0.5b"
_messages = load_messages()


def path_of(method: str) -> bytes:
    return f"/{SERVICE}/{method}".encode()


#: A call that waits for its message, and one that answers after a minute.
_OPEN = grpc_block(path_of("EmptyCall"))
_LATE = _messages["StreamingOutputCallRequest"]()
_LATE.response_parameters.add(size=1, interval_us=60_000_000)
_RUNNING = grpc_block(path_of("StreamingOutputCall"))


def open_call(stream_id: int) -> bytes:
    return headers(stream_id, _OPEN, END_HEADERS)


def running_call(stream_id: int) -> bytes:
    return grpc_call(stream_id, _RUNNING, _LATE.SerializeToString())


def priority(stream_id: int, on: int) -> bytes:
    return frame(PRIORITY, 0, stream_id, on.to_bytes(4, "big") + b"\x10")


class Row(NamedTuple):
    """An attack: pieces that follow a beginning. The `last`th piece ends the connection; the one before does not."""

    piece: Callable[[int], bytes]
    last: int
    begin: bytes = b""


def odd(number: int) -> int:
    return 2 * number + 1


#: Blocks that end streams by our fault-finding: "made you reset".
_UPPER_CASE = _OPEN + write_literal(b"X-Upper", b"1")
_PROMISE = grpc_block(path_of("EmptyCall"), [(b"content-length", b"3")])
_BOMB = write_literal(b"x", b"y" * 4000, 0x40) + write_integer(62, 7, 0x80) * 8000

ROWS = {
    "rapid reset": Row(lambda n: open_call(odd(n)) + reset(odd(n)), _CREDIT // 2 + 1),
    "rapid reset of running calls": Row(lambda n: running_call(odd(n)) + reset(odd(n)), _CREDIT // 2 + 1),
    "made you reset: window of nothing": Row(
        lambda n: running_call(odd(n)) + window_update(odd(n), 0), _CREDIT // 2 + 1
    ),
    "made you reset: window overflow": Row(
        lambda n: running_call(odd(n)) + window_update(odd(n), 2**31 - 1), _CREDIT // 2 + 1
    ),
    "made you reset: depends on itself": Row(
        lambda n: running_call(odd(n)) + priority(odd(n), odd(n)), _CREDIT // 2 + 1
    ),
    "made you reset: DATA after the end": Row(
        lambda n: running_call(odd(n)) + frame(DATA, 0, odd(n), b"x"), _CREDIT + 1
    ),
    "made you reset: HEADERS after the end": Row(
        lambda n: running_call(odd(n)) + headers(odd(n), b"\x82"), _CREDIT + 1
    ),
    "made you reset: wrong length": Row(
        lambda n: headers(odd(n), _PROMISE, END_HEADERS) + frame(DATA, 0, odd(n), b"four"), _CREDIT + 1
    ),
    "made you reset: bad field": Row(lambda n: headers(odd(n), _UPPER_CASE), _CREDIT + 1),
    "refused streams": Row(
        lambda n: open_call(odd(1000 + n)), _CREDIT + 1, b"".join(open_call(odd(number)) for number in range(1000))
    ),
    "resets of closed streams": Row(lambda _: reset(1), _CREDIT // 2, open_call(1) + reset(1)),
    "CONTINUATION, filled": Row(lambda _: frame(CONTINUATION, 0, 1, bytes(16_384)), 4, frame(HEADERS, 0, 1, b"\x82")),
    "CONTINUATION, a byte each": Row(lambda _: frame(CONTINUATION, 0, 1, b"\x82"), 64, frame(HEADERS, 0, 1, b"\x82")),
    "CONTINUATION, empty": Row(lambda _: frame(CONTINUATION, 0, 1), 64, frame(HEADERS, 0, 1, b"\x82")),
    "PING": Row(lambda _: frame(PING, 0, 0, bytes(8)), 4),
    "PING answers to no question": Row(lambda _: frame(PING, ACK, 0, bytes(8)), _CREDIT + 1),
    "SETTINGS": Row(lambda _: settings(), _CREDIT + 1),
    "SETTINGS that move 900 windows": Row(
        lambda n: settings({INITIAL_WINDOW_SIZE: 1000 + n}),
        _CREDIT + 1,
        b"".join(running_call(odd(n)) for n in range(900)),
    ),
    "SETTINGS answers to no question": Row(lambda _: frame(SETTINGS, ACK), _CREDIT + 1),
    "empty DATA": Row(lambda _: frame(DATA, 0, 1), _CREDIT + 1, open_call(1)),
    "DATA of nothing but padding": Row(lambda _: frame(DATA, PADDED, 1, b"\x07" + bytes(7)), _CREDIT + 1, open_call(1)),
    "empty DATA on a stream that was reset": Row(
        lambda _: frame(DATA, 0, 1), _CREDIT - 1, running_call(1) + priority(1, 1)
    ),
    "trailers on a stream that was reset": Row(
        lambda _: headers(1, b"\x82"), _CREDIT - 1, running_call(1) + priority(1, 1)
    ),
    "PRIORITY": Row(lambda n: priority(odd(n), 0), _CREDIT + 1),
    "unknown frames": Row(lambda _: frame(_UNKNOWN), _CREDIT + 1),
    "unknown frames, filled": Row(lambda _: frame(_UNKNOWN, 0, 0, bytes(16_384)), _CREDIT + 1),
    "GOAWAY": Row(lambda _: frame(GOAWAY, 0, 0, bytes(8)), _CREDIT + 1),
    "WINDOW_UPDATE +1 of the connection": Row(lambda _: window_update(0, 1), _CREDIT + 1),
    "WINDOW_UPDATE +1 of a stream": Row(lambda _: window_update(1, 1), _CREDIT + 1, running_call(1)),
    "WINDOW_UPDATE of a closed stream": Row(lambda _: window_update(1, 1), _CREDIT - 1, open_call(1) + reset(1)),
    "HPACK bomb": Row(lambda n: headers(odd(n), _BOMB), 1),
}


@pytest.fixture(scope="module")
def exact(work: Path) -> Iterator[TestServer]:
    """A server whose clients' credit does not grow by time."""
    with TestServer(work, credit_per_s=0) as server:
        yield server


@pytest.fixture(params=ROWS)
def row(request: pytest.FixtureRequest) -> Row:
    return ROWS[request.param]


def assert_calm(client: RawClient) -> None:
    """The server has said why, and closed."""
    client.read_to_the_end()
    assert client.goaway is not None, client.frames[-3:]
    assert client.goaway.code == ENHANCE_YOUR_CALM, client.goaway


def test_the_frame_that_is_one_too_many_ends_the_connection(exact: TestServer, row: Row) -> None:
    with RawClient(exact.port) as client:
        client.send(row.begin + b"".join(row.piece(number) for number in range(row.last)))
        assert_calm(client)


def test_one_less_does_not(exact: TestServer, row: Row) -> None:
    with RawClient(exact.port) as client:
        client.send(row.begin + b"".join(row.piece(number) for number in range(row.last - 1)))
        # A fault that costs no credit tells that everything before it was taken.
        client.send(frame(SETTINGS, 0, 1))
        client.read_to_the_end()
        assert client.goaway is not None, client.frames[-3:]
        assert client.goaway.code == PROTOCOL_ERROR, client.goaway


def generate(stream_id: int, *, grpc: bool) -> bytes:
    """A request of the proxy that would run for a while, and its reset."""
    if grpc:
        block = grpc_block(b"/compute.v1.ComputeService/GenerateStream")
        whole = grpc_call(stream_id, block, compute_pb2.GenerateRequest(prompt="hi", model=_MODEL).SerializeToString())
    else:
        body = b'{"model":"%s","prompt":"hi"}' % _MODEL.encode()
        block = request_block(b"/api/generate", b"POST")
        whole = headers(stream_id, block, END_HEADERS) + frame(DATA, END_STREAM, stream_id, body)
    return whole + reset(stream_id)


@pytest.mark.parametrize("port", ["grpc", "http"])
def test_rapid_resets_of_generating_requests(lab: LabProcess, lab_proxy: ProxyProcess, port: str) -> None:
    """The proxy as it runs: the devices are told, other clients are served, memory stays."""
    number = lab_proxy.grpc_port if port == "grpc" else lab_proxy.http_port
    wait_until(lambda: http_get(lab_proxy.url + "/health")[0] == 200, "the proxy to be well")
    with Watch(lab_proxy.child.pid) as watch, RawClient(number) as client:
        pieces = (generate(odd(n), grpc=port == "grpc") for n in range(_FLOOD))
        sent = client.flood(with_a_call(pieces, lambda: http_get(lab_proxy.url + "/health")[0] == 200, watch))
        client.read_to_the_end()
        assert http_get(lab_proxy.url + "/health")[0] == 200
    assert sent < _FLOOD
    wait_until(lambda: sum(lab.state(name)["in_flight"] for name in lab.ports) == 0, "the devices to rest")
    print(f"ended after {sent} were handed over; the proxy grew by {watch.growth_bytes / 2**20:.1f} MiB")


def with_a_good_client(pieces: Iterable[bytes], good: GoodClient, watch: Watch) -> Iterator[bytes]:
    """The pieces of a flood; every now and then a good client calls between two of them."""

    def call() -> bool:
        good.call()
        return True

    return with_a_call(pieces, call, watch)


def with_a_call(pieces: Iterable[bytes], call: Callable[[], bool], watch: Watch) -> Iterator[bytes]:
    """The same with any call that must come true."""
    for number, piece in enumerate(pieces):
        if number % 500 == 1:
            assert call()
            watch.sample()
        yield piece


@pytest.mark.parametrize("reading", [True, False], ids=["read", "unread"])
def test_a_flood_ends_and_harms_nobody(testservice: TestServer, row: Row, reading: bool) -> None:
    with GoodClient(testservice.port) as good, Watch(testservice.pid) as watch, RawClient(testservice.port) as client:
        good.call()
        client.send(row.begin)
        pieces = (row.piece(number) for number in range(_FLOOD))
        sent = client.flood(with_a_good_client(pieces, good, watch), reading=reading)
        client.read_to_the_end()
        good.call()
        with GoodClient(testservice.port) as another:
            another.call()
    assert sent < _FLOOD
    print(f"ended after {sent} were handed over; the server grew by {watch.growth_bytes / 2**20:.1f} MiB")
