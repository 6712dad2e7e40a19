"""How long answers are: a distribution over output tokens, with everything a prediction asks of it in O(1).

Between the edges of its bins the distribution function is taken as linear. With F its distribution function,
E[min(n, L)] is the integral of 1 - F from 0 to L, and E[min(n, L)^2] that of 2x(1 - F); both are kept as tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import add, mul

#: Log-spaced edges: bin i covers (EDGES[i], EDGES[i + 1]] tokens.
BINS = 48
MOST_TOKENS = 16384
_PER_OCTAVE = BINS / math.log2(MOST_TOKENS)
EDGES = (0.0, *(2 ** ((place + 1) / _PER_OCTAVE) for place in range(BINS)))
_LAST = BINS - 1
#: Of each bin: half its width, and what the survival at its left and at its right edge add to the integral of 2x s(x),
#: for s linear between them. Both integrals are sums of these, so that a new distribution costs no more than sums.
_HALVES = tuple([(right - left) / 2 for left, right in pairwise(EDGES)])
_BY_LEFT = tuple([(right - left) * (2 * left + right) / 3 for left, right in pairwise(EDGES)])
_BY_RIGHT = tuple([(right - left) * (left + 2 * right) / 3 for left, right in pairwise(EDGES)])


def bin_of(tokens: float) -> int:
    """The bin that a length falls into; what is longer than all is in the last."""
    if tokens <= EDGES[1]:
        return 0
    return min(_LAST, math.ceil(math.log2(tokens) * _PER_OCTAVE - 1e-9) - 1)


class Lengths:
    """The distribution of one kind of answer; immutable. Made from the weights of the bins (any positive sum)."""

    __slots__ = ("_area", "_cumulated", "_squared", "_told", "weights")

    def __init__(self, weights: Sequence[float]) -> None:
        total = sum(weights)
        if len(weights) != BINS or not total > 0 or min(weights) < 0:
            raise ValueError(f"expected {BINS} weights of positive sum")
        self.weights = tuple(weights)
        scale = 1 / total
        self._cumulated = cumulated = [0.0, *[min(1.0, summed * scale) for summed in accumulate(weights)]]
        cumulated[-1] = 1.0
        survive = [1 - share for share in cumulated]
        later = survive[1:]
        self._area: list[float] = [
            0.0,
            *accumulate([half * (one + next_) for half, one, next_ in zip(_HALVES, survive, later, strict=False)]),
        ]
        twice = map(add, map(mul, _BY_LEFT, survive), map(mul, _BY_RIGHT, later))
        self._squared: list[float] = [0.0, *accumulate(twice)]
        #: The limit that was asked about last, and the mean under it: clients keep to theirs.
        self._told = (0.0, self._area[-1])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Lengths) and other.weights == self.weights

    def __hash__(self) -> int:
        return hash(self.weights)

    def share_within(self, tokens: float) -> float:
        """P(n <= tokens)."""
        if tokens <= 0:
            return 0.0
        if tokens >= MOST_TOKENS:
            return 1.0
        place = bin_of(tokens)
        left, low = EDGES[place], self._cumulated[place]
        return low + (self._cumulated[place + 1] - low) * (tokens - left) / (EDGES[place + 1] - left)

    def mean(self, limit: float = 0) -> float:
        """E[min(n, limit)] in tokens; 0 is no limit."""
        asked, mean = self._told
        if asked != limit:
            mean = self._area[-1] if not limit or limit >= MOST_TOKENS else self._area_to(limit)
            self._told = (limit, mean)
        return mean

    def variance(self, limit: float = 0) -> float:
        """Var[min(n, limit)] in tokens squared."""
        if not limit or limit >= MOST_TOKENS:
            return max(0.0, self._squared[-1] - self._area[-1] ** 2)
        return max(0.0, self._squared_to(limit) - self._area_to(limit) ** 2)

    def left(self, done: float, limit: float = 0) -> tuple[float, float]:
        """Mean and variance of the tokens still to come, given that more than `done` came: E[min(n, L) - d | n > d]."""
        limit = limit if 0 < limit < MOST_TOKENS else MOST_TOKENS
        done = min(done, limit)
        survived = 1 - self.share_within(done)
        if done >= limit or survived <= 1e-9:
            return 0.0, 0.0
        area_done = self._area_to(done)
        mean = (self._area_to(limit) - area_done) / survived
        # The second moment of the rest: 2 * integral of (x - d)(1 - F) from d to L, over P(n > d).
        second = (self._squared_to(limit) - self._squared_to(done)) / survived - 2 * done * mean
        return mean, max(0.0, second - mean * mean)

    def _area_to(self, tokens: float) -> float:
        place = bin_of(tokens)
        left, right = EDGES[place], EDGES[place + 1]
        tokens = min(tokens, right)
        survive = 1 - self._cumulated[place]
        slope = (self._cumulated[place + 1] - self._cumulated[place]) / (right - left)
        width = tokens - left
        return self._area[place] + width * (survive - slope * width / 2)

    def _squared_to(self, tokens: float) -> float:
        place = bin_of(tokens)
        left, right = EDGES[place], EDGES[place + 1]
        tokens = min(tokens, right)
        survive = 1 - self._cumulated[place]
        slope = (self._cumulated[place + 1] - self._cumulated[place]) / (right - left)
        return self._squared[place] + _integrate_twice_x(left, tokens, survive, survive - slope * (tokens - left))


def _integrate_twice_x(left: float, right: float, survive_left: float, survive_right: float) -> float:
    """The integral of 2x s(x) over [left, right] for a linear s."""
    width = right - left
    if width <= 0:
        return 0.0
    slope = (survive_right - survive_left) / width
    constant = survive_left - slope * left
    return constant * (right**2 - left**2) + slope * 2 / 3 * (right**3 - left**3)


@lru_cache(maxsize=1)
def make_typical_lengths() -> Lengths:
    """What is reckoned with before any answer was seen: log-normal, median 128 tokens, sigma 1.1 in logarithms."""
    shares = [_normal_share((math.log(edge) - math.log(128)) / 1.1) if edge else 0.0 for edge in EDGES]
    return Lengths([right - left for left, right in pairwise(shares)])


def _normal_share(z: float) -> float:
    return 0.5 * math.erfc(-z / math.sqrt(2))
