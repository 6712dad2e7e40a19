"""The gRPC port carries calls to callback handlers, seen through the foreign client of `grpcio`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
import pytest

from ollama_proxy.net.draining import drain
from ollama_proxy.net.grpc.call import GrpcCall, GrpcMethod, UnaryHandler
from tests.support.grpc_server import serve_grpc

MEBIBYTE = 1024 * 1024
WAIT_S = 20.0
Test = Callable[[grpc.aio.Channel], Awaitable[None]]


def serve(
    test: Test, unary: Mapping[str, UnaryHandler] | None = None, streams: Mapping[str, UnaryHandler] | None = None
) -> None:
    """Run `test` with a channel to a server that has these handlers."""

    methods = {path: GrpcMethod(handler) for path, handler in (unary or {}).items()}
    methods |= {path: GrpcMethod(handler, server_streaming=True) for path, handler in (streams or {}).items()}

    async def run() -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        async with (
            serve_grpc(methods) as (_, port),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel,
        ):
            await asyncio.wait_for(test(channel), WAIT_S)

    asyncio.run(run())


async def refused(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """The error that a call must end with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def answer_length(call: GrpcCall, message: bytes) -> None:
    call.send_message(str(len(message)).encode())
    call.finish()


def test_a_unary_call_has_both_kinds_of_metadata() -> None:
    def handle(call: GrpcCall, message: bytes) -> None:
        call.send_initial_metadata((("first", "1"),))
        call.send_message(message[::-1])
        call.finish(trailers=(("last", "2"),))

    async def test(channel: grpc.aio.Channel) -> None:
        call = channel.unary_unary("/t/T")(b"abc")
        assert await call == b"cba"
        assert ("first", "1") in tuple(await call.initial_metadata())
        assert ("last", "2") in tuple(await call.trailing_metadata())

    serve(test, {"/t/T": handle})


def test_a_handler_may_answer_later() -> None:
    def handle(call: GrpcCall, message: bytes) -> None:
        def answer() -> None:
            call.send_message(message)
            call.finish()

        asyncio.get_running_loop().call_soon(answer)

    async def test(channel: grpc.aio.Channel) -> None:
        assert await channel.unary_unary("/t/T")(b"late") == b"late"

    serve(test, {"/t/T": handle})


def test_metadata_arrives_in_order_with_binary_values_decoded() -> None:
    seen: list[tuple[str, str | bytes]] = []

    def handle(call: GrpcCall, message: bytes) -> None:
        seen.extend(call.metadata)
        answer_length(call, message)

    async def test(channel: grpc.aio.Channel) -> None:
        pairs = (("a", "1"), ("key-bin", b"\x00\xff"), ("a", "2"))
        await channel.unary_unary("/t/T")(b"", metadata=pairs, timeout=WAIT_S)
        assert [value for name, value in seen if name == "a"] == ["1", "2"]
        assert [value for name, value in seen if name == "key-bin"] == [b"\x00\xff"]
        assert not [name for name, _ in seen if name.startswith("grpc-")]

    serve(test, {"/t/T": handle})


@pytest.mark.parametrize("message", ["plain", "naïve 100 %", "two\nlines", "", "日本"])
def test_status_texts_survive_the_wire(message: str) -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        error = await refused(channel.unary_unary("/t/T")(b""))
        assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, message)
        assert ("why", "x") in tuple(error.trailing_metadata())

    serve(test, {"/t/T": lambda call, _: call.finish(9, message, (("why", "x"),))})


@pytest.mark.parametrize("code", range(1, 17))
def test_every_code_arrives(code: int) -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        assert (await refused(channel.unary_unary("/t/T")(b""))).code().value[0] == code
        stream = channel.unary_stream("/t/S")(b"")
        assert (await refused(stream.read())).code().value[0] == code

    def handle(call: GrpcCall, message: bytes) -> None:
        call.finish(code, "no")

    serve(test, {"/t/T": handle}, {"/t/S": handle})


