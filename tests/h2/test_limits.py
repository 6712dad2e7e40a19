"""What a client may hold on to, and how long: windows it never opens, bytes it never reads, silence, connections."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil
import pytest

from tests.h2.frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    NO_ERROR,
    PING,
    PREFACE,
    PROTOCOL_ERROR,
    RST_STREAM,
    RawClient,
    frame,
    grpc_block,
    grpc_call,
    headers,
    request_block,
    reset,
    window_update,
)
from tests.h2.good_client import GoodClient, Watch
from tests.h2.hpack_blocks import write_huffman, write_integer, write_literal
from tests.h2.servers import TestServer
from tests.h2.testservice import SERVICE, load_messages
from tests.support.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

_messages = load_messages()
_EMPTY = grpc_block(f"/{SERVICE}/EmptyCall".encode())
_STREAM = grpc_block(f"/{SERVICE}/StreamingOutputCall".encode())
_UNARY = grpc_block(f"/{SERVICE}/UnaryCall".encode())
_STATUS_OK = b"grpc-status\x010"
_EXHAUSTED = b"grpc-status\x018"


def asking_for(sizes: list[int], interval_us: int = 0) -> bytes:
    """A request for messages of these sizes, each after a while."""
    request = _messages["StreamingOutputCallRequest"]()
    for size in sizes:
        request.response_parameters.add(size=size, interval_us=interval_us)
    text: bytes = request.SerializeToString()
    return text


def is_connected(server: TestServer, client_port: int) -> bool:
    """Whether the server's process still holds the connection."""
    held = psutil.Process(server.pid).net_connections()
    return any(one.raddr and one.raddr.port == client_port for one in held)


def resets_of(client: RawClient) -> dict[int, int]:
    return {one.stream_id: one.code for one in client.frames if one.kind == RST_STREAM}


def test_a_thousand_calls_without_a_window_end_at_the_stall_limit(work: Path) -> None:
    ids = range(1, 2001, 2)
    with (
        TestServer(work, pace={"window_s": 1}) as server,
        GoodClient(server.port) as good,
        RawClient(server.port, {INITIAL_WINDOW_SIZE: 0}) as client,
    ):
        good.call()
        with Watch(server.pid) as watch:
            request = asking_for([1000] * 20)
            for stream_id in ids:
                client.send(grpc_call(stream_id, _STREAM, request))
            client.read_until(lambda: sum(one.kind == HEADERS for one in client.frames) == len(ids), "every head")
            good.call()
            watch.sample()
            client.read_until(lambda: len(resets_of(client)) == len(ids), "every call's end", 60)
        assert set(resets_of(client).values()) == {CANCEL}
        assert client.goaway is None
        good.call()
        # The connection goes on, with a window for the next call alone.
        client.send(grpc_call(2001, _EMPTY) + window_update(2001, 5))
        assert _STATUS_OK in client.read_answer(2001)[-1].payload
        print(f"the server grew by {watch.growth_bytes / 2**20:.1f} MiB")


def test_a_stream_that_waits_for_the_connections_window_ends_at_the_stall_limit(work: Path) -> None:
    with (
        TestServer(work, pace={"window_s": 1}) as server,
        RawClient(server.port, {INITIAL_WINDOW_SIZE: 1 << 30}) as client,
    ):
        client.send(grpc_call(1, _STREAM, asking_for([100_000])))
        assert client.read_answer(1)[-1].code == CANCEL
        assert sum(len(one.payload) for one in client.of(1) if one.kind == DATA) == 65_535


def test_a_client_that_does_not_read_is_cut_off(work: Path) -> None:
    with (
        TestServer(work, stall_s=1) as server,
        GoodClient(server.port) as good,
        RawClient(server.port, {INITIAL_WINDOW_SIZE: 1 << 30}) as client,
    ):
        good.call()
        assert is_connected(server, client.local_port)
        with Watch(server.pid) as watch:
            client.send(window_update(0, 1 << 30) + grpc_call(1, _STREAM, asking_for([100_000] * 1000, 1)))
            while is_connected(server, client.local_port):
                good.call()
                watch.sample()
        good.call()


