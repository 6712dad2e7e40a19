"""Learned speeds: filters over logarithms, for each model on each backend, starting from the configured prior.

A one-dimensional Kalman filter each for the seconds a token takes, for loading, and, coupled, for the two parts of the
time to a first token, log(overhead + prompt tokens / prefill rate) linearised at what is believed. What is believed
loses certainty with time. Outliers count as three standard deviations; when they keep to one side (Page's cumulated
sums), the device has changed, and the filter forgets most of its certainty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.device import BackendSpec, Rates
from ollama_proxy.fleet.neighbours import Coupling
from ollama_proxy.routing.neighbours import draw_longer
from ollama_proxy.routing.speeds import make_prior

#: Models remembered for each backend.
MAX_MODELS = 256
#: Variances of logarithms: of configured numbers, of one request (to begin with, at least, at most), by second of age.
_PRIOR_VAR = 0.16
_NOISE_VAR, _LEAST_NOISE_VAR, _MOST_NOISE_VAR = 0.01, 0.0004, 0.25
_DRIFT_VAR_PER_S = 2e-7
_MOST_VAR = 1.0
#: A restart may mean another driver, another server, another machine.
_RESTART_VAR = 0.01
#: The share of one request in what is believed of the noise.
_NOISE_SHARE = 0.1
_CLIP = 3.0
#: Page's test on standardised residuals: what is allowed each time, when it is an alarm, what an alarm does.
_SLACK, _ALARM = 0.75, 5.0
_ALARM_FACTOR, _ALARM_VAR = 25.0, 0.1
#: Bounds of everything believed or seen: backends report what they like, and e^x must stay a number.
_LEAST, _MOST = 1e-6, 1e9
_LEAST_LOG, _MOST_LOG = math.log(_LEAST), math.log(_MOST)


class Observation(msgspec.Struct, frozen=True, gc=False):
    """What one request showed; None where it does not tell.

    `ttft_s` is without loading and waiting. `decode_tps` is as of a request alone. `prompt_tokens` had to be read.
    `decode_s` is how long its tokens were written for, up to its end.
    """

    ttft_s: float | None
    decode_tps: float | None
    prompt_tokens: float = 0.0
    load_s: float | None = None
    decode_s: float | None = None


NOTHING_SEEN = Observation(None, None)


class SavedRates(msgspec.Struct, frozen=True):
    """A learner's state: means and variances of logarithms."""

    overhead: tuple[float, float]
    prefill: tuple[float, float]
    decode: tuple[float, float]
    load: float | None
    ttft_noise_var: float
    decode_noise_var: float
    counts: tuple[int, int, int]


class Filter:
    """The belief in one logarithm, and in the noise of what is seen of it."""

    __slots__ = ("mean", "var")

    def __init__(self, value: float, var: float = _PRIOR_VAR) -> None:
        self.mean = math.log(_bounded(value))
        self.var = var

    def age(self, seconds: float) -> None:
        """Time has passed."""
        self.var = min(_MOST_VAR, self.var + _DRIFT_VAR_PER_S * seconds)

    def move(self, innovation: float, gain: float, weight: float) -> None:
        """Take in an innovation that depends on this by `weight`."""
        self.mean = min(max(self.mean + gain * innovation, _LEAST_LOG), _MOST_LOG)
        self.var = max(self.var * (1 - gain * weight), 1e-6)

    @property
    def value(self) -> float:
        """The median of what is believed."""
        return math.exp(self.mean)


class Watch:
    """The noise of one kind of observation, and whether its residuals keep to one side."""

    __slots__ = ("_down", "_up", "noise_var")

    def __init__(self) -> None:
        self.noise_var = _NOISE_VAR
        self._up = self._down = 0.0

    def weigh(self, residual: float, belief_var: float) -> tuple[float, float, bool]:
        """The residual to use, its variance, and whether the device has changed."""
        total_var = belief_var + self.noise_var
        deviation = math.sqrt(total_var)
        scaled = residual / deviation
        self._up = max(0.0, self._up + min(scaled, _CLIP) - _SLACK)
        self._down = max(0.0, self._down - max(scaled, -_CLIP) - _SLACK)
        changed = self._up > _ALARM or self._down > _ALARM
        clipped = max(-_CLIP, min(_CLIP, scaled)) * deviation
        if changed:
            self._up = self._down = 0.0
            return residual, total_var, True
        own_var = clipped * clipped - belief_var
        noise_var = self.noise_var + _NOISE_SHARE * (own_var - self.noise_var)
        self.noise_var = max(_LEAST_NOISE_VAR, min(_MOST_NOISE_VAR, noise_var))
        return clipped, total_var, False


