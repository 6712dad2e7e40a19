"""What a request is predicted to take on a backend: waiting, first token, the whole, joules.

From what was learned of this model there, else from the configured priors.
"""

from __future__ import annotations

from ollama_proxy.domain.decision import Estimate, RoutingRequest
from ollama_proxy.domain.device import BackendView

#: Output length that is reckoned with while nothing is known; a lower `max_tokens` lowers it.
EXPECTED_OUTPUT_TOKENS = 128
#: Stand-ins for priors that the configuration leaves out.
DEFAULT_TTFT_S = 0.5
DEFAULT_DECODE_TPS = 20.0
#: What a device of unknown draw is ranked with: not to know must not look frugal.
UNKNOWN_WATTS = 60.0
#: Bounds that keep an absurd prior or measurement from making every sum infinite.
LEAST_DECODE_TPS = 0.01
MOST_TTFT_S = 3600.0


def expect_tokens(request: RoutingRequest) -> int:
    """How many tokens an answer is reckoned with."""
    if request.embed:
        return 0
    limit = request.max_tokens
    return limit if 0 < limit < EXPECTED_OUTPUT_TOKENS else EXPECTED_OUTPUT_TOKENS


def predict(view: BackendView, request: RoutingRequest, model: str = "") -> Estimate:
    """The estimate for one backend. Waiting costs no energy here: the device works for somebody else meanwhile.

    `model` is the canonical name of what it will work with there; that of the request when empty.
    """
    spec = view.spec
    model = model or request.model
    rates = view.rates.get(model)
    if rates is not None:
        ttft_s, decode_tps = rates.ttft_s, rates.decode_tps
    else:
        ttft_s = spec.avg_latency_ms / 1000 or DEFAULT_TTFT_S
        decode_tps = spec.max_tokens_per_second or DEFAULT_DECODE_TPS
    ttft_s = min(ttft_s, MOST_TTFT_S)
    decode_tps = max(decode_tps, LEAST_DECODE_TPS)
    service_s = ttft_s + expect_tokens(request) / decode_tps
    ahead = view.in_flight - spec.slots + 1
    wait_s = ahead * service_s / spec.slots if ahead > 0 else 0.0
    joules = (spec.power_watts or UNKNOWN_WATTS) * service_s
    return Estimate(wait_s, ttft_s, wait_s + service_s, spec.power_watts, joules)
