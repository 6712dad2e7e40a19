"""What there is to do, and each step of it as one transaction: a kill between two of them loses nothing and doubles
nothing."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Collection, Sequence

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
    "LEFT JOIN files ON files.id = attached.file WHERE attached.store = :store AND attached.stage <> 'completed' AND "
)
_FINISHING = ("leaving", "publishing")
#: In this order in each store: to take away, to finish, to begin. So much is read ahead that requests for vectors are
#: full.
_ORDER = (
    "attached.stage = 'leaving'",
    "attached.stage = 'publishing'",
    "attached.stage = 'waiting' AND attached.passages = attached.done",
    "attached.stage = 'waiting' AND attached.passages IS NULL AND (SELECT COALESCE(SUM(ahead.passages - ahead.done), "
    "0) FROM attached AS ahead WHERE ahead.store = :store AND ahead.stage <> 'completed' AND ahead.stage = 'waiting') "
    "< :batch",
    "attached.stage = 'waiting' AND attached.passages IS NOT NULL",
)


def next_task(
    connection: sqlite3.Connection,
    batch: int,
    aside: Collection[int],
    turn: Callable[[str, int], tuple[float, ...]],
    *,
    paused: bool = False,
) -> Task | None:
    """What comes first, where vectors are made for so many passages at a time; nothing of the stores that are aside.

    Of stores (by owner and number) that one is next whose `turn` is least, whatever there is to do in others. While it
    is `paused`, nothing is begun.
    """
    stages = ", ".join(f"'{stage}'" for stage in (*_FINISHING, *(() if paused else ("waiting",))))
    # The first condition of `attached` is what its index is for.
    rows = fetch(
        connection,
        "SELECT owner, n FROM stores WHERE NOT leaving AND EXISTS (SELECT 1 FROM attached WHERE attached.store = "
        f"stores.n AND attached.stage <> 'completed' AND attached.stage IN ({stages}))",
    )
    waiting = [(owner, n) for owner, n in rows if n not in aside]
    if not waiting:
        return None
    _, store_n = min(waiting, key=lambda one: (*turn(*one), one[1]))
    for condition in _ORDER:
        sql = f"{_TASK} {condition} ORDER BY attached.n LIMIT 1"
        rows = connection.execute(sql, {"store": store_n, "batch": batch}).fetchall()
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
    for span, behind in zip(spans, [*(span.start for span in spans[1:]), 0], strict=True):
        # With what is between it and the next, which is no part of it: the text of the file is made of these.
        passage = text[span.start : max(span.end, behind)]
        total += len(text[span.start : span.end].encode("utf-8", "replace"))
        place = connection.execute(
            "INSERT INTO passages (attached, start, stop) VALUES (?, ?, ?)", (task.n, span.start, span.end)
        ).lastrowid
        connection.execute(f"INSERT INTO {texts_of(task.store_n)} (rowid, text) VALUES (?, ?)", (place, passage))
    connection.execute("UPDATE attached SET passages = ?, done = 0, bytes = ? WHERE n = ?", (len(spans), total, task.n))
    return True


class Text(msgspec.Struct, frozen=True):
    """A passage without a vector, and the number of its file in its store."""

    id: int
    n: int
    text: str


def next_texts(connection: sqlite3.Connection, task: Task, most: int, *, alone: bool) -> list[Text]:
    """Passages without a vector, those of the file first, then (unless `alone`) those of others in the same store;
    none when the file is not wanted any more."""
    if not is_stage(connection, task.n, "waiting"):
        return []
    texts = texts_of(task.store_n)
    among = "attached.n = ?" if alone else "attached.n >= ? AND attached.store = ?"
    rows = fetch(
        connection,
        f"SELECT passages.id, attached.n, {texts}.text, passages.stop - passages.start FROM attached "
        "JOIN passages ON passages.attached = attached.n "
        f"JOIN {texts} ON {texts}.rowid = passages.id WHERE {among} AND attached.stage = 'waiting' "
        "AND passages.vector IS NULL ORDER BY attached.n, passages.id LIMIT ?",
        *((task.n, most) if alone else (task.n, task.store_n, most)),
    )
    return [Text(place, n, text[:chars]) for place, n, text, chars in rows]


def keep_vectors(connection: sqlite3.Connection, texts: Sequence[Text], vectors: Sequence[Sequence[float]]) -> None:
    """Vectors that were made; they wait here until all of their files are there. Those of files that are not wanted any
    more have nowhere to go."""
    for text, vector in zip(texts, vectors, strict=True):
        if is_stage(connection, text.n, "waiting"):
            sql = "UPDATE passages SET vector = ? WHERE id = ? AND attached = ? AND vector IS NULL"
            changed = connection.execute(sql, (array("f", vector).tobytes(), text.id, text.n)).rowcount
            connection.execute("UPDATE attached SET done = done + ? WHERE n = ?", (changed, text.n))


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
