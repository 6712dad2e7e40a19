"""What holds of every decision, for any fleet and request that can be made."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Limit, Policy, Refusal, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts, Rates
from ollama_proxy.routing.decide import decide

MODELS = ("m:1b", "m:7b")
IDS = ("a", "b", "c", "d")
HARDWARE = ("npu", "igpu", "nvidia", "cpu")
#: 0 is "not given"; a draw that is given is one that a meter could show.
watts = st.just(0.0) | st.floats(0.1, 100)

specs = st.builds(
    BackendSpec,
    id=st.just("?"),
    kind=st.sampled_from(("ollama", "openai")),
    name=st.just("n"),
    hardware=st.sampled_from(HARDWARE),
    power_watts=watts,
    avg_latency_ms=st.floats(0, 5000),
    max_tokens_per_second=st.floats(0, 200),
    priority=st.integers(0, 10),
    slots=st.integers(1, 4),
    max_model_size_gb=st.sampled_from((0.0, 1.0, 8.0)),
    excluded_patterns=st.sampled_from(((), ("*:7b",))),
)


@st.composite
def fleets(draw: st.DrawFn) -> FleetView:
    views = []
    for name in draw(st.lists(st.sampled_from(IDS), unique=True, min_size=1)):
        spec = msgspec.structs.replace(draw(specs), id=name)
        held = draw(st.lists(st.sampled_from(MODELS), unique=True))
        sizes = {model: ModelFacts(model, size_bytes=draw(st.sampled_from((4 * 10**8, 5 * 10**9)))) for model in held}
        rates = {
            model: Rates(draw(st.floats(0.01, 10)), draw(st.floats(0.5, 200)), 3)
            for model in held
            if draw(st.booleans())
        }
        views.append(
            BackendView(
                spec,
                draw(st.sampled_from(Health)),
                models=sizes,
                loaded=frozenset(draw(st.lists(st.sampled_from(MODELS), max_size=1))),
                in_flight=draw(st.integers(0, 6)),
                rates=rates,
                capabilities=draw(st.sampled_from((frozenset(Need), frozenset((Need.GENERATE,))))),
            )
        )
    return FleetView(7, tuple(views))


requests = st.builds(
    RoutingRequest,
    model=st.sampled_from(MODELS),
    requested_model=st.sampled_from(MODELS),
    needs=st.sampled_from((frozenset((Need.GENERATE,)), frozenset((Need.EMBED,)))),
    annotations=st.builds(
        Annotations,
        target=st.sampled_from(("", "", "", "a", "npu", "cpu")),
        latency_critical=st.booleans(),
        prefer_power_efficiency=st.booleans(),
        max_latency_ms=st.sampled_from((0, 0, 300, 2000)),
        max_power_watts=st.sampled_from((0.0, 0.0, 10.0, 50.0)),
    ),
    max_tokens=st.sampled_from((0, 1, 50, 1000)),
    embed=st.booleans(),
)
policies = st.builds(Policy, lambda_watts=st.floats(0, 100), default_backend=st.sampled_from(("", "b")))
tries = st.frozensets(st.sampled_from(IDS))
cases = given(requests, fleets(), policies, tries)
many = settings(max_examples=300, deadline=None)


def ids(verdict: Decision | Refusal) -> list[str]:
    return [one.backend for one in verdict.ranking] if isinstance(verdict, Decision) else []


@many
@cases
def test_same_inputs_same_answer_whatever_the_order(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    verdict = decide(request, fleet, policy, tried)
    assert verdict == decide(request, fleet, policy, tried)
    other = decide(request, FleetView(7, fleet.backends[::-1]), policy, tried)
    assert ids(other) == ids(verdict)
    assert other.rejections == verdict.rejections


@many
@cases
def test_hard_limits_hold_on_every_attempt(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    by_id = {view.id: view for view in fleet.backends}
    for name in ids(decide(request, fleet, policy, tried)):
        view = by_id[name]
        limit = request.annotations.max_power_watts
        assert name not in tried
        assert view.health.serves
        assert view.models is not None
        assert request.model in view.models
        assert request.needs <= view.capabilities
        assert not limit or 0 < view.spec.power_watts <= limit


@many
@cases
def test_every_rejection_names_a_limit_that_is_truly_violated(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    by_id = {view.id: view for view in fleet.backends}
    verdict = decide(request, fleet, policy, tried)
    for rejection in verdict.rejections:
        view = by_id[rejection.backend]
        truth = {
            Limit.TRIED: rejection.backend in tried,
            Limit.UNHEALTHY: not view.health.serves,
            Limit.MODEL_MISSING: request.model not in (view.models or {}),
            Limit.POWER: not view.spec.power_watts or view.spec.power_watts > request.annotations.max_power_watts,
            Limit.CAPABILITY: not request.needs <= view.capabilities,
            Limit.NOT_TARGET: request.annotations.target not in (view.id, view.spec.hardware),
        }
        assert truth.get(rejection.limit, True), rejection
    if isinstance(verdict, Decision):
        assert len(verdict.ranking) + len(verdict.rejections) == len(fleet.backends)


@many
@cases
def test_removing_a_loser_never_changes_the_winner(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    verdict = decide(request, fleet, policy, tried)
    for loser in ids(verdict)[1:]:
        rest = FleetView(7, tuple(view for view in fleet.backends if view.id != loser))
        assert ids(decide(request, rest, policy, tried))[0] == ids(verdict)[0]


@many
@cases
def test_a_backend_that_gets_better_never_falls(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    before = ids(decide(request, fleet, policy, tried))
    for place, name in enumerate(before):
        views = []
        for view in fleet.backends:
            if view.id == name:
                old = view.rates.get(request.model)
                base = view.spec
                spec = msgspec.structs.replace(
                    base,
                    power_watts=base.power_watts / 2,
                    avg_latency_ms=(base.avg_latency_ms or 500) / 2,
                    max_tokens_per_second=(base.max_tokens_per_second or 20) * 2,
                )
                rates = {request.model: Rates(old.ttft_s / 2, old.decode_tps * 2, 3)} if old else {}
                view = msgspec.structs.replace(view, spec=spec, rates=rates, in_flight=0)
            views.append(view)
        after = ids(decide(request, FleetView(7, tuple(views)), policy, tried))
        assert after.index(name) <= place


@many
@cases
def test_tightening_a_limit_only_removes(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    before = set(ids(decide(request, fleet, policy, tried)))
    wishes = request.annotations
    tighter = msgspec.structs.replace(
        wishes, max_power_watts=(wishes.max_power_watts or 100) / 2, max_latency_ms=(wishes.max_latency_ms or 8000) // 2
    )
    after = decide(msgspec.structs.replace(request, annotations=tighter), fleet, policy, tried)
    assert set(ids(after)) <= before


@many
@cases
def test_what_is_shown_is_what_was_scored(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    verdict = decide(request, fleet, policy, tried)
    if isinstance(verdict, Refusal):
        assert verdict.message
        return
    costs = [round(one.cost_j, 6) for one in verdict.ranking]
    assert costs == sorted(costs)
    for one in verdict.ranking:
        assert one.estimate.wait_s >= 0
        assert one.estimate.e2e_s >= one.estimate.ttft_s
    assert verdict.reason
    assert verdict.reason.isascii()
    assert len(verdict.reason) <= 200
