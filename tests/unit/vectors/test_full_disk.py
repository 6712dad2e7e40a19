"""A disk that takes no more: SQLite's own answer to a file that may not grow."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.library import Query
from ollama_proxy.vectors.stores.embedded import EmbeddedIndex
from tests.unit.vectors.corpus import ANN, Shop

TEXT = "\n\n".join(f"Bread number {number} with wine, cheese and a clock by the river." for number in range(400))


def bound(database: sqlite3.Connection, more: int) -> None:
    """Let a file grow by so many pages, and no further."""
    [[pages]] = database.execute("PRAGMA page_count").fetchall()
    database.execute(f"PRAGMA max_page_count = {pages + more}")


async def bound_catalogue(shop: Shop, more: int) -> None:
    await shop.catalogue.run(bound, more)


async def bound_index(shop: Shop, more: int) -> None:
    index = shop.index
    assert isinstance(index, EmbeddedIndex)
    await index._run(lambda: bound(index._open(), more))


@pytest.mark.parametrize("limit", [bound_catalogue, bound_index])
def test_the_job_says_so_and_goes_on_when_there_is_room(
    tmp_path: Path, limit: Callable[[Shop, int], Awaitable[None]]
) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path, batch=64)
        store = (await shop.library.add_store(ANN, {})).id
        [file] = await shop.bring(store, {"a.txt": TEXT})
        await limit(shop, 1)
        await shop.work()
        assert "full" in shop.ingest.waits_for
        assert (await shop.library.attached(ANN, store, file.file)).status == "in_progress"
        assert not await shop.library.search(ANN, store, Query(("bread",)))
        await limit(shop, 100_000)
        shop.now_s += 60
        await shop.work()
        found = await shop.library.attached(ANN, store, file.file)
        assert found.status == "completed"
        assert await shop.index.count(store) == found.passages == found.done
        await shop.close()

    asyncio.run(ask())


def test_a_file_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    async def ask() -> None:
        shop = Shop(tmp_path)
        await shop.library.add_store(ANN, {})
        (tmp_path / "files").symlink_to("/dev/full/nowhere")
        with pytest.raises(ProxyError):
            await shop.library.add_file(ANN, "a.txt", "assistants", b"bread", None)
        assert (await shop.catalogue.run(lambda db: db.execute("SELECT COUNT(*) FROM files").fetchall())) == [(0,)]
        await shop.close()

    asyncio.run(ask())
