"""In which form something is asked: yes or no or how, of which time, of whom, and whether it is so or may be. Pure.

The words that say it are the commonest of all, and vectors hardly hear them: "is", "was" and "will", "I" and "you",
"can" and "how can". How one asks to be told ("could you tell me", "I want to know") is no part of the question.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import msgspec

_CARRIERS = re.compile(
    r"(?:"
    r"(?:please|kindly|hi|hello|hey|so|just|and|ok|okay|thanks)\b"
    r"|(?:can|could|would|will)\s+(?:you|someone|anyone)\s+(?:please\s+|kindly\s+|just\s+|help\s+me\s+)?"
    r"(?:tell|explain|describe|show|say|clarify|understand)\b(?:\s+to)?(?:\s+(?:me|us))?"
    r"|do\s+you\s+(?:happen\s+to\s+)?know\b"
    r"|(?:tell|show|explain\s+to|give|remind)\s+(?:me|us)\b|let\s+(?:me|us)\s+know\b|explain\b|describe\b"
    r"|i(?:'d|\s+would)?\s+(?:really\s+)?(?:want|need|like|love|wish)\s+to\s+(?:know|understand|learn|find\s+out)\b"
    r"|(?:i\s+am|i'm|i\s+was|i)\s+(?:just\s+)?wonder(?:ing)?\b|i\s+(?:do\s+not|don't)\s+(?:know|understand)\b"
    r"|(?:any|an)\s+idea\b|question\b"
    r")[\s,:;.!?-]*"
)
_WAY = re.compile(
    r"\bwhat(?:'s|\s+is|\s+are|\s+would\s+be)\s+(?:the|a|some)?\s*(?:best|easiest|simplest|right|proper|usual)?\s*"
    r"(?:ways?|steps?|methods?|procedure)\b"
)
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_PERSONS = {
    **dict.fromkeys(("i", "me", "my", "mine", "myself", "i'm", "i've", "i'd", "i'll"), "i"),
    **dict.fromkeys(("we", "us", "our", "ours", "ourselves", "we're", "we've", "we'll"), "we"),
    **dict.fromkeys(("you", "your", "yours", "yourself", "you're", "you've", "you'll"), "you"),
    **dict.fromkeys(("they", "them", "their", "theirs", "they're", "they've", "they'll"), "they"),
}
_TIMES = {
    **dict.fromkeys(("is", "are", "am", "do", "does", "i'm", "you're", "we're", "they're", "it's"), "present"),
    **dict.fromkeys(("what's", "how's", "who's", "there's", "isn't", "aren't", "don't", "doesn't"), "present"),
    **dict.fromkeys(("was", "were", "did", "had", "wasn't", "weren't", "didn't", "hadn't"), "past"),
    **dict.fromkeys(("will", "won't", "i'll", "you'll", "we'll", "they'll", "shall"), "future"),
}
_MODALS = {
    **dict.fromkeys(("can", "could", "may", "might", "can't", "couldn't"), "can"),
    **dict.fromkeys(("would", "wouldn't", "i'd"), "would"),
}
_AUXILIARIES = frozenset((*_TIMES, *_MODALS, "has", "have", "hasn't", "haven't", "should", "must", "shouldn't"))
_KINDS = {"how": "how", "how's": "how", "what": "what", "what's": "what", "which": "what"}
_NEEDS = frozenset(("need", "want", "like"))
#: At the end of a question they say what is asked: what something is for, where it is from, what it is like.
_ENDINGS = frozenset(("for", "from", "to", "with", "about", "of", "like", "in", "on", "at", "by"))
_PLACES = frozenset(("in", "on", "by", "at", "with", "from"))


class Form(msgspec.Struct, frozen=True):
    """How something is asked."""

    #: To be answered with yes or no.
    is_polar: bool
    #: `how` or `what`, which matters where all other words are the same; "" for neither.
    kind: str
    times: frozenset[str]
    #: In their order, the same one behind itself left out.
    persons: tuple[str, ...]
    modals: frozenset[str]
    #: Where and by what: it matters where all other words are the same.
    places: frozenset[str]
    #: The last word, where it says what is asked; "" for others.
    ending: str


def find_form(text: str) -> Form:
    """The form of a prompt in English, of lower case."""
    text = strip_carriers(text)
    text = _WAY.sub("how", text)
    words: list[str] = _WORD.findall(text)
    is_polar = bool(words) and words[0] in _AUXILIARIES
    kind = next((_KINDS[word] for word in words if word in _KINDS), "")
    times = {_TIMES[word] for word in words if word in _TIMES}
    if any(word in ("has", "have") for word in words[:2]):
        times.add("perfect")
    persons = [_PERSONS[word] for word in words if word in _PERSONS]
    modals = {_MODALS[word] for word in words if word in _MODALS}
    if is_polar:
        modals |= _NEEDS.intersection(words)
    else:
        # "How can I" is "how do I".
        modals.discard("can")
    return Form(
        is_polar,
        kind,
        frozenset(times),
        tuple(one for place, one in enumerate(persons) if not place or persons[place - 1] != one),
        frozenset(modals),
        frozenset(word for word in words if word in _PLACES),
        words[-1] if words and words[-1] in _ENDINGS else "",
    )


def strip_carriers(text: str) -> str:
    """The question without what only asks to be told."""
    text = text.strip()
    while (found := _CARRIERS.match(text)) is not None:
        text = text[found.end() :]
    return text


def compare_forms(one: Form, other: Form, *, same_words: bool) -> str:
    """What tells two forms apart, in a word; "" for nothing. `same_words` says that all that is left is the same."""
    differs = {
        "form": one.is_polar != other.is_polar or (same_words and _contradict(one.kind, other.kind)),
        "modality": one.modals != other.modals,
        "tense": ("future" in one.times) != ("future" in other.times) or _contradict(one.times, other.times),
        "persons": not _are_the_same(one.persons, other.persons),
        "ending": one.ending != other.ending,
        "places": same_words and _contradict(one.places, other.places),
    }
    return next((name for name, told in differs.items() if told), "")


def _contradict(one: Collection[str], other: Collection[str]) -> bool:
    """Whether both say something, and not the same."""
    return bool(one) and bool(other) and one != other


def _are_the_same(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Where nobody is named on one side, one person on the other is anybody: "how do I" is "how to"."""
    if one and other:
        return one == other
    return (one or other) in ((), ("i",), ("you",), ("we",))
