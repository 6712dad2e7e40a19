"""How likely a backend keeps a latency limit, from the distributions behind its estimate."""

from __future__ import annotations

import math

from ollama_proxy.domain.lengths import Lengths

#: Three-point Gauss-Hermite quadrature of a normal variable: its nodes in standard deviations, and their weights.
_NODE = math.sqrt(3)
_OUTER, _INNER = 1 / 6, 2 / 3


def first_token_chance(limit_s: float, wait_s: float, wait_var_s2: float, ttft_s: float, ttft_var: float) -> float:
    """P(wait + TTFT <= limit), the sum taken as normal; `ttft_var` is the variance of log TTFT."""
    slack_s = limit_s - wait_s - ttft_s
    deviation_s = math.sqrt(wait_var_s2 + ttft_s * ttft_s * ttft_var)
    if deviation_s < 1e-9:
        return 1.0 if slack_s >= 0 else 0.0
    return 0.5 * math.erfc(-slack_s / deviation_s / math.sqrt(2))


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

    The answer's length enters with its own distribution; what is uncertain of the time before and of the speed, as a
    normal error of the time that is left for the answer, at three points.
    """
    slack_s = limit_s - wait_s - ttft_s
    early_var = wait_var_s2 + ttft_s * ttft_s * ttft_var
    deviation_s = math.sqrt(early_var + slack_s * slack_s * decode_var)
    found = _INNER * _share(slack_s, s_per_token, lengths, limit_tokens)
    return found + _OUTER * (
        _share(slack_s - _NODE * deviation_s, s_per_token, lengths, limit_tokens)
        + _share(slack_s + _NODE * deviation_s, s_per_token, lengths, limit_tokens)
    )


def _share(slack_s: float, s_per_token: float, lengths: Lengths, limit_tokens: float) -> float:
    """P(an answer fits into some seconds)."""
    if slack_s < 0:
        return 0.0
    tokens = slack_s / s_per_token
    return 1.0 if 0 < limit_tokens <= tokens else lengths.share_within(tokens)
