"""The catalogue's file, and the one thread that reads and writes it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.vectors.database import DatabaseProblem, open_database

#: "OCPC".
_APPLICATION_ID = 0x4F435043
_TABLES = (
    """CREATE TABLE files (
        n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
        purpose TEXT NOT NULL, bytes INTEGER NOT NULL, created_s INTEGER NOT NULL, expires_s INTEGER
    )""",
    """CREATE TABLE stores (
        n INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, owner TEXT NOT NULL, name TEXT NOT NULL,
        description TEXT NOT NULL, metadata TEXT NOT NULL, created_s INTEGER NOT NULL, active_s INTEGER NOT NULL,
        expire_days INTEGER, backend TEXT NOT NULL, model TEXT NOT NULL, digest TEXT NOT NULL DEFAULT '',
        dimensions INTEGER NOT NULL DEFAULT 0, leaving INTEGER NOT NULL DEFAULT 0
    )""",
    """CREATE TABLE batches (id TEXT PRIMARY KEY, store INTEGER NOT NULL, created_s INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX files_by_end ON files (expires_s) WHERE expires_s IS NOT NULL",
    # `stage`: waiting, publishing, completed, failed, cancelled, leaving.
    """CREATE TABLE attached (
        n INTEGER PRIMARY KEY AUTOINCREMENT, store INTEGER NOT NULL, file TEXT NOT NULL, batch TEXT,
        stage TEXT NOT NULL, error_code TEXT NOT NULL DEFAULT '', error TEXT NOT NULL DEFAULT '',
        attributes TEXT NOT NULL, size INTEGER NOT NULL, overlap INTEGER NOT NULL, created_s INTEGER NOT NULL,
        bytes INTEGER NOT NULL DEFAULT 0, done INTEGER NOT NULL DEFAULT 0, passages INTEGER,
        UNIQUE (store, file)
    )""",
    "CREATE INDEX attached_by_stage ON attached (stage) WHERE stage IN ('waiting', 'publishing', 'leaving')",
    "CREATE INDEX attached_by_file ON attached (file)",
    "CREATE INDEX attached_open ON attached (store) WHERE stage <> 'completed'",
    "CREATE INDEX attached_by_batch ON attached (batch) WHERE batch IS NOT NULL",
    """CREATE TABLE passages (
        id INTEGER PRIMARY KEY AUTOINCREMENT, attached INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL,
        vector BLOB
    )""",
    "CREATE INDEX passages_by_attached ON passages (attached)",
)
P = ParamSpec("P")
T = TypeVar("T")


class Catalogue:
    """Runs functions of the connection, one at a time, away from the event loop. Opened with the first of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "catalogue")

    async def run(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns; all it changes is one transaction. Raises `ProxyError`."""

        def act() -> T:
            if self._connection is None:
                self._connection = open_database(self.path, _APPLICATION_ID, _TABLES)
            with self._connection as connection:
                return work(connection, *args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, act)
        except sqlite3.Error as error:
            raise disk_error(error) from None
        except DatabaseProblem as error:
            raise ProxyError(ErrorKind.INTERNAL, str(error)) from None

    async def close(self) -> None:
        """Let go of the file."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def disk_error(error: Exception) -> ProxyError:
    """What to tell of a disk that takes no more; nothing of what was asked is half done."""
    if "full" in str(error) or getattr(error, "errno", 0) == 28:
        return ProxyError(ErrorKind.INTERNAL, "the disk of the vector stores is full; make room and try again")
    return ProxyError(ErrorKind.INTERNAL, f"the catalogue of the vector stores cannot be used: {error}")


def fetch(connection: sqlite3.Connection, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return connection.execute(sql, values).fetchall()
