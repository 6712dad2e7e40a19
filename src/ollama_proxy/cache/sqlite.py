"""Answers in a SQLite file, so that they outlast the process. One thread does all that touches the file."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ollama_proxy.cache.sqlite_tables import (
    CHANGES,
    COUNT_CHANGE,
    FIND,
    FORGET,
    FORGET_OLD,
    KEEP,
    NEXT_TO_GO,
    PURGE,
    TOUCH,
    prepare,
)
from ollama_proxy.cache.store import Bounds, Found, Holdings, Item, NotPurged, Which, rank

T = TypeVar("T")
_WAIT_S = 2.0
#: Answers that go at once, so that nobody waits long for the file.
_GO_AT_ONCE = 64
#: Lookups that wait for the file at most; beyond that, it has nothing.
_MOST_WAITING = 256
#: Answers that wait to be written; beyond that they are not kept.
_MOST_KEEPING = 64
_log = logging.getLogger(__name__)


class SqliteStore:
    """A table with an index of ranks. A file that cannot be used makes a store that has nothing."""

    def __init__(self, path: Path, bounds: Bounds, unix_clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._bounds = bounds
        self._unix_clock = unix_clock
        self._secret: bytes | None = None
        self._file: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "answer-cache")
        self._waiting = 0
        self._room = threading.Semaphore(_MOST_KEEPING)
        self._floor = 0.0
        #: How often answers were found that this is not written down of yet.
        self._found: dict[bytes, int] = {}
        self._evicted = 0
        self._problem = ""

    @property
    def secret(self) -> bytes | None:
        return self._secret

    async def open(self) -> None:
        self._secret = await self._run(self._open, None)

    def fetch(self, key: bytes) -> Awaitable[Found | None] | None:
        if self._waiting >= _MOST_WAITING:
            return None
        return self._run(lambda: self._find(key), None)

    async def count_changes(self, times: dict[bytes, int]) -> int | None:
        return await self._run(lambda: self._count_changes(times), None)

    def keep(self, item: Item) -> None:
        if self._bounds.takes(item) and self._secret is not None and self._room.acquire(blocking=False):
            self._thread.submit(self._guard, lambda: self._keep(item), None).add_done_callback(
                lambda _: self._room.release()
            )

    async def purge(self, which: Which) -> int:
        gone = await self._run(lambda: self._purge(which), None)
        if gone is None:
            raise NotPurged(self._problem or "the file cannot be used")
        return gone

    async def measure(self) -> Holdings:
        found = await self._run(self._measure, None)
        return found or Holdings(evicted=self._evicted, problem=self._problem or "it is not open")

    def relieve(self) -> None:
        """The answers are not in this process."""

    async def close(self) -> None:
        self._secret = None
        await self._run(self._close, None)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], T], otherwise: T) -> T:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._guard, work, otherwise)
        finally:
            self._waiting -= 1

    # -- in the thread ------------------------------------------------------------

    def _guard(self, work: Callable[[], T], otherwise: T) -> T:
        """What `work` finds; what is said `otherwise` where the file does not let it."""
        try:
            found = work()
        except (sqlite3.Error, OSError) as error:
            if not self._problem:
                _log.warning("the cache %s cannot be used: %s", self.path, error)
            self._problem = str(error)
            return otherwise
        return found

    def _open(self) -> bytes:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Answers are as private as the prompts that they are for.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        file = sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            prepare(file, self.path)
            [[secret]] = file.execute("SELECT value FROM facts WHERE name = 'secret'").fetchall()
            [[floor]] = file.execute("SELECT MIN(rank) FROM answers").fetchall()
        except BaseException:
            file.close()
            raise
        self._file, self._floor = file, floor or 0.0
        return bytes(secret)

    def _use(self) -> sqlite3.Connection:
        if self._file is None:
            raise sqlite3.OperationalError(self._problem or "it is not open")
        return self._file

    def _find(self, key: bytes) -> Found | None:
        oldest_unix_s = self._oldest()
        row = self._use().execute(FIND, (key, oldest_unix_s)).fetchone()
        if row is None:
            return None
        self._found[key] = self._found.get(key, 0) + 1
        return Found(bytes(row[0]), row[1] - oldest_unix_s)

    def _count_changes(self, times: dict[bytes, int]) -> int:
        for key, more in times.items():
            self._found[key] = self._found.get(key, 0) + more
        row = self._use().execute(CHANGES).fetchone()
        return 0 if row is None else int(row[0])

    def _touch(self, file: sqlite3.Connection) -> None:
        """Write down what was found since the last time, so that it goes later."""
        found, self._found = self._found, {}
        file.executemany(TOUCH, [(times, self._floor, key) for key, times in found.items()])

    def _keep(self, item: Item) -> None:
        file, size_bytes = self._use(), item.size_bytes
        row = (item.key, item.data, item.model, item.owner, item.made_unix_s, size_bytes, item.worth_j, item.digest)
        file.execute("BEGIN IMMEDIATE")
        try:
            file.execute(FORGET_OLD, (self._oldest(),))
            self._touch(file)
            if file.execute(FORGET, (item.key,)).rowcount:
                file.execute(COUNT_CHANGE)
            file.execute(KEEP, (*row, rank(item.worth_j, size_bytes, 1, self._floor)))
            self._make_room(file)
            file.execute("COMMIT")
            self._problem = ""
        finally:
            if file.in_transaction:
                file.execute("ROLLBACK")

    def _make_room(self, file: sqlite3.Connection) -> None:
        [[held]] = file.execute("SELECT value FROM facts WHERE name = 'size_bytes'").fetchall()
        while held > self._bounds.max_bytes:
            for key, size_bytes, its_rank in file.execute(NEXT_TO_GO, (_GO_AT_ONCE,)).fetchall():
                file.execute(FORGET, (key,))
                held -= size_bytes
                self._floor = max(self._floor, its_rank)
                self._evicted += 1
                if held <= self._bounds.max_bytes:
                    break

    def _purge(self, which: Which) -> int:
        file = self._use()
        meant = (which.model, which.owner, which.made_until_unix_s, json.dumps(sorted(which.digests)))
        file.execute("BEGIN IMMEDIATE")
        try:
            gone = file.execute(PURGE, meant).rowcount
            # Even if there was none: what went for want of room may be held elsewhere still.
            file.execute(COUNT_CHANGE)
            file.execute("COMMIT")
        finally:
            if file.in_transaction:
                file.execute("ROLLBACK")
        return gone

    def _measure(self) -> Holdings:
        file = self._use()
        file.execute(FORGET_OLD, (self._oldest(),))
        self._touch(file)
        self._problem = ""
        [[entries, size_bytes]] = file.execute("SELECT COUNT(*), COALESCE(SUM(size_bytes), 0) FROM answers").fetchall()
        return Holdings(entries, size_bytes, self._evicted)

    def _close(self) -> None:
        file, self._file = self._file, None
        self._problem = ""
        if file is not None:
            file.close()

    def _oldest(self) -> float:
        return self._unix_clock() - self._bounds.ttl_s
