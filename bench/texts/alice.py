"""Prompts of the chat bot ALICE: which of them its authors gave the same answer, and which not.

A category of its AIML is a pattern and a template. A template that is nothing but `<srai>other pattern</srai>` says
that both get the same answer, in the authors' opinion. Patterns are capitals without punctuation; here they are
sentences.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as Xml

import msgspec
import numpy as np

from ollama_proxy.cache.calibration import Pair

_LEAST_WORDS = 3
#: Of each kind; the first half is looked at when guards are written, the second only measured.
MOST = 2000
_MOST_ALIKE = 10


class Prompts(msgspec.Struct, frozen=True):
    """Prompts that get another's answer, with that other, and prompts with an answer of their own."""

    same: list[tuple[str, str]]
    answers: dict[str, str]


def read_alice(folder: Path) -> Prompts:
    """Those without wildcards, of three words and more, in an order of chance that is the same each time."""
    reduced: dict[str, str] = {}
    answers: dict[str, str] = {}
    for path in sorted(folder.glob("*.aiml")):
        for category in Xml.parse(path).iter("category"):
            pattern, template = category.find("pattern"), category.find("template")
            if pattern is None or template is None or len(pattern) or category.find("that") is not None:
                continue
            text, other = _read_pattern(pattern.text), _read_reduction(template)
            if text and other:
                reduced[text] = other
            elif text and not other:
                answers[text] = " ".join(" ".join(template.itertext()).lower().split())
    same = [(text, other) for text, other in reduced.items() if _read_pattern(other)]
    dice = random.Random(1)
    dice.shuffle(same)
    own = sorted(text for text in answers if text not in reduced)
    dice.shuffle(own)
    named = [(_write(text), _write(other)) for text, other in _thin_out(same)[:MOST]]
    return Prompts(named, {_write(text): answers[text] for text in own[: 2 * MOST]})


def pair_nearest(answers: dict[str, str], vectors: Sequence[Sequence[float]], most: int) -> list[Pair]:
    """So many prompts, each with the nearest one among all that has another answer: what a cache would give."""
    texts = list(answers)
    matrix = np.asarray(vectors, "f4")
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    found = []
    for place, text in enumerate(texts[:most]):
        for near in np.argsort(-(matrix @ matrix[place])):
            if answers[texts[near]] != answers[text]:
                found.append(Pair(text, texts[near], same=False))
                break
    return found


def _thin_out(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Few of each that begin alike: a thousand of them only name a thousand people."""
    count: Counter[tuple[str, ...]] = Counter()
    found = []
    for text, other in pairs:
        beginning = (*text.split()[:2], *other.split()[:2])
        count[beginning] += 1
        if count[beginning] <= _MOST_ALIKE:
            found.append((text, other))
    return found


def _read_pattern(text: str | None) -> str:
    """A pattern that is one prompt, "" for others."""
    words = (text or "").split()
    return " ".join(words) if len(words) >= _LEAST_WORDS and "*" not in words and "_" not in words else ""


def _read_reduction(template: Xml.Element) -> str:
    """The pattern whose answer it is, "" where it is an answer of its own."""
    inside = list(template)
    if len(inside) != 1 or inside[0].tag != "srai" or len(inside[0]):
        return ""
    if (template.text or "").strip() or (inside[0].tail or "").strip():
        return ""
    return " ".join((inside[0].text or "").upper().split())


def _write(pattern: str) -> str:
    """As somebody would type it."""
    text = " ".join("I" if word == "I" else word.lower() for word in pattern.split())
    return text[0].upper() + text[1:]
