"""More of what holds of every decision: stand-ins, patterns, targets, latency, unknown lists, words."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Limit, Policy, Refusal, RefusalKind, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts, Rates
from ollama_proxy.domain.names import matches_pattern
from ollama_proxy.routing.decide import decide

MODELS = ("m:1b", "m:7b", "own:1b")
IDS = ("a", "b", "c", "d", "npu")
NOT_CHECKED = (Limit.TRIED, Limit.UNHEALTHY, Limit.NOT_TARGET, Limit.STAND_IN)
patterns = st.lists(st.sampled_from(("*", "*:1b", "*:7b", "m:1b", "M:7B", "own*")), max_size=2, unique=True).map(tuple)


@st.composite
def fleets(draw: st.DrawFn) -> FleetView:
    views = []
    for name in draw(st.lists(st.sampled_from(IDS), unique=True)):
        stands_in = draw(st.integers(0, 4)) == 0
        spec = BackendSpec(
            id=name,
            kind=draw(st.sampled_from(("ollama", "openai"))),
            name=name,
            hardware=draw(st.sampled_from(("npu", "igpu", "cpu"))),
            power_watts=draw(st.sampled_from((0.0, 3.0, 12.0, 55.0))),
            avg_latency_ms=draw(st.sampled_from((0.0, 100.0, 100.0, 900.0))),
            max_tokens_per_second=draw(st.sampled_from((0.0, 10.0, 10.0, 60.0))),
            priority=draw(st.integers(0, 2)),
            slots=draw(st.integers(1, 3)),
            max_model_size_gb=draw(st.sampled_from((0.0, 1.0))),
            supported_patterns=draw(patterns),
            excluded_patterns=draw(patterns),
            stand_in_model="own:1b" if stands_in else "",
        )
        held = ["own:1b"] if stands_in else draw(st.lists(st.sampled_from(MODELS), unique=True))
        sizes = {
            model: ModelFacts(model, size_bytes=draw(st.sampled_from((0, 4 * 10**8, 5 * 10**9)))) for model in held
        }
        rates = {
            model: Rates(draw(st.sampled_from((0.1, 1.0))), 300.0, 20.0, ttft_var=0.1)
            for model in held
            if draw(st.booleans())
        }
        views.append(
            BackendView(
                spec,
                draw(st.sampled_from((Health.HEALTHY, Health.HEALTHY, Health.DEGRADED, Health.UNHEALTHY))),
                message=draw(st.sampled_from(("", "connection refused"))),
                models=sizes if stands_in or draw(st.integers(0, 5)) else None,
                loaded=frozenset(draw(st.lists(st.sampled_from(MODELS), max_size=1))),
                in_flight=draw(st.integers(0, 3)),
                rates=rates,
                capabilities=draw(st.sampled_from((frozenset(Need), frozenset((Need.GENERATE,))))),
            )
        )
    return FleetView(3, tuple(views))


requests = st.builds(
    RoutingRequest,
    model=st.sampled_from(MODELS),
    requested_model=st.sampled_from(("m:1b", "Mod\u00e9l\n")),
    needs=st.sampled_from((frozenset((Need.GENERATE,)), frozenset((Need.EMBED,)))),
    annotations=st.builds(
        Annotations,
        target=st.sampled_from(("", "", "", "a", "NPU", "cpu", "nosuch")),
        latency_critical=st.booleans(),
        prefer_power_efficiency=st.booleans(),
        max_latency_ms=st.sampled_from((0, 0, 150, 5000)),
        max_power_watts=st.sampled_from((0.0, 0.0, 15.0)),
    ),
    max_tokens=st.sampled_from((0, 1, 50)),
    embed=st.booleans(),
)
policies = st.builds(
    Policy,
    lambda_watts=st.sampled_from((0.0, 1.0, 10.0)),
    default_backend=st.sampled_from(("", "b")),
    on_infeasible=st.sampled_from(("best_effort", "reject")),
)
cases = given(requests, fleets(), policies, st.frozensets(st.sampled_from(IDS), max_size=2))
many = settings(max_examples=200, deadline=None)


def ids(verdict: Decision | Refusal) -> list[str]:
    return [one.backend for one in verdict.ranking] if isinstance(verdict, Decision) else []


def holds(view: BackendView, model: str) -> bool:
    if view.models is None:
        return view.spec.kind == "openai"
    return model in view.models


def is_named(view: BackendView, word: str) -> bool:
    """A stand-in is nobody's hardware."""
    return word.lower() == view.id or (word.lower() == view.spec.hardware and not view.spec.stand_in_model)


def chance_of(view: BackendView, request: RoutingRequest, policy: Policy) -> float:
    """The chance that a backend has when nobody else is there and nothing is asked of it."""
    free = msgspec.structs.replace(request.annotations, target="", latency_probability=1e-300)
    lenient = msgspec.structs.replace(request, annotations=free)
    alone = decide(lenient, FleetView(3, (view,)), msgspec.structs.replace(policy, on_infeasible="best_effort"))
    # Any chance at all was asked for.
    return (alone.chosen.estimate.chance or 0.0) if isinstance(alone, Decision) else 0.0


