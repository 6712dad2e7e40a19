"""Who has to wait for a slot, what of it the queue has to know, and what is said to whom it has no room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_proxy.app.continuing import Cut, tell_obstacle
from ollama_proxy.app.reuse import Reuse
from ollama_proxy.domain.decision import Decision, RoutingRequest
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.fleet.admission import Admission
from ollama_proxy.fleet.waiting import Waiting
from ollama_proxy.routing.record import Inputs

if TYPE_CHECKING:
    from ollama_proxy.app.job import Job

_NO_ROOM = "there is no room in the queue"


def must_wait(decision: Decision, request: RoutingRequest, queue: Admission) -> bool:
    """Whether the chosen backend has no slot for it, or others were there first. Only what writes takes a slot."""
    if decision.short_of_power:
        return True
    one = decision.scored[0][1]
    if not one.spec.held or request.embed:
        return False
    return one.full or len(queue) > 0


def make_waiting(job: Job, given: Inputs, reuse: Reuse | None) -> Waiting:
    """Its place in the queue, as decided on `given`."""
    request, _, _, tried, given_up, substitute = given
    call = job.call
    waiting = Waiting(job, request, call.arrived_s, call.caller.name, tried)
    waiting.given_up, waiting.substitute = given_up, substitute
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
