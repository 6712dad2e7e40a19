"""Batches of texts over emulated devices: who gets how much, what comes back in which order, what it costs."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
import struct
from pathlib import Path

import msgspec
import pytest
import uvloop

from ollama_proxy.config.schema import Learning
from ollama_proxy.config.sections.embeddings import Embeddings
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.vectors import EmbedWish, VectorSpace
from ollama_proxy.lab.device import SMALL, DeviceSpec
from ollama_proxy.lab.faults import read_fault
from ollama_proxy.lab.text import embed_text
from ollama_proxy.net.task import spawn
from tests.support.devices import Stand, devices
from tests.support.http1 import until

DIMENSIONS = 4
#: Unlike the shipped ones, none of them takes so much more for a token that it had better be left alone.
FOUR = {
    name: DeviceSpec(name, watts, 0.1, tps, 20, 0.1, (SMALL,))
    for name, watts, tps in (("a", 6, 300), ("b", 9, 450), ("c", 12, 600), ("d", 24, 1200))
}
TEXTS = [f"text {number} " + "and so on " * 30 for number in range(160)]
HURRIED = EmbedWish("a test", annotations=Annotations(latency_critical=True), dimensions=DIMENSIONS)


def tokens_of(texts: list[str]) -> int:
    return sum(len(text.encode()) // 4 for text in texts)


async def warm_up(stand: Stand) -> None:
    """Let the proxy see how fast each device is, with the model in memory."""
    for name in stand.servers:
        wish = msgspec.structs.replace(HURRIED, annotations=Annotations(target=name))
        await stand.proxy.embedder.embed(TEXTS[:1], SMALL, wish)
    await stand.proxy.embedder.embed(TEXTS, SMALL, HURRIED)


def test_four_devices_share_a_batch_as_they_are_fast_and_the_order_is_exact() -> None:
    async def run() -> None:
        async with devices(speed=10, specs=FOUR) as stand:
            await warm_up(stand)
            before = {name: server.joules for name, server in stand.servers.items()}
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            found = await stand.proxy.embedder.embed(TEXTS, SMALL, HURRIED)
            took_s = (loop.time() - began_s) * 10
            assert found.vectors == tuple(embed_text(text, DIMENSIONS) for text in TEXTS)
            assert set(found.backends) == set(FOUR)
            page, _ = stand.proxy.control.metrics()
            assert b'ollama_proxy_embedded_texts_total{how="spread"} 320.0' in page
            ideal_s = tokens_of(TEXTS) / sum(spec.prefill_tps for spec in FOUR.values())
            # What each device was at work, in its own seconds: the last one sets the time of the whole.
            busy_s = [(server.joules - before[name]) / server.device.watts for name, server in stand.servers.items()]
            print(f"ideal {ideal_s:.2f} s, took {took_s:.2f} s, busy {busy_s}")
            assert max(busy_s) <= ideal_s / 0.9

    uvloop.run(run())


def test_joules_of_the_whole_are_those_of_its_pieces_in_answer_and_ledger(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"

    async def run() -> None:
        async with devices(ledger, speed=20, specs=FOUR) as stand:
            await warm_up(stand)
            before = {name: server.joules for name, server in stand.servers.items()}
            wish = msgspec.structs.replace(HURRIED, way_in="the whole")
            found = await stand.proxy.embedder.embed(TEXTS, SMALL, wish)
            spent = {name: (server.joules - before[name]) / 20 for name, server in stand.servers.items()}
        # The books are closed with the proxy.
        rows = sqlite3.connect(ledger).execute(
            "select backend, prompt_tokens, marginal_j, kind from requests where way_in = 'the whole'"
        )
        booked = {backend: (tokens, joules, kind) for backend, tokens, joules, kind in rows}
        assert booked.keys() == set(FOUR)
        assert found.joules == pytest.approx(sum(joules for _, joules, _ in booked.values()))
        assert found.energy_kind == "emulated" == next(iter(booked.values()))[2]
        assert found.tokens == tokens_of(TEXTS) == sum(tokens for tokens, _, _ in booked.values())
        for name, (_, joules, _) in booked.items():
            assert joules == pytest.approx(spent[name], rel=0.2), name

    uvloop.run(run())


def test_both_dialects_answer_a_batch_from_several_devices_in_order() -> None:
    async def run() -> None:
        async with devices(speed=50, specs=FOUR) as stand:
            hurry = {"X-Latency-Critical": "true"}
            asked = {"model": SMALL, "input": TEXTS, "dimensions": DIMENSIONS}
            status, headers, ours = await stand.ask("/api/embed", asked, **hurry)
            assert status == 200, ours
            assert len(headers["x-backend-used"].split(",")) > 1
            assert headers["x-routing-reason"].startswith("160 texts spread over ")
            assert headers["x-energy-kind"] == "emulated"
            expected = [list(embed_text(text, DIMENSIONS)) for text in TEXTS]
            assert ours["embeddings"] == expected
            assert ours["prompt_eval_count"] == tokens_of(TEXTS)
            status, headers, theirs = await stand.ask("/v1/embeddings", asked, **hurry)
            assert [one["embedding"] for one in theirs["data"]] == expected
            assert [one["index"] for one in theirs["data"]] == list(range(len(TEXTS)))
            assert len(headers["x-backend-used"].split(",")) > 1
            status, _, packed = await stand.ask("/v1/embeddings", {**asked, "encoding_format": "base64"}, **hurry)
            raw = base64.b64decode(packed["data"][7]["embedding"])
            assert struct.unpack(f"<{DIMENSIONS}f", raw) == pytest.approx(expected[7])
            # What is small goes to one of them, and what is not hurried to those that take few joules a token.
            status, headers, _ = await stand.ask("/api/embed", {**asked, "input": TEXTS[:2]}, **hurry)
            assert headers["x-backend-used"] in FOUR

    uvloop.run(run())


def test_many_hands_keep_a_limit_that_one_alone_cannot() -> None:
    async def run() -> None:
        async with devices(speed=10, specs=FOUR) as stand:
            await warm_up(stand)
            # One of them alone would take twice as long and more.
            alone_s = tokens_of(TEXTS) / FOUR["d"].prefill_tps / 10
            ideal_s = tokens_of(TEXTS) / sum(spec.prefill_tps for spec in FOUR.values()) / 10
            limit_ms = round(1000 * (alone_s + ideal_s) / 2)
            strict = Annotations(max_latency_ms=limit_ms, on_infeasible="reject", latency_critical=True)
            found = await stand.proxy.embedder.embed(TEXTS, SMALL, msgspec.structs.replace(HURRIED, annotations=strict))
            assert len(found.backends) > 1
            hopeless = Annotations(max_latency_ms=1, on_infeasible="reject")
            with pytest.raises(ProxyError) as caught:
                await stand.proxy.embedder.embed(TEXTS, SMALL, msgspec.structs.replace(HURRIED, annotations=hopeless))
            assert caught.value.kind is ErrorKind.LIMITS_EXCLUDE_ALL

    uvloop.run(run())


def test_a_target_of_several_words_is_any_of_these() -> None:
    async def run() -> None:
        async with devices(speed=10, specs=FOUR) as stand:
            wish = msgspec.structs.replace(HURRIED, annotations=Annotations(target="c, d"))
            found = await stand.proxy.embedder.embed(TEXTS[:2], SMALL, wish)
            assert found.vectors == tuple(embed_text(text, DIMENSIONS) for text in TEXTS[:2])
            assert set(found.backends) <= {"c", "d"}

    uvloop.run(run())


def test_a_device_that_costs_too_much_is_left_out() -> None:
    async def run() -> None:
        async with devices(speed=50) as stand:
            await warm_up(stand)
            found = await stand.proxy.embedder.embed(TEXTS, SMALL, msgspec.structs.replace(HURRIED, way_in="x"))
            assert "cpu" not in found.backends
            assert "nvidia" in found.backends

    uvloop.run(run())


def test_a_piece_that_fails_is_done_by_another_with_the_same_weights() -> None:
    async def run() -> None:
        async with devices(speed=50, specs=FOUR) as stand:
            await warm_up(stand)
            await stand.servers["d"].set_fault(read_fault(b'{"fault": "status", "status": 500}'))
            found = await stand.proxy.embedder.embed(TEXTS, SMALL, HURRIED)
            assert found.vectors == tuple(embed_text(text, DIMENSIONS) for text in TEXTS)
            assert "d" not in found.backends
            for server in stand.servers.values():
                await server.set_fault(read_fault(b'{"fault": "status", "status": 500}'))
            with pytest.raises(ProxyError) as caught:
                await stand.proxy.embedder.embed(TEXTS, SMALL, HURRIED)
            assert caught.value.kind in (ErrorKind.BACKEND_FAILED, ErrorKind.NO_HEALTHY_BACKEND)
            assert not stand.proxy._dispatcher.running

    uvloop.run(run())


def give_other_weights(stand: Stand, name: str) -> None:
    """From now on a device means something else by the model's name."""
    models = stand.servers[name].models
    for model, facts in models.items():
        entry = {**facts.entry, "digest": "f" * 64}
        models[model] = msgspec.structs.replace(facts, digest="f" * 64, entry=entry)


