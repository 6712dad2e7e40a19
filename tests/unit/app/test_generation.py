"""Who stays, who is described anew, who comes and goes between two configurations."""

from __future__ import annotations

import msgspec

from ollama_proxy.app.generation import build_generation, compare, replaced
from ollama_proxy.config.schema import Backend, Config, Models

A = Backend(id="a", endpoint="http://localhost:1")
B = Backend(id="b", endpoint="http://localhost:2")


def test_who_is_as_before_is_the_same_object() -> None:
    first = build_generation(Config(backends=(A, B)))
    second = build_generation(Config(backends=(B, A)), first)
    assert list(second.backends) == ["b", "a"]
    assert all(second.backends[name] is first.backends[name] for name in "ab")
    who = compare(first, second)
    assert (who.joined, who.renewed, who.left) == (frozenset(),) * 3
    assert not list(replaced(first, second))


def test_another_description_of_the_same_server() -> None:
    first = build_generation(Config(backends=(A, B)))
    second = build_generation(Config(backends=(msgspec.structs.replace(A, slots=3), B)), first)
    who = compare(first, second)
    assert (who.joined, who.renewed, who.left) == (frozenset(), {"a"}, frozenset())
    assert list(replaced(first, second)) == [first.backends["a"]]
    assert second.backends["a"].spec.slots == 3


def test_an_alias_describes_all_of_them_anew() -> None:
    first = build_generation(Config(backends=(A,)))
    second = build_generation(Config(backends=(A,), models=Models(aliases={"small": "qwen2.5:0.5b"})), first)
    assert compare(first, second).renewed == {"a"}


def test_another_server_under_the_same_id() -> None:
    first = build_generation(Config(backends=(A,)))
    second = build_generation(Config(backends=(msgspec.structs.replace(A, endpoint="http://localhost:9"),)), first)
    who = compare(first, second)
    assert (who.joined, who.renewed, who.left) == ({"a"}, frozenset(), {"a"})


def test_who_is_switched_off_or_looked_through_leaves() -> None:
    first = build_generation(Config(backends=(A, B)))
    off, through = msgspec.structs.replace(A, enabled=False), msgspec.structs.replace(B, transparent=True)
    second = build_generation(Config(backends=(off, through)), first)
    assert compare(first, second).left == {"a", "b"}
    assert not second.backends
    assert second.transparent == through
