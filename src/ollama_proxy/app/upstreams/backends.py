"""Backends from their configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from ollama_proxy.app.passage import Passage
from ollama_proxy.app.upstreams.registry import load_backend_kind
from ollama_proxy.backends.anthropic.answers import StreamDecoder as AnthropicStream
from ollama_proxy.backends.anthropic.backend import AnthropicBackend
from ollama_proxy.backends.embedded.vectors import EmbeddedVectors, VectorFacts
from ollama_proxy.backends.embedded.wordpiece import WordPieces
from ollama_proxy.backends.ollama.backend import OllamaBackend
from ollama_proxy.backends.openai.answers import StreamDecoder as OpenAiStream
from ollama_proxy.backends.openai.backend import OpenAiBackend
from ollama_proxy.backends.openai.responses_stream import ResponsesDecoder
from ollama_proxy.config.endpoint import Endpoint, parse_endpoint
from ollama_proxy.config.schema import Backend as BackendConfig
from ollama_proxy.domain.call import Dialect
from ollama_proxy.domain.device import BackendSpec, FleetView
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Backend
from ollama_proxy.net.http1.client import Origin, OriginPool
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.lanes.translate_lane import Decoder

#: The embedded model's prior: a small model on a few cores. Configured, like every prior; traffic corrects the speeds.
EMBEDDED_WATTS = 10.0
EMBEDDED_LATENCY_MS = 200.0
EMBEDDED_TOKENS_PER_SECOND = 60.0
EMBEDDED_SLOTS = 4
EMBEDDED_VECTORS_LATENCY_MS = 5.0
EMBEDDED_VECTORS_TOKENS_PER_SECOND = 2000.0
#: Who reads the streams of other dialects that a server speaks beside its own.
_DECODERS: Mapping[Dialect, Callable[[], Decoder]] = {
    Dialect.OPENAI: OpenAiStream,
    Dialect.RESPONSES: ResponsesDecoder,
    Dialect.ANTHROPIC: AnthropicStream,
}
#: Hardware that works on the memory of its machine, and not on its own.
_WITHOUT_MEMORY = frozenset(("npu", "igpu", "cpu"))
_THIS_MACHINE = "localhost"


def build_backend(config: BackendConfig, aliases: Mapping[str, str]) -> Backend:
    """The backend of one entry of the file; `aliases` are those of all backends."""
    build = load_backend_kind(config.type)
    endpoint = None if config.type == "vectordb" else parse_endpoint(config.endpoint)
    backend: Backend = build(build_spec(config, aliases), endpoint, config)
    return backend


def build_passage(
    config: BackendConfig,
    fleet: Callable[[], FleetView],
    pages: frozenset[bytes],
    refuse: Callable[[Exchange, int, str], None],
) -> Passage:
    """The way to a transparent backend; `pages` are this program's own paths."""
    endpoint = parse_endpoint(config.endpoint)
    return Passage(config.id, _pool(endpoint), endpoint.prefix, fleet, pages, refuse)


def build_spec(config: BackendConfig, aliases: Mapping[str, str]) -> BackendSpec:
    """What the decision knows of an entry."""
    character, capability = config.characteristics, config.model_capability
    return BackendSpec(
        id=config.id,
        kind=config.type,
        name=config.name or config.id,
        hardware=config.hardware,
        power_watts=character.power_watts,
        avg_latency_ms=character.avg_latency_ms,
        max_tokens_per_second=character.max_tokens_per_second,
        priority=character.priority,
        slots=config.slots or 1,
        held=bool(config.slots),
        prefill_tokens_per_second=character.prefill_tokens_per_second,
        prefill_watts=character.prefill_watts,
        load_seconds=character.load_seconds,
        suspend_after_seconds=character.suspend_after_seconds,
        wake_seconds=character.wake_seconds,
        wake_joules=character.wake_joules,
        throttle_celsius=character.throttle_celsius,
        parallel_exponent=character.parallel_exponent,
        memory_pool=_find_pool(config),
        max_model_size_gb=capability.max_model_size_gb,
        memory_gb=config.memory_gb,
        supported_patterns=capability.supported_model_patterns,
        preferred_models=capability.preferred_models,
        excluded_patterns=capability.excluded_patterns,
        model_names=_join_names(config.model_names, aliases),
    )


