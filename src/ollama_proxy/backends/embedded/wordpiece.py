"""How many tokens a text is to a model of BERT's kind, as far as is needed to cut one that is too long.

The server refuses what is over its context; clients of Ollama expect that the end is left off.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

#: Words, and what stands by itself: punctuation, and letters of scripts that put nothing between words.
_PARTS = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]|[^\W_]+|[^\w\s]|_")
_LONGEST_WORD = 100


class WordPieces:
    """A vocabulary; pieces that go on with a word begin with `##` in it."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self._pieces = frozenset(vocabulary)

    def clip(self, text: str, most: int) -> str:
        """The text, or as much of its beginning, in whole words, as has no more than `most` tokens."""
        if len(text) <= most:
            # No token is less than a letter.
            return text
        tokens = 0
        for part in _PARTS.finditer(text):
            tokens += self._count(part.group())
            if tokens > most:
                return text[: part.start()].rstrip()
        return text

    def _count(self, word: str) -> int:
        """Tokens of one word: the longest pieces first; one for a word that cannot be put together."""
        lowered = "".join(
            letter for letter in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(letter) != "Mn"
        )
        if len(lowered) > _LONGEST_WORD:
            # How such are treated differs: what is certain is that no token is less than a letter.
            return len(lowered)
        begin = count = 0
        while begin < len(lowered):
            mark = "##" if begin else ""
            end = len(lowered)
            while end > begin and mark + lowered[begin:end] not in self._pieces:
                end -= 1
            if end == begin:
                return max(1, count)
            begin, count = end, count + 1
        return max(1, count)
