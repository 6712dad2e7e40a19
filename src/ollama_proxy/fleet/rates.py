"""Learned speeds: filters over logarithms, for each model on each backend, starting from the configured prior.

A one-dimensional Kalman filter each for the seconds a token takes, for loading, and, coupled, for the two parts of the
time to a first token, log(overhead + prompt tokens / prefill rate) linearised at what is believed. Speeds are those of
a request alone: what others did to it meanwhile, on its device and on those beside it, is part of what is believed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.device import BackendSpec, Rates
from ollama_proxy.fleet.company import ALONE, Company, Crowding
from ollama_proxy.fleet.filters import MOST, NOISE_SHARE, NOISE_VAR, Filter, Watch, bounded
from ollama_proxy.fleet.neighbours import Coupling
from ollama_proxy.routing.neighbours import draw_longer
from ollama_proxy.routing.speeds import make_prior

#: Models remembered for each backend.
MAX_MODELS = 256


class Observation(msgspec.Struct, frozen=True, gc=False):
    """What one request showed; None where it does not tell.

    `ttft_s` is without loading and waiting, as of a request alone. `decode_tps` is as it was beside whoever else ran.
    `prompt_tokens` had to be read. `decode_s` is how long its tokens were written for, up to its end.
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
    #: Mean and variance of the exponent of requests at once, if it was learned.
    parallel: tuple[float, float] | None = None


