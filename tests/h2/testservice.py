"""A test-only `grpc.testing.TestService` on our gRPC server, as a process: what gRPC's interoperability clients call.

python -m tests.h2.testservice PORT [limits as JSON]
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

from ollama_proxy.net.draining import drain
from ollama_proxy.net.grpc.call import GrpcCall
from ollama_proxy.net.grpc.server import GrpcMethod, GrpcServer
from ollama_proxy.net.http2.limits import Http2Limits

SERVICE = "grpc.testing.TestService"
_HERE = Path(__file__).parent
_ECHOED_FIRST = "x-grpc-test-echo-initial"
_ECHOED_LAST = "x-grpc-test-echo-trailing-bin"


def load_messages() -> dict[str, Any]:
    """The message classes by their short names."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        code = protoc.main(["", f"-I{_HERE}", f"--descriptor_set_out={out}", str(_HERE / "testing.proto")])
        assert code == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    classes = message_factory.GetMessageClassesForFiles([file.name for file in files.file], pool)
    return {name.rpartition(".")[2]: kind for name, kind in classes.items()}


_messages = load_messages()


class _Answer:
    """What one call answers: pieces in their order, each after its interval, then the status."""

    def __init__(self, call: GrpcCall) -> None:
        self._call = call
        self._waiting: deque[tuple[int, float]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._ended = self._paused = False
        self._trailers: list[tuple[str, str | bytes]] = []
        call.on_cancel = self._stop
        call.on_pause = partial(self._set_paused, True)
        call.on_resume = partial(self._set_paused, False)
        for name, value in call.metadata:
            if name == _ECHOED_FIRST:
                call.send_initial_metadata(((name, str(value)),))
            elif name == _ECHOED_LAST:
                self._trailers.append((name, value))

    def add(self, request: Any) -> None:
        """The pieces that a request asks for, or the status it wants."""
        if request.response_status.code:
            self._waiting.clear()
            self.finish(request.response_status.code, request.response_status.message)
            return
        self._waiting.extend((part.size, part.interval_us / 1e6) for part in request.response_parameters)
        self._go_on()

    def end(self) -> None:
        """Nothing more will be asked for."""
        self._ended = True
        self._go_on()

    def send(self, message: Any) -> None:
        """One message and the end."""
        self._call.send_message(message.SerializeToString())
        self.finish()

    def finish(self, code: int = 0, message: str = "") -> None:
        self._stop()
        self._call.finish(code, message, self._trailers)

    def _go_on(self) -> None:
        while self._timer is None and not self._paused and not self._call.finished:
            if not self._waiting:
                if self._ended:
                    self.finish()
                return
            size, interval_s = self._waiting.popleft()
            if interval_s:
                self._timer = asyncio.get_running_loop().call_later(interval_s, self._send_late, size)
            else:
                self._send(size)

    def _send_late(self, size: int) -> None:
        self._timer = None
        self._send(size)
        self._go_on()

    def _send(self, size: int) -> None:
        answer = _messages["StreamingOutputCallResponse"]()
        answer.payload.body = bytes(size)
        self._call.send_message(answer.SerializeToString())

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused
        self._go_on()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _answer_empty(call: GrpcCall, message: bytes) -> None:
    _messages["Empty"].FromString(message)
    _Answer(call).send(_messages["Empty"]())


def _answer_unary(call: GrpcCall, message: bytes) -> None:
    request = _messages["SimpleRequest"].FromString(message)
    answer = _Answer(call)
    if request.response_status.code:
        answer.finish(request.response_status.code, request.response_status.message)
        return
    response = _messages["SimpleResponse"]()
    response.payload.body = bytes(request.response_size)
    answer.send(response)


def _stream_out(call: GrpcCall, message: bytes) -> None:
    answer = _Answer(call)
    answer.add(_messages["StreamingOutputCallRequest"].FromString(message))
    answer.end()


def _stream_in(call: GrpcCall) -> None:
    answer = _Answer(call)
    response = _messages["StreamingInputCallResponse"]()

    def count(message: bytes) -> None:
        response.aggregated_payload_size += len(_messages["StreamingInputCallRequest"].FromString(message).payload.body)

    call.on_message = count
    call.on_half_close = lambda: answer.send(response)


def _converse(call: GrpcCall, *, at_the_end: bool) -> None:
    """Both directions at once; half duplex answers only when everything was asked."""
    answer = _Answer(call)
    kept: list[Any] = []

    def take(message: bytes) -> None:
        request = _messages["StreamingOutputCallRequest"].FromString(message)
        if at_the_end:
            kept.append(request)
        else:
            answer.add(request)

    def end() -> None:
        for request in kept:
            answer.add(request)
        answer.end()

    call.on_message = take
    call.on_half_close = end


METHODS = {
    "EmptyCall": GrpcMethod(_answer_empty),
    "UnaryCall": GrpcMethod(_answer_unary),
    "CacheableUnaryCall": GrpcMethod(_answer_unary),
    "StreamingOutputCall": GrpcMethod(_stream_out, server_streaming=True),
    "StreamingInputCall": GrpcMethod(_stream_in, client_streaming=True),
    "FullDuplexCall": GrpcMethod(partial(_converse, at_the_end=False), client_streaming=True, server_streaming=True),
    "HalfDuplexCall": GrpcMethod(partial(_converse, at_the_end=True), client_streaming=True, server_streaming=True),
}


def build_server(limits: Http2Limits | None = None) -> GrpcServer:
    """The service, ready to listen."""
    return GrpcServer({f"/{SERVICE}/{name}": method for name, method in METHODS.items()}, (), limits)


async def _serve(port: int, limits: Http2Limits | None) -> None:
    loop = asyncio.get_running_loop()
    server = build_server(limits)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    listener = await loop.create_server(server.protocol_factory, "127.0.0.1", port)
    print("listening", flush=True)
    while not stopped.is_set():
        server.sweep(loop.time())
        try:
            await asyncio.wait_for(stopped.wait(), 0.1)
        except TimeoutError:
            continue
    listener.close()
    await drain(server, 1.0)


if __name__ == "__main__":
    given = msgspec.json.decode(sys.argv[2], type=Http2Limits) if len(sys.argv) > 2 else None
    uvloop.run(_serve(int(sys.argv[1]), given))
