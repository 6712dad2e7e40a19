"""Configured names of models, over the lists of backends."""

from __future__ import annotations

from ollama_proxy.domain.device import ModelFacts
from ollama_proxy.fleet.naming import with_names

HELD = {
    "llama3:8b": ModelFacts("llama3:8b", "d", entry={"name": "llama3:8b", "model": "llama3:8b", "size": 5}),
    "qwen:1b": ModelFacts("qwen:1b"),
}


def test_nothing_configured_leaves_the_very_list() -> None:
    assert with_names(HELD, {}) is HELD


def test_a_name_is_added_with_the_facts_of_what_is_there() -> None:
    found = with_names(HELD, {"llama3:7b": "llama3:8b"})["llama3:7b"]
    assert (found.name, found.there, found.digest) == ("llama3:7b", "llama3:8b", "d")
    assert found.entry == {"name": "llama3:7b", "model": "llama3:7b", "size": 5}


def test_an_alias_without_a_tag_is_shown_without() -> None:
    assert with_names(HELD, {"fast:latest": "qwen:1b"})["fast:latest"].name == "fast"


def test_a_configured_name_wins_over_the_servers_own() -> None:
    assert with_names(HELD, {"qwen:1b": "llama3:8b"})["qwen:1b"].there == "llama3:8b"


def test_a_name_for_what_is_not_there_is_nobodys() -> None:
    assert "qwen:1b" not in with_names(HELD, {"qwen:1b": "gone:1b"})
    assert "x:latest" not in with_names(HELD, {"x:latest": "gone:1b"})
