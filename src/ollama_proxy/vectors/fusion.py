"""Two rankings as one, by the places that a passage has in them (reciprocal-rank fusion). Pure."""

from __future__ import annotations

from collections.abc import Sequence

#: As it was published; the larger, the less the first places count more than the next.
RANK_OFFSET = 60


def fuse(rankings: Sequence[Sequence[int]], weights: Sequence[float]) -> dict[int, float]:
    """Passages by their score, best first. The score is from 0 to 1: that of who is first everywhere is 1."""
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for place, one in enumerate(ranking):
            scores[one] = scores.get(one, 0.0) + weight / (RANK_OFFSET + place + 1)
    most = sum(weights) / (RANK_OFFSET + 1)
    return {one: score / most for one, score in sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))}
