"""What a request will cost: `E = fixed + prefill * prompt tokens + decode * output tokens`, learned as requests end.

Recursive least squares with forgetting, as running normal equations, one set for each backend and model. Errors are
weighed relative to the size of a request, or long requests alone would set the coefficients. Energy that is linear in
tokens is what Wilkins et al. (2024) found on servers (R2 > 0.96).
"""

from __future__ import annotations

from collections import OrderedDict
from math import exp, inf, isfinite, log, sqrt

import msgspec

from ollama_proxy.energy.least_squares import dot, invert, multiply, solve_nonnegative

#: Each request makes what was known before count this much; some fifty requests are remembered.
FORGETTING = 0.98
#: A prompt token costs this share of an output token until it is known better.
PREFILL_SHARE = 1 / 20
#: The configured figures weigh as much as these five requests (prompt tokens, output tokens) of different shapes.
PRIOR_REQUESTS = ((16, 1), (1024, 1), (16, 256), (1024, 256), (256, 64))
#: What was believed at first never fades below this share: it answers for shapes of requests that no longer come.
_LEAST_FAITH = 0.01
#: The relative error that is expected before any was seen, and how many requests that expectation is worth.
_FIRST_ERROR = 0.3
_FIRST_ERROR_WEIGHT = 2
_LEAST_VARIANCE = 0.01**2
#: A surprise beyond this many sigma counts only as far as this: one stall is no new device.
_SURPRISE = 3.0
#: Requests are taken to cost at least this much where it is divided by.
_LEAST_JOULES = 1e-6
#: Without a prior, this many requests make three coefficients.
_LEAST_SAMPLES = 3
#: Requests that may be weighed by the same solution.
_MOST_UNSOLVED = 8
#: The prior is corrected by a factor of at most 20.
_MOST_FACTOR_LOG = 3.0
MAX_PAIRS = 1024
#: What was learned before a restart counts this much, as it may mean another driver or machine, and half of that with
#: every week; the prior counts again as much more.
_RESTART_SHARE = 0.5
_HALF_LIFE_S = 7 * 86_400.0


class Coefficients(msgspec.Struct, frozen=True):
    """Joules a request, a prompt token and an output token."""

    fixed_j: float
    prefill_j: float
    decode_j: float


class Prediction(msgspec.Struct, frozen=True):
    """Joules of a request and one standard deviation of them."""

    joules: float
    sigma_j: float


def prior_from_config(
    power_watts: float, decode_tps: float, *, prefill_tps: float = 0.0, overhead_s: float = 0.0
) -> Coefficients | None:
    """Coefficients of a device that draws `power_watts` whatever it does; None where draw or speed is 0, not given."""
    if not (power_watts > 0 and decode_tps > 0):
        return None
    decode_j = power_watts / decode_tps
    prefill_j = power_watts / prefill_tps if prefill_tps > 0 else decode_j * PREFILL_SHARE
    return Coefficients(power_watts * overhead_s, prefill_j, decode_j)


Row = tuple[float, float, float]


class SavedRegression(msgspec.Struct, frozen=True):
    """A regression's state: what it began with, its sums, and how far it has left the prior."""

    prior: Coefficients | None
    matrix: tuple[Row, Row, Row]
    vector: Row
    square: float
    count: float
    samples: int
    faith: float
    factor_log: float


