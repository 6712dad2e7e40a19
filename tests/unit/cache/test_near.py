"""Answers held in front of a store that others change: found at once, and given up when they have to be."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_proxy.cache.near import HELD_S, LONGEST_S, NearStore
from ollama_proxy.cache.sqlite import SqliteStore
from ollama_proxy.cache.store import OVERHEAD_BYTES, Bounds, FarStore, Found, Item, Which
from ollama_proxy.cache.valkey import ValkeyStore
from ollama_proxy.net.task import spawn
from tests.support.http1 import until
from tests.support.redis import RedisProcess, serve_redis

NOW_S = 1_800_000_000.0
TTL_S = 3600.0
KEY = bytes(32)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with serve_redis() as server:
        yield server


class Clock:
    """Of all proxies."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


Proxies = Callable[..., NearStore]


@pytest.fixture(params=("sqlite", "valkey"))
def proxy(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Proxies:
    """Makes one more proxy's store; all share what is behind."""
    if request.param == "valkey":
        server = request.getfixturevalue("redis")
        server.flush()

    def build(near_bytes: int = 100_000, far_bytes: int = 1_000_000) -> NearStore:
        bounds = Bounds(far_bytes, TTL_S)
        far: FarStore
        if request.param == "sqlite":
            far = SqliteStore(tmp_path / "cache.sqlite", bounds, clock)
        else:
            far = ValkeyStore(server.url, bounds, timeout_s=5.0, unix_clock=clock)
        return NearStore(far, Bounds(near_bytes, TTL_S), clock, clock)

    return build


@pytest.fixture
def clock() -> Clock:
    return Clock()


def runs(scene: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(scene)
    def test(*args: Any, **kwargs: Any) -> None:
        asyncio.run(scene(*args, **kwargs))

    return test


def item(number: int = 0, data: bytes = b"text", **fields: Any) -> Item:
    given = {"model": "m:1b", "owner": "", "made_unix_s": NOW_S, "worth_j": 1.0, **fields}
    return Item(number.to_bytes(32, "big"), data, **given)


async def keep(store: NearStore, *items: Item) -> None:
    for one in items:
        store.keep(one)
        await store.measure()
        for task in list(getattr(store._far, "_keeping", ())):
            await task


async def find(store: NearStore, key: bytes = KEY) -> tuple[bytes | None, str]:
    """What is found, and where."""
    found = store.find(key)
    if found is None or isinstance(found, bytes):
        return found, "near"
    return await found, "far"


async def go_on(store: NearStore, clock: Clock, seconds: float) -> None:
    """Time passes, somebody asks for something else, and what that has begun is over."""
    clock.now_s += seconds
    await find(store, b"\xff" * 32)
    await until(lambda: not store._is_reading)


@runs
async def test_what_was_kept_or_found_is_found_at_once(proxy: Proxies) -> None:
    one, other = proxy(), proxy()
    await one.open()
    await other.open()
    await keep(one, item())
    assert await find(one) == (b"text", "near")
    assert await find(other) == (b"text", "far")
    assert await find(other) == (b"text", "near")
    assert (await other.measure()).near_bytes == 4 + OVERHEAD_BYTES
    await one.close()
    await other.close()


@pytest.mark.parametrize("which", [Which(), Which(model="m:1b"), Which(owner=""), Which(made_until_unix_s=NOW_S)])
@runs
async def test_a_purge_by_another_proxy_is_heard_of(proxy: Proxies, clock: Clock, which: Which) -> None:
    one, other = proxy(), proxy()
    await one.open()
    await other.open()
    await keep(one, item())
    assert await other.purge(which) == 1
    assert await find(one) == (b"text", "near"), "nobody has looked yet"
    await go_on(one, clock, 1.0)
    assert await find(one) == (None, "far")
    await one.close()
    await other.close()


@runs
async def test_nothing_is_given_after_the_longest_time_even_if_nobody_could_look(proxy: Proxies, clock: Clock) -> None:
    one, other = proxy(), proxy()
    await one.open()
    await other.open()
    await keep(one, item())
    await other.purge(Which())
    clock.now_s += LONGEST_S
    assert await find(one) == (None, "far")
    await one.close()
    await other.close()


@runs
async def test_what_is_held_no_more_behind_can_be_purged_here(proxy: Proxies, clock: Clock) -> None:
    one, other = proxy(near_bytes=100_000, far_bytes=9 * 400), proxy()
    await one.open()
    await other.open()
    await keep(one, *[item(number, bytes(100)) for number in range(20)])
    assert await find(one) == (bytes(100), "near")
    assert await find(other) == (None, "far"), "it went for want of room"
    await other.purge(Which())
    await go_on(one, clock, 1.0)
    assert await find(one) == (None, "far")
    await one.close()
    await other.close()


@runs
async def test_an_answer_that_another_proxy_puts_in_its_place_is_heard_of(proxy: Proxies, clock: Clock) -> None:
    one, other = proxy(), proxy()
    await one.open()
    await other.open()
    await keep(one, item(), item(1))
    await keep(other, item(0, b"another"))
    await go_on(one, clock, 1.0)
    assert await find(one) == (b"another", "far")
    await keep(other, item(2))
    await go_on(one, clock, 1.0)
    assert await find(one) == (b"another", "near"), "a new answer is no reason to let go of others"
    await one.close()
    await other.close()


@runs
async def test_its_own_purge_holds_at_once(proxy: Proxies) -> None:
    one = proxy()
    await one.open()
    await keep(one, item())
    assert await one.purge(Which()) == 1
    assert await find(one) == (None, "far")
    await one.close()


@runs
async def test_it_is_read_again_after_a_while(proxy: Proxies, clock: Clock) -> None:
    one = proxy()
    await one.open()
    await keep(one, item())
    for _ in range(int(HELD_S)):
        assert (await find(one))[1] == "near"
        await go_on(one, clock, 1.0)
    assert await find(one) == (b"text", "far")
    assert await find(one) == (b"text", "near")
    await one.close()


@runs
async def test_it_stays_within_its_bytes(proxy: Proxies) -> None:
    one = proxy(near_bytes=10 * (1000 + OVERHEAD_BYTES))
    await one.open()
    await keep(one, *[item(number, bytes(1000)) for number in range(9)])
    assert (await find(one))[1] == "near"
    await keep(one, *[item(number, bytes(1000)) for number in range(9, 12)], item(12, bytes(2000)))
    assert (await one.measure()).near_bytes == 10 * (1000 + OVERHEAD_BYTES)
    assert (await find(one))[1] == "near", "who was asked for of late stays"
    assert (await find(one, item(1).key))[1] == "far"
    assert (await find(one, item(12).key))[1] == "far", "too large to be held"
    one.relieve()
    assert (await one.measure()).near_bytes == 5 * (1000 + OVERHEAD_BYTES)
    await one.close()


@runs
async def test_what_is_found_here_goes_last_behind(proxy: Proxies, clock: Clock) -> None:
    size = 100 + OVERHEAD_BYTES
    one = proxy(far_bytes=10 * size)
    await one.open()
    await keep(one, *[item(number, bytes(100), worth_j=10.0 + number) for number in range(10)])
    for _ in range(5):
        assert (await find(one))[1] == "near"
    await go_on(one, clock, 1.0)
    await keep(one, item(10, bytes(100), worth_j=20.0))
    clock.now_s += HELD_S
    assert await find(one) == (bytes(100), "far")
    assert await find(one, item(1).key) == (None, "far"), "the least worth of those that nobody asked for"
    await one.close()


class Slow:
    """A store behind whose reading can be held up."""

    def __init__(self) -> None:
        self.changes = 0
        self.answers: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        pass

    def fetch(self, key: bytes) -> Awaitable[Found | None]:
        return self.answers

    async def count_changes(self, times: dict[bytes, int]) -> int | None:
        return self.changes


@runs
async def test_what_was_read_before_a_purge_is_not_held(clock: Clock) -> None:
    slow = Slow()
    one = NearStore(slow, Bounds(100_000, TTL_S), clock, clock)  # type: ignore[arg-type]
    await one.open()
    looks = spawn(find(one), "find it")
    await asyncio.sleep(0)
    slow.changes = 1
    clock.now_s += 1.0
    later = spawn(find(one), "find it later")
    await until(lambda: one._changes == 1)
    slow.answers.set_result(Found(b"old", 60.0))
    assert await looks == await later == (b"old", "far")
    assert (await find(one))[1] == "far"


@runs
async def test_it_gets_too_old(clock: Clock) -> None:
    slow = Slow()
    one = NearStore(slow, Bounds(100_000, TTL_S), clock, clock)  # type: ignore[arg-type]
    await one.open()
    slow.answers.set_result(Found(b"text", 1.5))
    assert await find(one) == (b"text", "far")
    await go_on(one, clock, 1.0)
    assert await find(one) == (b"text", "near")
    clock.now_s += 0.5
    assert await find(one) == (b"text", "far")


@runs
async def test_while_nobody_can_look_all_is_asked_for_behind(redis: RedisProcess, clock: Clock) -> None:
    redis.flush()
    one = NearStore(ValkeyStore(redis.url, Bounds(10**6, TTL_S), unix_clock=clock), Bounds(10**5, TTL_S), clock, clock)
    await one.open()
    await keep(one, item())
    redis.kill()
    await go_on(one, clock, 1.0)
    assert (await find(one))[0] == b"text", "it is known to have been good a second ago"
    assert one.secret is None, "so that requests go past"
    await go_on(one, clock, 1.0)
    assert await find(one) == (None, "near"), "neither here nor there"
    redis.start()
    await one.close()
