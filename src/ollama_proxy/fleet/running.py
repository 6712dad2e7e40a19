"""When a backend will be free: what runs there, how far it probably is, and how long the next one waits."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from ollama_proxy.domain.decision import Decision, Policy, RoutingRequest
from ollama_proxy.domain.device import Wait
from ollama_proxy.domain.lengths import Lengths, make_typical_lengths
from ollama_proxy.routing.decide import price_of_seconds

LEAST_LEFT_S = 0.05
#: What is left of an overdue request, as a share of the time it has taken already.
_OVERDUE_SHARE = 0.1


class Running:
    """One request at a backend, as predicted when it was sent.

    `first_s` is the (monotonic) time of its first token, predicted until it came. Times are of a request that has its
    slot.
    """

    __slots__ = ("began_s", "decode_var", "first_s", "lengths", "limit", "price_watts", "s_per_token", "ttft_var")

    def __init__(
        self,
        began_s: float,
        ttft_s: float,
        ttft_var: float,
        s_per_token: float,
        decode_var: float,
        lengths: Lengths | None,
        limit: int,
        price_watts: float = 0.0,
    ) -> None:
        self.began_s = began_s
        self.first_s = began_s + ttft_s
        self.ttft_var = ttft_var
        self.s_per_token = s_per_token
        self.decode_var = decode_var
        #: None when there is nothing to write, as with embeddings.
        self.lengths = lengths
        self.limit = limit
        #: What a second of it is worth to whoever asked.
        self.price_watts = price_watts

    def left(self, now_s: float) -> tuple[float, float]:
        """Mean and variance of the seconds it still needs."""
        mean_s, var_s2 = self._reckon_left(now_s)
        if mean_s >= LEAST_LEFT_S:
            return mean_s, var_s2
        # Until its end is seen it has not ended: what is overdue has something wrong with it, the more the longer.
        mean_s = max(LEAST_LEFT_S, _OVERDUE_SHARE * (now_s - self.began_s))
        return mean_s, mean_s * mean_s

    def _reckon_left(self, now_s: float) -> tuple[float, float]:
        lengths = self.lengths
        if now_s < self.first_s:
            before_s = self.first_s - now_s
            whole_s = self.first_s - self.began_s
            var = whole_s * whole_s * self.ttft_var
            if lengths is None:
                return before_s, var
            mean, spread = lengths.mean(self.limit), lengths.variance(self.limit)
        else:
            before_s = var = 0.0
            if lengths is None:
                return 0.0, 0.0
            mean, spread = lengths.left((now_s - self.first_s) / self.s_per_token, self.limit)
        decode_s = mean * self.s_per_token
        return before_s + decode_s, var + spread * self.s_per_token**2 + decode_s * decode_s * self.decode_var

    def abandon(self, read_s: float) -> None:
        """Nobody waits for it any more: it ends when its prompt is read."""
        self.first_s = read_s
        self.lengths = None

    def takes(self) -> tuple[float, float]:
        """Mean and variance of the seconds it needs from its turn on."""
        return self.left(self.began_s)


#: (seconds until it is free, variance) of one slot.
Slot = tuple[float, float]


def forecast_slots(running: Sequence[Running], slots: int, now_s: float) -> list[Slot]:
    """When each slot will be free, soonest first: a heap. What is sent beyond the slots is taken to queue there."""
    found: list[Slot] = [one.left(now_s) for one in running[:slots]]
    found.extend([(0.0, 0.0)] * (slots - len(found)))
    heapq.heapify(found)
    for one in running[slots:]:
        mean_s, var_s2 = one.takes()
        free_s, free_var = found[0]
        heapq.heapreplace(found, (free_s + mean_s, free_var + var_s2))
    return found


def forecast_wait(running: Sequence[Running], slots: int, now_s: float) -> Wait | None:
    """How long a new request would wait; None when a slot is free."""
    if len(running) < slots:
        return None
    free_s, var_s2 = forecast_slots(running, slots, now_s)[0]
    return Wait(free_s, var_s2)


def add_work(slots: list[Slot], mean_s: float, var_s2: float) -> None:
    """Plan one more request: it takes the slot that is free first."""
    free_s, free_var = slots[0]
    heapq.heapreplace(slots, (free_s + mean_s, free_var + var_s2))


def predict_running(request: RoutingRequest, decision: Decision, now_s: float, policy: Policy) -> Running:
    """What is expected of a request that begins now."""
    _, one, _, prefill_s, _, _, _ = decision.scored[0]
    return Running(
        now_s,
        one.load_s + prefill_s,
        one.ttft_var,
        one.s_per_output_token * one.crowding,
        one.decode_var,
        None if request.embed else request.lengths or make_typical_lengths(),
        request.max_tokens,
        price_of_seconds(request.annotations, policy),
    )
