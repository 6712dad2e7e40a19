"""Answers of OpenAI's API: event streams and whole objects."""

from __future__ import annotations

import base64 as base64_codec
import re
import secrets
import struct
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from ollama_proxy.api.openai.errors import error_document, missing_model, write_error
from ollama_proxy.api.openai.logprobs import LegacyLogprobs
from ollama_proxy.domain.answer import (
    AnswerEvent,
    Embeddings,
    Outcome,
    Progress,
    Route,
    TextDelta,
    ThinkingDelta,
    ToolCall,
)
from ollama_proxy.domain.call import Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.http_answer import Gathered
from ollama_proxy.net.lanes.framing import event_data

_JSON = b"application/json"
_encode = msgspec.json.Encoder().encode
#: Reasons that are told as they are; every other one is `stop` to OpenAI's clients.
_REASONS = ("length", "content_filter")
#: Only the chunk with the usage of a stream is without any.
_NO_CHOICES = re.compile(rb'"choices":\s*\[\s*\]')


class _Head(msgspec.Struct):
    """What all chunks of a stream have in common."""

    id: str = ""
    created: int = 0
    model: str = ""
    system_fingerprint: str | None = None


_heads = msgspec.json.Decoder(_Head)


class OpenAiWriter:
    """One answer of chat completions, completions or embeddings.

    Reasoning goes out as `reasoning`, as Ollama's own layer writes it, and not a second time as `reasoning_content`:
    clients that know both names would show it twice.
    """

    def __init__(
        self,
        model: str,
        operation: Operation,
        request_id: str,
        *,
        stream: bool,
        with_usage: bool = False,
        base64: bool = False,
    ) -> None:
        self.stream = stream
        self._model = model
        self._chat = operation is Operation.CHAT
        self._embed = operation is Operation.EMBED
        self._id = ("chatcmpl-" if self._chat else "cmpl-") + request_id
        self._created = int(time.time())
        self._fingerprint = "fp_ollama"
        self._with_usage = with_usage
        self._base64 = base64
        self._begun = False
        #: Whether a backend that wrote the stream so far has told the reason of its end, and the usage.
        self._has_reason = self._has_usage = False
        self._called = False
        self._gathered = Gathered()
        self._logprobs: list[Any] = []
        self._legacy = LegacyLogprobs()
        #: What stands around the text in a chunk that has nothing else; made when the first is written.
        self._around_text: tuple[bytes, bytes] | None = None

    def content_type(self) -> bytes:
        return b"text/event-stream" if self.stream else _JSON

    def routed(self, route: Route) -> None:
        # Answers of one seed are alike only from one backend, which is what this member is there to tell.
        self._fingerprint = f"fp_{route.backend}"
        if route.stand_in:
            self._model = route.model

    def write_events(self, events: Sequence[AnswerEvent]) -> bytes:
        if not self.stream:
            self._gather(events)
            return b""
        pieces = [self._event(event) for event in events]
        if not self._begun:
            pieces.insert(0, self._first())
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _gather(self, events: Sequence[AnswerEvent]) -> None:
        self._gathered.add(events)
        for event in events:
            if isinstance(event, TextDelta) and event.logprobs:
                self._logprobs += event.logprobs

    def _first(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._chunk({"role": "assistant", "content": ""}) if self._chat else b""

    def _event(self, event: AnswerEvent) -> bytes:
        match event:
            case TextDelta(text, logprobs):
                if logprobs:
                    return self._chunk({"content": text}, logprobs=logprobs)
                around = self._around_text or self._cut_chunk()
                return b"%b%b%b" % (around[0], _encode(text), around[1])
            case ThinkingDelta(text):
                return self._chunk({"reasoning": text}) if self._chat and text else b""
            case ToolCall():
                self._called = True
                return self._chunk({"tool_calls": [_tool_call(event)]})
            case Embeddings():
                return b""

    def _cut_chunk(self) -> tuple[bytes, bytes]:
        before, _, after = self._chunk({"content": ""}).rpartition(b'""')
        self._around_text = before, after
        return before, after

    def _chunk(self, delta: dict[str, Any], reason: str | None = None, logprobs: Sequence[Any] = ()) -> bytes:
        choice: dict[str, Any] = {"index": 0}
        if self._chat:
            choice["delta"] = delta
        else:
            choice["text"] = delta.get("content", "")
        if logprobs:
            choice["logprobs"] = self._write_logprobs(logprobs)
        choice["finish_reason"] = reason
        return self._data({**self._head(), "choices": [choice]})

    def _write_logprobs(self, logprobs: Sequence[Any]) -> dict[str, Any]:
        return {"content": list(logprobs)} if self._chat else self._legacy.write(logprobs)

    def _head(self) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if self.stream else "chat.completion") if self._chat else "text_completion"
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": self._fingerprint,
        }

    @staticmethod
    def _data(document: dict[str, Any]) -> bytes:
        return b"data: %b\n\n" % msgspec.json.encode(document)

    def take_over(self, progress: Progress) -> None:
        self._begun = True
        self._has_reason = progress.finished is not None
        self._has_usage = _NO_CHOICES.search(progress.last) is not None
        # It stands in each chunk, and has to be made anew of what is read now.
        self._around_text = None
        try:
            head = _heads.decode(next(iter(event_data(progress.first)), b"{}"))
        except UNREADABLE:
            return
        self._id, self._created = head.id or self._id, head.created or self._created
        self._fingerprint = head.system_fingerprint or self._fingerprint
        self._model = head.model or self._model

    def ends_whole(self, outcome: Outcome) -> bool:
        return not self.stream

    def write_end(self, outcome: Outcome) -> bytes:
        if self._embed:
            return self._embedded(outcome)
        reason = self._reason(outcome)
        if not self.stream:
            return self._whole(reason, outcome)
        parts = [self._first(), b"" if self._has_reason else self._chunk({}, reason)]
        if self._with_usage and not self._has_usage:
            usage = _usage(outcome)
            if usage:
                parts.append(self._data({**self._head(), "choices": [], "usage": usage}))
        parts.append(b"data: [DONE]\n\n")
        return b"".join(parts)

    def _reason(self, outcome: Outcome) -> str:
        reason = outcome.finished.reason
        if reason in _REASONS:
            return reason
        # Some servers say `stop` behind a call; clients look for it only when told to.
        return "tool_calls" if self._called or self._gathered.calls else "stop"

    def _whole(self, reason: str, outcome: Outcome) -> bytes:
        text = "".join(self._gathered.text)
        choice: dict[str, Any] = {"index": 0}
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if self._gathered.thinking:
                message["reasoning"] = "".join(self._gathered.thinking)
            if self._gathered.calls:
                message["tool_calls"] = [_tool_call(call) for call in self._gathered.calls]
            choice["message"] = message
        else:
            choice["text"] = text
        if self._logprobs:
            choice["logprobs"] = self._write_logprobs(self._logprobs)
        choice["finish_reason"] = reason
        return msgspec.json.encode({**self._head(), "choices": [choice], "usage": _usage(outcome)}) + b"\n"

    def _embedded(self, outcome: Outcome) -> bytes:
        data = [
            {"object": "embedding", "embedding": self._vector(vector), "index": index}
            for index, vector in enumerate(self._gathered.vectors)
        ]
        tokens = outcome.finished.usage.prompt_tokens or 0
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return msgspec.json.encode({"object": "list", "data": data, "model": self._model, "usage": usage}) + b"\n"

    def _vector(self, vector: tuple[float, ...]) -> Any:
        if not self._base64:
            return vector
        return base64_codec.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")

    def write_error_event(self, error: ProxyError) -> bytes:
        return b"data: %b\n\n" % error_document(error, error.kind.http_status)

    def write_error(self, error: ProxyError) -> tuple[int, bytes, bytes]:
        if error.kind is ErrorKind.MODEL_NOT_FOUND and self._model:
            # Which backends lack it is told by no header of Ollama's, and its clients compare the sentence.
            error = missing_model(self._model, embed=self._embed)
        return write_error(error)


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    # The result of a call names its id, so there has to be one.
    ident = call.id or f"call_{secrets.token_hex(4)}"
    return {"index": call.index, "id": ident, "type": "function", "function": function}


def _usage(outcome: Outcome) -> dict[str, Any]:
    usage = outcome.finished.usage
    prompt, output = usage.prompt_tokens or 0, usage.output_tokens or 0
    found: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}
    if usage.is_partial:
        # The server broke off before it told them: absent, not zero.
        known = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.output_tokens}
        found = {name: value for name, value in known.items() if value is not None}
    if usage.cached_tokens is not None:
        found["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    return found
