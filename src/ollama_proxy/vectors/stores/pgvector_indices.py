"""The HNSW indices of large collections in Postgres. Below a size, comparing all is quick, and exact; and an index that
is made at once costs a fraction of one that grows row by row, so it is made when nothing more comes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from ollama_proxy.net.task import spawn
from ollama_proxy.vectors.index import IndexProblem

if TYPE_CHECKING:
    from psycopg import AsyncConnection

#: What pgvector's HNSW takes; longer vectors are compared one by one.
_MOST_INDEXED = 2000
_INDEXED_FROM = 50_000
#: An index is made when no points have come for so long; or have been coming for so long.
_QUIET_S, _LATEST_S = 5.0, 600.0
#: An index that could not be made is tried again after so long, then after twice as long, at last once in so long: each
#: try may read all of a collection.
_RETRY_S, _SELDOM_S = 60.0, 3600.0
_log = logging.getLogger(__name__)


class LateIndices:
    """Looks at collections when they are quiet, each in a task of its own."""

    def __init__(self, connect: Callable[[], AbstractAsyncContextManager[AsyncConnection[Any]]]) -> None:
        """`connect` gives a connection that nobody else waits for, in a transaction; its faults are `IndexProblem`."""
        self._connect = connect
        #: When points came last.
        self._put_s: dict[str, float] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        #: One at a time: each may take half a gigabyte and a core of the server.
        self._turn = asyncio.Semaphore(1)
        #: From so many points on there is an index.
        self.indexed_from = _INDEXED_FROM
        self.quiet_s = _QUIET_S
        self.retry_s = _RETRY_S

    def hear_of(self, collection: str) -> None:
        """Points have come."""
        self._put_s[collection] = time.monotonic()
        self.look_later(collection)

    def look_later(self, collection: str) -> None:
        """See to its index when it is quiet."""
        if collection not in self._looking:
            task = spawn(self._look(collection), f"look whether {collection} needs an index")
            self._looking[collection] = task
            task.add_done_callback(lambda _: self._looking.pop(collection, None))

    def forget(self, collection: str) -> None:
        """It is not there any more."""
        self._put_s.pop(collection, None)

    async def settle(self) -> None:
        """Until all that were heard of have been looked at."""
        await asyncio.gather(*self._looking.values())

    async def close(self) -> None:
        """Give up what is being made; it is looked at again when the collection is next used."""
        looking = list(self._looking.values())
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)

    async def _look(self, collection: str) -> None:
        seen_s, wait_s = -1.0, self.retry_s
        while seen_s != (seen_s := await self._wait_until_quiet(collection)):
            try:
                async with self._turn, self._connect() as connection:
                    await self._make(connection, collection)
            except IndexProblem as error:
                told = "%s has no index, so that searches compare all of it; this is tried again in %.0f s: %s"
                _log.warning(told, collection, wait_s, error)
                await asyncio.sleep(wait_s)
                seen_s, wait_s = -1.0, min(2 * wait_s, _SELDOM_S)

    async def _wait_until_quiet(self, collection: str) -> float:
        """When points came last."""
        latest_s = time.monotonic() + _LATEST_S
        while True:
            put_s = self._put_s.get(collection, 0.0)
            left_s = min(latest_s, put_s + self.quiet_s) - time.monotonic()
            if left_s <= 0:
                return put_s
            await asyncio.sleep(left_s)

    async def _make(self, connection: AsyncConnection[Any], collection: str) -> None:
        """If it is worth it. Nothing can be put meanwhile, and searches go on."""
        rows = await connection.execute(
            "SELECT atttypmod, to_regclass(%s) IS NOT NULL FROM pg_attribute "
            "WHERE attrelid = to_regclass(%s) AND attname = 'vector'",
            (f'"{collection}_near"', f'"{collection}"'),
        )
        found = await rows.fetchone()
        if found is None or found[0] > _MOST_INDEXED or found[1]:
            return
        rows = await connection.execute(f'SELECT COUNT(*) FROM "{collection}"')
        [[count]] = await rows.fetchall()
        if count >= self.indexed_from:
            await connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
            # Several workers would share that much in /dev/shm, of which a container has 64 MB.
            await connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
            near = f'CREATE INDEX IF NOT EXISTS "{collection}_near" ON "{collection}"'
            await connection.execute(f"{near} USING hnsw (vector vector_cosine_ops)")
            # Without it the planner knows how many rows there are, but not how many are of a file, and reads them all.
            await connection.execute(f'ANALYZE "{collection}"')
