"""A server that dies, hangs and comes back: misses meanwhile, never an error, and never a long wait."""

import asyncio
from collections.abc import Iterator

import pytest

from ollama_proxy.cache.near import NearStore
from ollama_proxy.cache.store import Bounds, Item, NotPurged, Which
from ollama_proxy.cache.valkey import ValkeyStore
from tests.support.http1 import until
from tests.support.redis import RedisProcess, serve_redis

NOW_S = 1_800_000_000.0
ITEM = Item(bytes(32), b"text", "m", "", NOW_S, 1.0)


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    with serve_redis() as server:
        yield server


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def build(server: RedisProcess, clock: Clock, timeout_s: float = 5.0) -> ValkeyStore:
    return ValkeyStore(server.url, Bounds(10**6, 3600.0), timeout_s=timeout_s, unix_clock=lambda: NOW_S, clock=clock)


async def look(store: ValkeyStore) -> bytes | None:
    found = store.fetch(ITEM.key)
    answer = None if found is None else await found
    return None if answer is None else answer.data


async def keep(store: ValkeyStore) -> None:
    store.keep(ITEM)
    await asyncio.wait(store._keeping)
    assert await look(store) == b"text"


async def until_known(store: ValkeyStore) -> bytes:
    await until(lambda: store.secret is not None)
    assert store.secret is not None
    return store.secret


def test_it_dies_and_comes_back(redis: RedisProcess) -> None:
    async def scene() -> None:
        clock = Clock()
        store = build(redis, clock)
        await store.open()
        secret = store.secret
        await keep(store)
        redis.kill()
        assert await look(store) is None
        assert store.secret is None
        store.keep(ITEM)
        assert store.fetch(ITEM.key) is None, "it is left alone for a while"
        assert (await store.measure()).problem
        with pytest.raises(NotPurged):
            await store.purge(Which())
        redis.start()
        assert store.fetch(ITEM.key) is None, "and is not asked before that is over"
        clock.now_s += 60.0
        assert await until_known(store) == secret
        assert await look(store) == b"text"
        assert not (await store.measure()).problem
        await store.close()

    asyncio.run(scene())


def test_it_is_not_there_at_the_start(redis: RedisProcess) -> None:
    async def scene() -> None:
        clock = Clock()
        redis.kill()
        store = build(redis, clock)
        await store.open()
        assert store.secret is None
        redis.start()
        clock.now_s += 60.0
        await until_known(store)
        await keep(store)
        await store.close()

    asyncio.run(scene())


def test_a_purge_of_one_that_hangs_is_not_told_as_done(redis: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        clock = Clock()
        store = build(redis, clock)
        near = NearStore(store, Bounds(10**6, 3600.0), lambda: NOW_S, clock)
        await near.open()
        near.keep(ITEM)
        await asyncio.wait(store._keeping)
        assert near.find(ITEM.key) == b"text"
        redis.hang()
        monkeypatch.setattr("ollama_proxy.cache.valkey._PATIENCE_S", 0.05)
        with pytest.raises(NotPurged):
            await near.purge(Which())
        assert not isinstance(near.find(ITEM.key), bytes), "what was held here is gone in any case"
        redis.go_on()
        monkeypatch.undo()
        assert await near.purge(Which()) == 1
        await near.close()

    asyncio.run(scene())


def test_it_hangs(redis: RedisProcess) -> None:
    async def scene() -> None:
        clock = Clock()
        store = build(redis, clock, timeout_s=5.0)
        await store.open()
        redis.hang()
        store._timeout_s = 0.05
        async with asyncio.timeout(60):
            assert await asyncio.gather(*[look(store) for _ in range(100)]) == [None] * 100
        assert store.fetch(ITEM.key) is None
        redis.go_on()
        store._timeout_s = 5.0
        clock.now_s += 60.0
        await until_known(store)
        await store.close()

    asyncio.run(scene())


def test_it_rests_longer_each_time(redis: RedisProcess) -> None:
    async def scene() -> None:
        clock = Clock()
        redis.kill()
        store = build(redis, clock)
        waits = []
        for _ in range(9):
            assert store.secret is None
            await store.open()
            began_s = clock.now_s
            while not store._is_awake:
                clock.now_s += 0.25
            waits.append(clock.now_s - began_s)
        assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
        assert waits[-1] == 30.0
        await store.close()

    asyncio.run(scene())


def test_it_is_emptied_under_those_that_use_it(redis: RedisProcess) -> None:
    async def scene() -> None:
        clock = Clock()
        one, other = build(redis, clock), build(redis, clock)
        stores = [NearStore(far, Bounds(0, 3600.0), lambda: NOW_S, clock) for far in (one, other)]
        for store in stores:
            await store.open()
        old = one.secret
        for others_first in (False, True):
            redis.flush()
            if others_first:
                await other.open()
            clock.now_s += 1.0
            for store in stores:
                found = store.find(ITEM.key)
                assert found is not None
                assert not isinstance(found, bytes)
                await found
                await until(lambda store=store: not store._is_reading)
                await until(lambda store=store: store.secret is not None)
            assert one.secret == other.secret != old
            old = one.secret
            await keep(one)
            assert await look(other) == b"text"
        for store in stores:
            await store.close()

    asyncio.run(scene())


def test_what_lies_there_of_others_is_a_miss(redis: RedisProcess) -> None:
    async def scene() -> None:
        store = build(redis, Clock())
        await store.open()
        await store._client.set(f"{store._prefix}a:{ITEM.key.hex()}", b"no hash at all")
        assert await look(store) is None
        await store.close()

    asyncio.run(scene())


def test_two_proxies_find_what_the_other_keeps(redis: RedisProcess) -> None:
    async def scene() -> None:
        one, other = build(redis, Clock()), build(redis, Clock())
        apart = ValkeyStore(redis.url, Bounds(10**6, 3600.0), prefix="apart", unix_clock=lambda: NOW_S)
        for store in (one, other, apart):
            await store.open()
        assert one.secret == other.secret != apart.secret
        await keep(one)
        assert await look(other) == b"text"
        assert await look(apart) is None
        assert await other.purge(Which(model="m")) == 1
        assert await look(one) is None
        for store in (one, other, apart):
            await store.close()

    asyncio.run(scene())
