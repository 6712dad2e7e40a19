"""Who has to wait for a slot, what of it the queue has to know, and what is said to whom it has no room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_proxy.app.requests.continuing import Cut, tell_obstacle
from ollama_proxy.domain.decision import Decision, Limit, Refusal, RoutingRequest
from ollama_proxy.domain.errors import ErrorKind, FailureKind, ProxyError
from ollama_proxy.fleet.admission import Admission
from ollama_proxy.fleet.preemption import Preemption
from ollama_proxy.fleet.waiting import Waiting
from ollama_proxy.lifecycle.life import Life
from ollama_proxy.routing.record import Inputs

if TYPE_CHECKING:
    from ollama_proxy.app.requests.job import Job

_NOBODY_THERE = (FailureKind.REFUSED, FailureKind.UNREACHABLE)
_NO_ROOM = "there is no room in the queue"
#: How long a request that somebody has failed may wait for those who are kept out, and by how much longer than told.
_MOST_HELD_S = 3.0
_LATER_S = 0.3


def must_wait(
    decision: Decision, request: RoutingRequest, queue: Admission, preemption: Preemption | None = None
) -> bool:
    """Whether the chosen backend has no slot for it, or others were there first, or might make way at a better one.

    Only what writes takes a slot.
    """
    if decision.short_of_power:
        return True
    one = decision.scored[0][1]
    if not one.spec.held or request.embed:
        return False
    if one.full or len(queue) > 0:
        return True
    return bool(preemption) and request.annotations.latency_critical


def has_slot(decision: Decision) -> bool:
    """Whether the chosen backend has a slot free, and the power cap lets it begin."""
    return not (decision.short_of_power or decision.scored[0][1].full)


def make_waiting(job: Job, given: Inputs) -> Waiting:
    """Its place in the queue, as decided on `given`."""
    request, _, _, tried, given_up, substitute = given
    errand = job.errand
    call, reuse = errand.call, errand.reuse
    waiting = Waiting(job, request, call.arrived_s, call.caller.name, tried)
    waiting.given_up, waiting.substitute = given_up, substitute
    waiting.begun = errand.cut is not None or errand.life.made_way_for > 0
    if reuse is not None and not substitute:
        waiting.find_held = reuse.find_held
    waiting.size_bytes = len(call.raw.body) if call.raw is not None else call.prompt_bytes
    return waiting


def turn_away(told: str, wait_s: float, cut: Cut | None) -> ProxyError:
    """The error for want of room in the queue; there may be some in `wait_s`."""
    error = ProxyError(ErrorKind.OVERLOADED, told, retry_after_s=max(1.0, wait_s))
    if cut is not None:
        tell_obstacle(error, _NO_ROOM)
    return error


def reckon_hold(refusal: Refusal, life: Life, held_s: float) -> float:
    """Seconds to wait for a backend that is kept out, where those who were let in have failed the request and it would
    be lost; 0 for none, or when it has waited for `held_s` and that is enough.

    Where nothing listens any more, clients are told at once.
    """
    kept_out = any(one.limit is Limit.KEPT_OUT for one in refusal.rejections)
    found = any(failure.kind not in _NOBODY_THERE for _, failure in life.failures)
    hold_s = refusal.retry_after_s + _LATER_S
    return hold_s if kept_out and found and life.may_try and held_s + hold_s <= _MOST_HELD_S else 0.0
