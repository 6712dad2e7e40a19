"""Upstreams that speak Ollama's API.

Ollama clients pass on the fast lane; so do OpenAI clients, through Ollama's own `/v1`, unless they ask for something
which that layer silently drops. Everything else goes through the native routes, which are the only ones that report an
end, real token counts and durations.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Finished, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation, Need, Operation, Sampling
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Attempt, AttemptSink, ProbeError, ProbeReport
from ollama_proxy.net.endings import read_ollama_body, read_ollama_tail, read_openai_body, read_openai_tail
from ollama_proxy.net.framing import LineBuffer
from ollama_proxy.net.http1.client import OriginPool
from ollama_proxy.net.http1.fetch import Fetched, FetchError, fetch
from ollama_proxy.net.upstream import (
    DecodedAttempt,
    DecodeError,
    RawAttempt,
    UpstreamError,
    join_request,
    request_head,
)

CAPABILITIES = frozenset(Need)
_JSON = ((b"Content-Type", b"application/json"),)


class OllamaBackend:
    """One Ollama server."""

    def __init__(self, spec: BackendSpec, pool: OriginPool, prefix: str = "") -> None:
        self.spec = spec
        self.capabilities = CAPABILITIES
        self._pool = pool
        self._prefix = prefix.encode("ascii")
        self._heads: dict[tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...]], bytes] = {}

    def open(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        """Send the call on the lane that fits."""
        raw = call.raw
        if raw is not None and call.dialect is Dialect.OLLAMA:
            head = self._head(raw.method, raw.path, raw.headers)
            attempt = RawAttempt(sink, read_ollama_body, read_ollama_tail)
            return attempt.send(self._pool, join_request(head, raw.body))
        if raw is not None and call.dialect is Dialect.OPENAI and not call.raw_needs_native:
            head = self._head(raw.method, raw.path, raw.headers)
            return RawAttempt(sink, read_openai_body, read_openai_tail).send(self._pool, join_request(head, raw.body))
        path, document = encode_request(call, model)
        decoder = _EmbedDecoder() if call.operation is Operation.EMBED else _AnswerDecoder()
        request = join_request(self._head(b"POST", path, _JSON), msgspec.json.encode(document))
        return DecodedAttempt(sink, decoder).send(self._pool, request)

    def _head(self, method: bytes, path: bytes, headers: tuple[tuple[bytes, bytes], ...]) -> bytes:
        key = (method, path, headers)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) > 256:
                self._heads.clear()
            head = self._heads[key] = request_head(self._pool.origin, method, self._prefix + path, headers)
        return head

    async def probe(self, timeout_s: float) -> ProbeReport:
        """Version, installed and loaded models."""
        try:
            async with asyncio.timeout(timeout_s):
                tags = await self._get(b"/api/tags", timeout_s)
                loaded = await self._get(b"/api/ps", timeout_s)
                version = await self._get(b"/api/version", timeout_s)
        except TimeoutError:
            raise ProbeError(f"timeout after {timeout_s:g} s") from None
        if tags.status != 200:
            raise ProbeError(f"HTTP {tags.status} on /api/tags")
        running = _entries(bytes(loaded.body)) if loaded.status == 200 else []
        return ProbeReport(
            models=_read_models(bytes(tags.body)),
            loaded=frozenset(canonical_model(str(one.get("model") or one.get("name") or "")) for one in running),
            loaded_entries=tuple(running),
            version=_read_version(bytes(version.body)) if version.status == 200 else "",
            emulated=any(name == b"x-emulated" for name, _ in tags.headers),
        )

    async def _get(self, path: bytes, timeout_s: float) -> Fetched:
        request = request_head(self._pool.origin, b"GET", self._prefix + path) + b"0\r\n\r\n"
        try:
            return await fetch(self._pool, request, timeout_s)
        except FetchError as error:
            hard = error.failure.kind in (FailureKind.REFUSED, FailureKind.UNREACHABLE)
            raise ProbeError(error.failure.message, hard=hard) from None

    async def close(self) -> None:
        """Drop idle connections."""
        self._pool.close()


# -- requests ----------------------------------------------------------------


def encode_request(call: Call, model: str) -> tuple[bytes, dict[str, Any]]:
    """Path and document of the native request for a typed call."""
    typed = call.typed()
    if isinstance(typed, Embedding):
        return b"/api/embed", _without_none(
            model=model,
            input=list(typed.inputs),
            dimensions=typed.dimensions,
            truncate=typed.truncate,
            keep_alive=typed.keep_alive,
            options=dict(typed.options) or None,
        )
    common = _without_none(
        model=model,
        stream=call.stream,
        format=typed.format,
        think=typed.think,
        keep_alive=typed.keep_alive,
        options=encode_options(typed.sampling) or None,
        logprobs=typed.logprobs or None,
        top_logprobs=typed.top_logprobs or None,
    )
    if typed.messages or call.operation is Operation.CHAT:
        return b"/api/chat", {**common, **_encode_chat(typed)}
    return b"/api/generate", {
        **common,
        **_without_none(
            prompt=typed.prompt,
            suffix=typed.suffix or None,
            system=typed.system or None,
            template=typed.template or None,
            raw=typed.raw or None,
            images=list(typed.images) or None,
            context=list(typed.context) or None,
        ),
    }


def _encode_chat(typed: Generation) -> dict[str, Any]:
    messages = []
    for message in typed.messages:
        uses = [
            {"id": use.id, "function": {"name": use.name, "arguments": msgspec.Raw(use.arguments.encode() or b"{}")}}
            for use in message.tool_uses
        ]
        messages.append(
            _without_none(
                role=message.role,
                content=message.content,
                thinking=message.thinking or None,
                images=list(message.images) or None,
                tool_calls=uses or None,
                tool_name=message.tool_name or None,
                tool_call_id=message.tool_call_id or None,
            )
        )
    tools = list(typed.tools) if typed.tool_choice != "none" else []
    return _without_none(messages=messages, tools=tools or None)


def encode_options(sampling: Sampling) -> dict[str, Any]:
    """Ollama's `options`; the names are its own."""
    options = _without_none(
        num_predict=sampling.num_predict,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed,
        stop=list(sampling.stop) if sampling.stop is not None else None,
        repeat_penalty=sampling.repeat_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        num_ctx=sampling.num_ctx,
    )
    return {**options, **sampling.extra}


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# -- answers -----------------------------------------------------------------