def test_weights_that_are_exchanged_between_two_looks_have_no_part_in_a_batch() -> None:
    async def run() -> None:
        async with devices(speed=50, specs=FOUR) as stand:
            await warm_up(stand)
            give_other_weights(stand, "d")
            asked = stand.servers["d"].counts["requests"]
            found = await stand.proxy.embedder.embed(TEXTS, SMALL, HURRIED)
            assert stand.servers["d"].counts["requests"] > asked
            assert found.backends
            assert "d" not in found.backends
            assert found.vectors == tuple(embed_text(text, DIMENSIONS) for text in TEXTS)

    uvloop.run(run())


def test_what_is_to_be_kept_is_not_told_of_weights_that_were_exchanged_meanwhile() -> None:
    async def run() -> None:
        async with devices(speed=50, specs={"a": FOUR["a"]}) as stand:
            embed = stand.proxy.embedder.embed
            wish = EmbedWish("a test", dimensions=DIMENSIONS, keeps=True)
            before = (await embed(["a"], SMALL, wish)).space
            give_other_weights(stand, "a")
            with pytest.raises(ProxyError, match="was given other weights by the name") as caught:
                await embed(["a"], SMALL, msgspec.structs.replace(wish, space=before))
            assert caught.value.kind is ErrorKind.BACKEND_FAILED
            # From now on it is known.
            with pytest.raises(ProxyError, match="digest ffffffffffff"):
                await embed(["a"], SMALL, msgspec.structs.replace(wish, space=before))
            assert (await embed(["a"], SMALL, wish)).space.digest == "f" * 64

    uvloop.run(run())


