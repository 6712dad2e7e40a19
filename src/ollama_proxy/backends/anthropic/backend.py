"""Upstreams that speak Anthropic's API: Anthropic itself, and servers that are like it.

Anthropic's clients pass on the fast lane, with their version and beta headers; other clients are translated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ollama_proxy.backends.anthropic.answers import BodyDecoder, StreamDecoder
from ollama_proxy.backends.anthropic.probe import read_models
from ollama_proxy.backends.anthropic.requests import encode_request
from ollama_proxy.domain.call import Call, Continued, Dialect, Generation, Message, Need, RawHead, RawRequest
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Attempt, AttemptSink, ProbeError, ProbeReport, Relay, RelaySink
from ollama_proxy.net.bodies.model_name import body_for, echo_for
from ollama_proxy.net.bodies.open_turn import find_untold_option
from ollama_proxy.net.endings import ENDINGS
from ollama_proxy.net.endings.errors import error_text
from ollama_proxy.net.http1.client import OriginPool
from ollama_proxy.net.http1.fetch import fetch
from ollama_proxy.net.lanes.fast_lane import RawAttempt
from ollama_proxy.net.lanes.rest_lane import CutDecoder, RestOfAnswer, UnableAttempt
from ollama_proxy.net.lanes.seam import SpaceCutter
from ollama_proxy.net.lanes.translate_lane import DecodedAttempt
from ollama_proxy.net.lanes.upstream import join_request, request_head
from ollama_proxy.net.probe import ask_within

CAPABILITIES = frozenset(
    (
        Need.GENERATE,
        Need.IMAGES,
        Need.REMOTE_IMAGES,
        Need.DOCUMENTS,
        Need.TOOLS,
        Need.TOOL_CHOICE,
        Need.SERVER_TOOLS,
        Need.WEB_SEARCH,
        Need.THINKING,
        Need.FORMAT,
        Need.COUNT,
    )
)
SPOKEN = frozenset((Dialect.ANTHROPIC,))
_ANTHROPIC = Dialect.ANTHROPIC
#: Options that this API has.
_TOLD = frozenset(("num_predict", "temperature", "top_p", "top_k", "stop"))
_MOST_HEADS = 256
_VERSION = (b"anthropic-version", b"2023-06-01")
_JSON = (b"Content-Type", b"application/json")
#: Its clients get on from one page to the next; nobody has this many models.
_LIST = b"/models?limit=1000"


class AnthropicBackend:
    """One server. `prefix` is the path in front of `/messages`, such as `/v1`."""

    def __init__(
        self,
        spec: BackendSpec,
        pool: OriginPool,
        prefix: str = "/v1",
        *,
        api_key: str = "",
        static_models: Sequence[str] = (),
        max_tokens: int = 4096,
        continues: bool = False,
    ) -> None:
        """`max_tokens` is the limit of requests that have none. `continues`: its models go on from a last turn of their
        own, which some of Anthropic's refuse."""
        self.spec = spec
        self.capabilities = CAPABILITIES | {Need.CONTINUATION} if continues else CAPABILITIES
        self._pool = pool
        self._prefix = prefix.encode("ascii")
        self._static_models = tuple(static_models)
        self._max_tokens = max_tokens
        self._key = ((b"x-api-key", api_key.encode("latin-1")),) if api_key else ()
        self._head = request_head(pool.origin, b"POST", self._prefix + b"/messages", (_JSON, _VERSION, *self._key))
        self._raw_heads: dict[RawHead, bytes] = {}

    def open(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        """Send the call on the lane that fits."""
        raw = call.raw
        if raw is not None and call.dialect is _ANTHROPIC:
            head = self._raw_heads.get(raw.head) or self._keep_head(raw.head)
            reader = StreamDecoder if call.stream else None
            if call.begun:
                return DecodedAttempt(sink, StreamDecoder()).send(self._pool, join_request(head, body_for(call, model)))
            attempt = RawAttempt(sink, *ENDINGS[_ANTHROPIC], echo_for(call, model), reader)
            return attempt.send(self._pool, join_request(head, body_for(call, model)))
        typed = call.typed()
        if not isinstance(typed, Generation):
            raise ProxyError(ErrorKind.UNIMPLEMENTED, "this backend makes no vectors")
        if call.continued is not None:
            return self._go_on(typed, call.continued, model, sink)
        body, answer_tool = encode_request(typed, model, stream=call.stream, max_tokens=self._max_tokens)
        decoder = StreamDecoder(answer_tool) if call.stream else BodyDecoder(answer_tool)
        return DecodedAttempt(sink, decoder).send(self._pool, join_request(self._head, body))

    def _go_on(self, typed: Generation, sent: Continued, model: str, sink: AttemptSink) -> Attempt:
        """Ask for the rest of an answer: its beginning is a last turn, which may not end in a space."""
        untold = sent.untold or find_untold_option(typed.sampling, _TOLD)
        if untold:
            return UnableAttempt(sink, untold)
        said = sent.text.rstrip()
        if sent.thinking and not said:
            return UnableAttempt(sink, "nothing but thinking was sent, which this API takes from itself alone")
        # What one server has thought proves nothing to another, and an open turn is refused where thinking is on.
        messages = typed.messages or (Message("user", typed.prompt, images=typed.images),)
        turn = (Message("assistant", said),) if said else ()
        asked = msgspec.structs.replace(typed, messages=(*messages, *turn), think=None)
        body, answer_tool = encode_request(asked, model, stream=True, max_tokens=self._max_tokens)
        decoder = CutDecoder(StreamDecoder(answer_tool), SpaceCutter(sent.text[len(said) :]))
        return RestOfAnswer(sink, decoder).send(self._pool, join_request(self._head, body))

    def relay(self, request: RawRequest, sink: RelaySink) -> Relay:
        """Send a request as it came."""
        head = self._raw_heads.get(request.head) or self._keep_head(request.head)
        return self._pool.send(join_request(head, request.body), sink)

    def _keep_head(self, raw: RawHead) -> bytes:
        if len(self._raw_heads) >= _MOST_HEADS:
            self._raw_heads.clear()
        given = dict(raw.headers)
        named = (b"content-type", b"anthropic-version")
        rest = tuple(header for header in raw.headers if header[0] not in named)
        version = (_VERSION[0], given.get(_VERSION[0], _VERSION[1]))
        path = self._prefix + raw.path.removeprefix(b"/v1")
        head = request_head(self._pool.origin, raw.method, path, (_JSON, version, *rest, *self._key))
        self._raw_heads[raw] = head
        return head

    async def probe(self, timeout_s: float) -> ProbeReport:
        """The model list; servers without one are judged by answering at all."""
        return await ask_within(timeout_s, self._ask(timeout_s))

    async def _ask(self, timeout_s: float) -> ProbeReport:
        head = request_head(self._pool.origin, b"GET", self._prefix + _LIST, (_VERSION, *self._key))
        answer = await fetch(self._pool, head + b"0\r\n\r\n", timeout_s)
        if answer.status in (401, 403):
            raise ProbeError(f"HTTP {answer.status}: the API key was refused")
        if answer.status in (404, 405, 501):
            return ProbeReport(self._named_models())
        if answer.status != 200:
            text = error_text(bytes(answer.body))
            raise ProbeError(f"HTTP {answer.status} on {self._prefix.decode()}/models" + (f": {text}" if text else ""))
        models = read_models(bytes(answer.body))
        emulated = any(name == b"x-emulated" for name, _ in answer.headers)
        named = self._named_models() or {}
        return ProbeReport({**models, **named}, loaded=frozenset(models), emulated=emulated)

    def _named_models(self) -> Mapping[str, ModelFacts] | None:
        return {canonical_model(name): ModelFacts(name) for name in self._static_models} or None

    async def close(self) -> None:
        """Drop idle connections."""
        self._pool.close()
