"""What every route takes, written down by hand beside the tables of the program: a new route belongs here, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.routing import Route

from ollama_proxy.api.compute.methods import ComputeApi
from ollama_proxy.api.status import build_status_app
from ollama_proxy.app.apis import build_apis
from ollama_proxy.app.proxy import Proxy
from ollama_proxy.config.key_file import hash_key
from ollama_proxy.config.schema import ApiKey, Auth, Config
from ollama_proxy.net.grpc.health import Health
from ollama_proxy.net.grpc.reflection import REFLECTION_METHODS

#: One key for each right, and one with all.
KEYS = {name: f"ocp_{name}-{'k' * 30}" for name in ("infer", "models", "admin", "all")}
RIGHTS = {"infer": {"infer"}, "models": {"models"}, "admin": {"admin"}, "all": {"infer", "models", "admin"}}
AUTH = Auth(
    enabled=True,
    api_keys={
        name: ApiKey(key_hash=hash_key(key.encode()), permissions=tuple(sorted(RIGHTS[name])))  # type: ignore[arg-type]
        for name, key in KEYS.items()
    },
)

#: `*` stands for what comes behind a prefix.
ROUTES = {
    "open": """
        GET / · HEAD / · GET /docs · HEAD /docs · GET /openapi.json · HEAD /openapi.json · GET /healthz · GET /readyz
        POST /grpc.health.v1.Health/Check
    """,
    "key": """
        GET /api/version · HEAD /api/version · GET /api/tags · HEAD /api/tags · GET /api/ps · POST /api/show
        GET /v1/models · GET /v1/models/* · GET /health · GET /backends · GET /version · GET /metrics · GET /thermal
        GET /efficiency · GET /proxy/calibration · GET /compute/v1/backends · HEAD /compute/v1/backends
        GET /compute/v1/health · HEAD /compute/v1/health · POST /compute.v1.ComputeService/ListBackends
        POST /compute.v1.ComputeService/HealthCheck
    """,
    "infer": """
        POST /api/generate · POST /api/chat · POST /api/embed · POST /api/embeddings · GET /api/status
        POST /api/experimental/web_search · POST /api/experimental/web_fetch
        GET /api/experimental/model-recommendations
        POST /v1/chat/completions · POST /v1/completions · POST /v1/embeddings · POST /v1/audio/transcriptions
        POST /v1/audio/translations · POST /v1/audio/speech · POST /v1/images/generations · POST /v1/images/edits
        POST /v1/images/variations · POST /v1/rerank · POST /rerank · POST /v2/rerank
        POST /v1/messages · POST /v1/messages/count_tokens
        GET /v1/files · POST /v1/files · GET /v1/files/* · DELETE /v1/files/*
        GET /v1/vector_stores · POST /v1/vector_stores
        GET /v1/vector_stores/* · POST /v1/vector_stores/* · DELETE /v1/vector_stores/*
        POST /v1/responses · GET /v1/responses/* · POST /v1/responses/* · DELETE /v1/responses/*
        GET /v1/stream/ws · POST /proxy/decide · GET /proxy/decisions/*
        POST /compute/v1/generate · POST /compute/v1/generate/stream · POST /compute/v1/embed
        POST /compute/v1/pipelines/execute · POST /compute/v1/pipelines/execute/stream
        POST /compute.v1.ComputeService/Generate · POST /compute.v1.ComputeService/GenerateStream
        POST /compute.v1.ComputeService/Embed · POST /compute.v1.ComputeService/ExecutePipeline
        POST /compute.v1.ComputeService/ExecutePipelineStream · POST /compute.v1.ComputeService/*
    """,
    "models": """
        POST /api/create · POST /api/pull · POST /api/push · POST /api/copy · DELETE /api/delete · POST /api/me
        HEAD /api/blobs/* · POST /api/blobs/*
    """,
    "admin": """
        POST /api/signout · DELETE /api/user/keys/* · GET /proxy/decisions · GET /proxy/queue · POST /efficiency
        POST /proxy/reload · GET /proxy/ledger · GET /proxy/cache · DELETE /proxy/cache
    """,
}
#: Over gRPC itself. Methods that nobody has take a key, so that nobody without one learns which there are.
METHODS = {
    "open": ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"],
    "key": [
        "/compute.v1.ComputeService/ListBackends",
        "/compute.v1.ComputeService/HealthCheck",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/compute.v1.ComputeService/Nothing",
    ],
    "infer": [
        f"/compute.v1.ComputeService/{name}"
        for name in ("Generate", "GenerateStream", "Embed", "ExecutePipeline", "ExecutePipelineStream")
    ],
}


def declared() -> dict[tuple[str, str], str]:
    """The permission of each route by method and path."""
    return {
        (method, path): permission
        for permission, text in ROUTES.items()
        for line in text.strip().splitlines()
        for method, _, path in [one.strip().partition(" ") for one in line.split("·")]
    }


def collect() -> set[tuple[str, str]]:
    """Method and path of everything that the program serves."""

    async def ask() -> set[tuple[str, str]]:
        proxy = Proxy(Config())
        found = set()
        for api in build_apis(proxy):
            for table, tail in ((api.routes, ""), (api.prefixes, "*"), (getattr(api, "marked", {}), None)):
                for path in table:
                    end = tail if tail is not None else "*" if path.endswith(b"/") else ""
                    found |= {(method.decode(), path.decode() + end) for method in table[path]}
        for route in build_status_app(proxy.control).routes:
            assert isinstance(route, Route)
            found |= {(method, route.path) for method in (route.methods or set()) - {"HEAD"}}
        await proxy.stop()
        return found

    return asyncio.run(ask())


def collect_methods() -> set[str]:
    """Paths of everything that gRPC serves."""
    service: Any = None
    return {*ComputeApi(service).methods(), *Health().methods, *REFLECTION_METHODS}


def verdict(role: str, permission: str) -> int:
    """What becomes of a request: 401, 403, or 0 when it is let in."""
    if permission == "open":
        return 0
    if role not in KEYS:
        return 401
    return 0 if permission == "key" or permission in RIGHTS[role] else 403


ROLES: dict[str, Callable[[], dict[str, str]]] = {
    "nobody": dict,
    "stranger": lambda: {"authorization": "Bearer ocp_" + "s" * 43},
    **{name: (lambda key=key: {"authorization": f"Bearer {key}"}) for name, key in KEYS.items()},  # type: ignore[misc]
}
