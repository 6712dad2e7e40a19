"""Which file is in which store, and how far it is."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import Attached, Attributes, Batch, Chunking, Page, Store, Wanted
from ollama_proxy.vectors.catalogue.database import fetch
from ollama_proxy.vectors.catalogue.owner import page_of
from ollama_proxy.vectors.catalogue.stores import STATUS, count_files, texts_of

_COLUMNS = (
    "attached.n, attached.file, attached.batch, attached.stage, attached.error_code, attached.error, "
    "attached.attributes, attached.size, attached.overlap, attached.created_s, attached.bytes, attached.done, "
    "attached.passages, COALESCE((SELECT files.name FROM files WHERE files.id = attached.file), '')"
)
_THERE = "attached.stage <> 'leaving'"


def _read(row: Sequence[Any], store: str) -> Attached:
    n, file, batch, stage, code, error, attributes, size, overlap, created_s, total, done, passages, name = row
    return Attached(
        *(n, store, file, name, batch, STATUS.get(stage, stage), code, error, msgspec.json.decode(attributes)),
        *(Chunking(size, overlap), created_s, total, done, passages),
    )


def attach(
    connection: sqlite3.Connection, store: Store, wanted: Sequence[Wanted], usual: Chunking, batch: str, now_s: int
) -> list[Attached]:
    """Files that are to be read. One that is there already is read again if it is described in another way, or has
    failed; raises `ProxyError` for one that is being deleted just now."""
    if batch:
        connection.execute("INSERT INTO batches VALUES (?, ?, ?)", (batch, store.n, now_s))
    for one in wanted:
        _attach_one(connection, store, one, one.chunking or usual, batch, now_s)
    return [find_attached(connection, store, one.file) for one in wanted]


def _attach_one(
    connection: sqlite3.Connection, store: Store, one: Wanted, chunking: Chunking, batch: str, now_s: int
) -> None:
    attributes = msgspec.json.encode(one.attributes).decode()
    rows = fetch(
        connection, "SELECT n, stage, size, overlap FROM attached WHERE store = ? AND file = ?", store.n, one.file
    )
    if not rows:
        connection.execute(
            "INSERT INTO attached (store, file, batch, stage, attributes, size, overlap, created_s) "
            "VALUES (?, ?, ?, 'waiting', ?, ?, ?, ?)",
            (store.n, one.file, batch or None, attributes, chunking.size, chunking.overlap, now_s),
        )
        return
    [[n, stage, size, overlap]] = rows
    if stage == "leaving":
        raise ProxyError(
            ErrorKind.OVERLOADED, f"{one.file} is being taken out of the store; try again", retry_after_s=1
        )
    if stage in ("failed", "cancelled") or (
        stage == "completed" and (size, overlap) != (chunking.size, chunking.overlap)
    ):
        forget_passages(connection, store.n, n)
        connection.execute(
            "UPDATE attached SET stage = 'waiting', error_code = '', error = '', size = ?, overlap = ?, done = 0, "
            "passages = NULL, bytes = 0 WHERE n = ?",
            (chunking.size, chunking.overlap, n),
        )
    connection.execute(
        "UPDATE attached SET attributes = ?, batch = COALESCE(?, batch) WHERE n = ?", (attributes, batch or None, n)
    )


def expired_attachments(connection: sqlite3.Connection, now_s: int) -> list[int]:
    """Numbers of those in stores whose file's time is over."""
    over = "SELECT id FROM files WHERE expires_s <= ?"
    return [row[0] for row in fetch(connection, f"SELECT n FROM attached WHERE file IN ({over}) AND {_THERE}", now_s)]


def find_attached(connection: sqlite3.Connection, store: Store, file: str) -> Attached:
    """A file in a store. Raises `ProxyError(NOT_FOUND)`."""
    sql = f"SELECT {_COLUMNS} FROM attached WHERE store = ? AND file = ? AND {_THERE}"
    rows = fetch(connection, sql, store.n, file)
    if not rows:
        raise ProxyError(ErrorKind.NOT_FOUND, f"No file found with id '{file[:100]}' in vector store '{store.id}'.")
    return _read(rows[0], store.id)


def list_attached(
    connection: sqlite3.Connection, store: Store, status: str, batch: str, page: Page
) -> tuple[Sequence[Attached], bool]:
    """Some files of a store, and whether there are more."""
    condition = f"store = ? AND {_THERE}"
    values: list[Any] = [store.n]
    if status:
        stages = [stage for stage, word in STATUS.items() if word == status]
        condition += f" AND stage IN ({', '.join('?' * len(stages))})"
        values += stages
    if batch:
        find_batch(connection, store, batch)
        condition, values = f"{condition} AND batch = ?", [*values, batch]
    tail, more = page_of(page, "attached", "file")
    # An id stands for the file in this store.
    tail = tail.replace("other.file = ?", f"other.file = ? AND other.store = {store.n}")
    rows = fetch(connection, f"SELECT {_COLUMNS} FROM attached WHERE {condition}{tail}", *values, *more)
    return [_read(row, store.id) for row in rows[: page.limit]], len(rows) > page.limit


def set_attributes(connection: sqlite3.Connection, store: Store, file: str, attributes: Attributes) -> Attached:
    """Other attributes, which searches see at once."""
    found = find_attached(connection, store, file)
    text = msgspec.json.encode(attributes).decode()
    connection.execute("UPDATE attached SET attributes = ? WHERE n = ?", (text, found.n))
    return msgspec.structs.replace(found, attributes=attributes)


def leave(connection: sqlite3.Connection, store: Store, file: str) -> None:
    """It is gone for everybody; what indices hold of it is deleted by and by."""
    connection.execute("UPDATE attached SET stage = 'leaving' WHERE n = ?", (find_attached(connection, store, file).n,))


def find_batch(connection: sqlite3.Connection, store: Store, batch: str) -> Batch:
    """How far a batch is. Raises `ProxyError(NOT_FOUND)`."""
    rows = fetch(connection, "SELECT created_s FROM batches WHERE id = ? AND store = ?", batch, store.n)
    if not rows:
        raise ProxyError(ErrorKind.NOT_FOUND, f"No file batch found with id '{batch[:100]}'.")
    counts = count_files(connection, "batch = ?", batch)
    if counts.in_progress:
        status = "in_progress"
    elif counts.cancelled:
        status = "cancelled"
    else:
        status = "failed" if counts.failed and not counts.completed else "completed"
    return Batch(batch, store.id, rows[0][0], status, counts)


def cancel_batch(connection: sqlite3.Connection, store: Store, batch: str) -> Batch:
    """Read no more of its files; the one that is being written is."""
    find_batch(connection, store, batch)
    for (n,) in fetch(connection, "SELECT n FROM attached WHERE batch = ? AND stage = 'waiting'", batch):
        forget_passages(connection, store.n, n)
        connection.execute("UPDATE attached SET stage = 'cancelled', done = 0, passages = NULL WHERE n = ?", (n,))
    return find_batch(connection, store, batch)


def forget_passages(connection: sqlite3.Connection, store_n: int, n: int) -> None:
    """Delete a file's passages."""
    ids = "SELECT id FROM passages WHERE attached = ?"
    connection.execute(f"DELETE FROM {texts_of(store_n)} WHERE rowid IN ({ids})", (n,))
    connection.execute("DELETE FROM passages WHERE attached = ?", (n,))
