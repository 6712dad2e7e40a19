"""What there is to do, and each step of it as one transaction: a kill between two of them loses nothing and doubles
nothing."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.library import Chunking
from ollama_proxy.vectors.catalogue.attachments import forget_passages
from ollama_proxy.vectors.catalogue.database import fetch
from ollama_proxy.vectors.catalogue.stores import texts_of
from ollama_proxy.vectors.chunking import Span
from ollama_proxy.vectors.index import Point


class Task(msgspec.Struct, frozen=True):
    """A file of a store that something is to be done with. `passages` is None before it was read."""

    n: int
    store_n: int
    file: str
    name: str
    owner: str
    stage: str
    chunking: Chunking
    passages: int | None


_TASK = (
    "SELECT attached.n, attached.store, attached.file, COALESCE(files.name, ''), stores.owner, attached.stage, "
    "attached.size, attached.overlap, attached.passages FROM attached JOIN stores ON stores.n = attached.store "
    "LEFT JOIN files ON files.id = attached.file WHERE attached.stage = ? AND NOT stores.leaving ORDER BY attached.n "
    "LIMIT 1"
)


def next_task(connection: sqlite3.Connection) -> Task | None:
    """What comes first: to take away, to finish, to begin."""
    for stage in ("leaving", "publishing", "waiting"):
        rows = fetch(connection, _TASK, stage)
        if rows:
            n, store_n, file, name, owner, stage, size, overlap, passages = rows[0]
            return Task(n, store_n, file, name, owner, stage, Chunking(size, overlap), passages)
    return None


def is_stage(connection: sqlite3.Connection, n: int, stage: str) -> bool:
    """Whether a file is still where a step expects it; it may have been taken away meanwhile."""
    return bool(fetch(connection, "SELECT 1 FROM attached WHERE n = ? AND stage = ?", n, stage))


def keep_passages(connection: sqlite3.Connection, task: Task, text: str, spans: Sequence[Span]) -> bool:
    """The passages of a file that was read, all at once; whether it is still wanted."""
    if not is_stage(connection, task.n, "waiting"):
        return False
    forget_passages(connection, task.store_n, task.n)
    total = 0
    for span in spans:
        passage = text[span.start : span.end]
        total += len(passage.encode("utf-8", "replace"))
        place = connection.execute(
            "INSERT INTO passages (attached, start, stop) VALUES (?, ?, ?)", (task.n, span.start, span.end)
        ).lastrowid
        connection.execute(f"INSERT INTO {texts_of(task.store_n)} (rowid, text) VALUES (?, ?)", (place, passage))
    connection.execute("UPDATE attached SET passages = ?, done = 0, bytes = ? WHERE n = ?", (len(spans), total, task.n))
    return True


def next_texts(connection: sqlite3.Connection, task: Task, most: int) -> list[tuple[int, str]]:
    """Passages without a vector, by id; none when all have theirs, or the file is not wanted any more."""
    if not is_stage(connection, task.n, "waiting"):
        return []
    texts = texts_of(task.store_n)
    rows = fetch(
        connection,
        f"SELECT passages.id, {texts}.text FROM passages JOIN {texts} ON {texts}.rowid = passages.id "
        "WHERE attached = ? AND vector IS NULL ORDER BY passages.id LIMIT ?",
        *(task.n, most),
    )
    return [(row[0], row[1]) for row in rows]


def keep_vectors(
    connection: sqlite3.Connection, task: Task, ids: Sequence[int], vectors: Sequence[Sequence[float]]
) -> None:
    """Vectors that were made; they wait here until all of the file are there."""
    if not is_stage(connection, task.n, "waiting"):
        return
    rows = [(array("f", vector).tobytes(), place) for place, vector in zip(ids, vectors, strict=True)]
    connection.executemany("UPDATE passages SET vector = ? WHERE id = ?", rows)
    connection.execute("UPDATE attached SET done = done + ? WHERE n = ?", (len(rows), task.n))


def begin_publishing(connection: sqlite3.Connection, task: Task) -> bool:
    """From here on the index may hold some of the file, which no search sees; whether there is anything to publish."""
    missing = "SELECT 1 FROM passages WHERE attached = ? AND vector IS NULL"
    if not is_stage(connection, task.n, "waiting") or fetch(connection, missing, task.n):
        return False
    connection.execute("UPDATE attached SET stage = 'publishing' WHERE n = ?", (task.n,))
    return True


def points_behind(connection: sqlite3.Connection, n: int, behind: int, most: int) -> list[Point]:
    """The next points of a file that is published, behind an id."""
    rows = fetch(
        connection,
        "SELECT id, vector FROM passages WHERE attached = ? AND id > ? AND vector IS NOT NULL ORDER BY id LIMIT ?",
        *(n, behind, most),
    )
    return [Point(place, n, array("f", vector)) for place, vector in rows]


def complete(connection: sqlite3.Connection, n: int) -> None:
    """All of a file is in the index: from here on searches find it, and its vectors lie there only."""
    if is_stage(connection, n, "publishing"):
        connection.execute("UPDATE attached SET stage = 'completed' WHERE n = ?", (n,))
        connection.execute("UPDATE passages SET vector = NULL WHERE attached = ?", (n,))


def fail(connection: sqlite3.Connection, task: Task, code: str, message: str) -> None:
    """A file that cannot be served; nothing of it stays."""
    forget_passages(connection, task.store_n, task.n)
    connection.execute(
        "UPDATE attached SET stage = 'failed', error_code = ?, error = ?, bytes = 0 "
        "WHERE n = ? AND stage IN ('waiting', 'publishing')",
        (code, message, task.n),
    )


def forget(connection: sqlite3.Connection, task: Task) -> None:
    """A file that has left, when no index holds anything of it."""
    forget_passages(connection, task.store_n, task.n)
    connection.execute("DELETE FROM attached WHERE n = ?", (task.n,))
