"""What a model does on a backend, in seconds a token and watts: learned there, else from the configured priors."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.device import BackendSpec, BackendView, Rates

#: Stand-ins for priors that the configuration leaves out.
DEFAULT_TTFT_S = 0.5
DEFAULT_DECODE_TPS = 20.0
#: Devices of all kinds read a prompt about this much faster than they write an answer.
PREFILL_PER_DECODE = 15.0
#: What a device of unknown draw is ranked with: not to know must not look frugal.
UNKNOWN_WATTS = 60.0
#: Bounds that keep an absurd prior or measurement from making every sum infinite.
LEAST_TPS = 0.01
MOST_TTFT_S = 3600.0
#: Reading a model from disk where nobody has seen it: bytes a second, and seconds besides.
LOAD_BYTES_PER_S = 1e9
LOAD_FIXED_S = 1.0
#: One more request at once draws this much more, as a share of one alone.
POWER_SHARE = 0.03
#: Variances of logarithms of what a configured number promises.
PRIOR_TTFT_VAR = 0.25
PRIOR_DECODE_VAR = 0.1
#: Only these tell what they have in memory; the others have always loaded what they offer.
LOADING_KINDS = ("ollama",)


class Speeds(msgspec.Struct, frozen=True, gc=False):
    """Of one model on one backend, with nothing beside it."""

    overhead_s: float
    s_per_prompt_token: float
    s_per_output_token: float
    load_s: float
    load_joules: float
    #: Joules of a request, and of each token of its prompt and of its answer.
    fixed_j: float
    prompt_token_j: float
    output_token_j: float
    ttft_var: float
    decode_var: float
    #: Of requests at once, as in `Rates`.
    parallel_exponent: float
    parallel_var: float = 0.0
    parallel_cov: float = 0.0


def make_prior(spec: BackendSpec) -> Rates:
    """The configured speeds; what is not given is derived from what is."""
    decode_tps = spec.max_tokens_per_second or DEFAULT_DECODE_TPS
    return Rates(
        overhead_s=spec.avg_latency_ms / 1000 or DEFAULT_TTFT_S,
        prefill_tps=spec.prefill_tokens_per_second or decode_tps * PREFILL_PER_DECODE,
        decode_tps=decode_tps,
        ttft_var=PRIOR_TTFT_VAR,
        decode_var=PRIOR_DECODE_VAR,
    )


def reckon_speeds(view: BackendView, model: str, size_bytes: int) -> Speeds:
    """What is to be expected; `model` is the canonical name of what the backend will work with."""
    spec = view.spec
    rates = view.rates.get(model) or make_prior(spec)
    decode_watts = spec.power_watts or UNKNOWN_WATTS
    prefill_watts = spec.prefill_watts or decode_watts
    load_s = _expect_load(view, model, size_bytes, rates)
    overhead_s = min(rates.overhead_s, MOST_TTFT_S)
    s_per_prompt_token = 1 / max(rates.prefill_tps, LEAST_TPS)
    s_per_output_token = 1 / max(rates.decode_tps, LEAST_TPS)
    return Speeds(
        overhead_s,
        s_per_prompt_token,
        s_per_output_token,
        load_s,
        load_s * decode_watts,
        overhead_s * prefill_watts if rates.fixed_j is None else rates.fixed_j,
        s_per_prompt_token * prefill_watts if rates.prefill_j is None else rates.prefill_j,
        s_per_output_token * decode_watts if rates.decode_j is None else rates.decode_j,
        rates.ttft_var,
        rates.decode_var,
        spec.parallel_exponent if rates.parallel_exponent is None else rates.parallel_exponent,
        rates.parallel_var,
        rates.parallel_cov,
    )


def reckon_busy_share(together: float, parallel_exponent: float) -> float:
    """Of the joules that a request takes alone, what one of k at once takes.

    k at once get k^beta done, so one more keeps the device busy for longer by only k^-beta of its own work, at a
    little more power.
    """
    return float(together**-parallel_exponent * (1 + POWER_SHARE * (together - 1)))


def reckon_load(view: BackendView, model: str, size_bytes: int) -> tuple[float, float]:
    """Seconds and joules of loading a model that is not in memory."""
    spec = view.spec
    load_s = _reckon_load(view, size_bytes, view.rates.get(model))
    return load_s, load_s * (spec.power_watts or UNKNOWN_WATTS)


def _expect_load(view: BackendView, model: str, size_bytes: int, rates: Rates) -> float:
    """Seconds until the model is in memory."""
    spec = view.spec
    if spec.kind not in LOADING_KINDS or model in view.loaded:
        return 0.0
    return _reckon_load(view, size_bytes, rates)


def _reckon_load(view: BackendView, size_bytes: int, rates: Rates | None) -> float:
    """As the model has shown, else as configured, else by its size and what others have shown there."""
    if rates is not None and rates.load_s is not None:
        return rates.load_s
    return view.spec.load_seconds or guess_load(size_bytes) * view.load_factor


def guess_load(size_bytes: int) -> float:
    """Seconds of loading a model where nobody has seen a load; 0.0 where its size is not known."""
    return size_bytes / LOAD_BYTES_PER_S + LOAD_FIXED_S if size_bytes else 0.0
