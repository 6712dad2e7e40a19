"""Vectors in a SQLite file, compared by arrays: exact, and with nothing to run beside the proxy.

A collection is read into memory when it is first searched, and stays while there is room (`memory_bytes` for all
together); what is put and deleted meanwhile is put and deleted there, too. One that is larger than that is read
through, block by block, for each search.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ollama_proxy.vectors.database import DatabaseProblem, open_database
from ollama_proxy.vectors.index import IndexProblem, Near, Point

if TYPE_CHECKING:
    import numpy as np

#: "OCPV".
_APPLICATION_ID = 0x4F435056
_TABLES = (
    "CREATE TABLE collections (n INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dimensions INTEGER NOT NULL)",
    """CREATE TABLE points (
        collection INTEGER NOT NULL, id INTEGER NOT NULL, part INTEGER NOT NULL, vector BLOB NOT NULL,
        PRIMARY KEY (collection, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX points_by_part ON points (collection, part)",
)
_BLOCK = 4096
#: As many pieces are compared one after the other before they are made one.
_MOST_BLOCKS = 32


class _Matrix(msgspec.Struct):
    """Some points as arrays, in the same order."""

    ids: Any
    groups: Any
    vectors: Any


class EmbeddedIndex:
    """The index of a machine without a vector database."""

    def __init__(self, path: Path, memory_bytes: int) -> None:
        self._path = path
        self._memory_bytes = memory_bytes
        self._database: sqlite3.Connection | None = None
        self._kept: dict[str, list[_Matrix]] = {}
        # One thread for rows and arrays alike: what is read is never half of what is written.
        self._thread = ThreadPoolExecutor(1, "vectors")

    # -- the interface ---------------------------------------------------------------

    async def put(self, collection: str, dimensions: int, points: Sequence[Point]) -> None:
        await self._run(self._put, collection, dimensions, points)

    async def search(
        self,
        collection: str,
        vector: Sequence[float],
        most: int,
        only: Collection[int] | None,
        without: Collection[int],
    ) -> Sequence[Near]:
        found: Sequence[Near] = await self._run(self._search, collection, vector, most, only, without)
        return found

    async def delete(self, collection: str, groups: Collection[int]) -> None:
        await self._run(self._delete, collection, groups)

    async def count(self, collection: str) -> int:
        return int(await self._run(self._count, collection))

    async def drop(self, collection: str) -> None:
        await self._run(self._drop, collection)

    async def check(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}, numpy {_numpy().__version__}"

    async def close(self) -> None:
        await self._run(self._close)
        self._thread.shutdown()

    async def _run(self, work: Any, *arguments: Any) -> Any:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except sqlite3.Error as error:
            raise IndexProblem(f"the vectors in {self._path} cannot be used: {error}") from None
        except DatabaseProblem as error:
            raise IndexProblem(str(error)) from None

    # -- in the thread ---------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = open_database(self._path, _APPLICATION_ID, _TABLES)
        return self._database

    def _close(self) -> None:
        self._kept.clear()
        if self._database is not None:
            self._database.close()
            self._database = None

    def _find(self, collection: str) -> tuple[int, int] | None:
        rows = self._open().execute("SELECT n, dimensions FROM collections WHERE name = ?", (collection,)).fetchall()
        return rows[0] if rows else None

    def _put(self, collection: str, dimensions: int, points: Sequence[Point]) -> None:
        np = _numpy()
        found = self._find(collection)
        _check_length(collection, found[1] if found else dimensions, points)
        database = self._open()
        vectors = _unit(np.array([point.vector for point in points], dtype="<f4").reshape(len(points), -1))
        with database:
            database.execute(
                "INSERT OR IGNORE INTO collections (name, dimensions) VALUES (?, ?)", (collection, dimensions)
            )
            [[place]] = database.execute("SELECT n FROM collections WHERE name = ?", (collection,))
            rows = zip(points, vectors, strict=True)
            database.executemany(
                "INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?)",
                ((place, point.id, point.group, vector.tobytes()) for point, vector in rows),
            )
        self._keep(collection, _Matrix(_column(points, "id"), _column(points, "group"), vectors.astype("<f4")))

    def _search(
        self,
        collection: str,
        vector: Sequence[float],
        most: int,
        only: Collection[int] | None,
        without: Collection[int],
    ) -> list[Near]:
        np = _numpy()
        found = self._find(collection)
        if found is None:
            return []
        place, dimensions = found
        if len(vector) != dimensions:
            raise IndexProblem(f"{collection} holds vectors of {dimensions} numbers, and was asked with {len(vector)}")
        wanted = _unit(np.array([vector], dtype="<f4"))[0]
        best: list[Near] = []
        for matrix in self._matrices(collection, place, dimensions):
            best = _merge(best, _nearest(matrix, wanted, most, only, without), most)
        return best

    def _matrices(self, collection: str, place: int, dimensions: int) -> Iterator[_Matrix]:
        """All points: at once from memory, or block by block if they have no room there."""
        kept = self._kept.pop(collection, None)
        if kept is not None:
            self._kept[collection] = kept
            yield from kept
            return
        [[count]] = self._open().execute("SELECT COUNT(*) FROM points WHERE collection = ?", (place,))
        need = count * (4 * dimensions + 16)
        if need > self._memory_bytes:
            yield from self._read(place, dimensions)
            return
        self._make_room(need)
        self._kept[collection] = [_join(list(self._read(place, dimensions)), dimensions)]
        yield from self._kept[collection]

    def _make_room(self, bytes_: int) -> None:
        """Let go of collections, first of the one that was not searched for longest, until so much more has room."""
        while self._kept and bytes_ + sum(_size_of(one) for kept in self._kept.values() for one in kept) > (
            self._memory_bytes
        ):
            del self._kept[next(iter(self._kept))]

    def _keep(self, collection: str, added: _Matrix) -> None:
        """Put points into memory that were put into the file, if their collection is there."""
        kept = self._kept.get(collection)
        if kept is None or not len(added.ids):
            return
        newest = max((int(one.ids[-1]) for one in kept if len(one.ids)), default=-1)
        if int(added.ids.min()) <= newest or len(set(added.ids.tolist())) < len(added.ids):
            # It takes the place of others: read it all anew.
            del self._kept[collection]
            return
        order = added.ids.argsort()
        kept.append(_Matrix(added.ids[order], added.groups[order], added.vectors[order]))
        if len(kept) > _MOST_BLOCKS:
            self._kept[collection] = [_join(kept, added.vectors.shape[1])]
        self._make_room(0)

    def _read(self, place: int, dimensions: int) -> Iterator[_Matrix]:
        np = _numpy()
        rows = self._open().execute("SELECT id, part, vector FROM points WHERE collection = ? ORDER BY id", (place,))
        while block := rows.fetchmany(_BLOCK):
            yield _Matrix(
                np.array([row[0] for row in block], dtype=np.int64),
                np.array([row[1] for row in block], dtype=np.int64),
                np.frombuffer(b"".join([row[2] for row in block]), dtype="<f4").reshape(len(block), dimensions),
            )

    def _delete(self, collection: str, groups: Collection[int]) -> None:
        found = self._find(collection)
        if found is None:
            return
        with self._open() as database:
            rows = [(found[0], group) for group in groups]
            database.executemany("DELETE FROM points WHERE collection = ? AND part = ?", rows)
        if collection in self._kept:
            self._kept[collection] = [_without(one, groups) for one in self._kept[collection]]

    def _count(self, collection: str) -> int:
        found = self._find(collection)
        if found is None:
            return 0
        [[count]] = self._open().execute("SELECT COUNT(*) FROM points WHERE collection = ?", (found[0],))
        return int(count)

    def _drop(self, collection: str) -> None:
        found = self._find(collection)
        if found is None:
            return
        with self._open() as database:
            database.execute("DELETE FROM points WHERE collection = ?", (found[0],))
            database.execute("DELETE FROM collections WHERE n = ?", (found[0],))
        self._kept.pop(collection, None)


def _numpy() -> Any:
    try:
        import numpy  # noqa: PLC0415  # an extra, and slow to import: only who searches pays for it
    except ImportError:
        raise IndexProblem("the embedded vector store needs numpy: install ollama-compute-proxy[vectors]") from None
    return numpy


def _check_length(collection: str, dimensions: int, points: Sequence[Point]) -> None:
    for point in points:
        if len(point.vector) != dimensions:
            told = f"{collection} holds vectors of {dimensions} numbers, and was given one of {len(point.vector)}"
            raise IndexProblem(told)


def _unit(vectors: np.ndarray[Any, Any]) -> Any:
    """Of length 1 each; those of length 0 stay so."""
    np = _numpy()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


def _size_of(matrix: _Matrix) -> int:
    return int(matrix.ids.nbytes + matrix.groups.nbytes + matrix.vectors.nbytes)


def _column(points: Sequence[Point], name: str) -> Any:
    return _numpy().array([getattr(point, name) for point in points], dtype="i8")


def _without(matrix: _Matrix, groups: Collection[int]) -> _Matrix:
    np = _numpy()
    stays = ~np.isin(matrix.groups, np.fromiter(groups, np.int64, len(groups)))
    if stays.all():
        return matrix
    return _Matrix(matrix.ids[stays], matrix.groups[stays], matrix.vectors[stays])


def _join(blocks: list[_Matrix], dimensions: int) -> _Matrix:
    np = _numpy()
    if not blocks:
        return _Matrix(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, dimensions), "<f4"))
    return _Matrix(*(np.concatenate([getattr(one, name) for one in blocks]) for name in _Matrix.__struct_fields__))


