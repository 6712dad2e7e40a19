"""How well a threshold tells prompts that mean the same from those that only look so. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

THRESHOLDS = tuple(round(0.70 + 0.02 * step, 2) for step in range(15))
#: Of all hits so many may be wrong, and of all pairs that mean something else so many may be hits.
MOST_WRONG = 0.01


class Pair(msgspec.Struct, frozen=True):
    """Two prompts, and whether one's answer answers the other."""

    a: str
    b: str
    same: bool


class Judged(msgspec.Struct, frozen=True):
    """A pair, how alike its vectors are, and what the guards found to tell it apart ("" for nothing)."""

    pair: Pair
    similarity: float
    difference: str


class Quality(msgspec.Struct, frozen=True):
    """What a threshold does. Precision is None without a hit; recall and the share of wrong ones are of all pairs that
    mean the same, and of all that do not."""

    threshold: float
    hits: int
    wrong: int
    precision: float | None
    recall: float
    wrong_share: float


def judge(pairs: Sequence[Judged], threshold: float, *, guarded: bool = True) -> Quality:
    """What a threshold does to some pairs, with the guards or without."""
    hits = [one for one in pairs if one.similarity >= threshold and not (guarded and one.difference)]
    right = sum(one.pair.same for one in hits)
    same = sum(one.pair.same for one in pairs)
    different = len(pairs) - same
    wrong = len(hits) - right
    return Quality(
        threshold,
        len(hits),
        wrong,
        right / len(hits) if hits else None,
        right / same if same else 0.0,
        wrong / different if different else 0.0,
    )


def suggest(pairs: Sequence[Judged]) -> Quality | None:
    """The lowest threshold whose wrong hits are few enough, with the guards; None where there is none."""
    for threshold in THRESHOLDS:
        found = judge(pairs, threshold)
        if found.precision is not None and found.wrong_share <= MOST_WRONG and found.precision >= 1 - MOST_WRONG:
            return found
    return None
