"""What is asked of the fleet for one request, and what is decided: as it is, for less, behind a stream that was cut.

Functions of the fleet as it is now; they change nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ollama_proxy.app.requests.continuing import Cut
from ollama_proxy.domain.call import Call, Need, Operation
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.decision import Decision, Refusal, RoutingRequest
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.lifecycle.continuation import why_not
from ollama_proxy.lifecycle.life import Life, State
from ollama_proxy.net.bodies.members import find_uncarried
from ollama_proxy.routing.concession import give_way
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.record import Inputs, decide_again

if TYPE_CHECKING:
    from ollama_proxy.app.requests.dispatch import Dispatcher

#: Those that write token by token, and so take a slot.
_WRITTEN = frozenset((Operation.GENERATE, Operation.CHAT, Operation.COMPLETE, Operation.PASS))


def describe_request(owner: Dispatcher, call: Call) -> RoutingRequest:
    """What routing has to know of a call that has just come."""
    model = canonical_model(call.model)
    return RoutingRequest(
        model,
        call.model,
        call.needs | call.wants if call.wants else call.needs,
        call.annotations,
        owner.prompts.expect(model, call.prompt_bytes),
        call.max_tokens,
        call.operation not in _WRITTEN,
        owner.lengths.expect(model, call.way_in, call.caller.name),
        serial=owner.take_serial(),
        allowed=call.caller.backends,
    )


def decide_now(
    owner: Dispatcher, call: Call, request: RoutingRequest, life: Life, cut: Cut | None
) -> tuple[Decision | Refusal, Inputs]:
    """Decide on the fleet of this moment; the verdict, and what it was given. `cut` is what others have sent."""
    now_s, policy, tried = owner.clock(), owner.policy, life.tried
    if request.annotations.max_latency_ms and life.attempts:
        request = msgspec.structs.replace(request, spent_s=now_s - call.arrived_s)
    view = owner.fleet_state.view_at(now_s)
    if cut is None:
        return decide(request, view, policy, tried), (request, view, policy, tried, "", False)
    given = (request, view, policy, tried, cut.told, cut.substitute)
    return decide_again(given), given


def decide_on_less(
    owner: Dispatcher, call: Call, request: RoutingRequest, life: Life
) -> tuple[Decision, Inputs] | None:
    """The decision when nobody can take the request as it is: less than it wants, then another model."""
    if not call.wants and not owner.substitutes:
        return None
    may_use = call.caller.may_use
    substitutes = [one for one in owner.substitutes.get(request.model, ()) if may_use(one)]
    for lesser, remark in give_way(call, request, substitutes):
        view = owner.fleet_state.view_at(owner.clock())
        given = (lesser, view, owner.policy, life.tried, remark, lesser.model != request.model)
        verdict = decide_again(given)
        if not isinstance(verdict, Refusal):
            return verdict, given
    return None


def could_another(
    owner: Dispatcher, request: RoutingRequest, life: Life, whole: Call, cut: Cut | None, now_s: float
) -> bool:
    """Whether somebody else could take a request that is under way, `whole` before any cut: else nobody is given up."""
    if not life.may_try:
        return False
    if life.state is State.STREAMING:
        if not owner.continues or why_not(whole, None if cut is None else cut.sent):
            return False
        if find_uncarried(whole) if cut is None else cut.why_uncarried():
            return False
        request = msgspec.structs.replace(request, needs=request.needs | {Need.CONTINUATION})
    return could_take(owner, request, life.tried, now_s)


def could_take(owner: Dispatcher, request: RoutingRequest, tried: frozenset[str], now_s: float) -> bool:
    """Whether somebody could who was not tried, without standing in for the model."""
    verdict = decide(request, owner.fleet_state.view_at(now_s), owner.policy, tried)
    return isinstance(verdict, Decision) and not verdict.stand_in


def hide_others(refusal: Refusal, caller: Caller, request: RoutingRequest) -> Refusal:
    """The refusal as its caller may read it: names that resemble one may be of models that are not there for it."""
    if not refusal.nearest or not caller.models:
        return refusal
    told = f"model '{request.requested_model[:100]}' not found"
    return msgspec.structs.replace(refusal, message=told, nearest=())
