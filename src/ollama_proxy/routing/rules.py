"""Other ways to compare candidates than by predicted cost: what the field does, to be measured against and to choose.

A rule turns one candidate into a number, the least of which wins. It sees the prospect of the backend, the request, and
what `decide` predicted. The static rules are the formula of the Go program this one replaces, with its flags as shipped
and as documented; they know configured averages only.
"""

from __future__ import annotations

from collections.abc import Callable

from ollama_proxy.domain.decision import RoutingRequest, Scored

Rule = Callable[[Scored, RoutingRequest], float]

#: Rules that send a request on at once, for the backend to queue it; the others hold it until there is a slot.
EARLY = frozenset(
    (
        "round-robin",
        "least-connections",
        "static-shipped",
        "static-documented",
        "fastest",
        "greenest",
        "shortest-expected-delay",
    )
)


def _count_connections(scored: Scored, request: RoutingRequest) -> float:
    return float(scored[1].load)


def _time_of_service(scored: Scored, request: RoutingRequest) -> float:
    return float(scored[1].load_s + scored[3] + scored[4])


def _energy(scored: Scored, request: RoutingRequest) -> float:
    return scored[5]


def _time_to_end(scored: Scored, request: RoutingRequest) -> float:
    return float(scored[2] + scored[1].load_s + scored[3] + scored[4])


def _static_score(scored: Scored, request: RoutingRequest, *, latency: bool, power: bool) -> float:
    """Minus the score: 10 priority + 2 (1000 - ms) and 1.5 (1000 - 10 W) by wish or flag, without a wish half of each
    more, - 50 for each request that is there."""
    spec, load = scored[1].spec, scored[1].load
    wishes = request.annotations
    quick, frugal = 1000 - spec.avg_latency_ms, 1000 - 10 * spec.power_watts
    score = 10 * spec.priority - 50 * load
    if wishes.latency_critical or latency:
        score += 2 * quick
    if wishes.prefer_power_efficiency or power:
        score += 1.5 * frugal
    if not (wishes.latency_critical or wishes.prefer_power_efficiency):
        score += (quick + frugal) / 2
    return -float(score)


def _static_shipped(scored: Scored, request: RoutingRequest) -> float:
    return _static_score(scored, request, latency=True, power=True)


def _static_documented(scored: Scored, request: RoutingRequest) -> float:
    return _static_score(scored, request, latency=False, power=False)


#: By name; `predictive` is `decide`'s own, `round-robin` its rotation.
RULES: dict[str, Rule] = {
    "least-connections": _count_connections,
    "static-shipped": _static_shipped,
    "static-documented": _static_documented,
    "fastest": _time_of_service,
    "greenest": _energy,
    "shortest-expected-delay": _time_to_end,
}
POLICY_RULES = ("predictive", "round-robin", *RULES)
