"""Decisions in words: the one-clause reason of a choice, and the sentence of a refusal."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from ollama_proxy.domain.annotations import NO_ANNOTATIONS
from ollama_proxy.domain.decision import (
    Limit,
    Policy,
    Refusal,
    RefusalKind,
    Rejection,
    RoutingRequest,
    Scored,
)
from ollama_proxy.domain.device import FleetView
from ollama_proxy.routing.affinity import count_held, has_stayed
from ollama_proxy.routing.deadline import HOPELESS
from ollama_proxy.routing.limits import check_power, draw_of_others
from ollama_proxy.routing.patience import end_of, find_slow, is_bounded
from ollama_proxy.routing.ranking import LargeRanking, first_ms_of

_MAX_REASON_CHARS = 200
#: Limits that say nothing against the request.
_DOWN = (Limit.UNHEALTHY, Limit.TRIED, Limit.KEPT_OUT)
_MAX_NAME_CHARS = 100


def explain_choice(
    request: RoutingRequest,
    scored: Sequence[Scored],
    target_lost: str,
    lambda_watts: float,
    stand_in: str,
    policy: Policy,
) -> str:
    """Why the first of the ranking was chosen, true to the numbers that were compared.

    `stand_in` is the whole clause when the winner answers with another model than the one asked for.
    """
    if stand_in:
        clause = stand_in
    elif request.annotations.target and not target_lost:
        clause = f"target {request.annotations.target}" + (f", best of {len(scored)}" if len(scored) > 1 else "")
    elif policy.rule != "predictive":
        clause = f"first by the rule {policy.rule} among {len(scored)}"
    else:
        clause = _explain_cost(request, scored, lambda_watts, policy)
        if request.held:
            clause = _tell_held(clause, request, scored, policy)
        if not target_lost:
            return clause  # nobody's words but ours
    return _printable(f"{target_lost}; {clause}" if target_lost else clause)


def _explain_cost(request: RoutingRequest, scored: Sequence[Scored], lambda_watts: float, policy: Policy) -> str:
    cost_j, device, wait_s, prefill_s, decode_s, joules, chance = scored[0]
    wishes = request.annotations
    if wishes is NO_ANNOTATIONS:
        return f"lowest cost ({cost_j:.1f} J with seconds at {lambda_watts:g} W) among {len(scored)}"
    among = _among(request, len(scored))
    if chance is not None and chance < (wishes.latency_probability or policy.probability):
        return _explain_lateness(wishes.max_latency_ms, scored, lambda_watts)
    if wishes.latency_critical:
        both = "latency before power efficiency: " if wishes.prefer_power_efficiency else ""
        first_ms = first_ms_of(scored[0])
        if _begins_soonest(scored):
            return f"{both}lowest predicted latency ({first_ms} ms) {among}"
        end_s = wait_s + device.load_s + prefill_s + decode_s
        return f"{both}soonest predicted end ({end_s:.1f} s) at {lambda_watts:g} J a second {among}"
    if is_bounded(wishes, policy):
        ends_s = [end_of(one) for one in scored]
        quick = find_slow(ends_s, policy.efficient_patience).count(False)
        if quick < len(scored):
            scored = scored[:quick]
            soonest = f"{policy.efficient_patience:g} times the soonest ({min(ends_s):.1f} s)"
            among = f"{_among(request, quick)} that end within {soonest}"
    frugal = chance is not None or wishes.prefer_power_efficiency
    if frugal and all(joules <= other[5] for other in scored):
        return f"fewest predicted joules ({joules:.1f} J) {among}"
    return f"lowest cost ({cost_j:.1f} J with seconds at {lambda_watts:g} W) {among}"


def _tell_held(clause: str, request: RoutingRequest, scored: Sequence[Scored], policy: Policy) -> str:
    """The clause with what the winner holds of the prompt, and with the fact that it won by that alone."""
    held = round(count_held(request, scored[0][1]))
    if not held:
        return clause
    if has_stayed(scored, request, policy):
        return f"stays where {held} tokens of its prompt are held: to go would save less than they are worth"
    return f"{clause}; {held} tokens of its prompt are held there"


def _explain_lateness(limit_ms: int, scored: Sequence[Scored], lambda_watts: float) -> str:
    """Why it was chosen although nobody keeps the latency limit as surely as is asked."""
    cost_j, *_, chance = scored[0]
    if chance is not None and chance >= HOPELESS:
        return f"best chance ({chance:.0%}) to keep {limit_ms} ms, which nobody does surely, of {len(scored)}"
    cost = f"lowest cost ({cost_j:.1f} J with seconds at {lambda_watts:g} W)"
    return f"{limit_ms} ms cannot be kept any more: {cost} of {len(scored)}"


def _begins_soonest(scored: Sequence[Scored]) -> bool:
    if isinstance(scored, LargeRanking):
        return scored.begins_soonest()
    first_ms = first_ms_of(scored[0])
    return all(first_ms <= first_ms_of(other) for other in scored)


def _among(request: RoutingRequest, count: int) -> str:
    limits = []
    if request.annotations.max_power_watts:
        limits.append(f"{request.annotations.max_power_watts:g} W")
    if request.annotations.max_latency_ms:
        limits.append(f"{request.annotations.max_latency_ms} ms")
    return f"among {count}" + (f" within {' and '.join(limits)}" if limits else "")


def _printable(text: str) -> str:
    """One line of printable ASCII: the reason goes into a header."""
    plain = text.isascii() and text.isprintable()
    clean = text if plain else "".join(char if " " <= char <= "~" else "?" for char in text)
    return clean if len(clean) <= _MAX_REASON_CHARS else clean[: _MAX_REASON_CHARS - 3] + "..."


def add_clause(reason: str, clause: str) -> str:
    """A reason with one more clause, shortened where it gets too long for a header."""
    room = _MAX_REASON_CHARS - len(clause)
    return (reason if len(reason) <= room else reason[: room - 3] + "...") + clause


def refuse_unknown_target(target: str, fleet: FleetView) -> Refusal:
    """The refusal of a target that nothing is called by; it lists what is."""
    ids = ", ".join(view.spec.id for view in fleet.backends)
    words = ", ".join(dict.fromkeys(view.spec.hardware for view in fleet.backends))
    message = f"unknown target {target[:60]!r}; known backends: {ids}; hardware words: {words}"
    return Refusal(RefusalKind.UNKNOWN_TARGET, message, (), fleet.version)


def explain_refusal(
    request: RoutingRequest, fleet: FleetView, rejections: tuple[Rejection, ...], whole: FleetView, *, targeted: bool
) -> Refusal:
    """Why nobody is left, in the most telling of the three ways.

    `whole` is the fleet with those that are not there for the caller.
    """
    order = {view.spec.id: place for place, view in enumerate(fleet.backends)}
    told = sorted(rejections, key=lambda rejection: order.get(rejection.backend, len(order)))
    if all(rejection.limit in _DOWN for rejection in told):
        listed = "; ".join(f"{rejection.backend}: {rejection.detail}" for rejection in told) or "none is configured"
        return Refusal(
            RefusalKind.NO_HEALTHY,
            f"No healthy backends available: {listed}",
            rejections,
            fleet.version,
            retry_after_s=_least_wait(fleet, told),
        )
    if any(_is_kept_out_alone(rejection, request, fleet) for rejection in told):
        # It passes, and is not the request's fault.
        listed = "; ".join(f"{rejection.backend}: {rejection.detail}" for rejection in told)
        message = f"no backend that could take this request does at the moment: {listed}"
        wait_s = _least_wait(fleet, told)
        return Refusal(RefusalKind.NO_HEALTHY, message, rejections, fleet.version, retry_after_s=wait_s)
    able = [rejection for rejection in told if rejection.limit not in (*_DOWN, Limit.NOT_TARGET)]
    if able and all(rejection.limit is Limit.MODEL_MISSING for rejection in able) and not targeted:
        return _refuse_unknown_model(request, fleet, rejections)
    listed = "; ".join(f"{rejection.backend}: {rejection.detail}" for rejection in told)
    message = f"no backend can take this request within its limits: {listed}{_tell_least_power(told, fleet, whole)}"
    if all(rejection.limit is not Limit.POWER_NOW for rejection in told):
        return Refusal(RefusalKind.LIMITS, message, rejections, fleet.version)
    # What others draw they draw no longer once they are done.
    done_s = min((wait.mean_s for wait in whole.waits if wait is not None), default=0.0)
    return Refusal(RefusalKind.BUSY, message, rejections, fleet.version, retry_after_s=done_s)


def _is_kept_out_alone(rejection: Rejection, request: RoutingRequest, fleet: FleetView) -> bool:
    """Whether a backend would do, as far as what it is goes, if it had not failed others of late.

    Model and abilities were looked at before.
    """
    if rejection.limit is not Limit.KEPT_OUT:
        return False
    view = next(one for one in fleet.backends if one.spec.id == rejection.backend)
    return check_power(view.spec, request.annotations.max_power_watts) is None


def _least_wait(fleet: FleetView, told: Sequence[Rejection]) -> float:
    """Seconds until the first of those that are kept out is tried again; 0.0 where nobody is."""
    kept = {rejection.backend for rejection in told if rejection.limit is Limit.KEPT_OUT}
    waits = [one.wait_s for view in fleet.backends if view.spec.id in kept for one in view.kept_out.values()]
    return max(1.0, min(waits)) if waits else 0.0


def _tell_least_power(told: Sequence[Rejection], fleet: FleetView, whole: FleetView) -> str:
    """The nearest power limit that would be kept, where one is in the way and the draws are known."""
    views = {view.spec.id: view for view in fleet.backends}
    over = [(views[one.backend], one.limit) for one in told if one.limit in (Limit.POWER, Limit.POWER_NOW)]
    least_w = [
        view.spec.power_watts + (draw_of_others(view, whole) if limit is Limit.POWER_NOW else 0.0)
        for view, limit in over
        if view.spec.power_watts
    ]
    return f"; the least power limit that is kept is {min(least_w):g} W" if least_w else ""


def _refuse_unknown_model(request: RoutingRequest, fleet: FleetView, rejections: tuple[Rejection, ...]) -> Refusal:
    """The refusal of a model that nobody has; it tells what is called nearly so."""
    known = sorted(
        {facts.name for view in fleet.backends if view.health.serves for facts in (view.models or {}).values()}
    )
    wanted = request.requested_model[:_MAX_NAME_CHARS]
    near = tuple(difflib.get_close_matches(wanted, known, n=3, cutoff=0.5))
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    message = f"model '{wanted}' not found on any healthy backend{hint}"
    return Refusal(RefusalKind.MODEL_NOWHERE, message, rejections, fleet.version, near)
