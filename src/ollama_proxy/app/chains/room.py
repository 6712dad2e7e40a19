"""The configured pipelines, ready to run."""

from __future__ import annotations

from collections.abc import Callable

from ollama_proxy.app.chains.workers import ServiceWorkers
from ollama_proxy.config.pipeline_file import load_pipelines
from ollama_proxy.config.schema import Pipelines as PipelinesConfig
from ollama_proxy.domain.pipelines import Pipelines
from ollama_proxy.domain.ports import Service
from ollama_proxy.domain.vectors import Embedder, Retriever
from ollama_proxy.pipelines.engine import Engine


def build_pipelines(
    config: PipelinesConfig,
    service: Service,
    embedder: Embedder,
    find_retriever: Callable[[], Retriever | None] = lambda: None,
) -> Pipelines | None:
    """None where they are switched off. Raises `ConfigError`."""
    if not config.enabled:
        return None
    return Engine(load_pipelines(config), ServiceWorkers(service, embedder, find_retriever))