class Learner:
    """What is learned of one model on one backend. The clock is handed in."""

    __slots__ = (
        "_beside_watch",
        "_decode",
        "_decode_watch",
        "_load",
        "_overhead",
        "_prefill",
        "_seen_s",
        "_ttft_watch",
        "_usual_stretch",
        "decode_samples",
        "energy_j",
        "samples",
        "ttft_samples",
    )

    def __init__(self, spec: BackendSpec, now_s: float) -> None:
        prior = make_prior(spec)
        self._overhead = Filter(prior.overhead_s)
        self._prefill = Filter(prior.prefill_tps)
        self._decode = Filter(prior.decode_tps)
        self._load: Filter | None = None
        self._ttft_watch, self._decode_watch = Watch(), Watch()
        self._beside_watch: Watch | None = None
        #: How many times longer than alone answers took of late, for the neighbours' sake.
        self._usual_stretch = 1.0
        self._seen_s = now_s
        #: Joules of a prompt token, of an output token and of a request besides, once a meter has shown them.
        self.energy_j: tuple[float, float, float] | None = None
        self.samples = self.ttft_samples = self.decode_samples = 0

    def learn(self, seen: Observation, now_s: float, beside: Sequence[tuple[Coupling, float]] = ()) -> None:
        """Take in one request; `beside` are those that wrote meanwhile, each with its share of the time."""
        passed_s, self._seen_s = max(0.0, now_s - self._seen_s), now_s
        for one in (self._overhead, self._prefill, self._decode):
            one.age(passed_s)
        self.samples += 1
        if seen.ttft_s is not None:
            self.ttft_samples += 1
            self._learn_first(_bounded(seen.ttft_s), min(max(seen.prompt_tokens, 0.0), _MOST))
        if seen.decode_tps is not None:
            self.decode_samples += 1
            self._learn_decode(_bounded(seen.decode_tps), beside)
        if seen.load_s is not None:
            self._learn_load(_bounded(seen.load_s))

    def _learn_first(self, ttft_s: float, prompt_tokens: float) -> None:
        overhead, prefill = self._overhead, self._prefill
        overhead_s, reading_s = overhead.value, prompt_tokens / prefill.value
        expected_s = overhead_s + reading_s
        # d log(o + n / p) / d log o and / d log p.
        by_overhead, by_prefill = overhead_s / expected_s, -reading_s / expected_s
        belief_var = by_overhead**2 * overhead.var + by_prefill**2 * prefill.var
        residual, total_var, changed = self._ttft_watch.weigh(math.log(ttft_s / expected_s), belief_var)
        if changed:
            _forget(overhead, by_overhead**2)
            _forget(prefill, by_prefill**2)
            belief_var = by_overhead**2 * overhead.var + by_prefill**2 * prefill.var
            total_var = belief_var + self._ttft_watch.noise_var
        overhead.move(residual, overhead.var * by_overhead / total_var, by_overhead)
        prefill.move(residual, prefill.var * by_prefill / total_var, by_prefill)

    def _learn_decode(self, decode_tps: float, beside: Sequence[tuple[Coupling, float]]) -> None:
        decode = self._decode
        # log(rate) = log(rate alone) - how much each neighbour slows, by its share of the time.
        slowness = sum([share * coupling.mean for coupling, share in beside])
        belief_var = decode.var + sum([share * share * coupling.var for coupling, share in beside])
        residual = math.log(decode_tps) + slowness - decode.mean
        watch = self._decode_watch
        if beside:
            # Apart, or turns alone and turns beside others would hide each other's change.
            watch = self._beside_watch = self._beside_watch or Watch()
        residual, total_var, changed = watch.weigh(residual, belief_var)
        if changed:
            _forget(decode, 1.0)
            for coupling, share in beside:
                coupling.forget(share)
            belief_var = decode.var + sum([share * share * coupling.var for coupling, share in beside])
            total_var = belief_var + watch.noise_var
        for coupling, share in beside:
            coupling.move(-residual, coupling.var * share / total_var, share)
        decode.move(residual, decode.var / total_var, 1.0)
        if beside or self._usual_stretch != 1.0:
            self._usual_stretch += _NOISE_SHARE * (math.exp(slowness) - self._usual_stretch)

    def learn_energy(self, fixed_j: float, prefill_j: float, decode_j: float) -> None:
        """A meter has shown joules of a request, and of each token of its prompt and its answer.

        A meter shows them as they are beside the usual neighbours; what is kept is what a token takes alone, so that
        neighbours are not counted twice.
        """
        self.energy_j = (prefill_j, decode_j / draw_longer(self._usual_stretch), fixed_j)

    def _learn_load(self, load_s: float) -> None:
        if self._load is None:
            self._load = Filter(load_s, _NOISE_VAR)
            return
        load = self._load
        load.move(math.log(load_s) - load.mean, 0.3, 1.0)

    def save(self) -> SavedRates:
        """What is believed, to be restored after a restart."""
        return SavedRates(
            (self._overhead.mean, self._overhead.var),
            (self._prefill.mean, self._prefill.var),
            (self._decode.mean, self._decode.var),
            None if self._load is None else self._load.mean,
            self._ttft_watch.noise_var,
            self._decode_watch.noise_var,
            (self.samples, self.ttft_samples, self.decode_samples),
        )

    def restore(self, saved: SavedRates, age_s: float) -> None:
        """Take up what was believed `age_s` ago; the older, the less certain."""
        for one, (mean, var) in (
            (self._overhead, saved.overhead),
            (self._prefill, saved.prefill),
            (self._decode, saved.decode),
        ):
            one.mean, one.var = mean, min(_MOST_VAR, var + _RESTART_VAR)
            one.age(age_s)
        if saved.load is not None:
            self._load = Filter(1.0)
            self._load.mean = saved.load
        self._ttft_watch.noise_var, self._decode_watch.noise_var = saved.ttft_noise_var, saved.decode_noise_var
        self.samples, self.ttft_samples, self.decode_samples = saved.counts

    def rates(self) -> Rates:
        """What is believed now."""
        ttft_var = (self._overhead.var + self._prefill.var) / 2 + self._ttft_watch.noise_var
        return Rates(
            self._overhead.value,
            self._prefill.value,
            self._decode.value,
            None if self._load is None else self._load.value,
            ttft_var,
            self._decode.var + self._decode_watch.noise_var,
            self.samples,
            self.ttft_samples,
            self.decode_samples,
            *(self.energy_j or ()),
        )


def _bounded(value: float) -> float:
    return min(max(value, _LEAST), _MOST)


def _forget(one: Filter, share: float) -> None:
    """Less certain than before, by as much as it is to do with what has changed."""
    one.var = min(_MOST_VAR, one.var + share * (one.var * (_ALARM_FACTOR - 1) + _ALARM_VAR))