def test_unsent_bytes_of_a_connection_are_bounded(work: Path) -> None:
    """400 answers of 64 KiB, none of which may leave: 16 MiB wait, the streams beyond are reset."""
    request = _messages["SimpleRequest"](response_size=64 * 1024).SerializeToString()
    with (
        TestServer(work) as server,
        GoodClient(server.port) as good,
        RawClient(server.port, {INITIAL_WINDOW_SIZE: 0}) as client,
    ):
        good.call()
        with Watch(server.pid) as watch:
            for stream_id in range(1, 801, 2):
                client.send(grpc_call(stream_id, _UNARY, request))
            client.ping()
            good.call()
        assert set(resets_of(client).values()) == {ENHANCE_YOUR_CALM}
        waiting = 400 - len(resets_of(client))
        assert waiting == 16 * 1024 * 1024 // (64 * 1024 + 5 + len(b"\x0a\x84\x80\x04\x12\x80\x80\x04"))
        print(f"the server grew by {watch.growth_bytes / 2**20:.1f} MiB")


@pytest.mark.parametrize("beginning", [b"", PREFACE[:10], PREFACE, PREFACE + b"\0\0\6\4\0\0\0\0\0" + b"\0"])
def test_a_preface_must_come_in_time(work: Path, beginning: bytes) -> None:
    with TestServer(work, preface_s=1) as server, RawClient(server.port, preface=False) as client:
        client.send(beginning)
        client.read_to_the_end()
        assert client.goaway is not None
        assert client.goaway.code == PROTOCOL_ERROR


def test_an_idle_client_is_asked_whether_it_is_there(work: Path) -> None:
    with TestServer(work, keepalive_s=0.2, keepalive_answer_s=1) as server, RawClient(server.port) as silent:
        silent.read_to_the_end()
        assert [one.kind for one in silent.frames[-2:]] == [PING, GOAWAY]
        assert silent.frames[-1].code == NO_ERROR


def test_an_idle_client_that_answers_stays(work: Path) -> None:
    with TestServer(work, keepalive_s=0.2, keepalive_answer_s=15) as server, GoodClient(server.port) as client:
        for _ in range(4):
            client.read_until(lambda: any(one.kind == PING for one in client.frames), "the question")
            asked = next(one for one in client.frames if one.kind == PING)
            client.frames.clear()
            client.send(frame(PING, ACK, 0, asked.payload))
        client.call()


def test_a_body_that_stops_half_way_is_cancelled(work: Path) -> None:
    with TestServer(work, body_idle_s=1) as server, RawClient(server.port) as client:
        client.send(headers(1, _UNARY, END_HEADERS) + frame(DATA, 0, 1, b"\0\0\0\0\x09half"))
        assert client.read_answer(1)[-1].code == CANCEL
        client.send(grpc_call(3, _EMPTY))
        assert _STATUS_OK in client.read_answer(3)[-1].payload


def test_connections_are_counted(work: Path) -> None:
    with (
        TestServer(work, connections=3) as server,
        GoodClient(server.port) as first,
        GoodClient(server.port) as second,
        GoodClient(server.port) as third,
    ):
        for client in (first, second, third):
            client.call()
        with RawClient(server.port, preface=False) as fourth:
            fourth.read_to_the_end()
            assert fourth.frames == []
        first.call()
        gone = third.local_port
        third.close()
        wait_until(lambda: not is_connected(server, gone), "the server to see one leave")
        with GoodClient(server.port) as fifth:
            fifth.call()
        second.call()


