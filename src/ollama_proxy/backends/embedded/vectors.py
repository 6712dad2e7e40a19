"""The embedded model that makes vectors, as a backend: a server behind it, and texts cut to what it takes."""

from __future__ import annotations

import msgspec

from ollama_proxy.backends.embedded.wordpiece import WordPieces
from ollama_proxy.domain.call import Call, Embedding, Need, RawRequest
from ollama_proxy.domain.device import ModelFacts
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Attempt, AttemptSink, Backend, ProbeReport, Relay, RelaySink


class VectorFacts(msgspec.Struct, frozen=True):
    """The model: its name, digest and size, the length of its vectors, how many tokens of a text it takes."""

    name: str
    digest: str
    size_bytes: int
    dimensions: int
    most_tokens: int


class EmbeddedVectors:
    """Only requests for vectors, always translated; `server` is what answers them."""

    def __init__(self, server: Backend, facts: VectorFacts, pieces: WordPieces) -> None:
        self.spec = server.spec
        self.capabilities = frozenset((Need.EMBED,))
        self._server = server
        self._facts = facts
        self._pieces = pieces

    def open(self, call: Call, model: str, sink: AttemptSink) -> Attempt:
        """Send the call, its texts cut. Raises `ProxyError` for what the model cannot do."""
        embedding = self._fit(call)
        return self._server.open(msgspec.structs.replace(call, raw=None, typed=lambda: embedding), model, sink)

    def _fit(self, call: Call) -> Embedding:
        embedding, facts = call.typed(), self._facts
        assert isinstance(embedding, Embedding)
        if embedding.dimensions not in (None, facts.dimensions):
            told = f"{facts.name} has vectors of {facts.dimensions} dimensions, and they cannot be cut to "
            raise ProxyError(ErrorKind.INVALID_REQUEST, f"{told}{embedding.dimensions}; leave out dimensions")
        inputs = tuple([self._pieces.clip(text, facts.most_tokens) for text in embedding.inputs])
        if embedding.truncate is False and inputs != embedding.inputs:
            raise ProxyError(ErrorKind.INVALID_REQUEST, "the input length exceeds the context length")
        return Embedding(inputs)

    def relay(self, request: RawRequest, sink: RelaySink) -> Relay:
        """Send a request as it came."""
        return self._server.relay(request, sink)

    async def probe(self, timeout_s: float) -> ProbeReport:
        """Whether the server is there; what it has is known."""
        await self._server.probe(timeout_s)
        facts = self._facts
        model = ModelFacts(facts.name, facts.digest, facts.size_bytes, context_length=facts.most_tokens)
        name = canonical_model(facts.name)
        return ProbeReport({name: model}, frozenset((name,)))

    async def close(self) -> None:
        """Drop idle connections."""
        await self._server.close()
