"""What types cannot say of the cache: a password that is not there, a client that is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from ollama_proxy.config.problems import Problem
from ollama_proxy.config.sections.cache import Cache

VALKEY = ("valkey", "redis")


def check_cache(cache: Cache, environ: Mapping[str, str]) -> list[Problem]:
    """Every problem of a cache that is to be used."""
    problems: list[Problem] = []
    if cache.enabled and cache.semantic.enabled and find_spec("numpy") is None:
        told = "needs numpy: install ollama-compute-proxy[vectors]"
        problems.append(Problem("cache.semantic.enabled", told))
    if not cache.enabled or cache.type not in VALKEY:
        return problems
    if find_spec("valkey") is None:
        told = f"{cache.type} needs a client: install ollama-compute-proxy[valkey]"
        problems.append(Problem("cache.type", told))
    if cache.password_env and not environ.get(cache.password_env):
        problems.append(Problem("cache.password_env", f"the variable {cache.password_env} is not set"))
    return problems
