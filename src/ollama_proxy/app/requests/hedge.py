"""A second attempt at the same request, beside the first: whichever has the first token first answers the client.

Only for what is latency-critical and has no token yet when most would have one, at a backend that has nothing else to
do and has the model loaded, within all limits of the request and a small share of all requests. The loser is broken
off at the winner's first token, and billed for what it did.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

from ollama_proxy.app.requests.attempt import OpenAttempt
from ollama_proxy.app.requests.silence import is_warm
from ollama_proxy.domain.call import Call
from ollama_proxy.domain.decision import Decision, Refusal
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.lifecycle.life import Life, State
from ollama_proxy.routing.record import Inputs, decide_again

if TYPE_CHECKING:
    from ollama_proxy.app.requests.job import Job

_log = logging.getLogger(__name__)

#: Standard deviations of a normal variable that one value in twenty exceeds.
_DEVIATIONS = 1.645
#: What is learned of fewer first tokens is no distribution; and nobody is hedged against less than this.
_LEAST_SAMPLES, _LEAST_S = 5, 0.3


class Race:
    """Two attempts at one request, until one of them begins to answer or fails."""

    __slots__ = ("_first", "_second")

    def __init__(self, first: OpenAttempt, second: OpenAttempt) -> None:
        self._first = first
        self._second = second

    @property
    def both(self) -> tuple[OpenAttempt, OpenAttempt]:
        """The first and the second."""
        return self._first, self._second

    def win(self, winner: OpenAttempt) -> None:
        """It has begun to answer: the other is broken off."""
        if winner is self._second:
            _drop(self._first, "a second attempt began sooner")
        else:
            _drop(self._second, "the first attempt began sooner")

    def leave(self, failed: OpenAttempt) -> OpenAttempt:
        """It has failed; the other, which is the only one now."""
        return self._first if failed is self._second else self._second

    def call_off(self) -> None:
        """There is nobody left to answer; the first is for whoever says so to break off."""
        _drop(self._second, "the client left")


def _drop(attempt: OpenAttempt, why: str) -> None:
    attempt.abort()
    attempt.close("cancelled", why, unread=True)


def start_hedge(job: Job, first: OpenAttempt, now_s: float) -> Race | None:
    """Send a request whose `first` attempt is late to a second backend, if it is worth that and there is one for it."""
    errand = job.errand
    owner, call, life = errand.owner, errand.call, errand.life
    fleet = owner.fleet_state
    if not _is_worth_it(call, life) or not _is_late(call, first, fleet.find(first.backend), now_s):
        return None
    given: Inputs = (errand.request, fleet.view_at(now_s), owner.policy, life.tried, "", False)
    decision = decide_again(given)
    if isinstance(decision, Refusal) or decision.model != first.decision.model:
        return None
    view = fleet.look(decision.backend)
    if not _is_idle(call, decision, view) or owner.hedges is None or not owner.hedges.take(owner.last_serial):
        return None
    life.hedged(decision.backend)
    second = OpenAttempt(owner, job, decision, given, now_s)
    try:
        second.send()
    except Exception:  # noqa: BLE001  # the first attempt goes on, whatever the second trips over
        _log.exception("%s could not be sent a second time", call.request_id)
        second.close("failed", "internal error")
        return None
    return Race(first, second)


def _is_worth_it(call: Call, life: Life) -> bool:
    """Whether it is one of those that are sent twice, has no token yet, and may be tried once more."""
    wishes = call.annotations
    if not wishes.latency_critical or wishes.target or not call.stream:
        return False
    return life.state is State.WAITING and life.may_try


def _is_late(call: Call, first: OpenAttempt, now: BackendView | None, now_s: float) -> bool:
    """Whether 95 of 100 such requests would have their first token by now, and nothing has to be loaded for it."""
    rates = now.rates.get(canonical_model(first.decision.model)) if now is not None else None
    if now is None or rates is None or rates.ttft_samples < _LEAST_SAMPLES:
        return False
    if not _has_loaded(call, first.decision, first.view, now):
        return False
    _, one, _, prefill_s, *_ = first.decision.scored[0]
    return now_s - first.last_s >= max(_LEAST_S, prefill_s * math.exp(_DEVIATIONS * math.sqrt(one.ttft_var)))


def _is_idle(call: Call, decision: Decision, view: BackendView) -> bool:
    """Whether the chosen one could begin at once, with nothing else to do."""
    free = not view.in_flight and not decision.short_of_power and not decision.stand_in
    return free and _has_loaded(call, decision, view, view)


def _has_loaded(call: Call, decision: Decision, opened: BackendView, now: BackendView) -> bool:
    return is_warm(call, canonical_model(decision.model), opened, now, time.time())
