"""The latency limit: who keeps it as surely as is asked, and what becomes of a request for whom nobody does."""

from __future__ import annotations

import math

import msgspec

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.decision import Limit, Policy, Refusal, RefusalKind, Rejection, RoutingRequest, Scored
from ollama_proxy.domain.device import Wait
from ollama_proxy.domain.lengths import Lengths, make_typical_lengths
from ollama_proxy.routing.chance import first_token_chance, last_token_chance
from ollama_proxy.routing.prospect import Prospect

#: With less of a chance than this a limit is lost.
HOPELESS = 0.05


def chance_of(
    request: RoutingRequest, one: Prospect, policy: Policy, wait: Wait | None, wait_s: float, prefill_s: float
) -> float:
    """P(the limit is kept)."""
    wishes = request.annotations
    limit_s = wishes.max_latency_ms / 1000 - request.spent_s
    return _chance_within(limit_s, request, one, policy, (wait_s, wait.var_s2 if wait is not None else 0.0), prefill_s)


def _chance_within(
    limit_s: float,
    request: RoutingRequest,
    one: Prospect,
    policy: Policy,
    wait: tuple[float, float],
    prefill_s: float,
) -> float:
    """P(it ends, or begins, within `limit_s` from now)."""
    wait_s, var_s2 = wait
    ttft_s = one.load_s + prefill_s
    if request.embed or (request.annotations.latency_metric or policy.metric) == "ttft":
        return first_token_chance(limit_s, wait_s, var_s2, ttft_s, one.ttft_var)
    lengths: Lengths = request.lengths or make_typical_lengths()
    return last_token_chance(
        limit_s,
        wait_s,
        var_s2,
        ttft_s,
        one.ttft_var,
        one.s_per_output_token * one.crowding,
        one.decode_var,
        lengths,
        request.max_tokens,
    )


def keep_limit(scored: list[Scored], request: RoutingRequest, policy: Policy) -> tuple[list[Scored], list[Scored]]:
    """Those that keep the latency limit as surely as asked, and those that do not.

    If nobody does and a best effort is wanted, all are kept, the best chance first. Where the request does not say so
    itself, those are left out whose first token alone is too late: for one that has just come the wait counts, so that
    an overload is told at once and not after it; one that has waited is served. A request whose chances are all but
    none is not to take a fast device's time from those that can still be served in time: it goes where it costs least.
    """
    wishes = request.annotations
    wanted = wishes.latency_probability or policy.probability
    kept = [one for one in scored if _chance(one) >= wanted]
    if kept or infeasible(wishes, policy) != "best_effort":
        return kept, [one for one in scored if _chance(one) < wanted]
    if wishes.on_infeasible:
        # It says itself that late is better than not at all.
        return sorted(scored, key=_least_chance_last), []
    limit_s, waits = wishes.max_latency_ms / 1000, not request.spent_s
    late: list[Scored] = []
    for one in scored:
        first_s = one[1].load_s + one[3] + (one[2] if waits else 0.0)
        (kept if first_s <= limit_s else late).append(one)
    if max(map(_chance, kept), default=0.0) >= HOPELESS:
        kept.sort(key=_least_chance_last)
    return kept, late


def infeasible(wishes: Annotations, policy: Policy) -> str:
    """What to do when nobody keeps the latency limit. Other rules promise nothing, but obey an order to reject."""
    return wishes.on_infeasible or policy.on_infeasible


def _chance(scored: Scored) -> float:
    return scored[6] or 0.0


def _least_chance_last(scored: Scored) -> tuple[float, float, str]:
    return -round(_chance(scored), 9), scored[0], scored[1].backend


def tell_too_late(scored: Scored, request: RoutingRequest, policy: Policy) -> Rejection:
    """The latency limit, which a candidate does not keep as surely as is asked."""
    wishes = request.annotations
    what = "first" if request.embed or (wishes.latency_metric or policy.metric) == "ttft" else "last"
    wanted = wishes.latency_probability or policy.probability
    within = f"the {what} token comes within {wishes.max_latency_ms} ms with probability {scored[6] or 0:.2f}"
    return Rejection(scored[1].backend, Limit.LATENCY, f"{within}, asked {wanted:g}")


def tell_feasible(refusal: Refusal, late: list[Scored], request: RoutingRequest, policy: Policy) -> Refusal:
    """The refusal with the nearest latency limit that would be kept, and whether waiting helps.

    Where only the queue is in the way the request may come again: `retry_after_s` says when.
    """
    wanted = request.annotations.latency_probability or policy.probability
    limit_s = request.annotations.max_latency_ms / 1000 - request.spent_s
    nearest_s = min(_least_limit(one, request, policy, wanted) for one in late)
    told = f"{refusal.message}; the least limit that is kept now is about {math.ceil(nearest_s * 10) * 100} ms"
    later = [one[2] for one in late if one[2] and _would_do(one, limit_s, request, policy)]
    kind = RefusalKind.BUSY if later else refusal.kind
    return msgspec.structs.replace(refusal, kind=kind, message=told, retry_after_s=min(later, default=0.0))


def _would_do(one: Scored, limit_s: float, request: RoutingRequest, policy: Policy) -> bool:
    """Whether a candidate would be taken if nobody were before it."""
    if infeasible(request.annotations, policy) == "best_effort":
        return bool(one[1].load_s + one[3] <= limit_s)
    wanted = request.annotations.latency_probability or policy.probability
    return _chance_within(limit_s, request, one[1], policy, (0.0, 0.0), one[3]) >= wanted


def _least_limit(one: Scored, request: RoutingRequest, policy: Policy, wanted: float) -> float:
    """Seconds within which a candidate keeps a limit as surely as is wanted, to a per cent."""
    low, high = 0.0, one[2] + one[1].load_s + one[3] + one[4] + 0.1
    for _ in range(40):
        if _chance_within(high, request, one[1], policy, (one[2], 0.0), one[3]) >= wanted:
            break
        low, high = high, high * 2
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        if _chance_within(middle, request, one[1], policy, (one[2], 0.0), one[3]) >= wanted:
            high = middle
        else:
            low = middle
    return float(high)
