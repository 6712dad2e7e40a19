"""How likely a backend keeps a latency limit, from the distributions behind its estimate.

Times of service are log-normal, waits normal. (x - m) / log(x / m) is near sqrt(m x); so a log-normal time of median m
and log-variance v is within x about as often as a normal one with the variance m x v, to which a wait's can be added.
Against drawn times the chances are right to some 0.03, seldom worse than 0.09.
"""

from __future__ import annotations

import math

from ollama_proxy.domain.lengths import Lengths

#: Three-point Gauss-Hermite quadrature of a normal variable: its nodes in standard deviations, and their weights.
_NODE = math.sqrt(3)
_OUTER, _INNER = 1 / 6, 2 / 3
#: With more variance of the logarithm the outer nodes would let a slower backend seem likelier to be in time.
_MOST_VAR = 1 / 3


def first_token_chance(limit_s: float, wait_s: float, wait_var_s2: float, ttft_s: float, ttft_var: float) -> float:
    """P(wait + TTFT <= limit); `ttft_var` is the variance of log TTFT."""
    return _within(limit_s - wait_s, wait_var_s2, ttft_s, ttft_var)


def last_token_chance(
    limit_s: float,
    wait_s: float,
    wait_var_s2: float,
    ttft_s: float,
    ttft_var: float,
    s_per_token: float,
    decode_var: float,
    lengths: Lengths,
    limit_tokens: float,
) -> float:
    """P(wait + TTFT + tokens * seconds a token <= limit).

    An answer that ends by itself enters with the distribution of lengths; what is uncertain of the time before and of
    the speed, as a normal error of the time that is left for it, at three points. One that its limit of tokens (0 for
    none) ends has a known length, so there the errors are all there is.
    """
    ttft_var, decode_var = min(ttft_var, _MOST_VAR), min(decode_var, _MOST_VAR)
    ending = lengths.share_within(limit_tokens) if limit_tokens > 0 else 1.0
    slack_s = limit_s - wait_s - ttft_s
    answering_s = max(slack_s, 0.0)
    deviation_s = math.sqrt(wait_var_s2 + ttft_s * ttft_s * ttft_var + answering_s * answering_s * decode_var)
    found = _INNER * min(ending, _share(slack_s, s_per_token, lengths)) + _OUTER * (
        min(ending, _share(slack_s - _NODE * deviation_s, s_per_token, lengths))
        + min(ending, _share(slack_s + _NODE * deviation_s, s_per_token, lengths))
    )
    if ending < 1:
        decode_s = limit_tokens * s_per_token
        service_s = ttft_s + decode_s
        early = ttft_s / service_s
        service_var = early * early * ttft_var + (1 - early) * (1 - early) * decode_var
        # The median of a sum is more than that of its parts: means add up, and each is e^(v / 2) medians.
        service_s += (ttft_s * ttft_var + decode_s * decode_var - service_s * service_var) / 2
        found += (1 - ending) * _within(limit_s - wait_s, wait_var_s2, service_s, service_var)
    return min(1.0, found)


def _within(left_s: float, wait_var_s2: float, median_s: float, log_var: float) -> float:
    """P(the error of the wait + a log-normal time <= what the wait leaves of the limit)."""
    slack_s = left_s - median_s
    deviation_s = math.sqrt(wait_var_s2 + max(left_s, 0.0) * median_s * log_var)
    if deviation_s < 1e-9:
        return 1.0 if slack_s >= 0 else 0.0
    return 0.5 * math.erfc(-slack_s / deviation_s / math.sqrt(2))


def _share(slack_s: float, s_per_token: float, lengths: Lengths) -> float:
    """P(an answer fits into some seconds)."""
    return lengths.share_within(slack_s / s_per_token) if slack_s > 0 else 0.0