def _nearest(
    matrix: _Matrix, wanted: Any, most: int, only: Collection[int] | None, without: Collection[int]
) -> list[Near]:
    """The best of some points; equal ones by their ids."""
    np = _numpy()
    ids, vectors = matrix.ids, matrix.vectors
    if only is not None or without:
        allowed = np.ones(len(ids), dtype=bool)
        if only is not None:
            allowed &= np.isin(matrix.groups, np.fromiter(only, np.int64, len(only)))
        if without:
            allowed &= ~np.isin(matrix.groups, np.fromiter(without, np.int64, len(without)))
        ids = ids[allowed]
        cosines = vectors[allowed] @ wanted if allowed.mean() < _FEW else (vectors @ wanted)[allowed]
    else:
        cosines = vectors @ wanted
    if len(ids) > most:
        # Everything as good as the last of the best, so that ties end the same way each time.
        least = np.partition(cosines, len(cosines) - most)[len(cosines) - most]
        keep = cosines >= least
        ids, cosines = ids[keep], cosines[keep]
    order = np.lexsort((ids, -cosines))[:most]
    return [Near(int(ids[place]), float(cosines[place])) for place in order]


#: Of fewer than this share it is quicker to copy their vectors than to compare all.
_FEW = 0.2


def _merge(one: list[Near], other: list[Near], most: int) -> list[Near]:
    return sorted([*one, *other], key=lambda near: (-near.cosine, near.id))[:most] if one else other
