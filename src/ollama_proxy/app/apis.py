"""Client dialects and pages, and what those that need more than the service are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ollama_proxy.api.cache.routes import CachePages
from ollama_proxy.api.compute.rest import RestApi
from ollama_proxy.api.compute.rpc import RpcApi
from ollama_proxy.api.decisions.routes import DecisionApi
from ollama_proxy.api.responses.routes import ResponsesApi
from ollama_proxy.api.responses.store import StoreLimits
from ollama_proxy.api.vector_stores.routes import VectorStoresApi
from ollama_proxy.app.upstreams.registry import HTTP_APIS, load_kind

if TYPE_CHECKING:
    from ollama_proxy.app.proxy import Proxy


def build_apis(proxy: Proxy) -> list[Any]:
    """All that is registered, in that order. Those that need no more than the service are made with that alone."""
    kinds = [load_kind(HTTP_APIS, name) for name in HTTP_APIS]
    return [kind(proxy if kind.__module__ == __name__ else proxy.service) for kind in kinds]


def build_rpc(proxy: Proxy) -> RpcApi:
    """`compute.v1` for Connect and gRPC-Web, with the health that the program is in."""
    return RpcApi(proxy.service, lambda: proxy.control.is_leaving, proxy.pipelines)


def build_rest(proxy: Proxy) -> RestApi:
    """The gateway of `compute.v1`."""
    return RestApi(proxy.service, proxy.pipelines)


def build_decisions(proxy: Proxy) -> DecisionApi:
    """The pages about decisions."""
    return DecisionApi(proxy.inquiry)


def build_cache_pages(proxy: Proxy) -> CachePages:
    """The page about kept answers."""
    return CachePages(proxy.cache)


def build_responses(proxy: Proxy) -> ResponsesApi:
    """OpenAI's Responses API with its store."""
    limits = proxy.config.responses
    megabyte = 1024 * 1024
    return ResponsesApi(
        proxy.service,
        StoreLimits(limits.store_max_entries, round(limits.store_max_mb * megabyte), limits.ttl_seconds),
        lambda: proxy.vectors.library,
    )


def build_vector_stores(proxy: Proxy) -> VectorStoresApi:
    """OpenAI's Files and Vector Stores."""
    return VectorStoresApi(lambda: proxy.vectors.library)
