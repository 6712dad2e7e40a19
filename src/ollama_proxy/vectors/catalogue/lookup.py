"""What a search reads: which files it is about, which texts fit by their words, what stands in a passage."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.library import Hit, Store
from ollama_proxy.vectors.catalogue.database import fetch
from ollama_proxy.vectors.catalogue.stores import texts_of, words_of
from ollama_proxy.vectors.filters import read_filter

_WORD = re.compile(r"\w+")
_MOST_WORDS = 64
#: From so many passages on words are left out that stand in more than this share of them.
_LARGE, _COMMON = 5000, 0.05
_DONE = "attached.stage = 'completed'"


class Scope(msgspec.Struct, frozen=True):
    """Files that a search is about, by number: `only` these (None for all), and not those of `without`."""

    only: Collection[int] | None
    without: Collection[int]


def find_scope(connection: sqlite3.Connection, store: Store, filters: Mapping[str, Any] | None) -> Scope:
    """Files of a store that may be found: completed, and fit. Raises `ProxyError` for a filter that cannot be read."""
    if filters is None:
        # The index may hold some of these, and nearly always there is none: cheaper than naming all others.
        rows = fetch(connection, "SELECT n FROM attached WHERE store = ? AND stage <> 'completed'", store.n)
        return Scope(None, [row[0] for row in rows])
    condition, values = read_filter(filters, "attached.attributes")
    rows = fetch(connection, f"SELECT n FROM attached WHERE store = ? AND {_DONE} AND {condition}", store.n, *values)
    return Scope([row[0] for row in rows], ())


def find_by_words(
    connection: sqlite3.Connection, store: Store, query: str, most: int, filters: Mapping[str, Any] | None
) -> list[int]:
    """Passages with words of the query, by BM25, the best first."""
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(query)))[:_MOST_WORDS]
    words = _drop_common(connection, store, words)
    if not words:
        return []
    condition, values = read_filter(filters, "attached.attributes") if filters is not None else ("1", [])
    texts = texts_of(store.n)
    rows = fetch(
        connection,
        f"SELECT {texts}.rowid FROM {texts} JOIN passages ON passages.id = {texts}.rowid "
        f"JOIN attached ON attached.n = passages.attached WHERE {texts} MATCH ? AND {_DONE} AND {condition} "
        f"ORDER BY bm25({texts}), {texts}.rowid LIMIT ?",
        # A word in quotes is a word, whatever FTS5's own language says of it.
        *(" OR ".join(f'"{word}"' for word in words), *values, most),
    )
    return [row[0] for row in rows]


def _drop_common(connection: sqlite3.Connection, store: Store, words: list[str]) -> list[str]:
    """The words that tell passages apart: of a large store, those in many passages say little and take long."""
    [[total]] = fetch(connection, "SELECT COALESCE(SUM(passages), 0) FROM attached WHERE store = ?", store.n)
    if total < _LARGE:
        return words
    marks = ", ".join("?" * len(words))
    sql = f"SELECT term, doc FROM {words_of(store.n)} WHERE term IN ({marks})"
    common = {term for term, count in fetch(connection, sql, *words) if count > total * _COMMON}
    # Others are written in another form than they are kept in, or are rare.
    return [word for word in words if word not in common] or words


def read_hits(connection: sqlite3.Connection, store: Store, scores: Mapping[int, float]) -> list[Hit]:
    """Passages as they are told, in the order of `scores`; those whose file has left meanwhile are left out."""
    texts = texts_of(store.n)
    marks = ", ".join("?" * len(scores))
    rows = fetch(
        connection,
        f"SELECT passages.id, attached.file, files.name, {texts}.text, passages.start, passages.stop, "
        f"attached.attributes FROM passages JOIN {texts} ON {texts}.rowid = passages.id "
        "JOIN attached ON attached.n = passages.attached JOIN files ON files.id = attached.file "
        f"WHERE passages.id IN ({marks}) AND attached.store = ? AND {_DONE}",
        *(*scores, store.n),
    )
    found = {row[0]: row for row in rows}
    return [
        Hit(file, name, scores[place], text[: stop - start], start, stop, msgspec.json.decode(attributes))
        for place, file, name, text, start, stop, attributes in (found[one] for one in scores if one in found)
    ]


def read_passages(connection: sqlite3.Connection, store: Store, n: int) -> Sequence[str]:
    """The text of a file, without what passages have in common."""
    texts = texts_of(store.n)
    rows = fetch(
        connection,
        f"SELECT passages.start, {texts}.text FROM passages JOIN {texts} ON {texts}.rowid = passages.id "
        "WHERE attached = ? ORDER BY passages.id",
        n,
    )
    pieces, told = [], 0
    for start, text in rows:
        pieces.append(text[max(0, told - start) :])
        told = max(told, start + len(text))
    return [piece for piece in pieces if piece]
