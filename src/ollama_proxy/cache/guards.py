"""What must be the same in two prompts that seem to mean the same, before one's answer is given to the other. Pure.

A likeness of vectors hardly sees what changes an answer most: another number, name or date, a "not", the other
direction, who does it to whom, one word exchanged. So whatever of this kind differs is a difference, however
alike the vectors are: better to answer once too often than once wrongly. The words are English; prompts that do not
look so are told apart always.
"""

from __future__ import annotations

import re

import msgspec

from ollama_proxy.cache.forms import Form, compare_forms, find_form

#: Longer prompts hold too much that could differ.
MOST_CHARS = 600
_WORDS = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NUMBERS = re.compile(r"(?<![^\W_])\d+(?:[.,:/-]\d+)*")
#: Quoted, code, addresses: to be taken to the letter.
_LITERALS = re.compile(r"`[^`]*`|\"[^\"]*\"|“[^”]*”|\S*[/\\@#_=<>{}$^|~+*%&]\S*|\b\w+\.\w+\b")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TO_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_COUNTS = {word: number for number, word in enumerate(_TO_TWENTY.split(" "))}
_COUNTS |= {"thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_COUNTS |= {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "half": -1, "double": -2, "twice": -2}
_COUNTS |= {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "once": 1, "single": 1, "dozen": 12}
_NEGATIONS = _words(
    "not no never none nobody nothing neither nor without cannot avoid avoiding except unless hardly stop prevent"
)
#: The same of these must be there, in the same order. Most have an opposite, of which one is enough: `out` tells
#: "log in" from "log out", and `in` is in too many sentences.
_TELLING = _words(
    "before after above below over under down out from off more less most least fewer greater smaller larger bigger "
    "higher lower longer shorter faster slower hotter colder older younger better worse best worst increase decrease "
    "increasing decreasing raise reduce reducing add remove adding removing enable disable open close opening closing "
    "start end begin finish buy sell buying selling lend borrow import export win lose gain push pull left right north "
    "south east west northern southern eastern western top bottom front back inside outside early late earlier later "
    "next last previous today tomorrow yesterday now then morning evening night day winter summer spring autumn monday "
    "tuesday wednesday thursday friday saturday sunday january february april june july august september october "
    "november december always sometimes often rarely all every both either only maximum minimum max min true false hot "
    "cold dry wet male female man woman men women boy girl he she his her him husband wife mother father son daughter "
    "brother sister safe dangerous legal illegal impossible good bad positive negative internal external public "
    "private local remote old new long short high low big small fast slow lock unlock encrypt decrypt upload download "
    "accept reject allow deny include exclude ascending descending horizontal vertical sunrise sunset arrive leave "
    "cause symptom treatment advantage disadvantage pros cons or than versus against until since should must"
)
_ASKS = _words("who whom whose when where why many much far often")
#: What says little of the matter: how one asks, and what holds a sentence together.
_FILLERS = _words(
    "a an the is are was were be been being am do does did doing done have has had i me my mine we us our you your it "
    "its they them their this that these those there here what what's whats how's how which who whom whose when where "
    "why of for at as with about so just please kindly tell explain describe say know give show want need like help "
    "let get hi hello hey thanks thank wonder wondering question answer understand learn find would could can should "
    "will exactly actually really basically simply briefly quickly me i'm i'd it's way ways idea anyone someone one's "
    "possible mean means meaning in on to from by and or if not no much many some any there's i've"
)


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
    numbers = [(match.start(), match.group()) for match in _NUMBERS.finditer(text)]
    numbers += [(start, str(_COUNTS[word.lower()])) for word, start in found if word.lower() in _COUNTS]
    names = tuple(word.lower() for word, start in found if _is_name(word, start, text))
    negations = sum(word in _NEGATIONS or word.endswith("n't") for word in words)
    content = tuple(_stem(word) for word in words if not _says_little(word))
    return Anchors(
        tuple(number for _, number in sorted(numbers)),
        negations,
        tuple(word for word in words if word in _TELLING),
        names,
        literals,
        frozenset(word for word in words if word in _ASKS),
        content,
        find_form(text.lower()),
        text.isascii() and any(word in _FILLERS for word in words),
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
    return ""


def _is_name(word: str, start: int, text: str) -> bool:
    """Whether it is written like a name: with a capital, and not because a sentence begins."""
    if word in ("I", "I'm", "I'd", "I've", "I'll") or not word[0].isupper():
        return False
    if len(word) > 1 and word[1:].upper() == word[1:] and any(letter.isalpha() for letter in word[1:]):
        return True
    before = text[:start].rstrip()
    return bool(before) and before[-1] not in ".!?:;\n"


def _says_little(word: str) -> bool:
    """Whether a word is of no matter, or is compared apart."""
    return word in _FILLERS or word in _COUNTS or word[0].isdigit() or word.endswith("n't")


def _stem(word: str) -> str:
    """Without the commonest endings, so that a plural is the same word."""
    word = word.removesuffix("'s")
    for ending in ("ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)] + ("y" if ending == "ies" else "")
    return word
