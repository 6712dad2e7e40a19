"""Filters as SQL, against what they mean in words."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.vectors.filters import read_filter

KEYS = st.sampled_from(["a", "b", "c.d", "e'f"])
VALUES = st.one_of(
    st.booleans(), st.integers(-3, 3), st.floats(-3, 3, allow_nan=False), st.sampled_from(["", "x", "2", "true", "é%_"])
)
COMPARED = st.builds(
    lambda kind, key, value: {"type": kind, "key": key, "value": value},
    st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]),
    KEYS,
    st.one_of(st.integers(-3, 3), st.floats(-3, 3, allow_nan=False), st.sampled_from(["", "x", "2"])),
)
LISTED = st.builds(
    lambda kind, key, values: {"type": kind, "key": key, "value": values},
    st.sampled_from(["in", "nin"]),
    KEYS,
    st.lists(VALUES, min_size=1, max_size=3),
)
FLAGS = st.builds(
    lambda kind, key, value: {"type": kind, "key": key, "value": value},
    st.sampled_from(["eq", "ne"]),
    KEYS,
    st.booleans(),
)
FILTERS = st.recursive(
    st.one_of(COMPARED, LISTED, FLAGS),
    lambda inner: st.builds(
        lambda kind, parts: {"type": kind, "filters": parts},
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1),
    ),
    max_leaves=6,
)


def kind_of(value: Any) -> str:
    return "flag" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def fits(asked: dict[str, Any], held: dict[str, Any]) -> bool:
    """What a filter means."""
    if asked["type"] in ("and", "or"):
        parts = [fits(part, held) for part in asked["filters"]]
        return all(parts) if asked["type"] == "and" else any(parts)
    if asked["key"] not in held:
        return False
    mine, value = held[asked["key"]], asked["value"]
    if asked["type"] in ("in", "nin"):
        alike = [one for one in value if kind_of(one) == kind_of(mine)]
        return bool(alike) and (mine in alike) == (asked["type"] == "in")
    if kind_of(mine) != kind_of(value):
        return False
    compared = {"eq": mine == value, "ne": mine != value}
    if kind_of(mine) == "number":
        compared |= {"gt": mine > value, "gte": mine >= value, "lt": mine < value, "lte": mine <= value}
    elif kind_of(mine) == "text":
        one, other = mine.encode(), value.encode()
        compared |= {"gt": one > other, "gte": one >= other, "lt": one < other, "lte": one <= other}
    return compared[asked["type"]]


@given(asked=FILTERS, held=st.dictionaries(KEYS, VALUES))
def test_a_filter_finds_what_it_says(asked: dict[str, Any], held: dict[str, Any]) -> None:
    sql, values = read_filter(asked, "attributes")
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE t (attributes TEXT)")
        database.execute("INSERT INTO t VALUES (?)", (msgspec.json.encode(held).decode(),))
        [[found]] = database.execute(f"SELECT COUNT(*) FROM t WHERE {sql}", values).fetchall()
    database.close()
    assert bool(found) == fits(asked, held)


DEEP: dict[str, Any] = {"type": "eq", "key": "a", "value": 1}
for _ in range(20):
    DEEP = {"type": "and", "filters": [DEEP]}


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ([], "filters"),
        ({"type": "like", "key": "a", "value": "x"}, "filters.type"),
        ({"type": ["eq"], "key": "a", "value": "x"}, "filters.type"),
        ({"type": "eq", "key": 'a"; DROP TABLE files', "value": "x"}, "filters.key"),
        ({"type": "eq", "key": "", "value": "x"}, "filters.key"),
        ({"type": "eq", "key": "a\\b", "value": "x"}, "filters.key"),
        ({"type": "eq", "key": "a\tb", "value": "x"}, "filters.key"),
        ({"type": "eq", "key": "a", "value": None}, "filters.value"),
        ({"type": "eq", "key": "a", "value": float("nan")}, "filters.value"),
        ({"type": "gt", "key": "a", "value": True}, "filters.value"),
        ({"type": "in", "key": "a", "value": "x"}, "filters.value"),
        ({"type": "in", "key": "a", "value": []}, "filters.value"),
        ({"type": "in", "key": "a", "value": [1, {}]}, r"filters.value\[1\]"),
        ({"type": "or", "filters": []}, "filters.filters"),
        ({"type": "or", "filters": [{"type": "no"}]}, r"filters.filters\[0\].type"),
        (DEEP, "deep"),
    ],
)
def test_what_is_no_filter_is_told_where_it_is_wrong(asked: Any, where: str) -> None:
    with pytest.raises(ProxyError, match=where):
        read_filter(asked, "attributes")
