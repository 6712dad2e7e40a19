"""Single texts that come together: one request while the device is busy, none held while it is idle."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import uvloop

from ollama_proxy.app.embeds.gather import _share
from ollama_proxy.config.sections.embeddings import Embeddings
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.answer import Finished, Outcome, Usage
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.quota import Allowance, Quota
from ollama_proxy.domain.vectors import EmbedWish, Vectors
from ollama_proxy.lab.device import DEVICES, SMALL
from ollama_proxy.lab.faults import read_fault
from ollama_proxy.lab.text import embed_text
from ollama_proxy.net.task import spawn
from tests.support.devices import Stand, devices
from tests.support.http1 import until

ONE = {"nvidia": DEVICES["nvidia"]}
LONG = "so much to read " * 800
WISH = EmbedWish("a test", dimensions=4)


async def keep_busy(stand: Stand) -> asyncio.Task[Vectors]:
    """Something that takes a while there."""
    task = spawn(stand.proxy.embedder.embed([LONG], SMALL, WISH), "something long")
    await until(lambda: stand.servers["nvidia"].active)
    return task


async def ask_many(stand: Stand, count: int, wish: EmbedWish = WISH) -> list[Vectors | BaseException]:
    texts = [f"text {number}" for number in range(count)]
    found: list[Any] = await asyncio.gather(
        *(stand.proxy.embedder.embed([text], SMALL, wish) for text in texts), return_exceptions=True
    )
    return found


def test_while_a_device_is_busy_single_texts_go_together() -> None:
    async def scene() -> None:
        async with devices(speed=20, specs=ONE) as stand:
            busy = await keep_busy(stand)
            before = stand.servers["nvidia"].counts["requests"]
            found = await ask_many(stand, 20)
            assert stand.servers["nvidia"].counts["requests"] == before + 1
            for number, one in enumerate(found):
                assert isinstance(one, Vectors)
                assert one.vectors == (embed_text(f"text {number}", 4),)
                assert one.tokens == 1
                assert one.joules
            await busy
            assert not stand.proxy._dispatcher.running
            page, _ = stand.proxy.control.metrics()
            assert b'ollama_proxy_embedded_texts_total{how="gathered"} 20.0' in page

    uvloop.run(scene())


def test_nobody_waits_for_an_idle_device() -> None:
    async def scene() -> None:
        # A window that nobody could overlook.
        changes = {"embeddings": Embeddings(gather_ms=3_600_000)}
        async with devices(speed=50, specs=ONE, changes=changes) as stand:
            async with asyncio.timeout(30):
                await stand.proxy.embedder.embed(["text"], SMALL, WISH)
            off = {"embeddings": Embeddings(gather_ms=0)}
        async with devices(speed=20, specs=ONE, changes=off) as stand:
            busy = await keep_busy(stand)
            await ask_many(stand, 5)
            assert stand.servers["nvidia"].counts["requests"] == 6
            await busy

    uvloop.run(scene())


def test_those_that_differ_do_not_go_together() -> None:
    async def scene() -> None:
        async with devices(speed=20, specs=ONE) as stand:
            busy = await keep_busy(stand)
            other = msgspec.structs.replace(WISH, dimensions=8)
            bob = msgspec.structs.replace(WISH, caller=Caller("bob"))
            found = await asyncio.gather(ask_many(stand, 3), ask_many(stand, 3, other), ask_many(stand, 3, bob))
            assert stand.servers["nvidia"].counts["requests"] == 4
            lengths = [[len(one.vectors[0]) for one in row if isinstance(one, Vectors)] for row in found]
            assert lengths == [[4] * 3, [8] * 3, [4] * 3]
            await busy

    uvloop.run(scene())


@pytest.mark.parametrize("wishes", [Annotations(latency_critical=True), Annotations(max_latency_ms=60_000)])
def test_nobody_waits_who_is_in_a_hurry(wishes: Annotations) -> None:
    async def scene() -> None:
        async with devices(speed=20, specs=ONE) as stand:
            busy = await keep_busy(stand)
            await ask_many(stand, 3, msgspec.structs.replace(WISH, annotations=wishes))
            assert stand.servers["nvidia"].counts["requests"] == 4
            await busy

    uvloop.run(scene())


def test_whoever_leaves_is_not_answered_and_the_others_are() -> None:
    async def scene() -> None:
        async with devices(speed=20, specs=ONE) as stand:
            busy = await keep_busy(stand)
            tasks = [spawn(stand.proxy.embedder.embed([f"t{n}"], SMALL, WISH), f"t{n}") for n in range(4)]
            await until(lambda: stand.servers["nvidia"].waiting)
            tasks[0].cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(found[0], asyncio.CancelledError)
            assert all(isinstance(one, Vectors) for one in found[1:])
            gone = [spawn(stand.proxy.embedder.embed([f"t{n}"], SMALL, WISH), f"t{n}") for n in range(3)]
            await busy
            for task in gone:
                task.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
            await until(lambda: not stand.proxy._dispatcher.running)

    uvloop.run(scene())


def test_each_of_them_counts_for_its_key() -> None:
    async def scene() -> None:
        async with devices(speed=20, specs=ONE) as stand:
            busy = await keep_busy(stand)
            quota = Quota(Allowance(concurrent=3))
            wish = msgspec.structs.replace(WISH, caller=Caller("bob", quota=quota))
            found = await ask_many(stand, 5, wish)
            refused = [one for one in found if isinstance(one, ProxyError)]
            assert [one.kind for one in refused] == [ErrorKind.RATE_LIMITED] * 2
            assert quota.running == 0
            await busy

    uvloop.run(scene())


def test_where_one_may_be_at_fault_each_is_asked_by_itself() -> None:
    async def scene() -> None:
        async with devices(speed=20, specs=ONE) as stand:
            busy = await keep_busy(stand)
            server = stand.servers["nvidia"]
            await server.set_fault(read_fault(b'{"fault": "status", "status": 400}'))
            found = await ask_many(stand, 3)
            assert server.counts["requests"] == 1 + 1 + 3
            assert all(isinstance(one, ProxyError) and one.kind is ErrorKind.BACKEND_REFUSED for one in found), found
            await server.set_fault(read_fault(b'{"fault": "none"}'))
            await busy

    uvloop.run(scene())


def test_a_share_is_by_size_and_the_shares_are_the_whole() -> None:
    outcome = Outcome(Finished("stop", Usage(prompt_tokens=10)), 1, 1, 0, 0, 30.0, "measured", 30.0, None, 3.0)
    shares = _share(outcome, [100, 100, 100])
    assert sum(one.finished.usage.prompt_tokens or 0 for one in shares) == 10
    assert [one.joules for one in shares] == pytest.approx([10.0] * 3)
    assert shares[0].energy_full_j is None
    unknown = msgspec.structs.replace(outcome, joules=None, finished=Finished("stop", Usage()))
    assert [one.joules for one in _share(unknown, [1, 2])] == [None, None]