def test_a_handlers_exception_is_internal_without_its_text() -> None:
    def handle(call: GrpcCall, message: bytes) -> None:
        raise RuntimeError("secret")

    async def test(channel: grpc.aio.Channel) -> None:
        for error in (
            await refused(channel.unary_unary("/t/T")(b"")),
            await refused(channel.unary_stream("/t/S")(b"").read()),
        ):
            assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error")

    serve(test, {"/t/T": handle}, {"/t/S": handle})


def test_an_unknown_path_is_unimplemented() -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        assert (await refused(channel.unary_unary("/t/Nobody")(b""))).code() is grpc.StatusCode.UNIMPLEMENTED

    serve(test, {"/t/T": answer_length})


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_message_may_have_four_mebibytes_and_not_one_more(compression: grpc.Compression) -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        method = channel.unary_unary("/t/T")
        assert await method(bytes(4 * MEBIBYTE), compression=compression) == str(4 * MEBIBYTE).encode()
        error = await refused(method(bytes(4 * MEBIBYTE + 1), compression=compression))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await method(b"next", compression=compression) == b"4"

    serve(test, {"/t/T": answer_length})


def test_a_stream_sends_all_its_messages_in_order_then_its_trailers() -> None:
    count = 500

    def handle(call: GrpcCall, message: bytes) -> None:
        call.send_initial_metadata((("first", "1"),))
        for number in range(count):
            call.send_message(str(number).encode())
        call.finish(trailers=(("last", "2"),))

    async def test(channel: grpc.aio.Channel) -> None:
        call = channel.unary_stream("/t/S")(b"")
        assert [message async for message in call] == [str(number).encode() for number in range(count)]
        assert ("first", "1") in tuple(await call.initial_metadata())
        assert ("last", "2") in tuple(await call.trailing_metadata())

    serve(test, streams={"/t/S": handle})


def test_messages_sent_before_an_error_arrive_before_it() -> None:
    def handle(call: GrpcCall, message: bytes) -> None:
        call.send_message(b"one")
        call.finish(14, "cut")

    async def test(channel: grpc.aio.Channel) -> None:
        call = channel.unary_stream("/t/S")(b"")
        assert await call.read() == b"one"
        assert (await refused(call.read())).details() == "cut"

    serve(test, streams={"/t/S": handle})


def silent(gone: asyncio.Event) -> UnaryHandler:
    """A handler that sends one message where it may, and then waits for the client to leave."""

    def handle(call: GrpcCall, message: bytes) -> None:
        call.on_cancel = gone.set
        if message:
            call.send_message(message)

    return handle


@pytest.mark.parametrize("path", ["/t/T", "/t/S"])
def test_a_deadline_ends_the_call_and_tells_the_handler(path: str) -> None:
    gone = asyncio.Event()

    async def test(channel: grpc.aio.Channel) -> None:
        if path == "/t/T":
            error = await refused(channel.unary_unary(path)(b"", timeout=0.1))
        else:
            error = await refused(channel.unary_stream(path)(b"", timeout=0.1).read())
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await gone.wait()

    serve(test, {"/t/T": silent(gone)}, {"/t/S": silent(gone)})


def test_a_client_that_cancels_is_told_to_the_handler() -> None:
    gone = asyncio.Event()

    async def test(channel: grpc.aio.Channel) -> None:
        call = channel.unary_stream("/t/S")(b"one")
        assert await call.read() == b"one"
        call.cancel()
        await gone.wait()

    serve(test, streams={"/t/S": silent(gone)})


def test_a_lost_connection_is_told_to_the_handler() -> None:
    gone = asyncio.Event()

    async def run() -> None:
        async with serve_grpc({"/t/S": GrpcMethod(silent(gone), server_streaming=True)}) as (_, port):
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
            assert await channel.unary_stream("/t/S")(b"one").read() == b"one"
            await channel.close()
            await asyncio.wait_for(gone.wait(), WAIT_S)

    asyncio.run(run())


