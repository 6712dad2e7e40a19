"""A text cut into passages by tokens, each with the place where it stands. Pure.

No model's own tokens are counted, for none has been chosen when a text is cut: a token is up to six letters, up to
three digits, one sign, or one character of a script without spaces. That is near what usual tokenizers count.
"""

from __future__ import annotations

import re
from array import array

import msgspec

from ollama_proxy.domain.library import Chunking

_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]|[^\W\d_]{1,6}|\d{1,3}|[^\w\s]|_")
#: Where a passage had best end: behind a paragraph, a line, a sentence.
_ENDS = (re.compile(r"\s*\n\s*\n"), re.compile(r"[ \t]*\n"), re.compile(r"[.!?。！？][\"')\]]*\s"))
#: An end is looked for in this last share of a passage.
_LAST = 0.25


class Span(msgspec.Struct, frozen=True):
    """Part of a text, in characters."""

    start: int
    end: int


def count_tokens(text: str) -> int:
    """How many tokens a text has, nearly."""
    return sum(1 for _ in _TOKEN.finditer(text))


def cut(text: str, chunking: Chunking) -> list[Span]:
    """The passages of a text, in order; none has more than `chunking.size` tokens, and the tokens of each but the first
    begin with the last `chunking.overlap` of the one before."""
    starts = array("Q", (match.start() for match in _TOKEN.finditer(text)))
    found: list[Span] = []
    first, count = 0, len(starts)
    while first < count:
        last = min(first + chunking.size, count)
        if last < count:
            last = _choose_end(text, starts, first, last)
        end = starts[last] if last < count else len(text)
        begin = starts[first] if found else 0
        found.append(Span(begin, begin + len(text[begin:end].rstrip())))
        if last == count:
            break
        first = max(last - chunking.overlap, first + 1)
    return found


def _choose_end(text: str, starts: array[int], first: int, last: int) -> int:
    """The token behind the end of a passage that would end in front of token `last`."""
    least = last - int((last - first) * _LAST)
    begin, end = starts[least], starts[last]
    for pattern in _ENDS:
        place = None
        for match in pattern.finditer(text, begin, end):
            place = match.end()
        if place is not None and place > begin:
            return _token_at(starts, least, last, place)
    return last


def _token_at(starts: array[int], low: int, high: int, place: int) -> int:
    """The first token from `low` on that begins at `place` or behind it, at most `high`."""
    while low < high:
        middle = (low + high) // 2
        if starts[middle] < place:
            low = middle + 1
        else:
            high = middle
    return max(low, 1)