def test_vectors_of_two_weights_never_meet() -> None:
    async def run() -> None:
        async with devices(speed=50, specs=FOUR) as stand:
            ours = (await stand.proxy.embedder.embed(TEXTS[:1], SMALL, HURRIED)).space
            assert ours == VectorSpace(SMALL, stand.servers["a"].models[SMALL].digest, DIMENSIONS)
            give_other_weights(stand, "c")
            give_other_weights(stand, "d")
            await stand.proxy.service.refresh(tuple(FOUR))
            found = await stand.proxy.embedder.embed(TEXTS, SMALL, HURRIED)
            assert set(found.backends) <= {"a", "b"}
            # Not even where it is asked for by name, or where nobody else is left.
            status, _, answer = await stand.ask("/api/embed", {"model": SMALL, "input": "x"}, X_Target_Backend="c")
            assert status == 400
            assert "c has other weights by the name 'qwen2.5:0.5b' (digest ffffffffffff)" in answer["error"]
            for name in ("a", "b"):
                await stand.servers[name].set_fault(read_fault(b'{"fault": "refuse"}'))
            with pytest.raises(ProxyError) as caught:
                await stand.proxy.embedder.embed(TEXTS[:1], SMALL, HURRIED)
            # Depending on whether their breakdown was noticed before; what counts is that nobody else answers.
            failed = (ErrorKind.BACKEND_FAILED, ErrorKind.LIMITS_EXCLUDE_ALL, ErrorKind.NO_HEALTHY_BACKEND)
            assert caught.value.kind in failed
            # Whoever keeps vectors of the others asks for them.
            kept = msgspec.structs.replace(HURRIED, space=VectorSpace(SMALL, "f" * 64, DIMENSIONS))
            assert set((await stand.proxy.embedder.embed(TEXTS, SMALL, kept)).backends) <= {"c", "d"}
            kept = msgspec.structs.replace(HURRIED, space=VectorSpace(SMALL, "f" * 64, DIMENSIONS + 1))
            with pytest.raises(ProxyError, match="cannot be compared"):
                await stand.proxy.embedder.embed(TEXTS, SMALL, kept)

    uvloop.run(run())


