"""Upstreams that speak OpenAI's API: llama.cpp, vLLM, LM Studio, the embedded model, cloud accounts.

OpenAI clients pass on the fast lane. Other clients are translated; fields that strict servers refuse (`top_k` and the
like) go out only when the client asked for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ollama_proxy.backends.openai.answers import StreamDecoder, choose_decoder
from ollama_proxy.backends.openai.probe import (
    can_continue,
    is_llama_cpp,
    read_abilities,
    read_models,
    thinks_by_template,
)
from ollama_proxy.backends.openai.requests import as_stream, encode_request
from ollama_proxy.backends.openai.responses_stream import ResponsesDecoder
from ollama_proxy.backends.openai.rest import add_sent, find_open_text, find_untold
from ollama_proxy.domain.call import (
    Call,
    Continued,
    Dialect,
    Need,
    Operation,
    RawHead,
    RawRequest,
)
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Attempt, AttemptSink, ProbeError, ProbeReport, Relay, RelaySink
from ollama_proxy.net.bodies.model_name import body_for, echo_for
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.endings import ENDINGS
from ollama_proxy.net.endings.errors import error_text
from ollama_proxy.net.http1.client import OriginPool
from ollama_proxy.net.http1.fetch import Fetched, fetch
from ollama_proxy.net.lanes.fast_lane import RawAttempt
from ollama_proxy.net.lanes.pass_lane import PassAttempt, passed_body
from ollama_proxy.net.lanes.rest_lane import CutDecoder, RestOfAnswer, UnableAttempt
from ollama_proxy.net.lanes.seam import EchoCutter, comes_back
from ollama_proxy.net.lanes.translate_lane import DecodedAttempt, Decoder
from ollama_proxy.net.lanes.upstream import join_request, request_head
from ollama_proxy.net.probe import ask_within

#: What servers of this kind understand without being configured to.
SPOKEN = frozenset((Dialect.OPENAI,))
_OPENAI, _RESPONSES = Dialect.OPENAI, Dialect.RESPONSES
_EMBED, _PASS = Operation.EMBED, Operation.PASS
_MOST_HEADS = 256
#: What nearly every server of this kind can do. The rest is for those of which it is configured, or which say so.
CAPABILITIES = frozenset(
    (
        Need.GENERATE,
        Need.EMBED,
        Need.IMAGES,
        Need.RAW_PROMPT,
        Need.TOOLS,
        Need.TOOL_CHOICE,
        Need.THINKING,
        Need.FORMAT,
        Need.LOGPROBS,
        Need.CHOICES,
        Need.COMPLETION,
        Need.TOKEN_INPUT,
    )
)
#: The words of the configuration for what else there is.
CONFIGURABLE = {
    "audio": frozenset((Need.AUDIO, Need.AUDIO_TRANSLATION)),
    "speech": frozenset((Need.SPEECH,)),
    "images": frozenset((Need.IMAGE_OUTPUT, Need.IMAGE_VARIATION)),
    "rerank": frozenset((Need.RERANK,)),
    "suffix": frozenset((Need.SUFFIX,)),
    "continuation": frozenset((Need.CONTINUATION,)),
}


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
        capabilities: Sequence[str] = (),
    ) -> None:
        """`always_stream`: the server stops for a client that leaves only while it streams.

        `speaks_responses`: it has `/responses` of its own, and is sent what comes for it. `capabilities`: words of
        `CONFIGURABLE`.
        """
        self.spec = spec
        own = (Need.BUILT_IN_TOOLS,) if speaks_responses else ()
        self.capabilities = CAPABILITIES.union(own, *(CONFIGURABLE[word] for word in capabilities))
        self._pool = pool
        self._always_stream = always_stream
        self._speaks_responses = speaks_responses
        #: Known once it was probed.
        self._thinks_by_template = False
        #: It knows what of a last turn is thinking and which part of it is open.
        self._is_llama_cpp = False
        #: It takes the flags that leave a last turn open, and says nothing of it again.
        self._says_no_echo = False
        self._prefix = prefix.encode("ascii")
        self._static_models = tuple(static_models)
        key = ((b"Authorization", b"Bearer " + api_key.encode("latin-1")),) if api_key else ()
        self._headers = ((b"Content-Type", b"application/json"), *key)
        self._heads: dict[tuple[bytes, bytes], bytes] = {}
        self._raw_heads: dict[RawHead, bytes] = {}

    def open(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        """Send the call on the lane that fits."""
        pool, raw = self._pool, call.raw
        if raw is not None and call.dialect is _OPENAI:
            head = self._raw_heads.get(raw.head) or self._keep_head(raw.head)
            if call.operation is _PASS:
                return PassAttempt(sink).send(pool, join_request(head, passed_body(call, model)))
            body = body_for(call, model)
            if self._always_stream and not call.stream and (streamed := _as_stream(call, body)):
                return DecodedAttempt(sink, choose_decoder(call.operation, stream=True)).send(
                    pool, join_request(head, streamed)
                )
            if call.begun:
                return DecodedAttempt(sink, StreamDecoder()).send(pool, join_request(head, body))
            decoder = StreamDecoder if call.stream else None
            attempt = RawAttempt(sink, *ENDINGS[_OPENAI], echo_for(call, model), decoder)
            return attempt.send(pool, join_request(head, body))
        if raw is not None and call.dialect is _RESPONSES and self._speaks_responses:
            head = self._raw_heads.get(raw.head) or self._keep_head(raw.head)
            reader = ResponsesDecoder if call.stream else None
            attempt = RawAttempt(sink, *ENDINGS[_RESPONSES], echo_for(call, model), reader)
            return attempt.send(pool, join_request(head, body_for(call, model)))
        return self._translate(call, model, sink)

    def _translate(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        if call.continued is not None:
            return self._go_on(call, call.continued, model, sink)
        stream = call.stream or (self._always_stream and call.operation is not _EMBED)
        path, document = encode_request(call, model, stream=stream, thinks_by_template=self._thinks_by_template)
        request = join_request(self._head(b"POST", path), msgspec.json.encode(document))
        return DecodedAttempt(sink, choose_decoder(call.operation, stream=stream)).send(self._pool, request)

    def _go_on(self, call: Call, sent: Continued, model: str, sink: AttemptSink) -> Attempt:
        """Ask for the rest of an answer: in the client's own words where these are OpenAI's."""
        raw = sent.raw if call.dialect is _OPENAI else None
        why = self._find_obstacle(call, sent) or ("" if raw is not None else find_untold(call, sent))
        if why:
            return UnableAttempt(sink, why)
        document: Any
        if raw is not None:
            head = self._raw_heads.get(raw.head) or self._keep_head(raw.head)
            document = add_sent(raw.body, sent, model, call.max_tokens)
        else:
            path, document = encode_request(call, model, stream=True, thinks_by_template=self._thinks_by_template)
            head = self._head(b"POST", path)
        decoder: Decoder = StreamDecoder()
        if self._may_echo(call):
            decoder = CutDecoder(decoder, EchoCutter(find_open_text(call, sent)))
        return RestOfAnswer(sink, decoder).send(self._pool, join_request(head, msgspec.json.encode(document)))

    def _find_obstacle(self, call: Call, sent: Continued) -> str:
        """What of the answer so far this server would not take as it is meant, as a clause; "" for nothing."""
        if sent.thinking and not self._is_llama_cpp:
            return "it was thinking, and what this server makes of that is not known"
        if self._may_echo(call) and comes_back(find_open_text(call, sent)):
            return "the text repeats itself, and whether this server says it again is not known"
        return ""

    def _may_echo(self, call: Call) -> bool:
        """Whether it may say an open turn again; a prompt nobody says again who is not asked to."""
        return not self._says_no_echo and call.operation is not Operation.COMPLETE

    def relay(self, request: RawRequest, sink: RelaySink) -> Relay:
        """Send a request as it came."""
        head = self._raw_heads.get(request.head) or self._keep_head(request.head)
        return self._pool.send(join_request(head, request.body), sink)

    def _keep_head(self, raw: RawHead) -> bytes:
        if len(self._raw_heads) >= _MOST_HEADS:
            self._raw_heads.clear()
        path, content_type = raw.path.removeprefix(b"/v1"), dict(raw.headers).get(b"content-type", b"")
        if content_type[:10].lower() == b"multipart/":
            headers = ((b"Content-Type", content_type), *self._headers[1:])
            head = request_head(self._pool.origin, raw.method, self._prefix + path, headers)
        else:
            head = self._head(raw.method, path)
        self._raw_heads[raw] = head
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
        return await ask_within(timeout_s, self._ask(timeout_s))

    async def _ask(self, timeout_s: float) -> ProbeReport:
        answer = await self._get(self._prefix + b"/models", timeout_s)
        if answer.status in (401, 403):
            raise ProbeError(f"HTTP {answer.status}: the API key was refused")
        if answer.status in (404, 405, 501):
            return ProbeReport(self._named_models())
        if answer.status != 200:
            text = error_text(bytes(answer.body))
            raise ProbeError(
                f"HTTP {answer.status} on {(self._prefix + b'/models').decode()}" + (f": {text}" if text else "")
            )
        models = read_models(bytes(answer.body))
        self._thinks_by_template = thinks_by_template(models)
        self._is_llama_cpp = is_llama_cpp(models)
        able: frozenset[Need] | None = None
        self._says_no_echo = can_continue(models)
        if self._says_no_echo:
            able = self.capabilities | {Need.CONTINUATION}
        if is_llama_cpp(models):
            able = await self._ask_abilities(timeout_s, able or self.capabilities)
        named = self._named_models() or {}
        return ProbeReport({**models, **named}, loaded=frozenset(models), capabilities=able)

    async def _ask_abilities(self, timeout_s: float, able: frozenset[Need]) -> frozenset[Need]:
        answer = await self._get(self._prefix.removesuffix(b"/v1") + b"/props", timeout_s)
        return read_abilities(bytes(answer.body), able) if answer.status == 200 else able

    async def _get(self, path: bytes, timeout_s: float) -> Fetched:
        request = request_head(self._pool.origin, b"GET", path, self._headers[1:]) + b"0\r\n\r\n"
        return await fetch(self._pool, request, timeout_s)

    def _named_models(self) -> Mapping[str, ModelFacts] | None:
        return {canonical_model(name): ModelFacts(name) for name in self._static_models} or None

    async def close(self) -> None:
        """Drop idle connections."""
        self._pool.close()


def _as_stream(call: Call, body: bytes) -> bytes:
    """The request as one for a stream; nothing where its answer is no one stream of events."""
    if call.operation is _EMBED or Need.CHOICES in call.wants or Need.TOKEN_INPUT in call.wants:
        return b""
    try:
        return as_stream(body)
    except UNREADABLE:
        return b""
