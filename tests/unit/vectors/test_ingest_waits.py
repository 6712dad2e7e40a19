"""What a file tells while its store cannot go on, and when it gives up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from ollama_proxy.domain.library import Page, Wanted
from ollama_proxy.vectors.index import IndexProblem, Point
from ollama_proxy.vectors.stores.embedded import EmbeddedIndex
from tests.unit.vectors.corpus import ANN, Shop


class Away(EmbeddedIndex):
    """One that takes nothing while `problem` is set."""

    problem: IndexProblem | None = None

    async def put(self, collection: str, dimensions: int, points: Sequence[Point]) -> None:
        if self.problem is not None:
            raise self.problem
        await super().put(collection, dimensions, points)


def test_a_file_tells_what_it_waits_for_and_goes_on_afterwards(tmp_path: Path) -> None:
    async def ask() -> None:
        index = Away(tmp_path / "vectors.sqlite", 1 << 20)
        index.problem = IndexProblem("nobody is there")
        shop = Shop(tmp_path, index)
        store = (await shop.library.add_store(ANN, {})).id
        [file] = await shop.bring(store, {"a.txt": "Bread."})
        for _ in range(10):
            await shop.work()
            shop.now_s += 60
        found = await shop.library.attached(ANN, store, file.file)
        assert (found.status, found.error_code, found.error) == (
            "in_progress",
            "server_error",
            "embedded: nobody is there",
        )
        [listed], _ = await shop.library.attachments(ANN, store, "", "", Page())
        assert listed == found
        index.problem = None
        await shop.work()
        found = await shop.library.attached(ANN, store, file.file)
        assert (found.status, found.error_code) == ("completed", "")
        await shop.close()

    asyncio.run(ask())


@pytest.mark.parametrize("before", [None, IndexProblem("away")])
def test_a_file_fails_where_waiting_does_not_help(tmp_path: Path, before: IndexProblem | None) -> None:
    final = IndexProblem("no rights", final=True)

    async def ask() -> None:
        index = Away(tmp_path / "vectors.sqlite", 1 << 20)
        index.problem = before or final
        shop = Shop(tmp_path, index)
        store = (await shop.library.add_store(ANN, {})).id
        [file] = await shop.bring(store, {"a.txt": "Bread."})
        await shop.work()
        index.problem = final
        shop.now_s += 60
        await shop.work()
        found = await shop.library.attached(ANN, store, file.file)
        assert (found.status, found.error) == ("failed", "embedded: no rights")
        index.problem = None
        await shop.library.attach(ANN, store, [Wanted(file.file)], batch=False)
        await shop.work()
        assert (await shop.library.attached(ANN, store, file.file)).status == "completed"
        await shop.close()

    asyncio.run(ask())