def test_whoever_leaves_takes_the_work_along() -> None:
    async def run() -> None:
        async with devices(speed=1, specs=FOUR) as stand:
            asking = spawn(stand.proxy.embedder.embed(TEXTS, SMALL, HURRIED), "somebody asks")
            await until(lambda: any(server.active for server in stand.servers.values()))
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert not stand.proxy._dispatcher.running
            async with asyncio.timeout(30):
                await until(lambda: not any(server.active for server in stand.servers.values()))

    uvloop.run(run())


def test_no_vector_is_made_of_nothing() -> None:
    nothing = Embeddings(default_model="", builtin="never")

    async def run() -> None:
        async with devices(speed=50, specs=FOUR, changes={"embeddings": nothing}) as stand:
            embedder = stand.proxy.embedder
            with pytest.raises(ProxyError, match="text 1 of 2 is empty"):
                await embedder.embed(["a", ""], SMALL, HURRIED)
            with pytest.raises(ProxyError, match="no model to embed with is named"):
                await embedder.embed(["a"], "", HURRIED)
            with pytest.raises(ProxyError) as caught:
                await embedder.embed(["a"], "nobody-has-it", HURRIED)
            assert caught.value.kind is ErrorKind.MODEL_NOT_FOUND
            assert (await embedder.embed([], SMALL, HURRIED)).space.dimensions == DIMENSIONS

    uvloop.run(run())


def test_which_weights_answer_for_a_name_outlasts_a_restart(tmp_path: Path) -> None:
    changes = {"learning": Learning(path=str(tmp_path / "learned.json"))}
    specs = {name: FOUR[name] for name in ("a", "b")}

    async def scene() -> None:
        async with devices(speed=50, specs=specs, changes=changes) as stand:
            give_other_weights(stand, "a")
            await stand.servers["a"].set_fault(read_fault(b'{"fault": "refuse"}'))
            await stand.proxy.service.refresh(("a", "b"))
            first = await stand.proxy.embedder.embed(TEXTS[:1], SMALL, HURRIED)
            assert first.backends == ("b",)
        async with devices(speed=50, specs=specs, changes=changes) as stand:
            give_other_weights(stand, "a")
            await stand.proxy.service.refresh(("a", "b"))
            second = await stand.proxy.embedder.embed(TEXTS[:1], SMALL, HURRIED)
            assert second.space == first.space
            assert second.backends == ("b",)

    uvloop.run(scene())


def test_a_body_of_very_many_texts_goes_to_one_server_as_it_came() -> None:
    async def run() -> None:
        async with devices(speed=2000, specs=FOUR) as stand:
            asked = {"model": SMALL, "dimensions": DIMENSIONS, "cache_enabled": True}
            for texts, shared in ((50_000, True), (101_000, False)):
                _, headers, _ = await stand.ask("/api/embed", {**asked, "input": ["a"] * texts})
                assert ("," in headers["x-backend-used"]) is shared

    uvloop.run(run())
