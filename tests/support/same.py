"""What two answers to the same question may differ in: times, and ids that are made up for each."""

from __future__ import annotations

import re
from typing import Any

#: Members whose value no two answers share.
_TIMES = re.compile(r"(^|_)(duration|created|created_at|completed_at|modified_at|expires_at)$")
_IDS = re.compile(r"(^|_)id$")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Names of models, which some call ids, have a colon.
_MADE_UP = re.compile(r"([a-z]+[-_])[^:]+")
_DIGITS = 3


def same(value: Any) -> Any:
    """The value without what differs from one answer to the next: what is left must be equal."""
    if isinstance(value, dict):
        return {key: _member(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [same(inner) for inner in value]
    if isinstance(value, float):
        # The order in which a processor's kernels add shows in the last digits.
        return round(value, _DIGITS) + 0.0
    return value


def _member(key: str, value: Any) -> Any:
    if _TIMES.search(key):
        # That there is one, and of which kind, has to be the same.
        return None if value is None else type(value).__name__
    if _IDS.search(key) and isinstance(value, str):
        return "uuid" if _UUID.fullmatch(value) else _MADE_UP.sub(r"\1...", value)
    return same(value)
