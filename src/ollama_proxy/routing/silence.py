"""How long a backend may say nothing before that is strange, from what was learned of its speed.

The limits are quantiles that one sound answer in a thousand exceeds, with a margin for what the distributions do not
know, and never so short that a pause of the host could reach them. They say when to look for somebody else, not when
a backend has failed: that is what the configured timeouts are for, which stay the longest that is waited.
"""

from __future__ import annotations

import math

from ollama_proxy.domain.lengths import MOST_TOKENS, Lengths

#: Standard deviations of a normal variable that one value in a thousand exceeds, and the share of those below.
_DEVIATIONS, _SHARE = 3.09, 0.999
_MARGIN = 2.0
#: Variances of logarithms beyond this would make limits that are none.
_MOST_VAR = 1.0
#: No silence is strange before so many seconds: where first tokens were seen, and where they are guessed.
LEAST_S, LEAST_GUESSED_S = 3.0, 5.0
_GUESSED_READING = 25.0
#: In a stream: before so many seconds, and before so many tokens could have been written.
_LEAST_GAP_S, _GAP_TOKENS = 10.0, 64


def longest_before_first(overhead_s: float, reading_s: float, ttft_var: float, *, guessed: bool) -> float:
    """Seconds until a first token is overdue. `reading_s` is for all prompts that are read until then.

    Nobody guesses well how fast a device reads; so as long as no first token was seen, a prompt may take very long.
    """
    if guessed:
        return max(LEAST_GUESSED_S, _MARGIN * _quantile(overhead_s, ttft_var)) + _GUESSED_READING * reading_s
    return max(LEAST_S, _MARGIN * _quantile(overhead_s + reading_s, ttft_var))


def longest_before_whole(
    ttft_s: float, ttft_var: float, s_per_token: float, decode_var: float, lengths: Lengths, max_tokens: int
) -> float:
    """Seconds until a whole answer is overdue; `max_tokens` is 0 for one that ends by itself."""
    tokens = max_tokens or _most_tokens(lengths)
    writing_s = _quantile(tokens * s_per_token, decode_var)
    return max(LEAST_GUESSED_S, _MARGIN * (_quantile(ttft_s, ttft_var) + writing_s))


def longest_between(reading_s: float, ttft_var: float, s_per_token: float, decode_var: float) -> float:
    """Seconds until the next piece of a stream is overdue; `reading_s` is for prompts of others meanwhile."""
    writing_s = _GAP_TOKENS * _quantile(s_per_token, decode_var)
    return max(_LEAST_GAP_S, _MARGIN * _quantile(reading_s, ttft_var) + writing_s)


def _quantile(median: float, log_var: float) -> float:
    return median * math.exp(_DEVIATIONS * math.sqrt(min(log_var, _MOST_VAR)))


def _most_tokens(lengths: Lengths) -> float:
    """A length that one answer in a thousand exceeds, to a token."""
    low, high = 0.0, float(MOST_TOKENS)
    while high - low > 1:
        middle = (low + high) / 2
        if lengths.share_within(middle) < _SHARE:
            low = middle
        else:
            high = middle
    return high