def test_a_server_that_stops_tells_the_handlers_it_cuts_off() -> None:
    gone = asyncio.Event()

    async def run() -> None:
        async with (
            serve_grpc({"/t/S": GrpcMethod(silent(gone), server_streaming=True)}) as (server, port),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            call = channel.unary_stream("/t/S")(b"one")
            assert await call.read() == b"one"
            await drain(server, 0)
            await asyncio.wait_for(gone.wait(), WAIT_S)

    asyncio.run(run())


def test_nobody_is_cancelled_after_finishing() -> None:
    cancelled: list[GrpcCall] = []

    def handle(call: GrpcCall, message: bytes) -> None:
        call.on_cancel = lambda: cancelled.append(call)
        answer_length(call, message)

    async def test(channel: grpc.aio.Channel) -> None:
        for _ in range(20):
            await channel.unary_unary("/t/T")(b"", timeout=WAIT_S)

    serve(test, {"/t/T": handle})
    assert not cancelled


def test_a_producer_is_paused_while_its_client_does_not_read_and_resumed_after() -> None:
    piece = bytes(64 * 1024)
    events: list[str] = []

    class Producer:
        def __init__(self, call: GrpcCall) -> None:
            self.call, self.sent, self.going, self.paused = call, 0, True, asyncio.Event()
            call.on_pause, call.on_resume = self.pause, self.resume

        def pause(self) -> None:
            events.append("pause")
            self.going = False
            self.paused.set()

        def resume(self) -> None:
            events.append("resume")
            self.going = True
            self.go_on()

        def go_on(self) -> None:
            while self.going and self.sent < 400:
                self.sent += 1
                self.call.send_message(piece)
            if self.sent == 400 and not self.call.finished:
                self.call.finish()

    producers: list[Producer] = []

    def handle(call: GrpcCall, message: bytes) -> None:
        producers.append(Producer(call))
        asyncio.get_running_loop().call_soon(producers[0].go_on)

    async def test(channel: grpc.aio.Channel) -> None:
        messages = aiter(channel.unary_stream("/t/S")(b""))
        assert await anext(messages) == piece
        await producers[0].paused.wait()
        assert [len(message) async for message in messages] == [len(piece)] * 399

    serve(test, streams={"/t/S": handle})
    assert events[:2] == ["pause", "resume"]
    # The last piece may pause it as well, and what has ended is not resumed.
    assert events == (["pause", "resume"] * len(events))[: len(events)]


def test_health_is_answered() -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x01"

    serve(test)


def test_health_of_an_unknown_service_is_not_found() -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        error = await refused(channel.unary_unary("/grpc.health.v1.Health/Check")(b"\x0a\x04nope"))
        assert error.code() is grpc.StatusCode.NOT_FOUND

    serve(test)


def test_a_long_status_text_keeps_its_code() -> None:
    async def test(channel: grpc.aio.Channel) -> None:
        assert (await refused(channel.unary_unary("/t/T")(b""))).code() is grpc.StatusCode.UNAVAILABLE

    serve(test, {"/t/T": lambda call, _: call.finish(14, "m" * 20_000)})


def test_who_watches_the_health_is_told_of_the_end_and_let_go() -> None:
    async def test() -> None:
        async with serve_grpc({}) as (server, port), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
            one, unknown = watch(b""), watch(b"\x0a\x04nope")
            assert await one.read() == b"\x08\x01"
            assert await unknown.read() == b"\x08\x03"
            server.calls.health.leave()
            assert await one.read() == b"\x08\x02"
            assert await one.code() is grpc.StatusCode.UNAVAILABLE
            late = watch(b"")
            assert await late.read() == b"\x08\x02"
            assert await late.code() is grpc.StatusCode.UNAVAILABLE
            assert await channel.unary_unary("/grpc.health.v1.Health/Check")(b"") == b"\x08\x02"

    asyncio.run(test())
