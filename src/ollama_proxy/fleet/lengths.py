"""How long answers turn out: histograms by model, way in and caller, each leaning on the next more general one.

A kind with few answers is mostly its parent: the parent's shares count as much as `_PARENT_WEIGHT` answers. Old answers
count less, by half after `_HALF_LIFE` newer ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from ollama_proxy.domain.lengths import BINS, Lengths, bin_of, make_typical_lengths

_PARENT_WEIGHT = 20.0
_HALF_LIFE = 500.0
_GROWTH = 2 ** (1 / _HALF_LIFE)
#: A table is made anew after so many answers, or by such a share of those it was made of.
_REFRESH = 16
_SOONER = 0.125
#: With fewer answers a kind's table is made anew whenever its parent's is: it is mostly that.
_LEANING = 5 * _PARENT_WEIGHT
_TOO_LARGE = 1e12
#: Kinds remembered; callers and models are names that clients make up.
_MOST_KINDS = 4096

Kind = tuple[str, ...]


class SavedLengths(msgspec.Struct, frozen=True):
    """One kind's histogram."""

    kind: tuple[str, ...]
    counts: tuple[float, ...]


class _Histogram:
    __slots__ = ("counts", "left", "parent", "table", "total", "unit")

    def __init__(self) -> None:
        self.counts = [0.0] * BINS
        self.total = 0.0
        #: The weight of the next answer: growing, so that old ones need not be touched.
        self.unit = 1.0
        self.table: Lengths | None = None
        #: What the table leans on.
        self.parent: Lengths | None = None
        #: How many more answers make the table too old; the first does where there is none.
        self.left = 0

    def count(self, place: int) -> bool:
        """One more answer in a bin; whether the table is too old now."""
        unit = self.unit
        self.counts[place] += unit
        self.total += unit
        self.unit = unit = unit * _GROWTH
        if unit > _TOO_LARGE:
            self.counts = [one / unit for one in self.counts]
            self.total /= unit
            self.unit = 1.0
        self.left -= 1
        return self.left <= 0

    @property
    def answers(self) -> float:
        """How many answers of today's weight it holds."""
        return self.total / self.unit


class _Chain:
    """The histograms of a kind of request, most general first, and what they come to."""

    __slots__ = ("histograms", "seen", "table")

    def __init__(self, histograms: tuple[_Histogram, ...]) -> None:
        self.histograms = histograms
        self.table: Lengths | None = None
        #: The book's count of changes that the table has seen.
        self.seen = -1


class LengthBook:
    """All histograms: of everything, by model, by model and way in, and by caller besides where there is one."""

    def __init__(self) -> None:
        self._kinds: dict[Kind, _Histogram] = {}
        self._chains: dict[tuple[str, str, str], _Chain] = {}
        #: Grows whenever some table has become too old.
        self._changes = 0

    def learn(self, model: str, way_in: str, caller: str, tokens: int) -> None:
        """An answer had this many tokens."""
        place = bin_of(tokens)
        for one in self._find(model, way_in, caller).histograms:
            if one.count(place):
                self._changes += 1

    def expect(self, model: str, way_in: str, caller: str) -> Lengths:
        """The distribution for a kind of request; the same object until it has changed enough."""
        chain = self._chains.get((model, way_in, caller)) or self._find(model, way_in, caller)
        table = chain.table
        if table is None or chain.seen != self._changes:
            table = make_typical_lengths()
            for one in chain.histograms:
                if one.total:
                    table = _refresh(one, table)
            chain.table, chain.seen = table, self._changes
        return table

    def save(self) -> list[SavedLengths]:
        """What was learned; weights are in units of the next answer's."""
        return [
            SavedLengths(kind, tuple([round(count / one.unit, 4) for count in one.counts]))
            for kind, one in self._kinds.items()
            if one.total
        ]

    def restore(self, saved: Iterable[SavedLengths]) -> None:
        """Take up what was learned before a restart."""
        for one in list(saved)[:_MOST_KINDS]:
            if len(one.counts) == BINS and min(one.counts) >= 0:
                found = self._kinds.setdefault(tuple(one.kind), _Histogram())
                found.counts, found.total = list(one.counts), sum(one.counts)
        self._changes += 1

    def _find(self, model: str, way_in: str, caller: str) -> _Chain:
        found = self._chains.get((model, way_in, caller))
        if found is None:
            if len(self._chains) >= _MOST_KINDS:
                self._chains.clear()
                self._kinds = {(): self._kinds[()]}
            kinds: list[Kind] = [(), (model,), (model, way_in)]
            if caller:
                kinds.append((model, way_in, caller))
            found = _Chain(tuple([self._kinds.setdefault(kind, _Histogram()) for kind in kinds]))
            self._chains[model, way_in, caller] = found
        return found


def _refresh(found: _Histogram, parent: Lengths) -> Lengths:
    table, answers = found.table, found.answers
    outdated = found.parent is not parent and answers < _LEANING
    if table is None or outdated or found.left <= 0:
        # The first k with k >= 1 + _SOONER * (answers + k).
        found.left = min(_REFRESH, math.ceil((1 + _SOONER * answers) / (1 - _SOONER)))
        found.parent = parent
        scale = _PARENT_WEIGHT * found.unit / sum(parent.weights)
        weights = [own + scale * share for own, share in zip(found.counts, parent.weights, strict=True)]
        table = found.table = Lengths(weights)
    return table


class PromptRatio:
    """Tokens a byte of prompt, by model: what backends report, set against the size of what they were sent."""

    _FIRST = 0.27
    #: Shorter prompts tell more of the template around them.
    _LEAST_BYTES = 200
    _SHARE = 0.1

    def __init__(self) -> None:
        self._ratios: dict[str, float] = {}

    def learn(self, model: str, prompt_bytes: int, prompt_tokens: int) -> None:
        """A prompt of so many bytes was so many tokens."""
        if prompt_bytes < self._LEAST_BYTES or prompt_tokens <= 0:
            return
        ratio = min(1.0, max(0.02, prompt_tokens / prompt_bytes))
        known = self._ratios.get(model)
        if known is None and len(self._ratios) >= _MOST_KINDS:
            self._ratios.clear()
        self._ratios[model] = ratio if known is None else known + self._SHARE * (ratio - known)

    def save(self) -> dict[str, float]:
        """What was learned."""
        return {model: round(ratio, 5) for model, ratio in self._ratios.items()}

    def restore(self, saved: Mapping[str, float]) -> None:
        """Take up what was learned before a restart."""
        self._ratios = {model: min(1.0, max(0.02, ratio)) for model, ratio in saved.items()}

    def expect(self, model: str, prompt_bytes: int) -> float:
        """How many tokens a prompt of a size probably is."""
        return prompt_bytes * self._ratios.get(model, self._FIRST)