@many
@cases
def test_everybody_is_ranked_or_rejected_exactly_once(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    verdict = decide(request, fleet, policy, tried)
    if isinstance(verdict, Refusal) and verdict.kind is RefusalKind.UNKNOWN_TARGET:
        assert not any(is_named(view, request.annotations.target) for view in fleet.backends)
        return
    seen = ids(verdict) + [one.backend for one in verdict.rejections]
    assert sorted(seen) == sorted(view.id for view in fleet.backends)
    assert verdict.fleet_version == 3


@many
@cases
def test_each_rejection_is_true(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    by_id = {view.id: view for view in fleet.backends}
    wishes = request.annotations
    for one in decide(request, fleet, policy, tried).rejections:
        view = by_id[one.backend]
        spec, models = view.spec, view.models or {}
        size = models[request.model].size_bytes if request.model in models else 0
        assert {
            Limit.TRIED: view.id in tried,
            Limit.UNHEALTHY: not view.health.serves,
            Limit.NOT_TARGET: not is_named(view, wishes.target),
            Limit.MODEL_MISSING: not holds(view, request.model),
            Limit.MODEL_EXCLUDED: bool(spec.excluded_patterns or spec.supported_patterns),
            Limit.MODEL_TOO_LARGE: 0 < spec.max_model_size_gb * 1e9 < size,
            Limit.CAPABILITY: not request.needs <= view.capabilities,
            Limit.POWER: spec.power_watts == 0 or spec.power_watts > wishes.max_power_watts > 0,
            Limit.LATENCY: wishes.max_latency_ms > 0
            and one.limit is Limit.LATENCY
            and chance_of(view, request, policy) < policy.probability + 1e-6,
            Limit.STAND_IN: bool(spec.stand_in_model) and any(holds(other, request.model) for other in fleet.backends),
        }[one.limit], one
        assert one.detail


@many
@cases
def test_patterns_sizes_and_latency_hold_on_every_attempt(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    by_id = {view.id: view for view in fleet.backends}
    for name in ids(decide(request, fleet, policy, tried)):
        view = by_id[name]
        spec = view.spec
        if request.annotations.max_latency_ms and policy.on_infeasible == "reject":
            assert chance_of(view, request, policy) >= policy.probability - 1e-6
        if spec.stand_in_model:
            continue
        assert holds(view, request.model)
        listed = request.model in [pattern.lower() for pattern in spec.supported_patterns if "*" not in pattern]
        excluded = any(matches_pattern(request.model, pattern) for pattern in spec.excluded_patterns)
        assert listed or not excluded
        assert not spec.supported_patterns or any(
            matches_pattern(request.model, pattern) for pattern in spec.supported_patterns
        )


@many
@cases
def test_a_stand_in_is_used_only_when_nobody_that_can_be_asked_has_the_model(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    verdict = decide(request, fleet, policy, tried)
    by_id = {view.id: view for view in fleet.backends}
    if isinstance(verdict, Refusal):
        return
    winner = by_id[verdict.chosen.backend]
    assert verdict.stand_in is (bool(winner.spec.stand_in_model) and request.model != "own:1b")
    # Ollama is asked in the client's spelling, other servers in their own.
    known = winner.spec.kind != "ollama" and winner.models is not None
    theirs = request.model if known else request.requested_model
    assert verdict.model == ("own:1b" if verdict.stand_in else theirs)
    if verdict.stand_in:
        assert "stands in for" in verdict.reason
        if request.annotations.target.lower() == winner.id:
            return  # asked for by its own id
        for view in fleet.backends:
            if view.health.serves and view.id not in tried and not view.spec.stand_in_model:
                assert not holds(view, request.model)


@many
@cases
def test_a_target_that_serves_is_never_replaced(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    target = request.annotations.target
    able = {v.id for v in fleet.backends if target and is_named(v, target) and v.health.serves and v.id not in tried}
    verdict = decide(request, fleet, policy, tried)
    if able:
        assert set(ids(verdict)) <= able
    elif target and isinstance(verdict, Decision):
        assert verdict.reason.startswith(f"target {target} ")


@many
@cases
def test_words_fit_a_header(request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]) -> None:
    verdict = decide(request, fleet, policy, tried)
    if isinstance(verdict, Decision):
        assert verdict.reason
        assert verdict.reason.isascii()
        assert verdict.reason.isprintable()
        assert len(verdict.reason) <= 200
    elif verdict.kind is RefusalKind.NO_HEALTHY:
        assert verdict.message.startswith("No healthy backends available: ")
        assert all(view.id in verdict.message for view in fleet.backends)


@many
@cases
def test_trying_down_the_ranking_follows_it_to_the_end(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    """What the first decision calls the alternatives are those that the retries take, in that order."""
    first = decide(request, fleet, policy, tried)
    if isinstance(first, Refusal) or request.annotations.target or first.stand_in:
        return
    gone = set(tried)
    for name in ids(first):
        verdict = decide(request, fleet, policy, frozenset(gone))
        assert ids(verdict)[0] == name
        gone.add(name)


@many
@cases
def test_what_is_equal_for_all_changes_nothing(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    """Every priority raised alike, every watt limit raised beyond all draws: the same order."""
    raised = tuple(
        msgspec.structs.replace(view, spec=msgspec.structs.replace(view.spec, priority=view.spec.priority + 7))
        for view in fleet.backends
    )
    assert ids(decide(request, FleetView(3, raised), policy, tried)) == ids(decide(request, fleet, policy, tried))
