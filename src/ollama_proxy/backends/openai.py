"""Upstreams that speak OpenAI's API: llama.cpp, vLLM, LM Studio, the embedded model, cloud accounts.

OpenAI clients pass on the fast lane. Other clients are translated; fields that strict servers refuse (`top_k` and the
like) go out only when the client asked for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Finished, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation, Message, Need, Operation, Sampling
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Attempt, AttemptSink, ProbeError, ProbeReport
from ollama_proxy.net.endings import error_text, read_openai_body, read_openai_tail
from ollama_proxy.net.framing import EventBuffer
from ollama_proxy.net.http1.client import OriginPool
from ollama_proxy.net.http1.fetch import FetchError, fetch
from ollama_proxy.net.upstream import DecodedAttempt, DecodeError, RawAttempt, UpstreamError, join_request, request_head

CAPABILITIES = frozenset((Need.GENERATE, Need.EMBED, Need.IMAGES, Need.RAW_PROMPT))
_PATHS = {Operation.CHAT: b"/chat/completions", Operation.GENERATE: b"/chat/completions"}


class OpenAiBackend:
    """One OpenAI-compatible server. `prefix` is the path in front of `/chat/completions`, such as `/v1`."""

    def __init__(
        self,
        spec: BackendSpec,
        pool: OriginPool,
        prefix: str = "/v1",
        *,
        api_key: str = "",
        static_models: Sequence[str] = (),
        embedding_pool: OriginPool | None = None,
    ) -> None:
        self.spec = spec
        self.capabilities = CAPABILITIES
        self._pool = pool
        self._embedding_pool = embedding_pool or pool
        self._prefix = prefix.encode("ascii")
        self._static_models = tuple(static_models)
        key = ((b"Authorization", b"Bearer " + api_key.encode("latin-1")),) if api_key else ()
        self._headers = ((b"Content-Type", b"application/json"), *key)
        self._heads: dict[tuple[bytes, bytes], bytes] = {}

    def open(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        """Send the call on the lane that fits."""
        pool = self._embedding_pool if call.operation is Operation.EMBED else self._pool
        raw = call.raw
        if raw is not None and call.dialect is Dialect.OPENAI:
            head = self._head(raw.method, raw.path.removeprefix(b"/v1"))
            return RawAttempt(sink, read_openai_body, read_openai_tail).send(pool, join_request(head, raw.body))
        path, document = encode_request(call, model)
        request = join_request(self._head(b"POST", path), msgspec.json.encode(document))
        return DecodedAttempt(sink, _decoder(call)).send(pool, request)

    def _head(self, method: bytes, path: bytes) -> bytes:
        head = self._heads.get((method, path))
        if head is None:
            if len(self._heads) > 256:
                self._heads.clear()
            head = request_head(self._pool.origin, method, self._prefix + path, self._headers)
            self._heads[method, path] = head
        return head

    async def probe(self, timeout_s: float) -> ProbeReport:
        """The model list; servers without one are judged by answering at all."""
        request = request_head(self._pool.origin, b"GET", self._prefix + b"/models", self._headers[1:]) + b"0\r\n\r\n"
        try:
            async with asyncio.timeout(timeout_s):
                answer = await fetch(self._pool, request, timeout_s)
        except TimeoutError:
            raise ProbeError(f"timeout after {timeout_s:g} s") from None
        except FetchError as error:
            hard = error.failure.kind in (FailureKind.REFUSED, FailureKind.UNREACHABLE)
            raise ProbeError(error.failure.message, hard=hard) from None
        if answer.status in (401, 403):
            raise ProbeError(f"HTTP {answer.status}: the API key was refused")
        if answer.status in (404, 405, 501):
            return ProbeReport(self._named_models())
        if answer.status != 200:
            text = error_text(bytes(answer.body))
            raise ProbeError(
                f"HTTP {answer.status} on {(self._prefix + b'/models').decode()}" + (f": {text}" if text else "")
            )
        models = _read_models(bytes(answer.body))
        return ProbeReport({**models, **(self._named_models() or {})}, loaded=frozenset(models))

    def _named_models(self) -> Mapping[str, ModelFacts] | None:
        return {canonical_model(name): ModelFacts(name) for name in self._static_models} or None

    async def close(self) -> None:
        """Drop idle connections."""
        self._pool.close()
        if self._embedding_pool is not self._pool:
            self._embedding_pool.close()


# -- requests ----------------------------------------------------------------


def encode_request(call: Call, model: str) -> tuple[bytes, dict[str, Any]]:
    """Path and document for a typed call."""
    typed = call.typed()
    if isinstance(typed, Embedding):
        return b"/embeddings", _without_none(model=model, input=list(typed.inputs), dimensions=typed.dimensions)
    common = {"model": model, **_encode_sampling(typed.sampling, call.dialect), **_encode_rest(typed)}
    if call.stream:
        common |= {"stream": True, "stream_options": {"include_usage": True}}
    if typed.raw or call.operation is Operation.COMPLETE:
        return b"/completions", {**common, "prompt": typed.prompt}
    return _PATHS[call.operation], {**common, **_encode_chat(typed)}


def _encode_chat(typed: Generation) -> dict[str, Any]:
    messages = typed.messages
    if not messages:
        system = (Message("system", typed.system),) if typed.system else ()
        messages = (*system, Message("user", typed.prompt, images=typed.images))
    return _without_none(
        messages=[_encode_message(message) for message in messages],
        tools=list(typed.tools) or None,
        tool_choice=typed.tool_choice,
    )


def _encode_message(message: Message) -> dict[str, Any]:
    content: Any = message.content
    if message.images:
        parts = [{"type": "image_url", "image_url": {"url": image_url(image)}} for image in message.images]
        content = [{"type": "text", "text": message.content}, *parts] if message.content else parts
    uses = [
        {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": use.arguments or "{}"}}
        for use in message.tool_uses
    ]
    return _without_none(
        role=message.role, content=content, tool_calls=uses or None, tool_call_id=message.tool_call_id or None
    )


def image_url(image: str) -> str:
    """A data URI for a base64 image; the media type is told from the first bytes."""
    for start, media in (("iVBORw0KGgo", "png"), ("/9j/", "jpeg"), ("R0lGOD", "gif"), ("UklGR", "webp")):
        if image.startswith(start):
            return f"data:image/{media};base64,{image}"
    return f"data:image/jpeg;base64,{image}"


def _encode_sampling(sampling: Sampling, dialect: Dialect) -> dict[str, Any]:
    # Ollama's clients expect Ollama's defaults, which differ from OpenAI's; those every server knows are sent in full.
    native = dialect is not Dialect.OPENAI
    temperature = 0.8 if native and sampling.temperature is None else sampling.temperature
    top_p = 0.9 if native and sampling.top_p is None else sampling.top_p
    limit = sampling.num_predict
    return _without_none(
        max_tokens=limit if limit is not None and limit > 0 else None,
        temperature=temperature,
        top_p=top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        seed=sampling.seed if sampling.seed is None or sampling.seed >= 0 else None,
        stop=list(sampling.stop) if sampling.stop else None,
        repeat_penalty=sampling.repeat_penalty,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
    )


def _encode_rest(typed: Generation) -> dict[str, Any]:
    rest: dict[str, Any] = {}
    if typed.format == "json":
        rest["response_format"] = {"type": "json_object"}
    elif isinstance(typed.format, dict):
        schema = {"name": "answer", "schema": typed.format}
        rest["response_format"] = {"type": "json_schema", "json_schema": schema}
    if isinstance(typed.think, str):
        rest["reasoning_effort"] = typed.think
    elif typed.think is not None:
        rest["chat_template_kwargs"] = {"enable_thinking": typed.think}
    if typed.logprobs:
        rest["logprobs"] = True
        if typed.top_logprobs:
            rest["top_logprobs"] = typed.top_logprobs
    return rest


def _without_none(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


# -- answers -----------------------------------------------------------------


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolPart(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolPart] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Timings(msgspec.Struct):
    prompt_ms: float | None = None
    predicted_ms: float | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    timings: _Timings | None = None
    error: msgspec.Raw | None = None


class _Vector(msgspec.Struct):
    embedding: tuple[float, ...]
    index: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


_chunks = msgspec.json.Decoder(_Chunk)
_vectors = msgspec.json.Decoder(_Vectors)


class _Reading:
    """What both forms of an answer share: choices in, events out, the end gathered."""

    def __init__(self) -> None:
        self._reason = ""
        self._usage = Usage()
        self._tools: dict[int, tuple[str, str, list[str]]] = {}

    def _read(self, data: bytes, events: list[AnswerEvent]) -> None:
        try:
            chunk = _chunks.decode(data)
        except msgspec.DecodeError as error:
            raise DecodeError(str(error)) from None
        if chunk.error is not None and bytes(chunk.error) != b"null":
            raise UpstreamError(error_text(data) or "error in the answer")
        if chunk.usage is not None or chunk.timings is not None:
            self._take_usage(chunk)
        for choice in chunk.choices or ():
            self._take_choice(choice, events)

    def _take_choice(self, choice: _Choice, events: list[AnswerEvent]) -> None:
        part = choice.delta or choice.message
        if part is not None:
            thinking = part.reasoning or part.reasoning_content
            if thinking:
                events.append(ThinkingDelta(thinking))
            if part.content:
                events.append(TextDelta(part.content))
            for order, tool in enumerate(part.tool_calls or ()):
                self._take_tool(tool, tool.index if choice.delta else order)
        elif choice.text:
            events.append(TextDelta(choice.text))
        if choice.finish_reason:
            self._reason = choice.finish_reason

    def _take_tool(self, part: _ToolPart, index: int) -> None:
        ident, name, pieces = self._tools.get(index, ("", "", []))
        function = part.function or _Function()
        pieces.append(function.arguments or "")
        self._tools[index] = (part.id or ident, function.name or name, pieces)

    def _take_usage(self, chunk: _Chunk) -> None:
        usage, timings = chunk.usage, chunk.timings
        self._usage = Usage(
            prompt_tokens=usage.prompt_tokens if usage else self._usage.prompt_tokens,
            output_tokens=usage.completion_tokens if usage else self._usage.output_tokens,
            prompt_ns=_nanoseconds(timings.prompt_ms) if timings else self._usage.prompt_ns,
            decode_ns=_nanoseconds(timings.predicted_ms) if timings else self._usage.decode_ns,
        )

    def _finish(self, events: list[AnswerEvent]) -> Finished:
        for index in sorted(self._tools):
            ident, name, pieces = self._tools[index]
            events.append(ToolCall(index, ident, name, "".join(pieces) or "{}"))
        return Finished(self._reason or "stop", self._usage)


class _StreamDecoder(_Reading):
    """A stream of `data:` events up to `[DONE]`."""

    def __init__(self) -> None:
        super().__init__()
        self._events = EventBuffer()
        self._done = False

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        events: list[AnswerEvent] = []
        for payload in self._events.feed(data):
            if payload == b"[DONE]":
                self._done = True
            else:
                self._read(payload, events)
        return events

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        events: list[AnswerEvent] = list(self.feed(b"\n\n"))
        return events, self._finish(events) if self._done else None


class _BodyDecoder(_Reading):
    """One object."""

    def __init__(self) -> None:
        super().__init__()
        self._body = bytearray()

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        self._body += data
        return ()

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        events: list[AnswerEvent] = []
        self._read(bytes(self._body), events)
        return events, self._finish(events)


class _VectorDecoder:
    """The one object of `/embeddings`."""

    def __init__(self) -> None:
        self._body = bytearray()

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        self._body += data
        return ()

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        try:
            answer = _vectors.decode(bytes(self._body))
        except msgspec.DecodeError as error:
            raise DecodeError(str(error)) from None
        ordered = sorted(answer.data, key=lambda vector: vector.index)
        usage = Usage(prompt_tokens=answer.usage.prompt_tokens if answer.usage else None, output_tokens=0)
        return (Embeddings(tuple(vector.embedding for vector in ordered)),), Finished("stop", usage)


def _decoder(call: Call) -> _StreamDecoder | _BodyDecoder | _VectorDecoder:
    if call.operation is Operation.EMBED:
        return _VectorDecoder()
    return _StreamDecoder() if call.stream else _BodyDecoder()


def _nanoseconds(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds * 1e6)


# -- probes ------------------------------------------------------------------


class _Meta(msgspec.Struct):
    n_ctx: int | None = None
    size: int | None = None


class _Listed(msgspec.Struct):
    id: str
    max_model_len: int | None = None
    meta: _Meta | None = None


class _List(msgspec.Struct):
    data: list[_Listed] | None = None


_lists = msgspec.json.Decoder(_List)


def _read_models(body: bytes) -> dict[str, ModelFacts]:
    try:
        listed = _lists.decode(body).data or []
    except msgspec.DecodeError:
        raise ProbeError("the model list is unreadable; is this an OpenAI-compatible server?") from None
    found: dict[str, ModelFacts] = {}
    for one in listed:
        meta = one.meta or _Meta()
        context = one.max_model_len or meta.n_ctx or 0
        found[canonical_model(one.id)] = ModelFacts(one.id, "", meta.size or 0, "", context)
    return found
