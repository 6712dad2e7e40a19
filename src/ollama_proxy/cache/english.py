"""The commonest of the English language, for whoever compares prompts. Pure."""

from __future__ import annotations


def words_of(text: str) -> frozenset[str]:
    """The words of a list."""
    return frozenset(text.split())


#: What says little of the matter: how one asks, and what holds a sentence together.
FILLERS = words_of(
    "a an the is are was were be been being am do does did doing done have has had i me my mine we us our you your it "
    "its they them their this that these those there here what what's whats how's how which who whom whose when where "
    "why of for at as with about so just please kindly tell explain describe say know give show want need like help "
    "let get hi hello hey thanks thank wonder wondering question answer understand learn find would could can should "
    "will exactly actually really basically simply briefly quickly me i'm i'd it's way ways idea anyone someone one's "
    "possible mean means meaning in on to from by and or if not no much many some any there's i've"
)


def stem(word: str) -> str:
    """Without the commonest endings, so that a plural is the same word."""
    word = word.removesuffix("'s")
    for ending in ("ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)] + ("y" if ending == "ies" else "")
    return word