class Regression:
    """The coefficients of one model on one backend. Learning is a few sums; solving waits until somebody asks."""

    def __init__(self, prior: Coefficients | None = None) -> None:
        self.samples = 0
        self._prior = prior
        self._prior_matrix, self._prior_vector = _imagine(prior)
        #: Sums over the requests so far, each weighed by one over its size squared.
        self._matrix = [[0.0] * 3 for _ in range(3)]
        self._vector = [0.0] * 3
        self._square = 0.0
        self._count = 0.0
        #: What is left of the prior, and of the error that was expected.
        self._faith = 1.0
        self._variance = _FIRST_ERROR**2
        #: Logarithm of the factor that the prior is off by: watts are misjudged as a whole more than token by token.
        self._factor_log = 0.0
        self._unsolved = 1
        self._found = [0.0] * 3
        self._inverse: list[list[float]] | None = None

    @property
    def coefficients(self) -> Coefficients | None:
        """What is believed now; None before there is a prior or three requests."""
        if not self._knows:
            return None
        self._solve()
        return Coefficients(*self._found)

    def learn(self, n_prompt: int, n_output: int, joules: float, plus_minus_j: float = 0.0) -> None:
        """A request ended that cost `joules`; the less its figure is certain, the less it teaches."""
        if not (isfinite(joules) and joules >= 0 and isfinite(plus_minus_j)) or n_prompt < 0 or n_output < 0:
            return
        if self._unsolved >= _MOST_UNSOLVED or not self.samples:
            self._solve()
        terms = (1.0, float(n_prompt), float(n_output))
        weight = self._weigh(self._predict(terms) if self._knows else None, joules, plus_minus_j)
        self._compare_with_prior(n_prompt, n_output, joules, plus_minus_j)
        self._faith = max(self._faith * FORGETTING, _LEAST_FAITH)
        for i, row in enumerate(self._matrix):
            for j in range(3):
                row[j] = row[j] * FORGETTING + weight * terms[i] * terms[j]
            self._vector[i] = self._vector[i] * FORGETTING + weight * terms[i] * joules
        self._square = self._square * FORGETTING + weight * joules * joules
        self._count = self._count * FORGETTING + 1
        self.samples += 1
        self._unsolved += 1

    def save(self) -> SavedRegression:
        """What is believed, to be restored after a restart."""
        first, second, third = ((row[0], row[1], row[2]) for row in self._matrix)
        vector = self._vector[0], self._vector[1], self._vector[2]
        sums = (first, second, third), vector, self._square, self._count
        return SavedRegression(self._prior, *sums, self.samples, self._faith, self._factor_log)

    @classmethod
    def restore(cls, saved: SavedRegression, age_s: float) -> Regression:
        """What was believed `age_s` ago; the older, the sooner it is learned anew."""
        kept = _RESTART_SHARE * 0.5 ** (max(0.0, age_s) / _HALF_LIFE_S)
        found = cls(saved.prior)
        found._matrix = [[kept * one for one in row] for row in saved.matrix]
        found._vector = [kept * one for one in saved.vector]
        found._square, found._count = kept * saved.square, kept * saved.count
        found._faith = 1 - kept * (1 - saved.faith)
        found.samples, found._factor_log = saved.samples, saved.factor_log
        return found

    def predict(self, n_prompt: int, n_output: int) -> Prediction | None:
        """What such a request will cost; None when nothing is known of this pair."""
        if not self._knows:
            return None
        self._solve()
        return self._predict((1.0, float(n_prompt), float(n_output)))

    @property
    def _knows(self) -> bool:
        return self._prior is not None or self.samples >= _LEAST_SAMPLES

    def _predict(self, terms: tuple[float, float, float]) -> Prediction:
        joules = dot(self._found, terms)
        # Where the inverse is missing, shapes were too alike to tell; then the error of a whole request stands for it.
        doubt = dot(terms, multiply(self._inverse, terms)) if self._inverse else joules * joules
        return Prediction(joules, sqrt(self._variance * (joules * joules + max(0.0, doubt))))

    def _weigh(self, expected: Prediction | None, joules: float, plus_minus_j: float) -> float:
        """One over the squared size of a request, less where its figure is doubtful or a great surprise (Huber)."""
        size = joules if expected is None else max(expected.joules, joules)
        noise = max(size, _LEAST_JOULES) ** 2 + plus_minus_j**2 / self._variance
        limit = inf if expected is None else _SURPRISE * sqrt(expected.sigma_j**2 + plus_minus_j**2)
        error = 0.0 if expected is None else abs(joules - expected.joules)
        return (limit / error if error > limit else 1.0) / noise

    def _compare_with_prior(self, n_prompt: int, n_output: int, joules: float, plus_minus_j: float) -> None:
        if self._prior is None or joules < _LEAST_JOULES:
            return
        prior = self._prior
        expected = prior.fixed_j + prior.prefill_j * n_prompt + prior.decode_j * n_output
        if expected > 0:
            error = max(-_MOST_FACTOR_LOG, min(_MOST_FACTOR_LOG, log(joules / expected)))
            trust = 1 / (1 + (plus_minus_j / joules / _FIRST_ERROR) ** 2)
            self._factor_log += trust * (error - self._factor_log) / (self._count + 2)

    def _solve(self) -> None:
        if not self._unsolved:
            return
        # A prior errs by its own error however clean the data is, so it weighs less beside clean data.
        share = self._faith * min(1.0, self._variance / _FIRST_ERROR**2)
        factor = exp(self._factor_log)
        matrix = [
            [a + share * b / factor**2 for a, b in zip(row, prior, strict=True)]
            for row, prior in zip(self._matrix, self._prior_matrix, strict=True)
        ]
        vector = [a + share * b / factor for a, b in zip(self._vector, self._prior_vector, strict=True)]
        self._found, self._inverse = solve_nonnegative(matrix, vector), invert(matrix)
        self._variance = self._find_variance()
        self._unsolved = 0

    def _find_variance(self) -> float:
        """Relative squared error around the present fit, blended with what was expected of it at first."""
        found = self._found
        left = self._square - 2 * dot(found, self._vector) + dot(found, multiply(self._matrix, found))
        faith = self._faith * _FIRST_ERROR_WEIGHT
        variance = (max(0.0, left) + faith * _FIRST_ERROR**2) / (self._count + faith)
        return max(variance, _LEAST_VARIANCE)