class _Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    index: int = 0


class _Use(msgspec.Struct):
    function: _Function
    id: str = ""


class _ChatMessage(msgspec.Struct):
    content: str = ""
    thinking: str = ""
    tool_calls: list[_Use] | None = None


class _Chunk(msgspec.Struct):
    response: str = ""
    thinking: str = ""
    message: _ChatMessage | None = None
    tool_calls: list[_Use] | None = None
    done: bool = False
    done_reason: str = ""
    error: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class _Embedded(msgspec.Struct):
    embeddings: tuple[tuple[float, ...], ...]
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None


_chunks = msgspec.json.Decoder(_Chunk)
_embedded = msgspec.json.Decoder(_Embedded)


class _AnswerDecoder:
    """NDJSON streams and unary objects of generate and chat alike: a unary body is a stream of one line."""

    def __init__(self) -> None:
        self._lines = LineBuffer()
        self._finished: Finished | None = None
        self._calls = 0

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        events: list[AnswerEvent] = []
        for line in self._lines.feed(data):
            self._read(line, events)
        return events

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        events: list[AnswerEvent] = []
        rest = self._lines.rest().strip()
        if rest:
            self._read(rest, events)
        return events, self._finished

    def _read(self, line: bytes, events: list[AnswerEvent]) -> None:
        try:
            chunk = _chunks.decode(line)
        except msgspec.DecodeError as error:
            raise DecodeError(str(error)) from None
        if chunk.error is not None:
            raise UpstreamError(chunk.error)
        message = chunk.message
        thinking = message.thinking if message else chunk.thinking
        text = message.content if message else chunk.response
        if thinking:
            events.append(ThinkingDelta(thinking))
        if text:
            events.append(TextDelta(text))
        for use in (message.tool_calls if message else chunk.tool_calls) or ():
            events.append(ToolCall(self._calls, use.id, use.function.name, bytes(use.function.arguments).decode()))
            self._calls += 1
        if chunk.done:
            reason = "tool_calls" if self._calls else chunk.done_reason or "stop"
            self._finished = Finished(reason, _usage(chunk))


def _usage(chunk: _Chunk) -> Usage:
    return Usage(
        prompt_tokens=chunk.prompt_eval_count,
        output_tokens=chunk.eval_count,
        total_ns=chunk.total_duration,
        load_ns=chunk.load_duration,
        prompt_ns=chunk.prompt_eval_duration,
        decode_ns=chunk.eval_duration,
    )


class _EmbedDecoder:
    """The one object of `/api/embed`."""

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        self._body += data
        return ()

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        try:
            answer = _embedded.decode(bytes(self._body))
        except msgspec.DecodeError as error:
            raise DecodeError(str(error)) from None
        usage = Usage(
            prompt_tokens=answer.prompt_eval_count,
            output_tokens=0,
            total_ns=answer.total_duration,
            load_ns=answer.load_duration,
        )
        return (Embeddings(answer.embeddings),), Finished("stop", usage)


# -- probes ------------------------------------------------------------------


class _Listed(msgspec.Struct):
    name: str = ""
    model: str = ""
    digest: str = ""
    size: int = 0
    modified_at: str = ""


def _entries(body: bytes) -> list[dict[str, Any]]:
    try:
        document = msgspec.json.decode(body)
        entries = document.get("models") or [] if isinstance(document, dict) else None
    except msgspec.DecodeError:
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ProbeError("the model list is unreadable; is this an Ollama server?")
    return entries


def _read_models(body: bytes) -> Mapping[str, ModelFacts]:
    found: dict[str, ModelFacts] = {}
    for entry in _entries(body):
        try:
            listed = msgspec.convert(entry, _Listed)
        except msgspec.ValidationError:
            raise ProbeError("an entry of the model list is unreadable") from None
        name = listed.model or listed.name
        found[canonical_model(name)] = ModelFacts(name, listed.digest, listed.size, listed.modified_at, 0, entry)
    return found


def _read_version(body: bytes) -> str:
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return ""
    version = document.get("version") if isinstance(document, dict) else ""
    return version if isinstance(version, str) else ""
