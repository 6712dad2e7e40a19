"""The gRPC port on `grpc.aio`: carries calls to callback handlers.

One task a call is the library's way; the queue between the callbacks and that task is bounded by pausing the producer.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

# Read when grpc is imported. The embedded model's child process is started without grpc in it.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio

from ollama_proxy.net.grpc.call import Metadata, UnaryHandler
from ollama_proxy.net.grpc.health import HEALTH_METHODS
from ollama_proxy.net.grpc.reflection import REFLECTION_METHODS, Reflection

_log = logging.getLogger(__name__)
_CODES = {code.value[0]: code for code in grpc.StatusCode}
_HIGH_MESSAGES = 64
_MAX_DETAIL_BYTES = 2048
_MAX_MESSAGE_BYTES = 4 * 1024 * 1024
#: How long cancelled calls get to unwind when the server stops.
_UNWIND_S = 1.0


class GrpcServer:
    """Listens on one address. `methods` are unary or server-streaming handlers by path."""

    def __init__(
        self, methods: Mapping[str, UnaryHandler], streaming: frozenset[str], reflected: Sequence[str]
    ) -> None:
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
                ("grpc.keepalive_permit_without_calls", 1),
            ]
        )
        self._server.add_generic_rpc_handlers((_Methods(methods, streaming, Reflection(reflected)),))

    async def start(self, host: str, port: int) -> int:
        """Bind and serve; returns the port. Raises `OSError` when the address is taken."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound: int = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"address {address} cannot be bound") from error
        await self._server.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let running ones end, cancel the rest."""
        await self._server.stop(grace_s)
        await self._server.wait_for_termination(_UNWIND_S)


class _Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Finds the handler of a path."""

    def __init__(self, methods: Mapping[str, UnaryHandler], streaming: frozenset[str], reflection: Reflection) -> None:
        self._handlers: dict[str, Any] = {}
        for path, handler in methods.items():
            if path in streaming:
                self._handlers[path] = grpc.unary_stream_rpc_method_handler(_stream(handler))
            else:
                self._handlers[path] = grpc.unary_unary_rpc_method_handler(_unary(handler))
        for path in REFLECTION_METHODS:
            self._handlers[path] = grpc.stream_stream_rpc_method_handler(_reflect(reflection))
        for path, handler in HEALTH_METHODS.items():
            self._handlers[path] = grpc.unary_unary_rpc_method_handler(_unary(handler))

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method)


class _AioCall:
    """A `GrpcCall` over a `grpc.aio` context: events are queued for the one task that may await."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.metadata: Metadata = [(name, value) for name, value in context.invocation_metadata() or ()]
        self.on_cancel: Callable[[], None] | None = None
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.cancelled = False
        self.finished = False
        self._initial: Sequence[tuple[str, str]] | None = None
        self._messages: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._paused = False
        self.status: tuple[int, str, Sequence[tuple[str, str]]] = (0, "", ())

    def send_initial_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._initial = metadata
        self._wake.set()

    def send_message(self, message: bytes) -> None:
        self._messages.append(message)
        self._wake.set()
        if not self._paused and len(self._messages) >= _HIGH_MESSAGES and self.on_pause is not None:
            self._paused = True
            self.on_pause()

    def finish(self, code: int = 0, message: str = "", trailers: Sequence[tuple[str, str]] = ()) -> None:
        self.finished = True
        self.status = (code, message, trailers)
        self._wake.set()

    async def pump(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Send what comes until the handler has finished; the client's leaving arrives as cancellation."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._initial is not None:
                    initial, self._initial = self._initial, None
                    await self._context.send_initial_metadata(tuple(initial))
                while self._messages:
                    await write(self._messages.popleft())
                self._go_on()
                if self.finished and not self._messages:
                    return
        except asyncio.CancelledError:
            self.cancel()
            raise
        except Exception:  # noqa: BLE001  # the root of a call: its work must stop and its text must not get out
            _log.exception("gRPC call failed")
            self.cancel()
            self.status = (grpc.StatusCode.INTERNAL.value[0], "internal error", ())

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            if self.on_resume is not None:
                self.on_resume()

    def cancel(self) -> None:
        """The client has gone."""
        callback, self.on_cancel = self.on_cancel, None
        self.cancelled = True
        if callback is not None and not self.finished:
            callback()

    def apply_status(self) -> None:
        """Put code, text and trailers into the context."""
        code, message, trailers = self.status
        self._context.set_code(_CODES[code])
        # Clients drop the whole answer when its status text is longer than they like a header to be.
        cut = message.encode("utf-8", "replace")[:_MAX_DETAIL_BYTES]
        self._context.set_details(cut.decode("utf-8", "ignore"))
        self._context.set_trailing_metadata(tuple(trailers))


def _begin(handler: UnaryHandler, request: bytes, context: Any) -> _AioCall:
    call = _AioCall(context)
    try:
        handler(call, request)
    except Exception:  # noqa: BLE001  # the root of a call: the client must never see our exception's text
        _log.exception("gRPC handler failed")
        call.finish(grpc.StatusCode.INTERNAL.value[0], "internal error")
    return call


def _unary(handler: UnaryHandler) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def run(request: bytes, context: Any) -> bytes:
        answers: list[bytes] = []

        async def keep(message: bytes) -> None:
            answers.append(message)

        call = _begin(handler, request, context)
        await call.pump(keep)
        call.apply_status()
        return answers[0] if answers else b""

    return run


def _stream(handler: UnaryHandler) -> Callable[[bytes, Any], Awaitable[None]]:
    async def run(request: bytes, context: Any) -> None:
        call = _begin(handler, request, context)
        await call.pump(context.write)
        call.apply_status()

    return run


def _reflect(reflection: Reflection) -> Callable[[Any, Any], Awaitable[None]]:
    async def run(requests: Any, context: Any) -> None:
        async for request in requests:
            await context.write(reflection.answer(request))

    return run
