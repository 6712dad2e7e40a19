"""Filters of OpenAI's vector stores: which files of a store a search is about.

`{"type": "eq", "key": "year", "value": 2020}` and its like compare one attribute, `{"type": "and", "filters": [...]}`
and `or` join others. An attribute that is not there, or is of another kind than the value, fits nothing, not even `ne`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import UNNAMEABLE

_ORDER = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_EQUAL = {"eq": "=", "ne": "<>", "in": "IN", "nin": "NOT IN"}
_KNOWN = (*_EQUAL, *_ORDER, "and", "or")
_MOST_DEPTH = 16
_MOST_PARTS = 512
_MOST_KEY_CHARS = 64

Sql = tuple[str, list[Any]]


def read_filter(given: object, column: str) -> Sql:
    """A filter as a condition in SQL over a column of JSON text, and its parameters.

    Raises `ProxyError(INVALID_REQUEST)` that says which part is wrong, and what was expected.
    """
    left = [_MOST_PARTS]
    return _read(given, column, "filters", 0, left)


def _read(given: object, column: str, where: str, depth: int, left: list[int]) -> Sql:
    left[0] -= 1
    if left[0] < 0 or depth > _MOST_DEPTH:
        raise _refuse(where, f"at most {_MOST_PARTS} parts, {_MOST_DEPTH} deep")
    if not isinstance(given, Mapping):
        raise _refuse(where, "an object with a type")
    kind = given.get("type")
    if not isinstance(kind, str) or kind not in _KNOWN:
        raise _refuse(f"{where}.type", f"one of {', '.join(_KNOWN)}")
    if kind in ("and", "or"):
        return _join(kind, given.get("filters"), column, f"{where}.filters", depth, left)
    key = given.get("key")
    if not isinstance(key, str) or not 0 < len(key) <= _MOST_KEY_CHARS or UNNAMEABLE.search(key):
        raise _refuse(f"{where}.key", f"the name of an attribute of at most {_MOST_KEY_CHARS} characters")
    return _compare(kind, key, given.get("value"), column, f"{where}.value")


def _join(kind: str, parts: object, column: str, where: str, depth: int, left: list[int]) -> Sql:
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
        raise _refuse(where, "a list of one filter or more")
    read = [_read(part, column, f"{where}[{place}]", depth + 1, left) for place, part in enumerate(parts)]
    text = f" {kind.upper()} ".join(sql for sql, _ in read)
    return f"({text})", [value for _, values in read for value in values]


def _compare(kind: str, key: str, value: object, column: str, where: str) -> Sql:
    path = f'$."{key}"'
    if kind in ("in", "nin"):
        if not isinstance(value, Sequence) or isinstance(value, str) or not 0 < len(value) <= _MOST_PARTS:
            raise _refuse(where, f"a list of 1 to {_MOST_PARTS} texts, numbers or booleans")
        parts = [_one("eq", path, item, column, f"{where}[{place}]") for place, item in enumerate(value)]
        values = [one for _, some in parts for one in some]
        text = " OR ".join(sql for sql, _ in parts)
        if kind == "in":
            return f"({text})", values
        kinds = [_one("ne", path, item, column, where) for item in value]
        other = " OR ".join(sql for sql, _ in kinds)
        return f"(({other}) AND NOT ({text}))", [*(one for _, some in kinds for one in some), *values]
    return _one(kind, path, value, column, where)


def _one(kind: str, path: str, value: object, column: str, where: str) -> Sql:
    sign = _ORDER.get(kind) or _EQUAL[kind]
    if isinstance(value, bool):
        if kind in _ORDER:
            raise _refuse(where, "a number or a text: booleans have no order")
        return f"(json_type({column}, ?) IN ('true', 'false') AND json_extract({column}, ?) {sign} ?)", [
            *(path, path, int(value))
        ]
    if isinstance(value, int | float) and math.isfinite(value):
        types = "'integer', 'real'"
        # Larger whole numbers than SQLite's are compared as it would read them from JSON.
        value = value if abs(value) < 2**63 else float(value)
    elif isinstance(value, str):
        types = "'text'"
    else:
        raise _refuse(where, "a text, a number or a boolean")
    return f"(json_type({column}, ?) IN ({types}) AND json_extract({column}, ?) {sign} ?)", [path, path, value]


def _refuse(where: str, wanted: str) -> ProxyError:
    return ProxyError(ErrorKind.INVALID_REQUEST, f"{where}: expected {wanted}")
