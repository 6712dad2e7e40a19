"""What every place for vectors must do: the embedded one, a real Postgres with pgvector, and Qdrant in its local mode,
since its server is in no package registry.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import AsyncQdrantClient

from ollama_proxy.vectors.index import Index, IndexProblem, Point
from ollama_proxy.vectors.stores.embedded import EmbeddedIndex
from ollama_proxy.vectors.stores.pgvector import PgvectorIndex
from ollama_proxy.vectors.stores.pgvector_indices import LateIndices
from ollama_proxy.vectors.stores.qdrant import QdrantIndex
from tests.support.postgres import RealPostgres

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]
DIMENSIONS = 16
MAKERS = ("embedded", "embedded without memory", "pgvector", "qdrant, local")


class LocalQdrant(QdrantIndex):
    def __init__(self, folder: Path) -> None:
        super().__init__(self, "")
        self._folder = folder

    url = "here"

    def make_client(self) -> AsyncQdrantClient:
        return AsyncQdrantClient(path=str(self._folder))


@pytest.fixture(scope="module")
def postgres() -> Iterator[RealPostgres]:
    with tempfile.TemporaryDirectory(prefix="pg") as folder, RealPostgres(Path(folder) / "d") as server:
        yield server


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Index]:
    """Opens the same place anew with each call."""
    match request.param:
        case "embedded":
            return lambda: EmbeddedIndex(tmp_path / "v.sqlite", 1 << 20)
        case "embedded without memory":
            return lambda: EmbeddedIndex(tmp_path / "v.sqlite", 0)
        case "pgvector":
            server: RealPostgres = request.getfixturevalue("postgres")
            return lambda: PgvectorIndex(server.endpoint, "")
        case _:
            return lambda: LocalQdrant(tmp_path / "q")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"vs_{random.randrange(1 << 60):x}"


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def points(count: int, seed: int, group: int | None = None) -> list[Point]:
    dice = random.Random(seed)
    return [
        Point(seed * 10_000 + one, one % 7 if group is None else group, [dice.gauss(0, 1) for _ in range(DIMENSIONS)])
        for one in range(count)
    ]


def cosine(one: Any, other: Any) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return float(dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other)))


def best(held: list[Point], vector: Any, most: int) -> list[int]:
    ranked = sorted(held, key=lambda point: -cosine(point.vector, vector))
    return [point.id for point in ranked[:most]]


def test_the_nearest_come_first_in_their_true_order(make: Callable[[], Index], name: str) -> None:
    held, asked = points(120, 1), points(5, 2)

    async def ask() -> None:
        index = make()
        await index.put(name, DIMENSIONS, held)
        for one in asked:
            found = await index.search(name, one.vector, 10, None, ())
            assert [near.id for near in found] == best(held, one.vector, 10)
            truth = {point.id: cosine(point.vector, one.vector) for point in held}
            assert all(abs(near.cosine - truth[near.id]) < 1e-4 for near in found)
        await index.drop(name)
        await index.close()

    run(ask())


def test_only_the_groups_that_are_asked_for_are_found(make: Callable[[], Index], name: str) -> None:
    held, [asked] = points(84, 3), points(1, 4)

    async def ask() -> None:
        index = make()
        await index.put(name, DIMENSIONS, held)

        async def found(only: Any, without: Any) -> list[int]:
            return [near.id for near in await index.search(name, asked.vector, 300, only, without)]

        some = [point for point in held if point.group in (2, 5)]
        assert await found([2, 5], ()) == best(some, asked.vector, 300)
        assert await found(None, [2, 5]) == best([one for one in held if one not in some], asked.vector, 300)
        assert await found([2, 5], [5]) == best([one for one in some if one.group == 2], asked.vector, 300)
        assert await found([99], ()) == []
        await index.drop(name)
        await index.close()

    run(ask())


def test_collections_keep_to_themselves(make: Callable[[], Index], name: str) -> None:
    async def ask() -> None:
        index = make()
        other = f"{name}_2"
        mine, [theirs] = points(5, 5), points(1, 6)
        await index.put(name, DIMENSIONS, mine)
        await index.put(other, DIMENSIONS, [theirs])
        assert {near.id for near in await index.search(name, theirs.vector, 50, None, ())} == {one.id for one in mine}
        await index.delete(other, [one.group for one in mine])
        assert await index.count(name) == 5
        await index.drop(other)
        assert await index.count(name) == 5
        assert await index.count(other) == 0
        assert list(await index.search(other, theirs.vector, 5, None, ())) == []
        await index.drop(name)
        await index.close()

    run(ask())


def test_what_is_put_again_takes_the_place_of_what_was_there(make: Callable[[], Index], name: str) -> None:
    async def ask() -> None:
        index = make()
        held = points(20, 7)
        await index.put(name, DIMENSIONS, held)
        await index.put(name, DIMENSIONS, held)
        assert await index.count(name) == 20
        moved = [Point(held[0].id, 100, held[1].vector)]
        await index.put(name, DIMENSIONS, moved)
        [near] = await index.search(name, held[1].vector, 1, [100], ())
        assert near.id == held[0].id
        await index.delete(name, [100])
        await index.delete(name, [100])
        assert await index.count(name) == 19
        await index.drop(name)
        await index.drop(name)
        await index.close()

    run(ask())


def test_what_comes_and_goes_between_searches_is_seen(make: Callable[[], Index], name: str) -> None:
    async def ask() -> None:
        index = make()
        held: list[Point] = []
        for turn in range(20, 30):
            added = points(6, turn, group=turn)
            await index.put(name, DIMENSIONS, added)
            held += added
            if turn % 3 == 0:
                await index.delete(name, [turn - 1])
                held = [one for one in held if one.group != turn - 1]
            if turn == 27:
                await index.put(name, DIMENSIONS, [Point(held[0].id, 1, added[0].vector)])
                held[0] = Point(held[0].id, 1, added[0].vector)
            asked = points(1, turn + 100)[0].vector
            found = await index.search(name, asked, 200, None, ())
            truth = {point.id: cosine(point.vector, asked) for point in held}
            assert {near.id for near in found} == set(truth)
            assert all(abs(near.cosine - truth[near.id]) < 1e-4 for near in found)
        assert await index.count(name) == len(held)
        await index.drop(name)
        await index.close()

    run(ask())


def test_it_is_all_there_after_a_restart(make: Callable[[], Index], name: str) -> None:
    async def ask() -> None:
        held, [asked] = points(50, 8), points(1, 9)
        index = make()
        await index.put(name, DIMENSIONS, held)
        await index.close()
        index = make()
        assert [near.id for near in await index.search(name, asked.vector, 5, None, ())] == best(held, asked.vector, 5)
        assert await index.count(name) == 50
        assert await index.check()
        await index.drop(name)
        await index.close()

    run(ask())


def test_vectors_of_another_length_are_refused(make: Callable[[], Index], name: str) -> None:
    async def ask() -> None:
        index = make()
        await index.put(name, DIMENSIONS, points(3, 10))
        short = Point(1, 1, [0.5] * 8)
        for attempt in (index.put(name, 8, [short]), index.search(name, short.vector, 3, None, ())):
            with pytest.raises(IndexProblem, match=f"{DIMENSIONS} numbers.* 8"):
                await attempt
        assert await index.count(name) == 3
        await index.drop(name)
        await index.close()

    run(ask())


def test_a_large_collection_gets_an_index_that_finds_the_same(postgres: RealPostgres, name: str) -> None:
    async def ask() -> None:
        index = PgvectorIndex(postgres.endpoint, "")
        index.indices.indexed_from, index.indices.quiet_s = 100, 0.0
        held, asked = points(240, 12), points(5, 13)
        for begin in range(0, 240, 40):
            await index.put(name, DIMENSIONS, held[begin : begin + 40])
        await index.indices.settle()
        async with index.connections.lend(60) as connection:
            rows = await connection.execute("SELECT indexdef FROM pg_indexes WHERE tablename = %s", (name,))
            assert any("hnsw" in text for (text,) in await rows.fetchall())
            # So few rows would be compared one by one all the same.
            await connection.execute("ALTER DATABASE postgres SET enable_seqscan = off")
        await index.close()
        for one in asked:
            found = [near.id for near in await index.search(name, one.vector, 10, None, ())]
            assert len(set(found) & set(best(held, one.vector, 10))) >= 9
            among = await index.search(name, one.vector, 10, [3], ())
            assert len(among) == 10
        async with index.connections.lend(60) as connection:
            await connection.execute("ALTER DATABASE postgres RESET enable_seqscan")
        await index.drop(name)
        await index.close()

    run(ask())


def test_files_far_from_what_is_asked_are_compared_one_by_one(
    postgres: RealPostgres, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As narrow as the graph of a far larger collection.
    monkeypatch.setattr("ollama_proxy.vectors.stores.pgvector._FILTERED_WIDTH", 10)
    monkeypatch.setattr("ollama_proxy.vectors.stores.pgvector._SEARCH_WIDTH", 10)

    async def ask() -> None:
        index = PgvectorIndex(postgres.endpoint, "")
        index.indices.indexed_from, index.indices.quiet_s = 100, 0.0
        near = [Point(one.id, 1, [5 + number for number in one.vector]) for one in points(700, 18)]
        far = [Point(one.id, 2, [number - 5 for number in one.vector]) for one in points(300, 19)]
        await index.put(name, DIMENSIONS, near + far)
        await index.indices.settle()
        async with index.connections.lend(60) as connection:
            # So few rows would be compared one by one all the same.
            for way in ("seqscan", "sort"):
                await connection.execute(f"ALTER DATABASE postgres SET enable_{way} = off")
        await index.connections.close()
        asked = [5 + number for number in points(1, 20)[0].vector]
        found = [one.id for one in await index.search(name, asked, 10, [2], ())]
        assert found == best(far, asked, 10)
        index.compared_to = 299
        assert len(await index.search(name, asked, 10, [2], ())) == 10
        async with index.connections.lend(60) as connection:
            await connection.execute("ALTER DATABASE postgres RESET ALL")
        await index.drop(name)
        await index.close()

    run(ask())


def test_indices_are_made_one_by_one_and_by_no_connection_of_searches(postgres: RealPostgres, name: str) -> None:
    async def ask() -> None:
        index = PgvectorIndex(postgres.endpoint, "")
        index.indices.indexed_from = 10
        names = [f"{name}_{one}" for one in range(3)]
        for one in names:
            await index.put(one, DIMENSIONS, points(20, 16))
        await index.indices.close()
        connect, open_now = index.indices._connect, []

        @contextlib.asynccontextmanager
        async def count() -> AsyncIterator[Any]:
            assert not open_now
            open_now.append(1)
            async with connect() as connection:
                yield connection
            open_now.pop()

        index.indices._connect, index.indices.quiet_s = count, 0.0
        async with contextlib.AsyncExitStack() as taken:
            [connection, *_] = [await taken.enter_async_context(index.connections.lend(60)) for _ in range(4)]
            for one in names:
                index.indices.hear_of(one)
            await index.indices.settle()
            rows = await connection.execute("SELECT COUNT(*) FROM pg_indexes WHERE tablename = ANY(%s)", (names,))
            assert await rows.fetchall() == [(9,)]
        for one in names:
            await index.drop(one)
        await index.close()

    run(ask())


def test_an_index_that_cannot_be_made_is_tried_again_ever_later(caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> None:
        tries, enough = [], asyncio.Event()

        @contextlib.asynccontextmanager
        async def connect() -> AsyncIterator[Any]:
            tries.append(1)
            if len(tries) == 5:
                enough.set()
            raise IndexProblem("no room")
            yield

        indices = LateIndices(connect)
        indices.quiet_s = 0.0
        for _ in range(20):
            indices.look_later("large")
            await asyncio.sleep(0)
        assert len(tries) == 1
        await indices.close()
        indices.retry_s = 0.001
        indices.look_later("large")
        await enough.wait()
        await indices.close()

    run(ask())
    assert [record.args[1] for record in caplog.records][:4] == [60.0, 0.001, 0.002, 0.004]


def test_connections_that_a_database_has_closed_are_made_anew(postgres: RealPostgres, name: str) -> None:
    async def ask() -> None:
        index, other = PgvectorIndex(postgres.endpoint, ""), PgvectorIndex(postgres.endpoint, "")
        await index.put(name, DIMENSIONS, points(10, 11))
        async with other.connections.lend(60) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'ollama-proxy' AND pid <> pg_backend_pid()"
            )
        assert await index.count(name) == 10
        await index.drop(name)
        await index.close()
        await other.close()

    run(ask())


def test_a_database_that_hangs_is_given_up_and_found_again(postgres: RealPostgres, name: str) -> None:
    async def ask() -> None:
        index, [asked] = PgvectorIndex(postgres.endpoint, ""), points(1, 15)
        index.connections.answer_s = index.connections.grace_s = 0.1
        await index.put(name, DIMENSIONS, points(10, 14))
        with postgres.frozen():
            # A fresh connection is tried in the place of the one that says nothing, and libpq waits for two seconds.
            index.connections._parameters["connect_timeout"] = 2
            with pytest.raises(IndexProblem, match="timeout"):
                await index.search(name, asked.vector, 5, None, ())
        assert len(await index.search(name, asked.vector, 5, None, ())) == 5

        async def hang() -> None:
            async with index.connections.lend(0.1) as connection:
                with postgres.frozen():
                    await connection.execute("SELECT 1")

        async def sleep() -> None:
            async with index.connections.lend(0.1) as connection:
                await connection.execute("SELECT pg_sleep(60)")

        with pytest.raises(IndexProblem, match=r"no answer within 0\.2 s"):
            await hang()
        with pytest.raises(IndexProblem, match="statement timeout"):
            await sleep()
        await index.drop(name)
        await index.close()

    run(ask())


def test_what_is_being_indexed_is_written_later_and_searched_meanwhile(postgres: RealPostgres, name: str) -> None:
    async def ask() -> None:
        index, other = PgvectorIndex(postgres.endpoint, ""), PgvectorIndex(postgres.endpoint, "")
        index.connections.lock_s = 0.05
        await index.put(name, DIMENSIONS, points(10, 21))
        async with other.connections.lend(60) as holder:
            # As CREATE INDEX does.
            await holder.execute(f'LOCK TABLE "{name}" IN SHARE MODE')
            for attempt in (index.put(name, DIMENSIONS, points(1, 22)), index.delete(name, [1]), index.drop(name)):
                with pytest.raises(IndexProblem, match="index of a collection is made"):
                    await attempt
            assert len(await index.search(name, points(1, 22)[0].vector, 20, None, ())) == 10
        await index.put(name, DIMENSIONS, points(1, 22))
        assert await index.count(name) == 11
        await index.drop(name)
        await index.close()
        await other.close()

    run(ask())


def test_whoever_waits_for_a_connection_does_so_for_a_while(postgres: RealPostgres) -> None:
    async def ask() -> None:
        index = PgvectorIndex(postgres.endpoint, "")
        async with contextlib.AsyncExitStack() as taken:
            for _ in range(4):
                await taken.enter_async_context(index.connections.lend(60))
            with pytest.raises(IndexProblem, match=r"no connection was free for 0\.05 s"):
                async with index.connections.lend(0.05):
                    pass
        await index.close()

    run(ask())


def test_a_database_that_is_away_is_a_problem(tmp_path: Path, name: str) -> None:
    async def ask() -> None:
        index = PgvectorIndex(RealPostgres(tmp_path / "nowhere").endpoint, "")
        with pytest.raises(IndexProblem, match=r"Postgres at .*nowhere"):
            await index.count(name)

    run(ask())


def test_a_qdrant_that_is_away_is_a_problem(name: str) -> None:
    class Nowhere:
        url = "http://127.0.0.1:9"

    async def ask() -> None:
        index = QdrantIndex(Nowhere(), "")
        with pytest.raises(IndexProblem, match=r"Qdrant at http://127\.0\.0\.1:9"):
            await index.check()
        await index.close()

    run(ask())
