"""Client dialects that need more than the service: what the configuration says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_proxy.api.cache.routes import CachePages
from ollama_proxy.api.compute.rest import RestApi
from ollama_proxy.api.compute.rpc import RpcApi
from ollama_proxy.api.decisions.routes import DecisionApi
from ollama_proxy.api.responses.routes import ResponsesApi
from ollama_proxy.api.responses.store import StoreLimits
from ollama_proxy.api.vector_stores.routes import VectorStoresApi

if TYPE_CHECKING:
    from ollama_proxy.app.proxy import Proxy


def build_rpc(proxy: Proxy) -> RpcApi:
    """`compute.v1` for Connect and gRPC-Web, with the health that the program is in."""
    return RpcApi(proxy, lambda: proxy.is_leaving, proxy.pipelines)


def build_rest(proxy: Proxy) -> RestApi:
    """The gateway of `compute.v1`."""
    return RestApi(proxy, proxy.pipelines)


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
        proxy,
        StoreLimits(limits.store_max_entries, round(limits.store_max_mb * megabyte), limits.ttl_seconds),
        lambda: proxy.vectors.library,
    )


def build_vector_stores(proxy: Proxy) -> VectorStoresApi:
    """OpenAI's Files and Vector Stores."""
    return VectorStoresApi(lambda: proxy.vectors.library)
