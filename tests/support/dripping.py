"""An Ollama server, as far as its streams go, that gives every stream a piece now and then: hundreds cost it little."""

from __future__ import annotations

import asyncio
import json
import threading
from types import TracebackType
from typing import Any

from ollama_proxy.net.draining import drain
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.server import HttpServer

MODEL = "qwen2.5:0.5b"
_DETAILS = {"format": "gguf", "family": "qwen2", "parameter_size": "0.5B", "quantization_level": "Q4_0"}
_LISTED = {"name": MODEL, "model": MODEL, "size": 400_000_000, "digest": "0" * 64, "details": _DETAILS}
_PAGES = {
    b"/api/version": {"version": "0.24.0"},
    b"/api/tags": {"models": [_LISTED]},
    b"/api/ps": {"models": [_LISTED | {"size_vram": 0, "expires_at": "2100-01-01T00:00:00Z"}]},
}
_SSE = b"text/event-stream"


class DrippingOllama:
    """Context manager. A piece of every stream goes out each `every_s`, at first with the request."""

    def __init__(self, every_s: float = 0.2) -> None:
        self._every_s = every_s
        self._streams: list[_Stream] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._run()), name="dripping")
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> DrippingOllama:
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        self._stop = asyncio.Event()
        server = HttpServer(self._handle, lambda exchange, status, message: exchange.respond(status, b"", b""))
        listener = await self._loop.create_server(server.protocol_factory, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        self._ready.set()
        while not self._stop.is_set():
            await asyncio.sleep(self._every_s)
            self._streams = [one for one in self._streams if one.drip()]
        listener.close()
        await drain(server, 0.1)

    def _handle(self, exchange: Exchange) -> None:
        page = _PAGES.get(exchange.path)
        if page is not None:
            exchange.respond(200, b"application/json", json.dumps(page).encode())
            return
        asked = json.loads(exchange.body)
        pieces = asked.get("max_tokens") or asked.get("options", {}).get("num_predict") or 5
        stream = _Stream(exchange, pieces)
        if stream.drip():
            self._streams.append(stream)


class _Stream:
    def __init__(self, exchange: Exchange, pieces: int) -> None:
        self._exchange = exchange
        self._all = self._left = pieces
        self._begin, self._piece, self._end = _WRITTEN[exchange.path]
        exchange.start(200, b"application/x-ndjson" if exchange.path.startswith(b"/api/") else _SSE)
        exchange.write(self._begin)

    def drip(self) -> bool:
        """Whether there is more to come."""
        exchange = self._exchange
        if exchange.gone or exchange.ended:
            return False
        if self._left:
            self._left -= 1
            exchange.write(self._piece)
            return True
        exchange.write(self._end.replace(b"4242", b"%d" % self._all))
        exchange.end()
        return False


def _line(**members: Any) -> bytes:
    found = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z"} | members
    return json.dumps(found, separators=(",", ":")).encode() + b"\n"


def _chunk(**choice: Any) -> bytes:
    document = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: " + json.dumps(document | {"choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


def _event(kind: str, **members: Any) -> bytes:
    found = json.dumps({"type": kind, **members}, separators=(",", ":"))
    return f"event: {kind}\ndata: {found}\n\n".encode()


_DONE: dict[str, Any] = {"done": True, "done_reason": "stop", "prompt_eval_count": 1, "eval_count": 4242}
_TEXT = {"role": "assistant", "content": "a "}
_MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": MODEL, "content": []}
#: By path: what a stream begins with, a piece, the end.
_WRITTEN = {
    b"/api/chat": (b"", _line(message=_TEXT, done=False), _line(message=_TEXT | {"content": ""}, **_DONE)),
    b"/api/generate": (b"", _line(response="a ", done=False), _line(response="", **_DONE)),
    b"/v1/chat/completions": (
        b"",
        _chunk(delta=_TEXT, finish_reason=None),
        _chunk(delta={}, finish_reason="stop") + b"data: [DONE]\n\n",
    ),
    b"/v1/messages": (
        _event("message_start", message=_MESSAGE | {"usage": {"input_tokens": 1, "output_tokens": 0}})
        + _event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        _event("content_block_delta", index=0, delta={"type": "text_delta", "text": "a "}),
        _event("content_block_stop", index=0)
        + _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 4242})
        + _event("message_stop"),
    ),
}
