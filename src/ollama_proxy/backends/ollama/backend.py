"""Upstreams that speak Ollama's API.

Ollama clients pass on the fast lane; so do OpenAI clients, through Ollama's own `/v1`, unless they ask for something
which that layer silently drops. Everything else goes through the native routes, which are the only ones that report an
end, real token counts and durations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ollama_proxy.backends.ollama.answers import AnswerDecoder, EmbedDecoder
from ollama_proxy.backends.ollama.habits import Habits
from ollama_proxy.backends.ollama.requests import encode_request
from ollama_proxy.backends.ollama.resume import RestAttempt
from ollama_proxy.domain.call import Call, Dialect, Need, Operation, RawHead, RawRequest
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import (
    Attempt,
    AttemptSink,
    BodyRelay,
    ProbeError,
    ProbeReport,
    Relay,
    RelaySink,
    UploadSink,
)
from ollama_proxy.net.bodies.lenient_json import add_members
from ollama_proxy.net.bodies.model_name import body_for, echo_for
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.endings import ENDINGS
from ollama_proxy.net.http1.body_upload import BodyUpload, framing_lines
from ollama_proxy.net.http1.client import OriginPool
from ollama_proxy.net.http1.fetch import Fetched, fetch
from ollama_proxy.net.lanes.fast_lane import RawAttempt
from ollama_proxy.net.lanes.pass_lane import PassAttempt, passed_body
from ollama_proxy.net.lanes.rest_lane import UnableAttempt
from ollama_proxy.net.lanes.translate_lane import DecodedAttempt, Decoder
from ollama_proxy.net.lanes.upstream import join_request, request_head
from ollama_proxy.net.probe import ask_within

#: What its own `/v1` layer drops in silence is not among them.
CAPABILITIES = frozenset(Need) - {
    Need.CHOICES,
    Need.TOOL_CHOICE,
    Need.TOKEN_INPUT,
    Need.COUNT,
    Need.RERANK,
    Need.SPEECH,
    Need.AUDIO_TRANSLATION,
    Need.IMAGE_VARIATION,
    Need.REMOTE_IMAGES,
    Need.DOCUMENTS,
    Need.BUILT_IN_TOOLS,
}
#: Its own, and what its `/v1` routes know.
SPOKEN = frozenset((Dialect.OLLAMA, Dialect.OPENAI, Dialect.RESPONSES, Dialect.ANTHROPIC))
_OLLAMA, _RESPONSES = Dialect.OLLAMA, Dialect.RESPONSES
_PASS = Operation.PASS
_MOST_HEADS = 256
#: The first Ollama with `/v1/responses`.
_FIRST_WITH_RESPONSES = (0, 13, 3)
_JSON = ((b"Content-Type", b"application/json"),)


class OllamaBackend:
    """One Ollama server."""

    def __init__(
        self,
        spec: BackendSpec,
        pool: OriginPool,
        prefix: str = "",
        decoders: Mapping[Dialect, Callable[[], Decoder]] | None = None,
    ) -> None:
        """`decoders` read the streams of its `/v1` routes, when one breaks off that another backend may continue."""
        self.spec = spec
        self._decoders = {**(decoders or {}), _OLLAMA: AnswerDecoder}
        self.capabilities = CAPABILITIES
        self._pool = pool
        self._prefix = prefix.encode("ascii")
        self._heads: dict[RawHead, bytes] = {}
        #: By path; there are a few.
        self._native_heads: dict[bytes, bytes] = {}
        #: Told by the version at the last probe.
        self._knows_no_responses = False
        self._habits = Habits()

    def open(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        """Send the call on the lane that fits."""
        raw = call.raw
        if raw is not None and self._speaks(call):
            head = self._heads.get(raw.head) or self._keep_head(raw.head)
            if call.operation is _PASS:
                return PassAttempt(sink).send(self._pool, join_request(head, passed_body(call, model)))
            body = body_for(call, model)
            if call.second_hand and call.dialect is not _OLLAMA:
                body = add_members(body, call.second_hand)
            read_body, read_tail = ENDINGS[call.dialect]
            decoder = self._decoders.get(call.dialect) if call.stream else None
            if call.begun and decoder is not None:
                return DecodedAttempt(sink, decoder()).send(self._pool, join_request(head, body))
            attempt = RawAttempt(sink, read_body, read_tail, echo_for(call, model), decoder)
            return attempt.send(self._pool, join_request(head, body))
        return self._translate(call, model, sink)

    def _translate(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        sent = call.continued
        if sent is not None:
            if sent.untold:
                return UnableAttempt(sink, sent.untold)
            return RestAttempt(sink, self._pool, self._native_head, call, model, self._habits).send()
        path, document = encode_request(call, model)
        decoder = EmbedDecoder() if call.operation is Operation.EMBED else AnswerDecoder()
        request = join_request(self._native_head(path), msgspec.json.encode(document))
        return DecodedAttempt(sink, decoder).send(self._pool, request)

    def _native_head(self, path: bytes) -> bytes:
        head = self._native_heads.get(path)
        if head is None:
            head = self._native_heads[path] = request_head(self._pool.origin, b"POST", self._prefix + path, _JSON)
        return head

    def _speaks(self, call: Call) -> bool:
        """Whether a raw request goes up as it came: its own dialect always, others unless that would lose something."""
        dialect = call.dialect
        if dialect is _OLLAMA or call.operation is _PASS:
            return True
        return not call.raw_needs_native and not (dialect is _RESPONSES and self._knows_no_responses)

    def relay(self, request: RawRequest, sink: RelaySink) -> Relay:
        """Send a request as it came."""
        head = self._heads.get(request.head) or self._keep_head(request.head)
        return self._pool.send(join_request(head, request.body), sink)

    def upload(self, head: RawHead, length: int | None, sink: UploadSink) -> BodyRelay:
        """Send a request as it came, whose body follows in pieces."""
        known = self._heads.get(head) or self._keep_head(head)
        request = known.removesuffix(b"Content-Length: ") + framing_lines(length)
        return BodyUpload.send(self._pool, request, length, sink)

    def _keep_head(self, raw: RawHead) -> bytes:
        if len(self._heads) >= _MOST_HEADS:
            self._heads.clear()
        head = request_head(self._pool.origin, raw.method, self._prefix + raw.path, raw.headers)
        self._heads[raw] = head
        return head

    async def probe(self, timeout_s: float) -> ProbeReport:
        """Version, installed and loaded models."""
        return await ask_within(timeout_s, self._ask(timeout_s))

    async def _ask(self, timeout_s: float) -> ProbeReport:
        tags = await self._get(b"/api/tags", timeout_s)
        loaded = await self._get(b"/api/ps", timeout_s)
        version = await self._get(b"/api/version", timeout_s)
        if tags.status != 200:
            raise ProbeError(f"HTTP {tags.status} on /api/tags")
        running = _entries(bytes(loaded.body)) if loaded.status == 200 else []
        told = _read_version(bytes(version.body)) if version.status == 200 else ""
        self._knows_no_responses = _is_older(told, _FIRST_WITH_RESPONSES)
        models = _read_models(bytes(tags.body))
        self._habits.update(told, models)
        return ProbeReport(
            models=models,
            loaded=frozenset(canonical_model(str(one.get("model") or one.get("name") or "")) for one in running),
            loaded_entries=tuple(running),
            version=told,
            emulated=any(name == b"x-emulated" for name, _ in tags.headers),
        )

    def may_go_on(self, model: str) -> bool:
        """By writing down the prompt and putting the text behind it, which is exact; other ways have to be tried."""
        return self._habits.renders and self._habits.may_go_on(model)

    def save_lessons(self) -> Mapping[str, bool]:
        """Which models go on with an open turn, by digest and version of the server."""
        return self._habits.open_turns

    def restore_lessons(self, lessons: Mapping[str, bool]) -> None:
        """What the last run knew."""
        self._habits.open_turns.update(lessons)

    async def _get(self, path: bytes, timeout_s: float) -> Fetched:
        request = request_head(self._pool.origin, b"GET", self._prefix + path) + b"0\r\n\r\n"
        return await fetch(self._pool, request, timeout_s)

    async def close(self) -> None:
        """Drop idle connections."""
        self._pool.close()


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
    except UNREADABLE:
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
    except UNREADABLE:
        return ""
    version = document.get("version") if isinstance(document, dict) else ""
    return version if isinstance(version, str) else ""


def _is_older(version: str, first: tuple[int, ...]) -> bool:
    """Whether a release came before another; one that was built without a number (0.0.0) may be any, so new."""
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return numbers is not None and (0, 0, 0) < tuple(map(int, numbers.groups())) < first
