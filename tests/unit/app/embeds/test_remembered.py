"""Vectors that are kept: who gets them, what is asked for all the same, and what makes room."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import uvloop

from ollama_proxy.app.embeds.vector_store import VectorStore, make_keys
from ollama_proxy.config.sections.embeddings import Embeddings
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Embedding
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.quota import Allowance, Quota
from ollama_proxy.domain.vectors import EmbedWish
from ollama_proxy.lab.device import DEVICES, SMALL
from ollama_proxy.lab.text import embed_text
from tests.support.devices import Stand, devices

ONE = {"nvidia": DEVICES["nvidia"]}
KEPT = EmbedWish("a test", annotations=Annotations(cache_enabled=True), dimensions=4)


def expected(*texts: str) -> tuple[tuple[float, ...], ...]:
    return tuple(embed_text(text, 4) for text in texts)


def asked_of(stand: Stand) -> int:
    return stand.servers["nvidia"].counts["requests"]


def test_only_what_is_not_known_is_asked_for_and_each_text_once() -> None:
    async def scene() -> None:
        async with devices(speed=50, specs=ONE) as stand:
            embed = stand.proxy.embedder.embed
            first = await embed(["a", "b", "a"], SMALL, KEPT)
            assert first.vectors == expected("a", "b", "a")
            assert first.tokens == 2
            more = await embed(["b", "c", "a"], SMALL, KEPT)
            assert more.vectors == expected("b", "c", "a")
            assert more.tokens == 1
            assert asked_of(stand) == 2
            known = await embed(["c", "b"], SMALL, KEPT)
            assert known.vectors == expected("c", "b")
            assert known.joules == 0
            assert known.backends == ("cache",)
            assert known.space == first.space
            page, _ = stand.proxy.control.metrics()
            assert b'ollama_proxy_embedded_texts_total{how="kept"} 4.0' in page
            assert b"ollama_proxy_kept_vectors_bytes 696.0" in page
            assert asked_of(stand) == 2

    uvloop.run(scene())


@pytest.mark.parametrize(
    "other",
    [
        {"dimensions": 5},
        {"caller": Caller("eve")},
        {"annotations": Annotations()},
        {"annotations": Annotations(cache_enabled=False)},
    ],
)
def test_nobody_else_gets_them(other: dict[str, Any]) -> None:
    async def scene() -> None:
        async with devices(speed=50, specs=ONE) as stand:
            await stand.proxy.embedder.embed(["a"], SMALL, KEPT)
            await stand.proxy.embedder.embed(["a"], SMALL, msgspec.structs.replace(KEPT, **other))
            assert asked_of(stand) == 2

    uvloop.run(scene())


def test_other_weights_by_the_same_name_are_another_vector() -> None:
    async def scene() -> None:
        async with devices(speed=50, specs=ONE) as stand:
            await stand.proxy.embedder.embed(["a"], SMALL, KEPT)
            models = stand.servers["nvidia"].models
            entry = {**models[SMALL].entry, "digest": "f" * 64}
            models[SMALL] = msgspec.structs.replace(models[SMALL], digest="f" * 64, entry=entry)
            await stand.proxy.service.refresh(("nvidia",))
            await stand.proxy.embedder.embed(["a"], SMALL, KEPT)
            assert asked_of(stand) == 2

    uvloop.run(scene())


def test_weights_that_are_exchanged_between_two_looks_are_not_joined_and_not_kept() -> None:
    async def scene() -> None:
        async with devices(speed=50, specs=ONE) as stand:
            embed = stand.proxy.embedder.embed
            old = (await embed(["a"], SMALL, KEPT)).space
            models = stand.servers["nvidia"].models
            entry = {**models[SMALL].entry, "digest": "f" * 64}
            models[SMALL] = msgspec.structs.replace(models[SMALL], digest="f" * 64, entry=entry)
            both = await embed(["a", "b"], SMALL, KEPT)
            assert (both.space.digest, both.tokens) == ("f" * 64, 2)
            assert asked_of(stand) == 3
            entry = {**models[SMALL].entry, "digest": old.digest}
            models[SMALL] = msgspec.structs.replace(models[SMALL], digest=old.digest, entry=entry)
            await embed(["c"], SMALL, KEPT)
            assert asked_of(stand) == 4
            await embed(["c"], SMALL, KEPT)
            assert asked_of(stand) == 5
            assert (await embed(["a"], SMALL, KEPT)).backends == ("cache",)

    uvloop.run(scene())


def test_clients_ask_for_them_and_are_told() -> None:
    async def scene() -> None:
        async with devices(speed=50, specs=ONE) as stand:
            document = {"model": SMALL, "input": ["a", "b"], "dimensions": 4}
            for state in ("miss", "hit"):
                status, headers, answer = await stand.ask("/api/embed", document, X_Cache_Enabled="true")
                assert status == 200
                assert headers["x-cache"] == state
                assert [tuple(one) for one in answer["embeddings"]] == list(expected("a", "b"))
            status, headers, _ = await stand.ask("/api/embed", document)
            assert "x-cache" not in headers

    uvloop.run(scene())


@pytest.mark.parametrize(("rule", "requests"), [("never", 2), ("asked", 2), ("always", 1)])
def test_it_is_as_configured_where_a_request_says_nothing(rule: Any, requests: int) -> None:
    async def scene() -> None:
        changes = {"embeddings": Embeddings(cache=rule)}
        async with devices(speed=50, specs=ONE, changes=changes) as stand:
            for _ in range(2):
                status, _, _ = await stand.ask("/v1/embeddings", {"model": SMALL, "input": "a", "dimensions": 4})
                assert status == 200
            assert asked_of(stand) == requests

    uvloop.run(scene())


def test_a_kept_vector_counts_as_a_request_of_its_key() -> None:
    async def scene() -> None:
        async with devices(speed=50, specs=ONE) as stand:
            quota = Quota(Allowance(requests_per_minute=2))
            wish = msgspec.structs.replace(KEPT, caller=Caller("bob", quota=quota))
            for _ in range(2):
                await stand.proxy.embedder.embed(["a"], SMALL, wish)
            assert asked_of(stand) == 1
            with pytest.raises(ProxyError, match="2 requests a minute"):
                await stand.proxy.embedder.embed(["a"], SMALL, wish)
            assert quota.running == 0

    uvloop.run(scene())


def test_the_longest_unused_makes_room() -> None:
    store = VectorStore(3 * (200 + 8 * 10))
    keys = make_keys("bob", "m", "d", Embedding(tuple("abcd")))
    assert len(set(keys)) == 4
    for number, key in enumerate(keys[:3]):
        store.keep(key, (float(number),) * 10)
    assert store.find(keys[0]) == (0.0,) * 10
    store.keep(keys[3], (3.0,) * 10)
    assert store.find(keys[1]) is None
    assert store.find(keys[0]) is not None
    store.keep(keys[0], (9.0,) * 10)
    assert store.size_bytes == 3 * 280
    store.keep(keys[1], (1.0,) * 1000)
    assert store.size_bytes == 0
