"""The decision, a pure function: limits, predictions, cost, ranking, explanation.

The cost of a candidate depends on nothing but itself and what is told of those that run beside it, and the order is
total; so the order in which backends come does not matter, and removing a loser never changes the winner (what runs
there goes on). A backend that nobody runs beside and that gets better never falls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import itemgetter, sub
from typing import Any

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations
from ollama_proxy.domain.decision import Decision, Limit, Policy, Refusal, Rejection, RoutingRequest, Scored
from ollama_proxy.domain.device import BackendView, FleetView
from ollama_proxy.domain.lengths import make_typical_lengths
from ollama_proxy.routing.affinity import count_held, stay_at_home
from ollama_proxy.routing.deadline import chance_of, infeasible, keep_limit, tell_feasible, tell_too_late
from ollama_proxy.routing.explanation import add_clause, explain_choice, explain_refusal, refuse_unknown_target
from ollama_proxy.routing.heat import stand_hot
from ollama_proxy.routing.limits import (
    check_limits,
    check_power_set,
    check_system_power,
)
from ollama_proxy.routing.neighbours import stand_beside
from ollama_proxy.routing.patience import is_bounded, put_slow_last
from ollama_proxy.routing.power_room import FOR_ANOTHER_SET, FOR_OTHERS, NOW, Room
from ollama_proxy.routing.prompt_limits import check_prompt
from ollama_proxy.routing.prospect import Prospect, Tail, look_ahead, subject_of
from ollama_proxy.routing.ranking import is_free, rank_large
from ollama_proxy.routing.rules import RULES
from ollama_proxy.routing.target import FREE, NOBODY, check_stand_in, explain_stand_in, read_target

#: Where more backends than these can be chosen freely, arrays find the best of them (`routing.many`).
MOST_LOOPED = 64
#: Costs further apart than this (joules) differ after rounding too.
_SAME_J = 2e-6
_SHORT = "; waits for room under the power cap"
_ANYWAY = "; the prompt seems too long for it, but nobody else is left"
_cost_of = itemgetter(0)


def decide(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str] = NOBODY
) -> Decision | Refusal:
    """Choose a backend for a request, or say why there is none. Reads its arguments only."""
    wishes = request.annotations
    # What a power limit of the system counts is all that runs, whoever may be chosen.
    whole = fleet
    if request.allowed is not None:
        fleet = keep_allowed(fleet, request.allowed)
    target = read_target(wishes.target, request.model, fleet, tried) if wishes.target else FREE
    if target is None:
        return refuse_unknown_target(wishes.target, fleet)
    lambda_watts, answer_tokens = price_of_seconds(wishes, policy), expect_tokens(request)
    if len(fleet.backends) > MOST_LOOPED and not (tried or fleet.beside or request.held) and is_free(wishes, policy):
        loop = partial(_score, request, whole, policy, NOBODY, NOBODY, lambda_watts, answer_tokens)
        large = rank_large(request, fleet, policy, loop, answer_tokens, lambda_watts)
        if large is not None:
            reason = explain_choice(request, large, "", lambda_watts, "", policy)
            return Decision(large, large.tell_rejections, reason, policy.name, fleet.version, large[0][1].model)
    power_set = policy.power_set
    room = Room(power_set, fleet, whole) if power_set is not None and power_set.cap_watts else None
    score = partial(_score, request, whole, policy, tried, target.wanted, lambda_watts, answer_tokens)
    scored, rejections = score(fleet, room)
    anyway = False
    if not scored and rejections:
        scored, rejections, anyway = _look_further(score, fleet, room, rejections)
    short = room is not None and room.patience > NOW
    late: list[Scored] = []
    if scored and wishes.max_latency_ms and (policy.rule == "predictive" or infeasible(wishes, policy) == "reject"):
        scored, late = keep_limit(scored, request, policy)
        rejections.extend([tell_too_late(one, request, policy) for one in late])
    if request.held and policy.rule == "predictive" and not wishes.max_latency_ms:
        scored = stay_at_home(scored, request, lambda_watts)
    if wishes.prefer_power_efficiency and is_bounded(wishes, policy):
        scored = put_slow_last(scored, policy.efficient_patience)
    if len(rejections) > 1:
        rejections.sort(key=_backend_of)
    if not scored:
        refusal = explain_refusal(request, fleet, tuple(rejections), whole, targeted=bool(target.wanted))
        if room is not None:
            refusal = room.tell_least(refusal)
        return tell_feasible(refusal, late, request, policy) if late else refusal
    best: Prospect = scored[0][1]
    stand_in = explain_stand_in(best.backend, request, fleet, tried) if best.stands_in else ""
    reason = explain_choice(request, scored, target.lost, lambda_watts, stand_in, policy)
    if short or anyway:
        reason = add_clause(reason, (_SHORT if short else "") + (_ANYWAY if anyway else ""))
    return Decision(
        scored,
        tuple(rejections),
        reason,
        policy.name,
        fleet.version,
        best.model,
        best.stands_in,
        short,
    )


def keep_allowed(fleet: FleetView, allowed: frozenset[str]) -> FleetView:
    """The fleet as it is for a caller who may use some backends only: there are no others to choose from, to be meant
    or to be told of."""
    places = [place for place, view in enumerate(fleet.backends) if view.spec.id in allowed]
    return FleetView(
        fleet.version,
        tuple([fleet.backends[place] for place in places]),
        tuple([fleet.waits[place] for place in places]) if fleet.waits else (),
        beside=tuple([fleet.beside[place] for place in places]) if fleet.beside else (),
    )


def _score(
    request: RoutingRequest,
    whole: FleetView,
    policy: Policy,
    tried: frozenset[str],
    wanted: frozenset[str],
    lambda_watts: float,
    answer_tokens: float,
    fleet: FleetView,
    room: Room | None = None,
    *,
    anyway: bool = False,
) -> tuple[list[Scored], list[Rejection]]:
    """Those that pass all limits but the latency's, best first, and why the others do not.

    `whole` is the fleet with those that are not there for the caller. `anyway` is without what is known of the lengths
    of prompts.
    """
    wishes = request.annotations
    # Nearly every request leaves the choice free; then a backend that is fit needs no further look.
    free = not (tried or wanted or wishes.max_power_watts or policy.power_set is not None)
    subject = subject_of(request)
    prompt_tokens = request.prompt_tokens
    timed = wishes.max_latency_ms
    waits, beside, held = fleet.waits, fleet.beside, request.held
    rejections: list[Rejection] = []
    scored: list[Scored] = []
    for place, view in enumerate(fleet.backends):
        remembered: dict[Any, Prospect] = view.__dict__
        one = remembered.get(subject) or look_ahead(view, request, subject)
        if one.policy is not policy:
            one.stand_under(policy)
        if not (free and one.easy):
            rejection = _check(view, one, request, fleet, whole, policy, tried, wanted, anyway=anyway)
            if room is not None:
                rejection = room.judge(view, one, request, rejection)
            if rejection is not None:
                rejections.append(rejection)
                continue
        if held:
            prompt_tokens = request.prompt_tokens - count_held(request, one)
        prefill_s = one.overhead_s + prompt_tokens * one.s_per_prompt_token
        decode_s = answer_tokens * one.s_per_output_token
        # Waiting costs no energy here: the device works for somebody else meanwhile.
        each_j = one.fixed_j + prompt_tokens * one.prompt_token_j + answer_tokens * one.output_token_j
        joules = one.load_joules + each_j * one.busy_share
        decode_s *= one.crowding
        wait = waits[place] if waits else None
        if beside and beside[place]:
            one, decode_s = stand_beside(one, beside[place], wait, prefill_s, decode_s)
            joules = one.expect_joules(prompt_tokens, answer_tokens)
        if one.heat is not None:
            waited_s = wait.mean_s if wait is not None else 0.0
            one, prefill_s, decode_s = stand_hot(one, one.heat, waited_s, prefill_s, decode_s)
        service_s = one.load_s + prefill_s + decode_s
        # Who is full and has nobody who keeps count is taken to be full of requests like this one.
        wait_s = wait.mean_s if wait is not None else one.turns_ahead * service_s
        chance = chance_of(request, one, policy, wait, wait_s, prefill_s) if timed else None
        cost_j = joules + lambda_watts * (wait_s + service_s) + one.burden_j
        scored.append((cost_j, one, wait_s, prefill_s, decode_s, joules, chance))
    if policy.rule != "predictive":
        return _rank_by_rule(scored, request, policy), rejections
    _sort(scored)
    return scored, rejections


#: `_score` of one request.
_Score = Callable[..., tuple[list[Scored], list[Rejection]]]


def _look_further(
    score: _Score, fleet: FleetView, room: Room | None, rejections: list[Rejection]
) -> tuple[list[Scored], list[Rejection], bool]:
    """As `_score`, where nobody passed at first; and whether the prompt may be too long for them.

    Lengths are estimates: where they leave nobody they are put to the test.
    """
    scored, rejections = _wait_for_power(score, room, rejections)
    if scored or all(one.limit is not Limit.PROMPT_LENGTH for one in rejections):
        return scored, rejections, False
    bold = partial(score, anyway=True)
    if room is not None:
        room.patience = NOW
    scored, rejections = bold(fleet, room)
    if not scored:
        scored, rejections = _wait_for_power(bold, room, rejections)
    return scored, rejections, True


def _wait_for_power(
    score: _Score, room: Room | None, rejections: list[Rejection]
) -> tuple[list[Scored], list[Rejection]]:
    """As `_score`, where the power cap lets nobody begin now: who may when others have ended, else with another set."""
    if room is None or all(one.limit is not Limit.SYSTEM_POWER for one in rejections):
        return [], rejections
    room.patience = FOR_OTHERS
    scored, rejections = score(room.forecast(), room)
    if not scored:
        room.patience = FOR_ANOTHER_SET
        scored, rejections = score(room.forecast(), room)
    return scored, rejections


def _sort(scored: list[Scored]) -> None:
    """Best first by the cost to the millionth; the tie-breakers are reckoned only where there is a tie.

    Rounding takes longer than the sum that is rounded, so it is left to costs that it could make equal.
    """
    scored.sort(key=_cost_of)
    costs_j = list(map(_cost_of, scored))
    close = [gap_j for gap_j in map(sub, costs_j[1:], costs_j) if gap_j < _SAME_J]
    if close:
        if any(close):
            scored[:] = [(round(one[0], 6), *one[1:]) for one in scored]
        scored.sort(key=_cost_and_tail_of)


def _cost_and_tail_of(scored: Scored) -> tuple[float, Tail]:
    one: Prospect = scored[1]
    return scored[0], one.tail or one.reckon_tail()


def _rank_by_rule(scored: list[Scored], request: RoutingRequest, policy: Policy) -> list[Scored]:
    """Best first by another rule than the predicted cost."""
    rule = RULES.get(policy.rule)
    if rule is not None:
        return sorted(scored, key=lambda one: (rule(one, request), one[1].backend))
    in_turn = sorted(scored, key=_id_of)
    turn = request.serial % len(in_turn) if in_turn else 0
    return in_turn[turn:] + in_turn[:turn]


def expect_tokens(request: RoutingRequest) -> float:
    """How many tokens an answer is reckoned with."""
    if request.embed:
        return 0.0
    lengths = request.lengths or make_typical_lengths()
    return lengths.mean(request.max_tokens)


def _id_of(scored: Scored) -> str:
    backend: str = scored[1].backend
    return backend


def _backend_of(rejection: Rejection) -> str:
    return rejection.backend


# -- the other limits ------------------------------------------------------------


def _check(
    view: BackendView,
    one: Prospect,
    request: RoutingRequest,
    fleet: FleetView,
    whole: FleetView,
    policy: Policy,
    tried: frozenset[str],
    wanted: frozenset[str],
    *,
    anyway: bool,
) -> Rejection | None:
    """The first limit that a backend fails."""
    if view.spec.id in tried or (wanted and view.spec.id not in wanted):
        rejection = check_limits(view, request, tried, wanted)
    else:
        rejection = one.check(request.annotations.max_power_watts)
    if rejection is None and one.prompt_limits is not None and not anyway:
        rejection = check_prompt(view.spec.id, one.prompt_limits, request)
    if rejection is None and request.annotations.power_scope == "system":
        rejection = check_system_power(view, whole, request.annotations.max_power_watts)
    if rejection is None and policy.power_set is not None:
        rejection = check_power_set(
            view.spec,
            one.overhead_s + (request.prompt_tokens - count_held(request, one)) * one.s_per_prompt_token,
            policy.power_set,
        )
    if rejection is None and one.stands_in:
        rejection = check_stand_in(view, request, fleet, tried, wanted)
    return rejection


def price_of_seconds(annotations: Annotations, policy: Policy) -> float:
    """Lambda in watts. With both wishes at once, latency wins; the power limit stays a limit either way."""
    if annotations is NO_ANNOTATIONS:
        return policy.lambda_watts
    if annotations.latency_critical:
        return policy.critical_watts
    if annotations.prefer_power_efficiency:
        return policy.efficient_watts
    return policy.deadline_watts if annotations.max_latency_ms else policy.lambda_watts