class Learner:
    """What is learned of one model on one backend. The clock is handed in."""

    __slots__ = (
        "_beside_watch",
        "_crowding",
        "_decode",
        "_decode_watch",
        "_load",
        "_overhead",
        "_prefill",
        "_prior_exponent",
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
        #: How requests at once slow each other; None until some have run at once.
        self._crowding: Crowding | None = None
        self._prior_exponent = spec.parallel_exponent
        #: How many times longer than alone answers took of late, for the neighbours' sake.
        self._usual_stretch = 1.0
        self._seen_s = now_s
        #: Joules of a prompt token, of an output token and of a request besides, once a meter has shown them.
        self.energy_j: tuple[float, float, float] | None = None
        self.samples = self.ttft_samples = self.decode_samples = 0

    def learn(
        self,
        seen: Observation,
        now_s: float,
        beside: Sequence[tuple[Coupling, float]] = (),
        company: Company = ALONE,
    ) -> None:
        """Take in one request; `beside` are other devices that wrote meanwhile, each with its share of the time, and
        `company` is what other requests on its own device did to it.
        """
        passed_s, self._seen_s = max(0.0, now_s - self._seen_s), now_s
        for one in (self._overhead, self._prefill, self._decode):
            one.age(passed_s)
        if self._crowding is not None:
            self._crowding.age(passed_s)
        self.samples += 1
        if seen.ttft_s is not None:
            self.ttft_samples += 1
            self._learn_first(bounded(seen.ttft_s), min(max(seen.prompt_tokens, 0.0), MOST))
        if seen.decode_tps is not None:
            self.decode_samples += 1
            self._learn_decode(bounded(seen.decode_tps), beside, company)
        if seen.load_s is not None:
            self._learn_load(bounded(seen.load_s))

    def _learn_first(self, ttft_s: float, prompt_tokens: float) -> None:
        overhead, prefill = self._overhead, self._prefill
        overhead_s, reading_s = overhead.value, prompt_tokens / prefill.value
        expected_s = overhead_s + reading_s
        # d log(o + n / p) / d log o and / d log p.
        by_overhead, by_prefill = overhead_s / expected_s, -reading_s / expected_s
        belief_var = by_overhead**2 * overhead.var + by_prefill**2 * prefill.var
        residual, total_var, changed = self._ttft_watch.weigh(math.log(ttft_s / expected_s), belief_var)
        if changed:
            overhead.forget(by_overhead**2)
            prefill.forget(by_prefill**2)
            belief_var = by_overhead**2 * overhead.var + by_prefill**2 * prefill.var
            total_var = belief_var + self._ttft_watch.noise_var
        overhead.move(residual, overhead.var * by_overhead / total_var, by_overhead)
        prefill.move(residual, prefill.var * by_prefill / total_var, by_prefill)

    def _learn_decode(self, decode_tps: float, beside: Sequence[tuple[Coupling, float]], company: Company) -> None:
        decode = self._decode
        if self._crowding is None and company != ALONE:
            self._crowding = Crowding(self._prior_exponent)
        crowding = self._crowding
        crowded, weight = crowding.expect(company) if crowding is not None else (0.0, 0.0)
        # log(rate) = log(rate alone) - how much each neighbour slows, by its share of the time - how much its company.
        slowness = sum([share * coupling.mean for coupling, share in beside])
        belief_var = self._doubt_decode(beside, weight)
        residual = math.log(decode_tps) + slowness + crowded - decode.mean
        watch = self._decode_watch
        if beside:
            # Apart, or turns alone and turns beside others would hide each other's change.
            watch = self._beside_watch = self._beside_watch or Watch()
        residual, total_var, changed = watch.weigh(residual, belief_var)
        if changed:
            decode.forget(1.0)
            for coupling, share in beside:
                coupling.forget(share)
            if crowding is not None:
                crowding.forget(weight)
            total_var = self._doubt_decode(beside, weight) + watch.noise_var
        for coupling, share in beside:
            coupling.move(-residual, coupling.var * share / total_var, share)
        if crowding is None:
            decode.move(residual, decode.var / total_var, 1.0)
        else:
            crowding.move(decode, residual, total_var, weight)
        if beside or self._usual_stretch != 1.0:
            self._usual_stretch += NOISE_SHARE * (math.exp(slowness) - self._usual_stretch)

    def _doubt_decode(self, beside: Sequence[tuple[Coupling, float]], weight: float) -> float:
        """The variance of the logarithm of a rate in company that tells so much of the exponent."""
        var, crowding = self._decode.var, self._crowding
        if crowding is not None:
            var = crowding.add_doubt(var, weight)
        return var + sum([share * share * coupling.var for coupling, share in beside])

    def unsettle(self) -> None:
        """The device has changed, as is known from elsewhere: be as uncertain as after an alarm."""
        for one in (self._overhead, self._prefill, self._decode):
            one.forget(1.0)

    def learn_energy(self, fixed_j: float, prefill_j: float, decode_j: float) -> None:
        """A meter has shown joules of a request, and of each token of its prompt and its answer.

        A meter shows them as they are beside the usual neighbours; what is kept is what a token takes alone, so that
        neighbours are not counted twice.
        """
        self.energy_j = (prefill_j, decode_j / draw_longer(self._usual_stretch), fixed_j)

    def _learn_load(self, load_s: float) -> None:
        if self._load is None:
            self._load = Filter(load_s, NOISE_VAR)
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
            None if self._crowding is None else (self._crowding.mean, self._crowding.var),
        )

    def restore(self, saved: SavedRates, age_s: float) -> None:
        """Take up what was believed `age_s` ago; the older, the less certain."""
        for one, (mean, var) in (
            (self._overhead, saved.overhead),
            (self._prefill, saved.prefill),
            (self._decode, saved.decode),
        ):
            one.restore(mean, var, age_s)
        if saved.load is not None:
            self._load = Filter(1.0)
            self._load.mean = saved.load
        self._ttft_watch.noise_var, self._decode_watch.noise_var = saved.ttft_noise_var, saved.decode_noise_var
        self.samples, self.ttft_samples, self.decode_samples = saved.counts
        if saved.parallel is not None:
            self._crowding = Crowding(self._prior_exponent)
            self._crowding.restore(*saved.parallel, age_s)

    def rates(self) -> Rates:
        """What is believed now."""
        ttft_var = (self._overhead.var + self._prefill.var) / 2 + self._ttft_watch.noise_var
        crowding = self._crowding
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
            *(self.energy_j or (None, None, None)),
            *(() if crowding is None else (crowding.mean, crowding.var, crowding.cov)),
        )