@pytest.mark.parametrize("plain", [True, False], ids=["literals", "table"])
def test_a_header_list_that_is_too_large_fails_its_call_alone(testservice: TestServer, plain: bool) -> None:
    entered = write_literal(b"x-entered", b"z" * 1000, 0x40)
    large = write_literal(b"x-large", b"z" * 20_000) if plain else write_integer(62, 7, 0x80) * 20
    block = _EMPTY + entered + large
    with RawClient(testservice.port) as client:
        client.send(headers(1, block[:16_000], END_STREAM) + frame(CONTINUATION, END_HEADERS, 1, block[16_000:]))
        answer = client.read_answer(1)
        assert _EXHAUSTED in answer[-1].payload, answer
        # The table is in step: the next call refers to the field that came with the refused one.
        client.send(grpc_call(3, _EMPTY + b"\xbe"))
        assert _STATUS_OK in client.read_answer(3)[-1].payload


def test_lists_that_are_large_again_and_again_run_out_of_credit(testservice: TestServer) -> None:
    """A few hundred bytes of a block can stand for 120 KB of fields, each of which is looked at."""
    with GoodClient(testservice.port) as good, Watch(testservice.pid), RawClient(testservice.port) as client:
        client.send(headers(1, _EMPTY + write_literal(b"x", b"y" * 4000, 0x40)))
        pieces = (
            headers(stream_id, _EMPTY + write_literal(b"n", b"%d" % stream_id) + write_integer(62, 7, 0x80) * 28)
            for stream_id in range(3, 100_003, 2)
        )
        # Time earns credit, so a slow machine reads more of them.
        assert client.flood(pieces) < 50_000
        client.read_to_the_end()
        good.call()


def test_strings_and_heads_that_never_repeat_are_not_kept(testservice: TestServer) -> None:
    """3,000 different Huffman strings, 12 KB each, on four connections."""
    tail = write_huffman(b"a" * 12_000)
    with GoodClient(testservice.port) as good:
        good.call()
        with Watch(testservice.pid) as watch:
            for first in range(4):
                with GoodClient(testservice.port) as client:
                    for number in range(750):
                        # Eight letters of five bits each: whole bytes.
                        start = "".join("012aceio"[number >> 3 * place & 7] for place in range(7)) + "aceo"[first]
                        text = write_huffman(start.encode()) + tail
                        field = b"\x00\x01x" + write_integer(len(text), 7, 0x80) + text
                        client.call_with(_EMPTY + field)
            watch.sample()
        print(f"the server grew by {watch.growth_bytes / 2**20:.1f} MiB")


def test_resets_of_answered_calls_cost_nothing(work: Path) -> None:
    """Some clients end nearly every call so; credit does not grow by time here."""
    with TestServer(work, credit_per_s=0) as server, RawClient(server.port) as client:
        for first in range(1, 20_001, 200):
            ids = range(first, first + 200, 2)
            client.send(b"".join(grpc_call(stream_id, _EMPTY) for stream_id in ids))
            for stream_id in ids:
                assert _STATUS_OK in client.read_answer(stream_id)[-1].payload
            client.frames.clear()
            client.send(b"".join(reset(stream_id) for stream_id in ids))
        client.ping()


def test_a_request_that_is_no_call_is_told_so_with_a_small_window(testservice: TestServer) -> None:
    with RawClient(testservice.port, {INITIAL_WINDOW_SIZE: 1}) as client:
        client.send(headers(1, request_block(b"/")))
        client.read_until(lambda: len(client.of(1)) == 2, "the first byte")
        client.send(window_update(1, 1000))
        answer = client.read_answer(1)
        assert b"415" in answer[0].payload
        assert b"".join(one.payload for one in answer[1:]).startswith(b"this port speaks gRPC")


def test_a_port_that_is_not_greeted_in_http2_closes(testservice: TestServer) -> None:
    with socket.create_connection(("127.0.0.1", testservice.port), timeout=20) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while data := client.recv(4096):
            received += data
    assert b"preface is missing" in received
