"""What every store of answers promises, on each kind there is."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.cache.memory import MemoryStore
from ollama_proxy.cache.near import NearStore
from ollama_proxy.cache.sqlite import SqliteStore
from ollama_proxy.cache.store import OVERHEAD_BYTES, Bounds, FarStore, Item, Store, Which
from ollama_proxy.cache.valkey import ValkeyStore
from tests.support.redis import RedisProcess, serve_redis

KINDS = ("memory", "sqlite", "valkey-server", "redis-server")
NOW_S = 1_800_000_000.0
Make = Callable[..., Store]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[str | RedisProcess]:
    """The kind, or the server that stands for it."""
    if not request.param.endswith("-server"):
        yield request.param
        return
    with serve_redis(request.param) as server:
        yield server


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(kind: str | RedisProcess, tmp_path: Path, clock: Clock) -> Make:
    """Makes a store of one kind; two of the same test share what they keep, where the kind outlasts a process."""
    if isinstance(kind, RedisProcess):
        kind.flush()

    def build(max_bytes: int = 1_000_000, ttl_s: float = 3600.0) -> Store:
        bounds = Bounds(max_bytes, ttl_s)
        if kind == "memory":
            return MemoryStore(bounds, clock)
        far: FarStore
        if isinstance(kind, RedisProcess):
            far = ValkeyStore(kind.url, bounds, timeout_s=5.0, unix_clock=clock)
        else:
            far = SqliteStore(tmp_path / "cache.sqlite", bounds, clock)
        return NearStore(far, Bounds(max_bytes // 8, ttl_s), clock, clock)

    build.kind = "valkey" if isinstance(kind, RedisProcess) else kind  # type: ignore[attr-defined]
    return build


def runs(scene: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(scene)
    def test(*args: Any, **kwargs: Any) -> None:
        asyncio.run(scene(*args, **kwargs))

    return test


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def item(number: int, data: bytes = b"text", worth_j: float = 1.0, **fields: Any) -> Item:
    return Item(key(number), data, **{"model": "m:1b", "owner": "", "made_unix_s": NOW_S, "worth_j": worth_j, **fields})


async def find(store: Store, number: int) -> bytes | None:
    found = store.find(key(number))
    return found if found is None or isinstance(found, bytes) else await found


async def keep(store: Store, *items: Item) -> None:
    """Keep answers one after the other, each of them for certain."""
    for one in items:
        store.keep(one)
        await store.measure()
        await asyncio.sleep(0)
        for task in list(getattr(getattr(store, "_far", None), "_keeping", ())):
            await task


@runs
async def test_finds_what_it_keeps_and_nothing_else(make: Make) -> None:
    store = make()
    await store.open()
    assert len(store.secret or b"") >= 16
    assert await find(store, 1) is None
    await keep(store, item(1, b"\x00\xffone"), item(2, b"two"))
    assert await find(store, 1) == b"\x00\xffone"
    assert await find(store, 2) == b"two"
    assert await find(store, 3) is None
    await keep(store, item(1, b"another"))
    assert await find(store, 1) == b"another"
    held = await store.measure()
    assert (held.entries, held.size_bytes) == (2, len(b"another") + len(b"two") + 2 * OVERHEAD_BYTES)
    await store.close()


@runs
async def test_an_answer_gets_too_old(make: Make, clock: Clock) -> None:
    store = make(ttl_s=60.0)
    await store.open()
    await keep(store, item(1), item(2, made_unix_s=NOW_S - 59.0))
    assert await find(store, 2) == b"text"
    clock.now_s += 2.0
    assert await find(store, 1) == b"text"
    if make.kind != "valkey":  # type: ignore[attr-defined]  # there the server's own clock says when
        assert await find(store, 2) is None
    assert (await store.measure()).entries == 1
    await keep(store, item(3, made_unix_s=NOW_S - 60.0))
    assert await find(store, 3) is None
    await store.close()


@runs
async def test_stays_within_its_bytes_and_lets_the_least_worthy_go(make: Make) -> None:
    size = 1000 + OVERHEAD_BYTES
    store = make(max_bytes=10 * size)
    await store.open()
    await keep(store, *[item(number, bytes(1000), worth_j=100.0 + number) for number in range(10)])
    assert (await store.measure()).entries == 10
    for _ in range(3):
        assert await find(store, 0) is not None  # found often, it saves more than any other
    await keep(store, item(10, bytes(1000), worth_j=500.0))
    held = await store.measure()
    assert held.size_bytes <= 10 * size
    assert (held.entries, held.evicted) == (10, 1)
    assert await find(store, 1) is None
    assert await find(store, 0) is not None
    await keep(store, item(11, bytes(200), worth_j=1.0))
    assert await find(store, 11) is not None or (await store.measure()).evicted == 2
    await store.close()


@runs
async def test_what_was_found_long_ago_goes_at_last(make: Make) -> None:
    size = 100 + OVERHEAD_BYTES
    store = make(max_bytes=10 * size)
    await store.open()
    await keep(store, item(0, bytes(100), worth_j=50.0))
    await keep(store, *[item(number, bytes(100), worth_j=10.0) for number in range(1, 21)])
    assert await find(store, 0) is not None
    await keep(store, *[item(number, bytes(100), worth_j=10.0) for number in range(21, 200)])
    assert await find(store, 0) is None
    assert await find(store, 199) is not None
    await store.close()


@runs
async def test_does_not_keep_what_is_too_large(make: Make) -> None:
    store = make(max_bytes=10_000)
    await store.open()
    await keep(store, item(1), item(2, bytes(5_000)))
    assert await find(store, 2) is None
    assert await find(store, 1) is not None
    await store.close()


@runs
async def test_purges_by_model_by_owner_and_by_age(make: Make) -> None:
    store = make()
    await store.open()
    kept = [item(1), item(2, model="other"), item(3, owner="ann"), item(4, owner="ann", made_unix_s=NOW_S - 100)]
    await keep(store, *kept)
    assert await store.purge(Which(model="other")) == 1
    assert await store.purge(Which(owner="ann", made_until_unix_s=NOW_S - 50)) == 1
    assert [await find(store, number) is not None for number in (1, 2, 3, 4)] == [True, False, True, False]
    assert await store.purge(Which(owner="nobody")) == 0
    assert await store.purge(Which()) == 2
    held = await store.measure()
    assert (held.entries, held.size_bytes) == (0, 0)
    await store.close()


@runs
async def test_purges_what_another_name_of_the_same_weights_gets(make: Make) -> None:
    store = make()
    await store.open()
    names = [("alias", "d1"), ("m:1b", "d2"), ("other", "d3"), ("other", "")]
    await keep(store, *[item(place, model=model, digest=digest) for place, (model, digest) in enumerate(names)])
    assert await store.purge(Which(model="m:1b", digests=frozenset({"d1", "d4"}))) == 2
    assert [await find(store, place) is not None for place in range(4)] == [False, False, True, True]
    await store.close()


@runs
async def test_outlasts_a_restart_where_the_kind_does(make: Make) -> None:
    first = make()
    await first.open()
    secret = first.secret
    await keep(first, item(1))
    await first.close()
    assert first.secret is None or make.kind == "memory"  # type: ignore[attr-defined]
    second = make()
    await second.open()
    lasts = make.kind != "memory"  # type: ignore[attr-defined]
    assert (second.secret == secret) is lasts
    assert (await find(second, 1) is not None) is lasts
    await second.close()


@runs
async def test_many_at_once(make: Make) -> None:
    store = make()
    await store.open()
    await keep(store, *[item(number, str(number).encode()) for number in range(30)])
    found = await asyncio.gather(*[find(store, number) for number in range(60)])
    assert found == [str(number).encode() if number < 30 else None for number in range(60)]
    await store.close()
