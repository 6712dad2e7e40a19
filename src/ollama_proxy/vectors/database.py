"""SQLite files of this room: made where there are none, readable by their owner only, never another program's."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

#: Counted up with each change of any of the tables.
VERSION = 1
_WAIT_S = 5.0


class DatabaseProblem(Exception):
    """A file that cannot be used; the text says why and what to do."""


def open_database(path: Path, application: int, tables: Sequence[str]) -> sqlite3.Connection:
    """The file at `path`, with its tables. Raises `DatabaseProblem`.

    Whatever is committed is on the disk (`synchronous=FULL`): a kill or a power cut loses nothing of it. The connection
    may be used in another thread than this one, by one at a time.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise DatabaseProblem(f"{path} cannot be opened: {error}") from None
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("BEGIN IMMEDIATE")
        _make(connection, path, application, tables)
        connection.execute("COMMIT")
    except (sqlite3.Error, DatabaseProblem) as error:
        connection.close()
        told = str(error) if isinstance(error, DatabaseProblem) else f"{path} cannot be used: {error}"
        raise DatabaseProblem(told) from None
    # From here on `with connection` is a transaction.
    connection.isolation_level = "IMMEDIATE"
    return connection


def _make(connection: sqlite3.Connection, path: Path, application: int, tables: Sequence[str]) -> None:
    [[found]] = connection.execute("PRAGMA application_id").fetchall()
    [[version]] = connection.execute("PRAGMA user_version").fetchall()
    [[count]] = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
    if not found and not count:
        for table in tables:
            connection.execute(table)
        connection.execute(f"PRAGMA application_id={application}")
        connection.execute(f"PRAGMA user_version={VERSION}")
    elif found != application:
        raise DatabaseProblem(f"{path} is a database of another program; name another folder in vectors.folder")
    elif version > VERSION:
        raise DatabaseProblem(
            f"{path} has version {version}, and this program knows {VERSION} at most: update it, or name another "
            "folder in vectors.folder"
        )
