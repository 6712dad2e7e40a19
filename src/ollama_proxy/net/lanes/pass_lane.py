"""The pass lane: an answer of any kind to a request that nobody here can read, handed on as it came."""

from __future__ import annotations

from ollama_proxy.domain.answer import Finished
from ollama_proxy.domain.call import Call
from ollama_proxy.net.bodies.model_name import body_for
from ollama_proxy.net.bodies.multipart import read_boundary, with_field
from ollama_proxy.net.endings.openai import read_openai_body
from ollama_proxy.net.lanes.upstream import HttpAttempt

#: JSON, and whatever says its length, is held until it is whole up to this size: a cut can then be mended elsewhere.
_MAX_HELD_BYTES = 8 * 1024 * 1024


def passed_body(call: Call, model: str) -> bytes:
    """The body of such a request, JSON or a form, asking for `model`."""
    raw = call.raw
    assert raw is not None
    content_type = dict(raw.head.headers).get(b"content-type", b"")
    if (call.named and model == call.model) or content_type[:10].lower() != b"multipart/":
        return body_for(call, model)
    return with_field(raw.body, read_boundary(content_type), b"model", model.encode())


class PassAttempt(HttpAttempt):
    """One attempt whose answer ends where its framing says so: sound, pictures, JSON without an end marker."""

    _held: list[bytes] | None = None
    _held_size = 0
    _length: int | None = None

    def on_chunk(self, chunk: bytes, begin: int) -> None:
        self.on_body(chunk[begin:-2])

    def _begin(self, length: bytes) -> None:
        self._length = int(length) if length.isdigit() else None
        if self._content_type.startswith(b"application/json") or (self._length or _MAX_HELD_BYTES) < _MAX_HELD_BYTES:
            self._held = []
        else:
            self._owner.on_head(self._status, self._content_type, self._length)

    def _take(self, data: bytes) -> None:
        held = self._held
        if held is None:
            self._owner.on_raw(data)
            return
        held.append(data)
        self._held_size += len(data)
        if self._held_size > _MAX_HELD_BYTES:
            self._held = None
            self._owner.on_head(self._status, self._content_type, self._length)
            self._owner.on_raw(b"".join(held))

    def _end(self) -> None:
        self._over = True
        if self._held is None:
            self._owner.on_end(Finished())
            return
        body = b"".join(self._held)
        json = self._content_type.startswith(b"application/json")
        finished = read_openai_body(body) if json else None
        self._owner.on_whole(self._status, self._content_type, body, finished or Finished())
