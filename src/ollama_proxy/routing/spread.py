"""How a batch of texts is cut up over several backends: by what each predicts of time and energy, a pure function.

What is sought is the cut that costs least: the price of the seconds until the last piece is there, and the joules of
all pieces. For a given end each backend can do so much, and what takes fewest joules is filled first; so the search is
over the end alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

#: Ends that are compared, from the soonest there is to that of the slowest alone.
_ENDS = 48
_HALVINGS = 40
#: Of more texts than these none weighs much: they are dealt out in order, which takes a moment and not a second.
_MOST_WEIGHED = 2000


class Lane(msgspec.Struct, frozen=True):
    """A backend as a batch sees it. A unit is what texts are weighed in.

    A piece of w units begins in `wait_s`, takes `fixed_s` + w * `s_per_unit` seconds, and costs `fixed_j` +
    w * `j_per_unit` joules.
    """

    backend: str
    wait_s: float
    fixed_s: float
    s_per_unit: float
    fixed_j: float = 0.0
    j_per_unit: float = 0.0

    def end_s(self, units: float) -> float:
        """When a piece of so many units is there, in seconds from now."""
        return self.wait_s + self.fixed_s + units * self.s_per_unit

    def can_do(self, end_s: float) -> float:
        """Units that are there by then."""
        return max(0.0, (end_s - self.wait_s - self.fixed_s) / self.s_per_unit)


class Piece(msgspec.Struct, frozen=True):
    """What one backend gets: places of texts in the batch, in order."""

    lane: Lane
    places: tuple[int, ...]
    units: float


def spread(weights: Sequence[float], lanes: Sequence[Lane], price_watts: float, least: float) -> list[Piece]:
    """Cut a batch into at most one piece a lane, none of less than `least` units unless all of it is less.

    `weights` are those of the texts, each above 0, and `price_watts` what a second until the end is worth, in joules.
    Every text is in one piece.
    """
    if not weights or not lanes:
        return []
    shares = _find_shares(sum(weights), lanes, price_watts, least)
    return _deal_out(weights, [(lane, share) for lane, share in zip(lanes, shares, strict=True) if share > 0])


def _find_shares(total: float, lanes: Sequence[Lane], price_watts: float, least: float) -> list[float]:
    """Units for each lane, at the end that costs least."""
    alone = min(range(len(lanes)), key=lambda place: _cost_alone(lanes[place], total, price_watts))
    best_j = _cost_alone(lanes[alone], total, price_watts)
    best = [total if place == alone else 0.0 for place in range(len(lanes))]
    soonest_s = _find_soonest(total, lanes, least)
    latest_s = lanes[alone].end_s(total)
    frugal_first = sorted(range(len(lanes)), key=lambda place: (lanes[place].j_per_unit, lanes[place].s_per_unit))
    for step in range(_ENDS):
        end_s = soonest_s + (latest_s - soonest_s) * step / _ENDS
        shares = _fill(total, lanes, frugal_first, end_s, least)
        if shares is None:
            continue
        cost_j = price_watts * end_s + sum(
            lane.fixed_j + share * lane.j_per_unit for lane, share in zip(lanes, shares, strict=True) if share
        )
        if cost_j < best_j - 1e-9:
            best_j, best = cost_j, shares
    return best


def _cost_alone(lane: Lane, total: float, price_watts: float) -> float:
    return price_watts * lane.end_s(total) + lane.fixed_j + total * lane.j_per_unit


def _find_soonest(total: float, lanes: Sequence[Lane], least: float) -> float:
    """The soonest end by which all lanes together are done."""
    low_s, high_s = 0.0, min(lane.end_s(total) for lane in lanes)
    for _ in range(_HALVINGS):
        middle_s = (low_s + high_s) / 2
        if sum(_whole_share(lane, middle_s, least) for lane in lanes) >= total:
            high_s = middle_s
        else:
            low_s = middle_s
    return high_s


def _whole_share(lane: Lane, end_s: float, least: float) -> float:
    units = lane.can_do(end_s)
    return units if units >= least else 0.0


def _fill(total: float, lanes: Sequence[Lane], order: Sequence[int], end_s: float, least: float) -> list[float] | None:
    """Units for each lane by an end, those first that take fewest joules; None where that end is too soon."""
    shares = [0.0] * len(lanes)
    left = total
    for place in order:
        share = min(left, _whole_share(lanes[place], end_s, least))
        if 0 < left - share < least:
            # What would be left is too little to be a piece: this one leaves as much as makes one.
            share = max(0.0, left - least)
        if share < min(least, left):
            continue
        shares[place] = share
        left -= share
        if left <= total * 1e-9:
            return shares
    return None


def _deal_out(weights: Sequence[float], shares: Sequence[tuple[Lane, float]]) -> list[Piece]:
    """Whole texts for shares: the heaviest first, each to whoever would be done soonest and has room for it."""
    if len(weights) > _MOST_WEIGHED:
        return _deal_in_order(weights, shares)
    places: list[list[int]] = [[] for _ in shares]
    units = [0.0] * len(shares)
    for place in sorted(range(len(weights)), key=lambda one: -weights[one]):
        weight = weights[place]
        fits = [one for one, (_, share) in enumerate(shares) if units[one] + weight / 2 <= share]
        chosen = min(fits or range(len(shares)), key=lambda one: shares[one][0].end_s(units[one] + weight))
        places[chosen].append(place)
        units[chosen] += weight
    return [
        Piece(lane, tuple(sorted(mine)), weight)
        for (lane, _), mine, weight in zip(shares, places, units, strict=True)
        if mine
    ]


def _deal_in_order(weights: Sequence[float], shares: Sequence[tuple[Lane, float]]) -> list[Piece]:
    """Each lane a run of texts, up to its share."""
    pieces: list[Piece] = []
    begin, due = 0, 0.0
    total = 0.0
    for number, (lane, share) in enumerate(shares):
        due += share
        end, units = begin, 0.0
        is_last = number == len(shares) - 1
        while end < len(weights) and (is_last or total + weights[end] / 2 <= due):
            units += weights[end]
            total += weights[end]
            end += 1
        if end > begin:
            pieces.append(Piece(lane, tuple(range(begin, end)), units))
        begin = end
    return pieces
