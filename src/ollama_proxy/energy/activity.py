"""One attempt on a metered device: its phases, its tokens, and the joules it has been given so far."""

from __future__ import annotations

import enum
from math import hypot, inf, sqrt
from typing import NamedTuple

import msgspec

from ollama_proxy.domain.metering import FigureKind
from ollama_proxy.energy.regression import Coefficients

#: The factor by which learned weights may be off.
LEARNED_DOUBT = 2.0
#: How far two requests in the same phase may differ in what their tokens take.
_TOKEN_ERROR = 0.1
#: A request that shared more than this of its energy owes its figure to the weights, not to the meter alone.
_SHARED_LIMIT = 0.1
#: A kind that gave less than this of a request's energy is a trace.
_TRACE = 0.01
#: From the strongest to the weakest; what is emulated makes everything emulated that it is in.
_KINDS: tuple[FigureKind, ...] = ("measured", "apportioned", "modelled", "configured", "emulated")


class Phase(enum.Enum):
    """What a device does for an attempt. Who waits uses nothing as long as somebody else works."""

    WAIT = "wait"
    LOAD = "load"
    PREFILL = "prefill"
    DECODE = "decode"


class Weights(msgspec.Struct, frozen=True):
    """How shared energy is divided: `prefill_j` a prompt token, `decode_j` an output token, `active_w` a second.

    Only their proportions count; `doubt` is the factor by which the first two may be off against each other. From
    `Regression.coefficients`: `prefill_j` and `decode_j` as they are, with less doubt.
    """

    prefill_j: float = 1 / 20
    decode_j: float = 1.0
    active_w: float = 0.0
    doubt: float = 4.0

    def distort(self) -> Weights:
        """The same with a prompt token worth as much more as may be."""
        return Weights(self.prefill_j * self.doubt, self.decode_j, self.active_w)


def learn_weights(coefficients: Coefficients) -> Weights:
    """The weights of a device from what its requests were found to cost; better than the default from some ten on."""
    return Weights(coefficients.prefill_j, coefficients.decode_j, doubt=LEARNED_DOUBT)


class Work(NamedTuple):
    """What a device did for an attempt in a span of time: tokens, as far as they are known, and seconds."""

    prefill_tokens: float
    decode_tokens: float
    seconds: float

    def weigh(self, weights: Weights) -> float:
        """Its weight among others."""
        tokens_j = weights.prefill_j * self.prefill_tokens + weights.decode_j * self.decode_tokens
        return tokens_j + weights.active_w * self.seconds


class Rates(msgspec.Struct, frozen=True):
    """Tokens a second that are usual on a device, for attempts that do not tell their own yet."""

    prefill_tps: float = 400.0
    decode_tps: float = 20.0


class RequestEnergy(msgspec.Struct, frozen=True):
    """Joules of one attempt.

    `marginal_j` is above the floor, None where no idle time has shown the floor yet; `full_j` has an equal share of the
    floor in it. `plus_minus_j` (of either) covers nine of ten. `covered` is the share of its seconds that the meter
    saw: below 1 the joules are what was seen of it, and less than the truth.
    """

    marginal_j: float | None
    full_j: float
    plus_minus_j: float
    kind: FigureKind
    covered: float = 1.0


class Interval(msgspec.Struct, frozen=True, gc=False):
    """A meter's joules between two times; `plus_minus_j` is the error of its two readings, `scale_error` relative."""

    from_s: float
    to_s: float
    joules: float
    plus_minus_j: float
    scale_error: float
    kind: FigureKind


