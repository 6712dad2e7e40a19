"""Learned speeds: decayed means of logarithms per model, starting from the configured prior."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.device import BackendSpec, Rates
from ollama_proxy.routing.prediction import DEFAULT_DECODE_TPS, DEFAULT_TTFT_S

#: A configured number weighs as much as this many observations.
PRIOR_WEIGHT = 5
#: The share of a new observation never falls below this, so that drift is followed.
LEAST_SHARE = 0.1
#: Models remembered for each backend.
MAX_MODELS = 256


class Observation(msgspec.Struct, frozen=True, gc=False):
    """What one request showed.

    `ttft_s` is None when other requests ran beside it, so that it tells of waiting as well; `decode_tps` when too few
    tokens came to tell.
    """

    ttft_s: float | None
    decode_tps: float | None


NOTHING_SEEN = Observation(None, None)


def prior(spec: BackendSpec) -> Rates:
    """The configured speeds."""
    return Rates(
        ttft_s=spec.avg_latency_ms / 1000 or DEFAULT_TTFT_S,
        decode_tps=spec.max_tokens_per_second or DEFAULT_DECODE_TPS,
    )


def learn(rates: Rates, seen: Observation) -> Rates:
    """Rates after one more observation; in logarithms, so that twice as fast and half as fast weigh the same."""
    ttft_s, decode_tps = rates.ttft_s, rates.decode_tps
    if seen.ttft_s is not None:
        ttft_s = _blend(ttft_s, seen.ttft_s, _share(rates.ttft_samples))
    if seen.decode_tps is not None:
        decode_tps = _blend(decode_tps, seen.decode_tps, _share(rates.decode_samples))
    return Rates(
        ttft_s,
        decode_tps,
        rates.samples + 1,
        rates.ttft_samples + (seen.ttft_s is not None),
        rates.decode_samples + (seen.decode_tps is not None),
    )


def _share(samples: int) -> float:
    """The weight of the next observation: the prior counts for `PRIOR_WEIGHT` earlier ones."""
    return max(LEAST_SHARE, 1 / (PRIOR_WEIGHT + samples + 1))


def _blend(old: float, new: float, share: float) -> float:
    """The weighted geometric mean."""
    return float(old ** (1 - share) * max(new, 1e-6) ** share)
