"""The tables of a cache's SQLite file, and what is asked of them."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

#: Counted up with each change of the tables; a file of another version is emptied, for it is only a cache.
VERSION = 2
#: "OCPC", so that another program's database is not taken for a cache.
_APPLICATION_ID = 0x4F435043
_TABLES = (
    """CREATE TABLE answers (
        key BLOB PRIMARY KEY, data BLOB NOT NULL, model TEXT NOT NULL, owner TEXT NOT NULL, made_unix_s REAL NOT NULL,
        size_bytes INTEGER NOT NULL, worth_j REAL NOT NULL, digest TEXT NOT NULL, times INTEGER NOT NULL,
        rank REAL NOT NULL
    )""",
    "CREATE INDEX answers_by_rank ON answers (rank)",
    "CREATE INDEX answers_by_time ON answers (made_unix_s)",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, value)",
)
FIND = "SELECT data, made_unix_s FROM answers WHERE key = ? AND made_unix_s > ?"
#: By the formula of `store.rank`.
TOUCH = """UPDATE answers SET times = times + ?1, rank = ?2 + worth_j * (times + ?1) / size_bytes WHERE key = ?3"""
FORGET = "DELETE FROM answers WHERE key = ?"
KEEP = "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?)"
FORGET_OLD = "DELETE FROM answers WHERE made_unix_s <= ?"
NEXT_TO_GO = "SELECT key, size_bytes, rank FROM answers ORDER BY rank LIMIT ?"
#: The digests, as a JSON list.
PURGE = """DELETE FROM answers
    WHERE (?1 IS NULL OR model = ?1 OR digest IN (SELECT value FROM json_each(?4)))
    AND (?2 IS NULL OR owner = ?2) AND (?3 IS NULL OR made_unix_s <= ?3)"""
#: Other processes that use the file hold answers, too, and have to hear of each that is not to be given any more.
COUNT_CHANGE = """INSERT INTO facts VALUES ('changes', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"""
CHANGES = "SELECT value FROM facts WHERE name = 'changes'"
#: The sum of sizes is kept by the database, whichever way a row comes or goes; a look through all would take too long.
_COUNTERS = (
    """CREATE TRIGGER came AFTER INSERT ON answers BEGIN
        UPDATE facts SET value = value + new.size_bytes WHERE name = 'size_bytes';
    END""",
    """CREATE TRIGGER went AFTER DELETE ON answers BEGIN
        UPDATE facts SET value = value - old.size_bytes WHERE name = 'size_bytes';
    END""",
)


def prepare(file: sqlite3.Connection, path: Path) -> None:
    """Make the tables, or look whether they are ours. Raises `sqlite3.Error`."""
    _look_at(file, path)  # before anything is changed
    file.execute("PRAGMA journal_mode=WAL")
    file.execute("PRAGMA synchronous=NORMAL")
    # Two programs may make the same new file at once; the second finds it made.
    file.execute("BEGIN IMMEDIATE")
    try:
        version = _look_at(file, path)
        if version not in (0, VERSION):
            for [name] in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                file.execute(f"DROP TABLE {name}")
        if version != VERSION:
            _make_tables(file)
        file.execute("COMMIT")
    finally:
        if file.in_transaction:
            file.execute("ROLLBACK")


def _look_at(file: sqlite3.Connection, path: Path) -> int:
    """The version of a cache's tables, 0 for an empty file. Raises `sqlite3.Error` for what is another's."""
    # The tables first: whoever makes them sets the rest in the same step.
    [[tables]] = file.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
    [[application]] = file.execute("PRAGMA application_id").fetchall()
    [[version]] = file.execute("PRAGMA user_version").fetchall()
    if tables and application != _APPLICATION_ID:
        raise sqlite3.DatabaseError(f"{path} is a database of another program; name another file in cache.path")
    return int(version) if tables else 0


def _make_tables(file: sqlite3.Connection) -> None:
    for table in (*_TABLES, *_COUNTERS):
        file.execute(table)
    file.execute("INSERT INTO facts VALUES ('secret', ?), ('size_bytes', 0)", (secrets.token_bytes(32),))
    file.execute(f"PRAGMA application_id={_APPLICATION_ID}")
    file.execute(f"PRAGMA user_version={VERSION}")
