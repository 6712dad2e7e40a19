"""What types cannot say: references between keys, and endpoints. Who may connect is `key_checks`."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points

from ollama_proxy.config.cache_checks import check_cache
from ollama_proxy.config.endpoint import EndpointError, parse_endpoint
from ollama_proxy.config.key_checks import check_keys
from ollama_proxy.config.meter_checks import check_meters
from ollama_proxy.config.pipeline_file import check_pipelines
from ollama_proxy.config.problems import Problem
from ollama_proxy.config.schema import Backend, Config
from ollama_proxy.config.sections.backends import KINDS, KINDS_GROUP
from ollama_proxy.config.vector_endpoint import parse_vector_endpoint

#: Parts of the contract that this version cannot serve yet; asking for them must not be ignored in silence.
_NOT_YET = "is not served by this version; leave it off"


def check_config(config: Config, environ: Mapping[str, str]) -> list[Problem]:
    """Every problem; empty when the configuration can be used."""
    return [
        *_check_server(config),
        *check_keys(config, environ, is_local=is_loopback(config.server.host)),
        *_check_backends(config, environ),
        *_check_placement(config),
        *_check_routing(config),
        *check_meters(config, environ),
        *_check_vectors(config),
        *check_cache(config.cache, environ),
        *check_pipelines(config.pipelines),
    ]


def _check_server(config: Config) -> list[Problem]:
    server = config.server
    problems = []
    if server.http_port and server.http_port == server.grpc_port:
        problems.append(Problem("server.http_port", f"is the same as server.grpc_port ({server.grpc_port})"))
    for name in ("cert_file", "key_file"):
        if server.tls.enabled and not getattr(server.tls, name):
            problems.append(Problem(f"server.tls.{name}", "is needed when server.tls.enabled is true"))
    return problems


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_backends(config: Config, environ: Mapping[str, str]) -> list[Problem]:
    problems = []
    seen: set[str] = set()
    variables: dict[str, list[str]] = {}
    transparent: list[str] = []
    for index, backend in enumerate(config.backends):
        path = f"backends[{index}]"
        if backend.id.lower() in seen:
            problems.append(Problem(f"{path}.id", f"{backend.id} is given twice"))
        if backend.id.lower() == "embedded":
            problems.append(Problem(f"{path}.id", "the id embedded belongs to the built-in model; choose another"))
        problems += _check_kind(backend, path)
        problems += _check_endpoint(backend, path)
        if backend.type == "vectordb" and backend.transparent:
            problems.append(Problem(f"{path}.transparent", "a vector database cannot be looked through"))
        if not _may_have(backend.type, backend.capabilities):
            told = f"is for type openai, and continuation for anthropic as well; {backend.type} says itself"
            problems.append(Problem(f"{path}.capabilities", told))
        if backend.enabled and backend.transparent:
            transparent.append(backend.id)
        problems += _check_key(backend, path, environ)
        if backend.id.lower() not in seen:
            variables.setdefault(endpoint_variable(backend.id), []).append(backend.id)
        seen.add(backend.id.lower())
    if len(transparent) > 1:
        message = f"{' and '.join(transparent)} are both transparent; only one can take what nobody else does"
        problems.append(Problem("backends", message))
    for variable, ids in variables.items():
        if len(ids) > 1:
            problems.append(Problem("backends", f"{' and '.join(ids)} would share the variable {variable}; rename one"))
    return problems


def _check_kind(backend: Backend, path: str) -> list[Problem]:
    if backend.type in KINDS:
        return []
    known = [*KINDS, *sorted(entry_points(group=KINDS_GROUP).names)]
    if backend.type in known:
        return []
    return [Problem(f"{path}.type", f"'{backend.type[:60]}' is none of {', '.join(known)}")]


def _check_endpoint(backend: Backend, path: str) -> list[Problem]:
    try:
        if backend.type == "vectordb":
            parse_vector_endpoint(backend.endpoint)
        else:
            parse_endpoint(backend.endpoint)
    except EndpointError as error:
        return [Problem(f"{path}.endpoint", str(error))]
    return []


def _may_have(kind: str, capabilities: Sequence[str]) -> bool:
    """Whether a kind of backend may be said to have these; what is not ours knows best."""
    if kind == "anthropic":
        return set(capabilities) <= {"continuation"}
    return not capabilities or kind == "openai" or kind not in KINDS


def _check_key(backend: Backend, path: str, environ: Mapping[str, str]) -> list[Problem]:
    """The value is shown only when it looks like a name: somebody may have written the key itself here."""
    name = backend.api_key_env
    if not name or not backend.enabled:
        return []
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        message = "must be the name of a variable in capitals, such as OPENAI_API_KEY, never the key itself"
        return [Problem(f"{path}.api_key_env", message)]
    if environ.get(name):
        return []
    return [Problem(f"{path}.api_key_env", f"the variable {name} is not set; it should hold the key of {backend.id}")]


def endpoint_variable(backend_id: str) -> str:
    """`ollama-npu` is overridden by `OLLAMA_NPU_ENDPOINT`, `my-gpu` by `OLLAMA_MY_GPU_ENDPOINT`."""
    word = re.sub(r"[^A-Z0-9]", "_", backend_id.removeprefix("ollama-").upper())
    return f"OLLAMA_{word}_ENDPOINT"


def _check_placement(config: Config) -> list[Problem]:
    placement = config.models.placement
    if isinstance(placement, str):
        return []
    stores = [one.id for one in config.backends if one.enabled and one.type == "ollama" and not one.transparent]
    problems = [
        Problem("models.placement", f"no enabled backend of type ollama is called {name}; there is {', '.join(stores)}")
        for name in placement
        if name not in stores
    ]
    return problems if placement else [Problem("models.placement", "is empty; name a backend, or write first or all")]


def _check_routing(config: Config) -> list[Problem]:
    default = config.routing.default_backend
    enabled = [backend.id for backend in config.backends if backend.enabled]
    problems = []
    if default and default not in enabled:
        message = f"no enabled backend is called {default}; enabled are {', '.join(enabled) or 'none'}"
        problems.append(Problem("routing.default_backend", message))
    return problems + _check_cap(config)


def _check_cap(config: Config) -> list[Problem]:
    """A cap under which nobody may run; who does not tell its draw never may."""
    cap_w = config.routing.system_cap_watts
    draws_w = [one.characteristics.power_watts for one in config.backends if one.enabled]
    least_w = min(filter(None, draws_w), default=None)
    if not cap_w or (least_w is not None and least_w <= cap_w):
        return []
    why = "no enabled backend tells its power_watts" if least_w is None else f"the least draw is {least_w:g} W"
    return [Problem("routing.system_cap_watts", f"no backend may run under {cap_w:g} W: {why}")]


def _check_vectors(config: Config) -> list[Problem]:
    vectors = config.vectors
    problems = []
    databases = [one.id for one in config.backends if one.enabled and one.type == "vectordb"]
    if vectors.backend and vectors.backend not in ("embedded", *databases):
        told = f"no enabled backend of type vectordb is called {vectors.backend}; there is {', '.join(databases)}"
        problems.append(Problem("vectors.backend", told if databases else f"{told}none, and embedded"))
    if vectors.chunk_overlap_tokens > vectors.chunk_tokens // 2:
        problems.append(Problem("vectors.chunk_overlap_tokens", "is more than half of chunk_tokens"))
    return problems
