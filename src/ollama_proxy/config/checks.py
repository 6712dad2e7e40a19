"""What types cannot say: references between keys, endpoints, and the one rule of safety."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from ollama_proxy.config.endpoint import EndpointError, parse_endpoint
from ollama_proxy.config.problems import Problem
from ollama_proxy.config.schema import Config

#: Parts of the contract that this version cannot serve yet; asking for them must not be ignored in silence.
_NOT_YET = "is not served by this version; leave it off"


def check_config(config: Config, environ: Mapping[str, str]) -> list[Problem]:
    """Every problem; empty when the configuration can be used."""
    return [*_check_server(config), *_check_backends(config, environ), *_check_routing(config)]


def _check_server(config: Config) -> list[Problem]:
    server = config.server
    problems = []
    if not is_loopback(server.host):
        keys = [key for key in server.auth.api_keys.values() if key.enabled]
        if not (server.auth.enabled and keys):
            message = f"{server.host} is open to others; without keys (server.auth) only a loopback address is served"
            problems.append(Problem("server.host", message))
    if server.http_port and server.http_port == server.grpc_port:
        problems.append(Problem("server.http_port", f"is the same as server.grpc_port ({server.grpc_port})"))
    for where, asked in (
        ("server.tls.enabled", server.tls.enabled),
        ("server.auth.enabled", server.auth.enabled),
        ("server.rate_limit.enabled", server.rate_limit.enabled),
        ("pipelines.enabled", config.pipelines.enabled),
    ):
        if asked:
            problems.append(Problem(where, _NOT_YET))
    return problems


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _check_backends(config: Config, environ: Mapping[str, str]) -> list[Problem]:
    problems = []
    seen: set[str] = set()
    for index, backend in enumerate(config.backends):
        path = f"backends[{index}]"
        if backend.id.lower() in seen:
            problems.append(Problem(f"{path}.id", f"{backend.id} is given twice"))
        seen.add(backend.id.lower())
        if backend.id == "embedded":
            problems.append(Problem(f"{path}.id", "the id embedded belongs to the built-in model; choose another"))
        try:
            parse_endpoint(backend.endpoint)
        except EndpointError as error:
            problems.append(Problem(f"{path}.endpoint", str(error)))
        if backend.enabled and backend.type in ("anthropic", "vectordb"):
            problems.append(Problem(f"{path}.type", f"{backend.type} {_NOT_YET}, or set enabled: false"))
        if backend.enabled and backend.transparent:
            problems.append(Problem(f"{path}.transparent", _NOT_YET))
        if backend.enabled and backend.api_key_env and not environ.get(backend.api_key_env):
            message = f"the variable {backend.api_key_env} is not set; it should hold the key of {backend.id}"
            problems.append(Problem(f"{path}.api_key_env", message))
    return problems


def _check_routing(config: Config) -> list[Problem]:
    default = config.routing.default_backend
    if default and default not in {backend.id for backend in config.backends}:
        known = ", ".join(backend.id for backend in config.backends) or "none"
        return [Problem("routing.default_backend", f"no backend is called {default}; configured are {known}")]
    return []
