"""A second attempt at the same request, beside the first: whichever has the first token first answers the client.

Only for what is latency-critical and has no token yet when most would have one, at a backend that has nothing else to
do and has the model loaded, within all limits of the request and a small share of all requests. The loser is broken
off at the winner's first token, and billed for what it did.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ollama_proxy.app.bill import Bill
from ollama_proxy.app.silence import is_warm
from ollama_proxy.domain.answer import AnswerEvent, Finished
from ollama_proxy.domain.call import Call
from ollama_proxy.domain.decision import Decision, Refusal, RoutingRequest
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.errors import Failure
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Attempt
from ollama_proxy.fleet.running import Running, predict_running
from ollama_proxy.observability.decisions import Taken
from ollama_proxy.routing.record import Inputs, decide_again

if TYPE_CHECKING:
    from ollama_proxy.app.dispatch import Dispatcher
    from ollama_proxy.app.job import Job

_log = logging.getLogger(__name__)

#: Standard deviations of a normal variable that one value in twenty exceeds.
_DEVIATIONS = 1.645
#: What is learned of fewer first tokens is no distribution; and nobody is hedged against less than this.
_LEAST_SAMPLES, _LEAST_S = 5, 0.3


class Hedge:
    """The second attempt with all that is written down of it, and its sink until it wins."""

    __slots__ = ("_head", "_job", "attempt", "backend", "bill", "decision", "opened_s", "running", "taken", "view")

    def __init__(self, job: Job, decision: Decision, view: BackendView, opened_s: float) -> None:
        self._job: Job = job
        self._head: tuple[int, bytes, int | None] | None = None
        self.backend = decision.backend
        self.decision = decision
        self.view = view
        self.opened_s = opened_s
        self.attempt: Attempt | None = None
        self.running: Running | None = None
        self.bill: Bill | None = None
        self.taken: Taken | None = None

    def _win(self) -> None:
        job = self._job
        if job.adopt(self) and self._head is not None:
            job.on_head(*self._head)

    def close(self, owner: Dispatcher, result: str, why: str) -> None:
        """It is over without having won."""
        now_s = owner.clock()
        _, one, _, prefill_s, *_ = self.decision.scored[0]
        read_s = self.opened_s + one.load_s + prefill_s
        owner.fleet_state.abandoned(self.backend, self.running, read_s, now_s)
        owner.accounting.close(self.bill, result, now_s)
        if self.taken is not None:
            waited_s = self.opened_s - self._job.call.arrived_s
            owner.decisions.ended(self.taken, result, why, waited_s, now_s - self.opened_s)
        if len(owner.admission):
            owner.plan_soon()

    def on_head(self, status: int, content_type: bytes, length: int | None) -> None:
        self._head = (status, content_type, length)

    def on_raw(self, data: bytes) -> None:
        self._win()
        self._job.on_raw(data)

    def relay(self) -> Callable[[bytes], None] | None:
        return self._job.relay()

    def on_whole(self, status: int, content_type: bytes, body: bytes, finished: Finished) -> None:
        self._win()
        self._job.on_whole(status, content_type, body, finished)

    def on_events(self, events: Sequence[AnswerEvent]) -> None:
        self._win()
        self._job.on_events(events)

    def on_end(self, finished: Finished) -> None:
        self._win()
        self._job.on_end(finished)

    def on_failure(self, failure: Failure) -> None:
        self._job.hedge_failed(self, failure)


def is_late(call: Call, decision: Decision, opened: BackendView, now: BackendView, silent_s: float) -> bool:
    """Whether 95 of 100 such requests would have their first token by now, and nothing has to be loaded for it."""
    rates = now.rates.get(canonical_model(decision.model))
    if rates is None or rates.ttft_samples < _LEAST_SAMPLES or not _has_loaded(call, decision, opened, now):
        return False
    _, one, _, prefill_s, *_ = decision.scored[0]
    return silent_s >= max(_LEAST_S, prefill_s * math.exp(_DEVIATIONS * math.sqrt(one.ttft_var)))


def start_hedge(
    owner: Dispatcher, job: Job, request: RoutingRequest, first: Decision | None, now_s: float
) -> Hedge | None:
    """Send a request that was sent by the decision `first` to a second backend, if there is one for it."""
    life, fleet = job.life, owner.fleet_state
    given: Inputs = (request, fleet.view_at(now_s), owner.policy, life.tried, "", False)
    decision = decide_again(given)
    if first is None or isinstance(decision, Refusal) or decision.model != first.model:
        return None
    view = fleet.look(decision.backend)
    if not _is_idle(job.call, decision, view) or owner.hedges is None or not owner.hedges.take(owner.last_serial):
        return None
    hedge = Hedge(job, decision, view, now_s)
    life.hedged(hedge.backend)
    hedge.taken = owner.decisions.take(job.call.request_id, life.attempts, given, decision)
    hedge.running = predict_running(request, decision, now_s, given[2])
    fleet.opened(hedge.backend, hedge.running, now_s)
    hedge.bill = owner.accounting.open(view, job.call, decision, request, now_s)
    try:
        hedge.attempt = owner.backends[hedge.backend].open(job.call, decision.model, hedge)
    except Exception:  # noqa: BLE001  # the first attempt goes on, whatever the second trips over
        _log.exception("%s could not be sent a second time", job.call.request_id)
        hedge.close(owner, "failed", "internal error")
        return None
    return hedge


def _is_idle(call: Call, decision: Decision, view: BackendView) -> bool:
    """Whether the chosen one could begin at once, with nothing else to do."""
    free = not view.in_flight and not decision.short_of_power and not decision.stand_in
    return free and _has_loaded(call, decision, view, view)


def _has_loaded(call: Call, decision: Decision, opened: BackendView, now: BackendView) -> bool:
    return is_warm(call, canonical_model(decision.model), opened, now, time.time())
