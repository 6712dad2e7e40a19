"""Ingest rate, search times and recall of each store, side by side on the same vectors."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.vectors.stores import STORES, CannotBeHad
from ollama_proxy.vectors.index import Index, Point
from ollama_proxy.vectors.stores.pgvector import PgvectorIndex

_AT_ONCE = 1000
_NEAR = 10
_CENTRES = 2000
_GROUP = 10
#: Of groups, for searches with a filter.
_SHARE = 0.1
#: Whoever takes longer for all searches is asked fewer.
_LONG_S, _LEAST_SEARCHES = 20.0, 20


class Speed(msgspec.Struct, frozen=True):
    """What one store did. Times in milliseconds but for `index_s`, which the index took that is made behind."""

    name: str
    per_second: float
    index_s: float
    first_ms: float
    p50_ms: float
    p95_ms: float
    recall: float
    filtered_ms: float
    filtered_recall: float


class Vectors(msgspec.Struct, frozen=True):
    """Vectors of length 1 in clusters, as those of texts are, and others near some of them to ask with."""

    held: Any
    asked: Any

    def best(self, asked: Any, only: Any = None) -> set[int]:
        """The nearest by comparing all, in double precision."""
        cosines = self.held.astype("f8") @ asked.astype("f8")
        if only is not None:
            cosines = np.where(only, cosines, -2)
        return set(np.argsort(-cosines)[:_NEAR].tolist())


def make_vectors(count: int, dimensions: int, asked: int) -> Vectors:
    """The same each time."""
    dice = np.random.default_rng(1)
    centres = dice.normal(size=(_CENTRES, dimensions))
    held = centres[dice.integers(0, _CENTRES, count)] + 0.9 * dice.normal(size=(count, dimensions))
    near = held[dice.integers(0, count, asked)] + 0.5 * dice.normal(size=(asked, dimensions))
    return Vectors(_unit(held), _unit(near))


def _unit(vectors: Any) -> Any:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("f4")


async def _fill(index: Index, vectors: Vectors) -> tuple[float, float]:
    """How many a second it took, and the seconds that an index took which is made when nothing comes any more."""
    count, dimensions = vectors.held.shape
    lists = [row.tolist() for row in vectors.held]
    begun_s = time.perf_counter()
    for begin in range(0, count, _AT_ONCE):
        points = [Point(one, one // _GROUP, lists[one]) for one in range(begin, min(begin + _AT_ONCE, count))]
        await index.put("bench", dimensions, points)
    done_s = time.perf_counter()
    index_s = 0.0
    if isinstance(index, PgvectorIndex):
        await index.indices.settle()
        index_s = time.perf_counter() - done_s - index.indices.quiet_s
    return float(count / (done_s - begun_s)), index_s


async def _search(index: Index, vectors: Vectors, only: list[int] | None) -> tuple[list[float], float]:
    """Times of all searches in milliseconds, and the share of what should have been found."""
    allowed = None if only is None else np.isin(np.arange(len(vectors.held)) // _GROUP, only)
    times: list[float] = []
    found = 0
    deadline_s = time.perf_counter() + _LONG_S
    for asked in vectors.asked:
        if len(times) > _LEAST_SEARCHES and time.perf_counter() > deadline_s:
            break
        sent = asked.tolist()
        begun_s = time.perf_counter()
        near = await index.search("bench", sent, _NEAR, only, ())
        times.append((time.perf_counter() - begun_s) * 1000)
        found += len({one.id for one in near} & vectors.best(asked, allowed))
    return times, found / _NEAR / len(times)


async def _measure(name: str, vectors: Vectors) -> Speed:
    with tempfile.TemporaryDirectory(prefix="v", ignore_cleanup_errors=True) as folder:
        async with STORES[name](Path(folder)) as index:
            per_second, index_s = await _fill(index, vectors)
            times, recall = await _search(index, vectors, None)
            groups = len(vectors.held) // _GROUP
            only = list(range(round(groups * _SHARE)))
            filtered, filtered_recall = await _search(index, vectors, only)
            await index.close()
    rest = sorted(times[1:])
    p95_ms = rest[int(len(rest) * 0.95)]
    return Speed(
        name,
        per_second,
        index_s,
        times[0],
        statistics.median(rest),
        p95_ms,
        recall,
        statistics.median(filtered),
        filtered_recall,
    )


def measure(names: Sequence[str], count: int, dimensions: int, asked: int) -> tuple[list[Speed], list[str]]:
    """Those of some stores that are there, and why others are not."""
    vectors = make_vectors(count, dimensions, asked)
    done, left_out = [], []
    for name in names:
        try:
            done.append(asyncio.run(_measure(name, vectors)))
            print(write_row(done[-1]), flush=True)
        except CannotBeHad as error:
            left_out.append(f"{name}: {error}")
    return done, left_out


HEAD = (
    "| store | ingest, vectors/s | index, s | first search, ms | p50, ms | p95, ms | recall@10 | filtered p50, ms "
    "| its recall |\n|---|---|---|---|---|---|---|---|---|"
)


def write_row(one: Speed) -> str:
    """A row of the table."""
    return (
        f"| {one.name} | {one.per_second:,.0f} | {one.index_s:.0f} | {one.first_ms:.0f} | {one.p50_ms:.1f} "
        f"| {one.p95_ms:.1f} | {one.recall:.3f} | {one.filtered_ms:.1f} | {one.filtered_recall:.3f} |"
    )
