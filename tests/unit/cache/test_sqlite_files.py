"""Files that cannot be a cache: told, and then nothing is found; never an error for a request."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from ollama_proxy.cache.sqlite import SqliteStore
from ollama_proxy.cache.sqlite_tables import VERSION
from ollama_proxy.cache.store import Bounds, Item, NotPurged, Which

NOW_S = 1_800_000_000.0
ITEM = Item(bytes(32), b"text", "m", "", NOW_S, 1.0)


async def look(store: SqliteStore) -> bytes | None:
    found = store.fetch(ITEM.key)
    answer = None if found is None else await found
    return None if answer is None else answer.data


def use(path: Path) -> tuple[bool, bytes | None, str]:
    """Whether it can be used, what is found of what was kept, and what is told of it."""

    async def scene() -> tuple[bool, bytes | None, str]:
        store = SqliteStore(path, Bounds(10**6, 3600.0), lambda: NOW_S)
        await store.open()
        store.keep(ITEM)
        problem = (await store.measure()).problem
        data = await look(store)
        usable = store.secret is not None
        await store.close()
        return usable, data, problem

    return asyncio.run(scene())


def test_a_new_file_in_a_new_folder(tmp_path: Path) -> None:
    assert use(tmp_path / "new" / "cache.sqlite") == (True, b"text", "")


def test_what_is_no_database_of_ours(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("not a database, and longer than a header has to be " * 20)
    other = tmp_path / "other"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (x)")
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (text, other, folder, text / "below a file"):
        usable, data, problem = use(path)
        assert (usable, data) == (False, None), path
        assert problem
    assert text.read_text().startswith("not a database")
    with sqlite3.connect(other) as database:
        assert [name for [name] in database.execute("SELECT name FROM sqlite_master")] == ["mine"]


def test_a_file_of_another_version_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    use(path)
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={VERSION + 1}")
        database.execute("ALTER TABLE answers ADD COLUMN more")
    assert use(path) == (True, b"text", "")


def test_a_file_that_cannot_be_written_still_finds(tmp_path: Path) -> None:
    async def scene() -> None:
        store = SqliteStore(tmp_path / "cache.sqlite", Bounds(10**6, 3600.0), lambda: NOW_S)
        await store.open()
        store.keep(ITEM)
        await store.measure()
        await store._run(lambda: store._use().execute("PRAGMA query_only=ON"), None)
        store.keep(Item(bytes([1]) * 32, b"more", "m", "", NOW_S, 1.0))
        assert await look(store) == b"text"
        assert (await store.measure()).problem
        await store.close()

    asyncio.run(scene())


def test_a_purge_of_a_file_that_another_holds_is_not_told_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_proxy.cache.sqlite._WAIT_S", 0.05)

    async def scene() -> None:
        path = tmp_path / "cache.sqlite"
        store = SqliteStore(path, Bounds(10**6, 3600.0), lambda: NOW_S)
        await store.open()
        store.keep(ITEM)
        assert (await store.measure()).entries == 1
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(NotPurged, match="locked"):
            await store.purge(Which())
        other.execute("ROLLBACK")
        other.close()
        assert await store.purge(Which()) == 1
        await store.close()

    asyncio.run(scene())


def test_two_programs_use_one_file(tmp_path: Path) -> None:
    async def scene() -> None:
        path = tmp_path / "cache.sqlite"
        one, other = (SqliteStore(path, Bounds(10**6, 3600.0), lambda: NOW_S) for _ in range(2))
        await asyncio.gather(one.open(), other.open())
        assert one.secret == other.secret is not None
        one.keep(ITEM)
        await one.measure()
        assert await look(other) == b"text"
        await one.close()
        await other.close()

    asyncio.run(scene())
