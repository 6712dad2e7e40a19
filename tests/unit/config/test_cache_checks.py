"""What is wrong with the configuration of a cache."""

import sys

import pytest

from ollama_proxy.config.cache_checks import check_cache
from ollama_proxy.config.sections.cache import Cache


@pytest.mark.parametrize("kind", ["memory", "sqlite", "valkey", "redis"])
def test_every_kind_can_be_used(kind: str) -> None:
    assert check_cache(Cache(type=kind), {}) == []  # type: ignore[arg-type]


def test_a_password_has_to_be_there() -> None:
    cache = Cache(type="valkey", password_env="SECRET")
    [problem] = check_cache(cache, {"SECRET": ""})
    assert problem.where == "cache.password_env"
    assert check_cache(cache, {"SECRET": "x"}) == []
    assert check_cache(Cache(enabled=False, type="valkey", password_env="SECRET"), {}) == []


def test_without_its_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "valkey", raising=False)
    monkeypatch.setattr(sys, "path", [])
    [problem] = check_cache(Cache(type="redis"), {})
    assert "ollama-compute-proxy[valkey]" in problem.message
