"""The whole configuration: its sections, each with its defaults; the JSON Schema is made from them."""

from __future__ import annotations

import msgspec

from ollama_proxy.config.sections.backends import Backend, Characteristics, ModelCapability
from ollama_proxy.config.sections.cache import Cache
from ollama_proxy.config.sections.embeddings import Embeddings
from ollama_proxy.config.sections.energy import Efficiency, Energy, Meters, MeterSource, Thermal
from ollama_proxy.config.sections.keys import ApiKey, Auth, Grant, RateLimit
from ollama_proxy.config.sections.models import Embedded, Models
from ollama_proxy.config.sections.operation import Health, Learning, Monitoring, Process
from ollama_proxy.config.sections.pipelines import Pipelines
from ollama_proxy.config.sections.responses import Responses
from ollama_proxy.config.sections.routing import Routing
from ollama_proxy.config.sections.section import Section
from ollama_proxy.config.sections.server import Server, Tls
from ollama_proxy.config.sections.timeouts import Timeouts
from ollama_proxy.config.sections.vectors import VectorStores

__all__ = [
    "ApiKey",
    "Auth",
    "Backend",
    "Cache",
    "Characteristics",
    "Config",
    "Efficiency",
    "Embedded",
    "Embeddings",
    "Energy",
    "Grant",
    "Health",
    "Learning",
    "MeterSource",
    "Meters",
    "ModelCapability",
    "Models",
    "Monitoring",
    "Pipelines",
    "Process",
    "RateLimit",
    "Responses",
    "Routing",
    "Section",
    "Server",
    "Thermal",
    "Timeouts",
    "Tls",
    "VectorStores",
    "json_schema",
]


class Config(Section, frozen=True):
    """The file."""

    server: Server = Server()
    process: Process = Process()
    embedded: Embedded = Embedded()
    backends: tuple[Backend, ...] = ()
    models: Models = Models()
    embeddings: Embeddings = Embeddings()
    routing: Routing = Routing()
    timeouts: Timeouts = Timeouts()
    cache: Cache = Cache()
    vectors: VectorStores = VectorStores()
    responses: Responses = Responses()
    health: Health = Health()
    monitoring: Monitoring = Monitoring()
    meters: Meters = Meters()
    energy: Energy = Energy()
    learning: Learning = Learning()
    thermal: Thermal = Thermal()
    efficiency: Efficiency = Efficiency()
    pipelines: Pipelines = Pipelines()


def json_schema() -> dict[str, object]:
    """The JSON Schema of the file (draft 2020-12)."""
    schema = msgspec.json.schema(Config)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Ollama Compute Proxy", **schema}
