"""Files in the catalogue; their bytes lie beside it (`vectors/shelf.py`)."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import KeptFile, Page
from ollama_proxy.vectors.catalogue.database import fetch
from ollama_proxy.vectors.catalogue.owner import owned, page_of

_LIVE = "(expires_s IS NULL OR expires_s > ?)"
_COLUMNS = ", ".join(f"files.{name}" for name in KeptFile.__struct_fields__)


def add_file(connection: sqlite3.Connection, file: KeptFile, most_bytes: int) -> None:
    """One more. Raises `ProxyError(TOO_LARGE)` where its owner has no room for it."""
    check_room(connection, file.owner, file.bytes, most_bytes)
    names, marks = ", ".join(KeptFile.__struct_fields__), ", ".join("?" * len(KeptFile.__struct_fields__))
    values = [getattr(file, name) for name in KeptFile.__struct_fields__]
    connection.execute(f"INSERT INTO files ({names}) VALUES ({marks})", values)


def find_file(connection: sqlite3.Connection, caller: Caller, file: str, now_s: int) -> KeptFile:
    """One file whose time is not over. Raises `ProxyError(NOT_FOUND)`."""
    condition, values = owned(caller)
    sql = f"SELECT {_COLUMNS} FROM files WHERE id = ? AND {_LIVE} AND {condition}"
    rows = fetch(connection, sql, file, now_s, *values)
    if not rows:
        raise ProxyError(ErrorKind.NOT_FOUND, f"No such File object: {file[:100]}")
    return KeptFile(*rows[0])


def list_files(
    connection: sqlite3.Connection, caller: Caller, purpose: str, page: Page, now_s: int
) -> tuple[Sequence[KeptFile], bool]:
    """Some files, and whether there are more."""
    condition, values = owned(caller)
    condition, values = f"{_LIVE} AND {condition}", [now_s, *values]
    if purpose:
        condition, values = f"{condition} AND purpose = ?", [*values, purpose]
    tail, more = page_of(page, "files")
    rows = fetch(connection, f"SELECT {_COLUMNS} FROM files WHERE {condition}{tail}", *values, *more)
    return [KeptFile(*row) for row in rows[: page.limit]], len(rows) > page.limit


def check_room(connection: sqlite3.Connection, owner: str, more_bytes: int, most_bytes: int) -> None:
    """Whether an owner may bring so much more. Raises `ProxyError(TOO_LARGE)`."""
    [[used]] = fetch(connection, "SELECT COALESCE(SUM(bytes), 0) FROM files WHERE owner = ?", owner)
    if used + more_bytes > most_bytes:
        told = f"your files have {used} bytes already; {most_bytes} are allowed: delete some"
        raise ProxyError(ErrorKind.TOO_LARGE, told)


def remove_file(connection: sqlite3.Connection, file: str) -> None:
    """Delete a file; it leaves all stores."""
    connection.execute("UPDATE attached SET stage = 'leaving' WHERE file = ?", (file,))
    connection.execute("DELETE FROM files WHERE id = ?", (file,))


def expired_files(connection: sqlite3.Connection, now_s: int) -> list[str]:
    """Ids of those whose time is over."""
    return [row[0] for row in fetch(connection, "SELECT id FROM files WHERE expires_s <= ?", now_s)]
