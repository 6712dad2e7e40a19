"""What one key may use: requests and tokens a minute, energy an hour and a day, requests at once."""

from __future__ import annotations

import msgspec

from .window import Window

_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0
_JOULES_PER_WH = 3600.0
#: How long until somebody else's request of the same key may have ended; nobody can know.
_SOON_S = 1.0
#: Of a prompt that nobody has counted yet.
_BYTES_PER_TOKEN = 4


class Allowance(msgspec.Struct, frozen=True):
    """The limits of a key; 0 is none."""

    requests_per_minute: int = 0
    tokens_per_minute: int = 0
    wh_per_hour: float = 0.0
    wh_per_day: float = 0.0
    concurrent: int = 0


class Excess(msgspec.Struct, frozen=True):
    """A limit that is reached: a clause that names it, and seconds until there is something left."""

    limit: str
    wait_s: float


class Quota:
    """What a key has used of its allowance. The clock is handed in, monotonic, in seconds.

    A request is taken with its prompt as estimated and settled with its tokens as counted, so whoever breaks off has
    used the prompt at least.
    """

    __slots__ = ("_day", "_hour", "_requests", "_tokens", "allowance", "running")

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        #: Requests that are under way.
        self.running = 0
        self._requests = Window(allowance.requests_per_minute, _MINUTE_S)
        self._tokens = Window(allowance.tokens_per_minute, _MINUTE_S)
        self._hour = Window(allowance.wh_per_hour * _JOULES_PER_WH, _HOUR_S)
        self._day = Window(allowance.wh_per_day * _JOULES_PER_WH, _DAY_S)

    def take(self, prompt_bytes: int, now_s: float) -> Excess | None:
        """Begin one more request; what is in its way, the longest first, or None."""
        allowed = self.allowance
        tokens = estimate_tokens(prompt_bytes)
        waits = [
            (self._requests.wait_s(now_s, 1), f"{allowed.requests_per_minute} requests a minute"),
            (self._tokens.wait_s(now_s, tokens), f"{allowed.tokens_per_minute} tokens a minute"),
            (self._hour.wait_s(now_s), f"{allowed.wh_per_hour:g} Wh an hour"),
            (self._day.wait_s(now_s), f"{allowed.wh_per_day:g} Wh a day"),
        ]
        if allowed.concurrent and self.running >= allowed.concurrent:
            waits.append((_SOON_S, f"{allowed.concurrent} requests at once"))
        wait_s, limit = max(waits)
        if wait_s > 0:
            return Excess(limit, wait_s)
        self.running += 1
        self._requests.spend(1, now_s)
        self._tokens.spend(tokens, now_s)
        return None

    def settle(self, prompt_bytes: int, prompt_tokens: int | None, output_tokens: int | None, now_s: float) -> None:
        """An answer ended well, with so many tokens; None where nobody counted."""
        used = output_tokens or 0
        if prompt_tokens is not None:
            used += prompt_tokens - estimate_tokens(prompt_bytes)
        self._tokens.spend(used, now_s)

    def leave(self) -> None:
        """A request is over, however it ended."""
        self.running -= 1

    def spend(self, joules: float, now_s: float) -> None:
        """An attempt has taken this much energy."""
        self._hour.spend(joules, now_s)
        self._day.spend(joules, now_s)


def estimate_tokens(prompt_bytes: int) -> int:
    """Of a prompt of so many bytes."""
    return prompt_bytes // _BYTES_PER_TOKEN
