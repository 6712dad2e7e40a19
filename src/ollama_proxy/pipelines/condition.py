"""Conditions on a text: data, not code. All members that are given must hold."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec
from msgspec import Meta

Texts = tuple[Annotated[str, Meta(min_length=1)], ...]
Count = Annotated[int, Meta(ge=0)]
_SHOWN = 60


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"negated": "not"}):
    """What is asked of a text; letters' case does not matter, nor do blanks around it.

    `of` is the stage whose text is meant, where that is not clear.
    """

    of: str = ""
    contains: Texts = ()
    lacks: Texts = ()
    one_of: Texts = ()
    starts_with: str = ""
    ends_with: str = ""
    min_chars: Count = 0
    max_chars: Count = 0
    min_words: Count = 0
    max_words: Count = 0
    #: It is JSON, an object with these members.
    json_keys: Texts = ()
    is_json: bool = False
    any: tuple[Condition, ...] = ()
    negated: Condition | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing."""
        return msgspec.structs.replace(self, of="") == _NOTHING


_NOTHING = Condition()


def find_fault(condition: Condition, text: str) -> str:
    """Why a text does not meet a condition, as a clause about it; "" where it does."""
    lowered = text.strip().lower()
    return (
        _judge_words(condition, lowered)
        or _judge_length(condition, text.strip())
        or _judge_json(condition, text)
        or _judge_parts(condition, text)
    )


def _judge_words(condition: Condition, lowered: str) -> str:
    for word in condition.contains:
        if word.lower() not in lowered:
            return f"lacks {word[:_SHOWN]!r}"
    for word in condition.lacks:
        if word.lower() in lowered:
            return f"contains {word[:_SHOWN]!r}"
    if condition.one_of and lowered not in {word.strip().lower() for word in condition.one_of}:
        return f"is none of {', '.join(repr(word[:_SHOWN]) for word in condition.one_of)}"
    if not lowered.startswith(condition.starts_with.lower()):
        return f"does not start with {condition.starts_with[:_SHOWN]!r}"
    if not lowered.endswith(condition.ends_with.lower()):
        return f"does not end with {condition.ends_with[:_SHOWN]!r}"
    return ""


def _judge_length(condition: Condition, text: str) -> str:
    words = len(text.split())
    if len(text) < condition.min_chars:
        return f"has {len(text)} characters, fewer than {condition.min_chars}"
    if condition.max_chars and len(text) > condition.max_chars:
        return f"has {len(text)} characters, more than {condition.max_chars}"
    if words < condition.min_words:
        return f"has {words} words, fewer than {condition.min_words}"
    if condition.max_words and words > condition.max_words:
        return f"has {words} words, more than {condition.max_words}"
    return ""


def _judge_json(condition: Condition, text: str) -> str:
    if not (condition.is_json or condition.json_keys):
        return ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "is no JSON"
    missing = [key for key in condition.json_keys if not (isinstance(found, dict) and key in found)]
    return f"has no member {missing[0][:_SHOWN]!r}" if missing else ""


def _judge_parts(condition: Condition, text: str) -> str:
    if condition.any:
        faults = [find_fault(one, text) for one in condition.any]
        if all(faults):
            return " and ".join(dict.fromkeys(faults))
    if condition.negated is not None and not find_fault(condition.negated, text):
        return "is what it must not be"
    return ""