def _imagine(prior: Coefficients | None) -> tuple[list[list[float]], list[float]]:
    """Normal equations of the requests that a prior is worth."""
    matrix, vector = [[0.0] * 3 for _ in range(3)], [0.0] * 3
    if prior is None:
        return matrix, vector
    believed = (prior.fixed_j, prior.prefill_j, prior.decode_j)
    for n_prompt, n_output in PRIOR_REQUESTS:
        terms = (1.0, float(n_prompt), float(n_output))
        joules = dot(believed, terms)
        for i in range(3):
            for j in range(3):
                matrix[i][j] += terms[i] * terms[j] / joules**2
            vector[i] += terms[i] / joules
    return matrix, vector


class Regressions:
    """One regression for each (backend, model), the least recently used forgotten beyond `MAX_PAIRS`."""

    def __init__(self) -> None:
        self._pairs: OrderedDict[tuple[str, str], Regression] = OrderedDict()

    def save(self, backend: str) -> dict[str, SavedRegression]:
        """Those of a backend, by model."""
        return {model: one.save() for (name, model), one in self._pairs.items() if name == backend and one.samples}

    def restore(self, backend: str, model: str, saved: SavedRegression, age_s: float) -> Regression:
        """Take up one of `age_s` ago, in the place of whatever is there."""
        self._pairs.pop((backend, model), None)
        self.pair(backend, model)
        found = self._pairs[backend, model] = Regression.restore(saved, age_s)
        return found

    def pair(self, backend: str, model: str, prior: Coefficients | None = None) -> Regression:
        """The regression of a pair, begun from `prior` when it is new."""
        key = backend, model
        found = self._pairs.get(key)
        if found is None:
            found = self._pairs[key] = Regression(prior)
            if len(self._pairs) > MAX_PAIRS:
                self._pairs.popitem(last=False)
        else:
            self._pairs.move_to_end(key)
        return found

    def forget(self, backend: str) -> None:
        """Another server has this id now."""
        for key in [key for key in self._pairs if key[0] == backend]:
            del self._pairs[key]

    def __len__(self) -> int:
        return len(self._pairs)