def _find_pool(config: BackendConfig) -> str:
    """With whom a device shares its machine's memory: as configured, else those without memory of their own there."""
    if config.memory_pool:
        return "" if config.memory_pool == "none" else config.memory_pool
    if config.hardware not in _WITHOUT_MEMORY or config.type == "vectordb":
        return ""
    host = parse_endpoint(config.endpoint).host.lower()
    return _THIS_MACHINE if host == "::1" or host.startswith("127.") else host


def _join_names(own: Mapping[str, str], aliases: Mapping[str, str]) -> dict[str, str]:
    """What each name means there: an alias leads to a model, which the server may call something else again."""
    names = {canonical_model(name): there for name, there in own.items()}
    led = {canonical_model(alias): names.get(canonical_model(model), model) for alias, model in aliases.items()}
    return {**led, **names}


def _pool(endpoint: Endpoint) -> OriginPool:
    return OriginPool(Origin(endpoint.host, endpoint.port, endpoint.scheme == "https", endpoint.unix_path))


def build_ollama(spec: BackendSpec, endpoint: Endpoint, config: BackendConfig) -> Backend:
    """A server of type ollama."""
    return OllamaBackend(spec, _pool(endpoint), endpoint.prefix, _DECODERS)


def build_openai(spec: BackendSpec, endpoint: Endpoint, config: BackendConfig) -> Backend:
    """A server of type openai; the endpoint may end in `/v1` or leave it out."""
    responses = "responses" in config.apis
    return OpenAiBackend(
        spec,
        _pool(endpoint),
        _version_1(endpoint),
        api_key=_read_key(config),
        static_models=config.models,
        speaks_responses=responses,
        capabilities=config.capabilities,
    )


def build_anthropic(spec: BackendSpec, endpoint: Endpoint, config: BackendConfig) -> Backend:
    """A server of type anthropic; the endpoint may end in `/v1` or leave it out."""
    return AnthropicBackend(
        spec,
        _pool(endpoint),
        _version_1(endpoint),
        api_key=_read_key(config),
        static_models=config.models,
        max_tokens=config.max_tokens,
        continues="continuation" in config.capabilities,
    )


def _version_1(endpoint: Endpoint) -> str:
    """The path in front of everything, with `/v1` at its end."""
    return endpoint.prefix if endpoint.prefix.endswith("/v1") else endpoint.prefix + "/v1"


def _read_key(config: BackendConfig) -> str:
    return os.environ.get(config.api_key_env, "") if config.api_key_env else ""


def build_embedded(host: str, port: int, model: str) -> Backend:
    """The embedded model's server."""
    spec = BackendSpec(
        id="embedded",
        kind="openai",
        name=f"Embedded {model} (llama.cpp)",
        hardware="cpu",
        power_watts=EMBEDDED_WATTS,
        avg_latency_ms=EMBEDDED_LATENCY_MS,
        max_tokens_per_second=EMBEDDED_TOKENS_PER_SECOND,
        slots=EMBEDDED_SLOTS,
        held=True,
        memory_pool=_THIS_MACHINE,
        stand_in_model=model,
    )
    return OpenAiBackend(spec, OriginPool(Origin(host, port)), "/v1", always_stream=True)


def build_embedded_vectors(host: str, port: int, facts: VectorFacts, pieces: WordPieces) -> Backend:
    """The server of the embedded model that makes vectors."""
    spec = BackendSpec(
        id="embedded-vectors",
        kind="openai",
        name=f"Embedded {facts.name} (llama.cpp)",
        hardware="cpu",
        power_watts=EMBEDDED_WATTS,
        avg_latency_ms=EMBEDDED_VECTORS_LATENCY_MS,
        prefill_tokens_per_second=EMBEDDED_VECTORS_TOKENS_PER_SECOND,
        slots=EMBEDDED_SLOTS,
        memory_pool=_THIS_MACHINE,
    )
    return EmbeddedVectors(OpenAiBackend(spec, OriginPool(Origin(host, port)), "/v1"), facts, pieces)
