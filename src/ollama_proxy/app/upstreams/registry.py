"""Every kind there is, by its name in the configuration: one line a kind.

A value is imported when it is first used, so a kind that nobody configures costs nothing. Types that the configuration
names are listed there, too (`config/sections/`). Third parties bring kinds of backends by entry points.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Any

from ollama_proxy.config.sections.backends import KINDS_GROUP

BACKENDS = {
    "ollama": "ollama_proxy.app.upstreams.backends:build_ollama",
    "openai": "ollama_proxy.app.upstreams.backends:build_openai",
    "anthropic": "ollama_proxy.app.upstreams.backends:build_anthropic",
    "vectordb": "ollama_proxy.app.retrieval.backend:build_vectordb",
}

#: Client dialects on the HTTP port, in the order in which their routes are looked up.
HTTP_APIS = {
    "compute": "ollama_proxy.app.apis:build_rest",
    "compute-rpc": "ollama_proxy.app.apis:build_rpc",
    "openapi": "ollama_proxy.api.openapi.routes:OpenApiPages",
    "ollama": "ollama_proxy.api.ollama.routes:OllamaApi",
    "websocket": "ollama_proxy.api.websocket.routes:WebSocketApi",
    "anthropic": "ollama_proxy.api.anthropic.routes:AnthropicApi",
    "vector-stores": "ollama_proxy.app.apis:build_vector_stores",
    "openai": "ollama_proxy.api.openai.routes:OpenAiApi",
    "responses": "ollama_proxy.app.apis:build_responses",
    "decisions": "ollama_proxy.app.apis:build_decisions",
    "cache": "ollama_proxy.app.apis:build_cache_pages",
}

#: Power meters; each is made with a root folder and `MeterOptions`. The first five are found without being configured.
METERS = {
    "powercap": "ollama_proxy.energy.meters.powercap:PowercapMeter",
    "hwmon": "ollama_proxy.energy.meters.hwmon:HwmonMeter",
    "nvml": "ollama_proxy.energy.meters.nvml:NvmlMeter",
    "npu": "ollama_proxy.energy.meters.npu:NpuMeter",
    "supply": "ollama_proxy.energy.meters.supply:SupplyMeter",
    "http": "ollama_proxy.energy.meters.http:HttpMeter",
    "command": "ollama_proxy.energy.meters.command:CommandMeter",
}

#: Where answers are kept; each is made with the section `cache` of the configuration and the environment.
STORES = {
    "memory": "ollama_proxy.app.caching.stores:build_memory",
    "sqlite": "ollama_proxy.app.caching.stores:build_sqlite",
    "valkey": "ollama_proxy.app.caching.stores:build_valkey",
    "redis": "ollama_proxy.app.caching.stores:build_valkey",
}

#: Places for vectors. The embedded one is made with a file and the memory it may take, servers with their endpoint and
#: what lets us in.
INDICES = {
    "embedded": "ollama_proxy.vectors.stores.embedded:EmbeddedIndex",
    "qdrant": "ollama_proxy.vectors.stores.qdrant:QdrantIndex",
    "pgvector": "ollama_proxy.vectors.stores.pgvector:PgvectorIndex",
}

#: What else can be looked at; each is made with a root folder.
SENSORS = {
    "thermal": "ollama_proxy.energy.meters.thermal:ThermalSensor",
    "fan": "ollama_proxy.energy.meters.fan:FanSensor",
    "profile": "ollama_proxy.energy.meters.profile:ProfileSensor",
}


def load_kind(table: dict[str, str], name: str) -> Any:
    """The object that a name stands for. Raises `KeyError` for a name that is not in the table."""
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def load_backend_kind(name: str) -> Any:
    """What builds the backends of a type, ours or an installed package's: called with a `BackendSpec`, the endpoint
    and the entry of the file, it returns a `domain.ports.Backend`. Raises `KeyError` for a name that nobody has."""
    if name in BACKENDS:
        return load_kind(BACKENDS, name)
    return entry_points(group=KINDS_GROUP)[name].load()
