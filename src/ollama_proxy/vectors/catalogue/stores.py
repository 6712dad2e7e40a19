"""Stores in the catalogue."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import Counts, Page, Store
from ollama_proxy.vectors.catalogue.database import fetch
from ollama_proxy.vectors.catalogue.owner import owned, page_of

_OWN = [name for name in Store.__struct_fields__ if name not in ("counts", "bytes")]
_COLUMNS = ", ".join(f"stores.{name}" for name in _OWN)
#: What the API calls the stages of a file in a store.
STATUS = {
    "waiting": "in_progress",
    "publishing": "in_progress",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


def collection_of(store: Store) -> str:
    """What an index calls the store: never what somebody else chose."""
    return store.id.replace("-", "_")


def texts_of(store_n: int) -> str:
    """The table of a store's texts."""
    return f"texts_{store_n}"


def words_of(store_n: int) -> str:
    """The table of the words in a store's texts."""
    return f"words_{store_n}"


def add_store(connection: sqlite3.Connection, store: Store) -> Store:
    """One more, with a table for its texts; its `n` is given here."""
    names = [name for name in _OWN if name != "n"]
    values = [
        msgspec.json.encode(store.metadata).decode() if name == "metadata" else getattr(store, name) for name in names
    ]
    marks = ", ".join("?" * len(names))
    cursor = connection.execute(f"INSERT INTO stores ({', '.join(names)}) VALUES ({marks})", values)
    n = int(cursor.lastrowid or 0)
    connection.execute(f"CREATE VIRTUAL TABLE {texts_of(n)} USING fts5(text, tokenize='porter unicode61')")
    connection.execute(f"CREATE VIRTUAL TABLE {words_of(n)} USING fts5vocab({texts_of(n)}, 'row')")
    return msgspec.structs.replace(store, n=n)


def find_store(connection: sqlite3.Connection, caller: Caller, store: str, *, by_name: bool = False) -> Store:
    """One store, with `by_name` also by its name, if no other has that. Raises `ProxyError(NOT_FOUND)`."""
    condition, values = owned(caller)
    column = "(id = ? OR name = ?)" if by_name else "id = ?"
    asked = [store, store] if by_name else [store]
    sql = f"SELECT {_COLUMNS} FROM stores WHERE {column} AND {condition} AND NOT leaving"
    rows = fetch(connection, sql, *asked, *values)
    exact = [row for row in rows if row[1] == store]
    if len(exact or rows) != 1:
        several = f"{len(rows)} vector stores have the name {store[:100]!r}; use an id"
        told = several if rows else f"Vector store with id '{store[:100]}' not found."
        raise ProxyError(ErrorKind.NOT_FOUND, told)
    return _complete(connection, (exact or rows)[0])


def store_by_n(connection: sqlite3.Connection, n: int) -> Store | None:
    """A store whoever asks, leaving or not."""
    rows = fetch(connection, f"SELECT {_COLUMNS} FROM stores WHERE n = ?", n)
    return _complete(connection, rows[0]) if rows else None


def _complete(connection: sqlite3.Connection, row: Sequence[Any]) -> Store:
    members = dict(zip(_OWN, row, strict=True))
    members["metadata"] = msgspec.json.decode(members["metadata"])
    condition = "store = ?"
    [[size]] = fetch(connection, f"SELECT COALESCE(SUM(bytes), 0) FROM attached WHERE {condition}", members["n"])
    return Store(**members, counts=count_files(connection, condition, members["n"]), bytes=size)


def count_files(connection: sqlite3.Connection, condition: str, *values: Any) -> Counts:
    """Files by status, of those in `attached` that fulfil a condition."""
    counts: dict[str, int] = {}
    for stage, count in fetch(
        connection, f"SELECT stage, COUNT(*) FROM attached WHERE {condition} GROUP BY stage", *values
    ):
        if stage in STATUS:
            counts[STATUS[stage]] = counts.get(STATUS[stage], 0) + count
    return Counts(**counts)


def list_stores(connection: sqlite3.Connection, caller: Caller, page: Page) -> tuple[Sequence[Store], bool]:
    """Some stores, and whether there are more."""
    condition, values = owned(caller)
    tail, more = page_of(page, "stores")
    rows = fetch(connection, f"SELECT {_COLUMNS} FROM stores WHERE NOT leaving AND {condition}{tail}", *values, *more)
    return [_complete(connection, row) for row in rows[: page.limit]], len(rows) > page.limit


def change_store(connection: sqlite3.Connection, store: Store, changes: Mapping[str, Any]) -> Store:
    """Another `name`, `description`, `metadata` or `expire_days`."""
    for name, value in changes.items():
        kept = msgspec.json.encode(value).decode() if name == "metadata" else value
        connection.execute(f"UPDATE stores SET {name} = ? WHERE n = ?", (kept, store.n))
    return msgspec.structs.replace(store, **changes)


def touch_store(connection: sqlite3.Connection, n: int, now_s: int) -> None:
    """It was used."""
    connection.execute("UPDATE stores SET active_s = ? WHERE n = ?", (now_s, n))


def settle_space(connection: sqlite3.Connection, n: int, model: str, digest: str, dimensions: int) -> None:
    """Whose vectors are in it, from the first on."""
    connection.execute(
        "UPDATE stores SET model = ?, digest = ?, dimensions = ? WHERE n = ? AND dimensions = 0",
        (model, digest, dimensions, n),
    )


def leave_store(connection: sqlite3.Connection, n: int) -> None:
    """It is gone for everybody; what it holds is deleted by and by."""
    connection.execute("UPDATE stores SET leaving = 1 WHERE n = ?", (n,))
    connection.execute("UPDATE attached SET stage = 'leaving' WHERE store = ?", (n,))


def expired_stores(connection: sqlite3.Connection, now_s: int) -> list[int]:
    """Numbers of those that were not used for so long that they are over."""
    over = "NOT leaving AND expire_days IS NOT NULL AND active_s + expire_days * 86400 <= ?"
    return [row[0] for row in fetch(connection, f"SELECT n FROM stores WHERE {over}", now_s)]


def leaving_stores(connection: sqlite3.Connection, now_s: int) -> list[Store]:
    """Those to delete: asked for, or over."""
    for n in expired_stores(connection, now_s):
        leave_store(connection, n)
    return [_complete(connection, row) for row in fetch(connection, f"SELECT {_COLUMNS} FROM stores WHERE leaving")]


def forget_store(connection: sqlite3.Connection, n: int) -> None:
    """Delete a store's rows, when no index holds anything of it."""
    connection.execute("DELETE FROM passages WHERE attached IN (SELECT n FROM attached WHERE store = ?)", (n,))
    connection.execute("DELETE FROM attached WHERE store = ?", (n,))
    connection.execute("DELETE FROM batches WHERE store = ?", (n,))
    connection.execute("DELETE FROM stores WHERE n = ?", (n,))
    connection.execute(f"DROP TABLE IF EXISTS {words_of(n)}")
    connection.execute(f"DROP TABLE IF EXISTS {texts_of(n)}")
