"""Upstreams that speak OpenAI's API: llama.cpp, vLLM, LM Studio, the embedded model, cloud accounts.

OpenAI clients pass on the fast lane. Other clients are translated; fields that strict servers refuse (`top_k` and the
like) go out only when the client asked for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from ollama_proxy.backends.openai.answers import choose_decoder
from ollama_proxy.backends.openai.requests import encode_request
from ollama_proxy.domain.call import Call, Dialect, Need, Operation, RawHead, RawRequest
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.errors import FailureKind
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Attempt, AttemptSink, ProbeError, ProbeReport, Relay, RelaySink
from ollama_proxy.net.endings import (
    error_text,
    read_openai_body,
    read_openai_tail,
    read_responses_body,
    read_responses_tail,
)
from ollama_proxy.net.fast_lane import RawAttempt
from ollama_proxy.net.http1.client import OriginPool
from ollama_proxy.net.http1.fetch import FetchError, fetch
from ollama_proxy.net.model_name import body_for, echo_for
from ollama_proxy.net.translate_lane import DecodedAttempt
from ollama_proxy.net.unreadable import UNREADABLE
from ollama_proxy.net.upstream import join_request, request_head

_OPENAI, _RESPONSES = Dialect.OPENAI, Dialect.RESPONSES
_EMBED = Operation.EMBED
_MOST_HEADS = 256
CAPABILITIES = frozenset(Need) - {Need.SUFFIX, Need.TEMPLATE, Need.CONTEXT, Need.SHOW, Need.COUNT}


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
        always_stream: bool = False,
        speaks_responses: bool = False,
    ) -> None:
        """`always_stream`: the server stops for a client that leaves only while it streams.

        `speaks_responses`: it has `/responses` of its own, and is sent what comes for it.
        """
        self.spec = spec
        self.capabilities = CAPABILITIES
        self._pool = pool
        self._always_stream = always_stream
        self._speaks_responses = speaks_responses
        self._prefix = prefix.encode("ascii")
        self._static_models = tuple(static_models)
        key = ((b"Authorization", b"Bearer " + api_key.encode("latin-1")),) if api_key else ()
        self._headers = ((b"Content-Type", b"application/json"), *key)
        self._heads: dict[tuple[bytes, bytes], bytes] = {}
        self._raw_heads: dict[RawHead, bytes] = {}

    def open(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        """Send the call on the lane that fits."""
        pool, raw = self._pool, call.raw
        embed = call.operation is _EMBED
        if raw is not None and call.dialect is _OPENAI and (call.stream or not self._always_stream or embed):
            head = self._raw_heads.get(raw.head) or self._keep_head(raw.head)
            attempt = RawAttempt(sink, read_openai_body, read_openai_tail, echo_for(call, model))
            return attempt.send(pool, join_request(head, body_for(call, model)))
        if raw is not None and call.dialect is _RESPONSES and self._speaks_responses:
            head = self._raw_heads.get(raw.head) or self._keep_head(raw.head)
            attempt = RawAttempt(sink, read_responses_body, read_responses_tail, echo_for(call, model))
            return attempt.send(pool, join_request(head, body_for(call, model)))
        stream = call.stream or (self._always_stream and call.operation is not Operation.EMBED)
        path, document = encode_request(call, model, stream=stream)
        request = join_request(self._head(b"POST", path), msgspec.json.encode(document))
        return DecodedAttempt(sink, choose_decoder(call.operation, stream=stream)).send(pool, request)

    def relay(self, request: RawRequest, sink: RelaySink) -> Relay:
        """Send a request as it came."""
        head = self._raw_heads.get(request.head) or self._keep_head(request.head)
        return self._pool.send(join_request(head, request.body), sink)

    def _keep_head(self, raw: RawHead) -> bytes:
        if len(self._raw_heads) >= _MOST_HEADS:
            self._raw_heads.clear()
        head = self._raw_heads[raw] = self._head(raw.method, raw.path.removeprefix(b"/v1"))
        return head

    def _head(self, method: bytes, path: bytes) -> bytes:
        head = self._heads.get((method, path))
        if head is None:
            if len(self._heads) >= _MOST_HEADS:
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
    except UNREADABLE:
        raise ProbeError("the model list is unreadable; is this an OpenAI-compatible server?") from None
    found: dict[str, ModelFacts] = {}
    for one in listed:
        meta = one.meta or _Meta()
        context = one.max_model_len or meta.n_ctx or 0
        found[canonical_model(one.id)] = ModelFacts(one.id, "", meta.size or 0, "", context)
    return found