class Activity:
    """An attempt's log. Times are monotonic seconds."""

    __slots__ = (
        "begun_s",
        "covered_s",
        "ended_s",
        "floor_doubt_j",
        "floor_j",
        "kinds_j",
        "last_doubt_j",
        "last_share",
        "marginal_j",
        "marks",
        "meter_doubt_j2",
        "name",
        "scale_doubt_j",
        "shared_j",
        "token_doubt_j",
        "tokens",
        "unknown_floor",
        "weight_doubt_j",
    )

    def __init__(self, name: str, begun_s: float) -> None:
        self.name = name
        self.begun_s = begun_s
        self.ended_s: float | None = None
        #: When each phase began, in order.
        self.marks: list[tuple[float, Phase]] = [(begun_s, Phase.WAIT)]
        #: Tokens of a phase where anybody said: for the whole phase, or so far and the time they were counted at.
        self.tokens: dict[Phase, tuple[int, float | None]] = {}
        self.marginal_j = 0.0
        self.floor_j = 0.0
        self.shared_j = 0.0
        self.covered_s = 0.0
        self.kinds_j: dict[FigureKind, float] = {}
        self.unknown_floor = False
        self.meter_doubt_j2 = 0.0
        self.scale_doubt_j = 0.0
        self.weight_doubt_j = 0.0
        self.token_doubt_j = 0.0
        self.floor_doubt_j = 0.0
        self.last_share = 0.0
        self.last_doubt_j = 0.0

    def enter(self, phase: Phase, now_s: float) -> None:
        """A phase begins. It may be told late: marks behind it in time are replaced by it."""
        now_s = max(now_s, self.begun_s)
        while self.marks and self.marks[-1][0] >= now_s:
            self.marks.pop()
        if not self.marks or self.marks[-1][1] is not phase:
            self.marks.append((now_s, phase))

    @property
    def end_s(self) -> float:
        """When it ended; as long as it goes on, never."""
        return inf if self.ended_s is None else self.ended_s

    def clip(self, interval: Interval) -> tuple[float, float]:
        """From when to when it was there in an interval."""
        return max(self.begun_s, interval.from_s), min(self.end_s, interval.to_s)

    def present_s(self, from_s: float, to_s: float) -> float:
        """Seconds of a span in which the attempt was there."""
        return max(0.0, min(to_s, self.end_s) - max(from_s, self.begun_s))

    def work(self, from_s: float, to_s: float, usual: Rates) -> Work:
        """What was done for it in a span; each phase's tokens are taken to come evenly."""
        prefill = decode = total_s = 0.0
        for index, (mark_s, phase) in enumerate(self.marks):
            until_s = self.marks[index + 1][0] if index + 1 < len(self.marks) else self.ended_s
            seconds = (to_s if until_s is None else min(to_s, until_s)) - max(from_s, mark_s)
            if seconds <= 0 or phase is Phase.WAIT:
                continue
            total_s += seconds
            if phase is Phase.LOAD:
                # Nobody knows what loading takes; it is counted like decoding at the usual speed.
                decode += seconds * usual.decode_tps
                continue
            own, other = self.rate(phase), self._unphased_rate(phase)
            if phase is Phase.PREFILL:
                prefill += seconds * (usual.prefill_tps if own is None else own)
                decode += seconds * other
            else:
                decode += seconds * (usual.decode_tps if own is None else own)
                prefill += seconds * other
        return Work(prefill, decode, total_s)

    def give(
        self, interval: Interval, dynamic_j: float, share: float, other_share: float, floor_doubt_j: float
    ) -> None:
        """A share of an interval's energy above the floor; `other_share` is what distorted weights would make it.

        An interval's error is that of the readings at its two ends, so while a share stays the same nothing is lost
        between two intervals: what one has too much the other has too little.
        """
        given_j = share * dynamic_j
        self.marginal_j += given_j
        self.kinds_j[interval.kind] = self.kinds_j.get(interval.kind, 0.0) + given_j
        if share < 1:
            self.shared_j += given_j
        self.weight_doubt_j += (other_share - share) * dynamic_j
        self.token_doubt_j += _TOKEN_ERROR * given_j * (1 - share)
        self.floor_doubt_j += share * floor_doubt_j
        self.scale_doubt_j += interval.scale_error * given_j
        error_j = interval.plus_minus_j
        border_j2 = (error_j**2 + (self.last_doubt_j or error_j) ** 2) / 4
        self.meter_doubt_j2 += border_j2 * (share - self.last_share) ** 2
        self.last_share, self.last_doubt_j = share, error_j

    def sum_up(self, meter_kind: FigureKind) -> RequestEnergy:
        """What an attempt that has ended cost; its kind is the weakest of those that gave more than a trace."""
        kinds = [kind for kind, joules in self.kinds_j.items() if joules > _TRACE * self.marginal_j]
        kind = max(kinds, key=_KINDS.index) if kinds else meter_kind
        if kind == "measured" and self.shared_j > _SHARED_LIMIT * self.marginal_j:
            kind = "apportioned"
        meter_doubt_j2 = self.meter_doubt_j2 + (self.last_share * self.last_doubt_j) ** 2 / 2
        seconds = (self.ended_s or self.begun_s) - self.begun_s
        return RequestEnergy(
            None if self.unknown_floor else self.marginal_j,
            self.marginal_j + self.floor_j,
            hypot(
                sqrt(meter_doubt_j2),
                self.scale_doubt_j,
                self.weight_doubt_j,
                self.token_doubt_j,
                self.floor_doubt_j,
            ),
            kind,
            min(1.0, self.covered_s / seconds) if seconds > 0 else 1.0,
        )

    def rate(self, phase: Phase) -> float | None:
        """Tokens a second of a phase, where its tokens and its time are known."""
        if phase not in self.tokens:
            return None
        count, counted_s = self.tokens[phase]
        began_s, until_s = self._span(phase)
        end_s = counted_s if counted_s is not None else until_s
        return count / (end_s - began_s) if end_s is not None and began_s is not None and end_s > began_s else None

    def _span(self, phase: Phase) -> tuple[float | None, float | None]:
        """From when to when a phase lasted; None for the end of one that goes on."""
        for index, (mark_s, marked) in enumerate(self.marks):
            if marked is phase:
                return mark_s, self.marks[index + 1][0] if index + 1 < len(self.marks) else self.ended_s
        return None, None

    def _unphased_rate(self, phase: Phase) -> float:
        """Tokens a second of the phase that was never told: an answer that comes whole shows one phase only."""
        other = Phase.DECODE if phase is Phase.PREFILL else Phase.PREFILL
        if other not in self.tokens or self._span(other)[0] is not None:
            return 0.0
        began_s, until_s = self._span(phase)
        if began_s is None or until_s is None or until_s <= began_s:
            return 0.0
        return self.tokens[other][0] / (until_s - began_s)
