"""What must be the same in two prompts that seem to mean the same, before one's answer is given to the other. Pure.

A likeness of vectors hardly sees what changes an answer most: another number, name or date, a "not", the other
direction, who does it to whom, one word exchanged. So whatever of this kind differs is a difference, however
alike the vectors are: better to answer once too often than once wrongly. The words are English; prompts that do not
look so are told apart always.
"""

from __future__ import annotations

import re

import msgspec

from ollama_proxy.cache.english import FILLERS, stem, words_of
from ollama_proxy.cache.forms import Form, compare_forms, find_form
from ollama_proxy.cache.quantities import COUNTS, find_quantities

#: Longer prompts hold too much that could differ.
MOST_CHARS = 600
_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
#: Quoted, code, addresses: to be taken to the letter.
_LITERALS = re.compile(r"`[^`]*`|\"[^\"]*\"|“[^”]*”|\S*[/\\@#_=<>{}$^|~+*%&]\S*|\b\w+\.\w+\b|(?<!\S)-+[a-zA-Z]\S*")
_NEGATIONS = words_of(
    "not no never none nobody nothing neither nor without cannot avoid avoiding except unless hardly stop prevent "
    "non instead barely scarcely lack lacks lacking fail fails refuse refuses dont cant wont isnt arent doesnt didnt "
    "wasnt werent hasnt havent hadnt shouldnt wouldnt couldnt mustnt aint"
)
_OPPOSITES = ("un", "in", "im", "il", "ir", "dis", "non", "anti", "de", "mis", "a")
#: The same of these must be there, in the same order. Most have an opposite, of which one is enough: `out` tells
#: "log in" from "log out", and `in` is in too many sentences.
_TELLING = words_of(
    "before after above below over under down out from off more less most least fewer greater smaller larger bigger "
    "higher lower longer shorter faster slower hotter colder older younger better worse best worst increase decrease "
    "increasing decreasing raise reduce reducing add remove adding removing enable disable open close opening closing "
    "start end begin finish buy sell buying selling lend borrow import export win lose gain push pull left right north "
    "south east west northern southern eastern western top bottom front back inside outside early late earlier later "
    "next last previous today tomorrow yesterday now then morning evening night day winter summer spring autumn monday "
    "tuesday wednesday thursday friday saturday sunday january february april june july august september october "
    "november december jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri sat sun noon "
    "midnight always sometimes often rarely all every both either only maximum minimum max min true false hot "
    "cold dry wet male female man woman men women boy girl he she his her him husband wife mother father son daughter "
    "brother sister safe dangerous legal illegal impossible good bad positive negative internal external public "
    "private local remote old new long short high low big small fast slow lock unlock encrypt decrypt upload download "
    "accept reject allow deny include exclude ascending descending horizontal vertical sunrise sunset arrive leave "
    "cause symptom treatment advantage disadvantage pros cons or than versus against until since should must"
)
_ASKS = words_of("who whom whose when where why many much far often")


class Anchors(msgspec.Struct, frozen=True):
    """What of a prompt is compared to the letter."""

    numbers: tuple[str, ...]
    negations: int
    telling: tuple[str, ...]
    names: tuple[str, ...]
    literals: tuple[str, ...]
    asks: frozenset[str]
    content: tuple[str, ...]
    form: Form
    is_english: bool


def find_anchors(text: str) -> Anchors:
    """The anchors of a prompt."""
    text = text.replace("’", "'").strip()
    literals = tuple(sorted(one.strip(".,;:!?") for one in _LITERALS.findall(text)))
    found = [(match.group(), match.start()) for match in _WORDS.finditer(text)]
    words = [word.lower() for word, _ in found]
    names = tuple(word.lower() for word, start in found if _is_name(word, start, text))
    negations = sum(word in _NEGATIONS or word.endswith("n't") for word in words)
    content = tuple(stem(word) for word in words if not _says_little(word))
    return Anchors(
        find_quantities(text),
        negations,
        tuple(word for word in words if word in _TELLING),
        names,
        literals,
        frozenset(word for word in words if word in _ASKS),
        content,
        find_form(text.lower()),
        text.isascii() and any(word in FILLERS for word in words),
    )


def find_difference(one: Anchors, other: Anchors) -> str:
    """What tells two prompts apart, in a word; "" for nothing that is known here."""
    for name in ("is_english", "numbers", "negations", "literals", "names", "telling", "asks"):
        if getattr(one, name) != getattr(other, name):
            return name
    if not one.is_english:
        return "language"
    told = compare_forms(one.form, other.form, same_words=one.content == other.content)
    return told or _compare_content(one.content, other.content)


def _compare_content(one: tuple[str, ...], other: tuple[str, ...]) -> str:
    """The same words must be in the same order; otherwise so many must differ on either side that it is another way to
    say it, and not one word exchanged or added."""
    here, there = set(one), set(other)
    lost, new = here - there, there - here
    if not lost and not new:
        return "" if one == other else "order"
    if not lost or not new:
        return "added"
    if len(lost) + len(new) < 3:
        return "exchanged"
    if any(prefix + word in lost | new for word in lost | new for prefix in _OPPOSITES):
        return "opposite"
    return ""


def _is_name(word: str, start: int, text: str) -> bool:
    """Whether it is written like a name: with a capital, and not because a sentence begins."""
    if any(map(str.isupper, word[1:])):
        return True
    if word in ("I", "I'm", "I'd", "I've", "I'll") or not word[0].isupper():
        return False
    before = text[:start].rstrip()
    return bool(before) and before[-1] not in ".!?:;\n"


def _says_little(word: str) -> bool:
    """Whether a word is of no matter, or is compared apart."""
    return word in FILLERS or word in COUNTS or word[0].isdigit() or word.endswith("n't")
