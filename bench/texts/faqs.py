"""Questions that are often asked, each with its answer: Perl's, Python's and Git's, as their own people wrote them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

#: Shorter answers only point elsewhere.
_LEAST_CHARS = 80
_POD_HEAD = re.compile(r"^=head[12] (.+)$", re.M)
_POD_LINE = re.compile(r"^=.*$", re.M)
_POD_CODE = re.compile(r"[A-Z]<+\s*(.*?)\s*>+")
_RST_HEAD = re.compile(r"^(.+)\n[-=^~]{4,}$", re.M)
_ASCIIDOC_HEAD = re.compile(r"^(.+)::$", re.M)
_ASCIIDOC_END = re.compile(r"^\[\[|^\w.*\n-{4,}", re.M)


class Faq(msgspec.Struct, frozen=True):
    """One of them, and the file that it is from."""

    question: str
    answer: str
    source: str


def read_faqs(folder: Path) -> list[Faq]:
    """All of them, in a fixed order."""
    return [one for path in sorted(folder.iterdir()) if path.is_file() for one in _read(path)]


def _read(path: Path) -> Iterator[Faq]:
    text = path.read_text("utf-8", "replace")
    if path.suffix == ".pod":
        sections = [
            (_POD_CODE.sub(r"\1", head), _POD_CODE.sub(r"\1", _POD_LINE.sub("", body)))
            for head, body in _cut(text, _POD_HEAD)
        ]
    elif path.name.endswith(".rst.txt"):
        sections = list(_cut(text, _RST_HEAD))
    else:
        sections = [(head, _ASCIIDOC_END.split(body, 1)[0]) for head, body in _cut(text, _ASCIIDOC_HEAD)]
    for question, answer in sections:
        if question.endswith("?") and len(answer.strip()) >= _LEAST_CHARS:
            yield Faq(question.strip(), answer.strip(), path.name)


def _cut(text: str, head: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Each heading, and what stands below it."""
    parts = head.split(text)
    yield from zip(parts[1::2], parts[2::2], strict=True)
