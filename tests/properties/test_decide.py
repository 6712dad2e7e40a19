"""What holds of every decision, for any fleet and request that can be made."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Limit, Policy, PowerSet, Refusal, RoutingRequest
from ollama_proxy.domain.device import (
    BackendSpec,
    BackendView,
    FleetView,
    Health,
    Heat,
    ModelFacts,
    Neighbour,
    PromptLimit,
    Rates,
    Wait,
)
from ollama_proxy.domain.lengths import BINS, Lengths
from ollama_proxy.routing.deadline import HOPELESS
from ollama_proxy.routing.decide import decide, price_of_seconds
from ollama_proxy.routing.rules import POLICY_RULES

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
    held=st.booleans(),
    prefill_tokens_per_second=st.sampled_from((0.0, 100.0, 3000.0)),
    prefill_watts=watts,
    load_seconds=st.sampled_from((0.0, 4.0)),
    parallel_exponent=st.sampled_from((0.0, 0.5, 0.8, 1.0)),
    max_model_size_gb=st.sampled_from((0.0, 1.0, 8.0)),
    memory_gb=st.sampled_from((0.0, 0.0, 2.0, 5.2)),
    excluded_patterns=st.sampled_from(((), ("*:7b",))),
)


learned = st.builds(
    Rates,
    overhead_s=st.floats(0.01, 10),
    prefill_tps=st.floats(10, 5000),
    decode_tps=st.floats(0.5, 200),
    load_s=st.none() | st.floats(0.1, 30),
    ttft_var=st.floats(0, 1.5),
    decode_var=st.floats(0, 1.5),
)
neighbours = st.builds(
    Neighbour,
    backend=st.just("e"),
    from_s=st.sampled_from((0.0, 3.0)),
    until_s=st.sampled_from((0.0, 5.0, 60.0)),
    busy_share=st.floats(0, 1),
    slows=st.floats(0, 2),
    slowed=st.floats(0, 2),
    watts=st.floats(0.1, 100),
    price_watts=st.sampled_from((0.0, 1.0, 100.0)),
)
refused = st.dictionaries(
    st.sampled_from(MODELS),
    st.tuples(st.builds(PromptLimit, st.sampled_from((100.0, 500.0)), st.sampled_from((0, 50)))),
)
waits = st.none() | st.builds(Wait, mean_s=st.floats(0.05, 60), var_s2=st.floats(0, 100))


@st.composite
def fleets(draw: st.DrawFn) -> FleetView:
    views = []
    for name in draw(st.lists(st.sampled_from(IDS), unique=True, min_size=1)):
        spec = msgspec.structs.replace(draw(specs), id=name)
        held = draw(st.lists(st.sampled_from(MODELS), unique=True))
        context, size = st.sampled_from((0, 0, 0, 4096)), st.sampled_from((4 * 10**8, 5 * 10**9))
        sizes = {model: ModelFacts(model, size_bytes=draw(size), context_length=draw(context)) for model in held}
        views.append(
            BackendView(
                spec,
                draw(st.sampled_from(Health)),
                models=sizes,
                loaded=frozenset(draw(st.lists(st.sampled_from(MODELS), max_size=1))),
                in_flight=draw(st.integers(0, 6)),
                rates={model: draw(learned) for model in held if draw(st.booleans())},
                capabilities=draw(st.sampled_from((frozenset(Need), frozenset((Need.GENERATE,))))),
                beside_bytes=draw(st.sampled_from((0, 10**9))),
                prompt_limits=draw(st.just({}) | refused),
                heat=draw(st.none() | st.none() | st.builds(Heat, st.sampled_from((0.0, 3.0, 500.0)), st.floats(1, 4))),
            )
        )
    counted, coupled = draw(st.booleans()), draw(st.booleans())
    return FleetView(
        7,
        tuple(views),
        tuple(draw(waits) for _ in views) if counted else (),
        beside=tuple(tuple(draw(st.lists(neighbours, max_size=2))) for _ in views) if coupled else (),
    )


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
        latency_probability=st.sampled_from((0.0, 0.5, 0.99)),
        latency_metric=st.sampled_from(("", "e2e", "ttft")),
        on_infeasible=st.sampled_from(("", "best_effort", "reject")),
    ),
    prompt_tokens=st.sampled_from((0.0, 100.0, 8000.0)),
    max_tokens=st.sampled_from((0, 1, 50, 1000)),
    embed=st.booleans(),
    lengths=st.sampled_from((None, Lengths([1.0] * BINS), Lengths([0.0] * 12 + [1.0] + [0.0] * (BINS - 13)))),
    spent_s=st.sampled_from((0.0, 0.0, 0.2, 5.0)),
    serial=st.integers(0, 9),
    held=st.just({}) | st.dictionaries(st.sampled_from(IDS), st.floats(0, 8000)),
)
#: Every rule; the own one, which has more to keep, as often as all others together.
rules = st.just("predictive") | st.sampled_from(POLICY_RULES)
id_sets = st.frozensets(st.sampled_from(IDS))
policies = st.builds(
    Policy,
    lambda_watts=st.floats(0, 100),
    default_backend=st.sampled_from(("", "b")),
    power_aware=st.booleans(),
    auto_optimize_latency=st.booleans(),
    rule=rules,
    probability=st.sampled_from((0.5, 0.95)),
    metric=st.sampled_from(("e2e", "ttft")),
    on_infeasible=st.sampled_from(("best_effort", "reject")),
    efficient_patience=st.sampled_from((1.0, 3.0, 10.0)),
    power_set=st.none() | st.builds(PowerSet, active=id_sets, brief=id_sets, cap_watts=st.just(40.0)),
)
tries = id_sets
cases = given(requests, fleets(), policies, tries)
many = settings(max_examples=150, deadline=None)


def changed(
    fleet: FleetView, change: Callable[[BackendView, Wait | None], tuple[BackendView, Wait | None]]
) -> FleetView:
    """Another fleet: each backend and its wait after a change."""
    pairs = zip(fleet.backends, fleet.waits or (None,) * len(fleet.backends), strict=True)
    made = [change(*pair) for pair in pairs]
    waits = tuple(wait for _, wait in made) if fleet.waits else ()
    return FleetView(7, tuple(view for view, _ in made), waits, beside=fleet.beside)


def keep(fleet: FleetView, places: Sequence[int]) -> FleetView:
    """The backends at some places, in that order, with their waits."""
    return FleetView(
        7,
        tuple(fleet.backends[place] for place in places),
        tuple(fleet.waits[place] for place in places if fleet.waits),
        beside=tuple(fleet.beside[place] for place in places if fleet.beside),
    )


def ids(verdict: Decision | Refusal) -> list[str]:
    return [one.backend for one in verdict.ranking] if isinstance(verdict, Decision) else []


@many
@cases
def test_same_inputs_same_answer(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    verdict = decide(request, fleet, policy, tried)
    assert verdict == decide(request, fleet, policy, tried)
    # Nor does it matter what the views remember of other decisions.
    fresh = changed(fleet, lambda view, wait: (msgspec.structs.replace(view, memory={}), wait))
    assert verdict == decide(request, fresh, policy, tried)


@many
@given(requests, fleets(), policies, tries, st.randoms(use_true_random=False))
def test_the_order_of_backends_does_not_matter(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str], dice: random.Random
) -> None:
    verdict = decide(request, fleet, policy, tried)
    places = list(range(len(fleet.backends)))
    dice.shuffle(places)
    other = decide(request, keep(fleet, places), policy, tried)
    assert other.rejections == verdict.rejections
    if isinstance(verdict, Decision):
        assert other == verdict
    else:
        assert isinstance(other, Refusal)
        assert other.kind is verdict.kind


@many
@cases
def test_hard_limits_hold_on_every_attempt(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    by_id = {view.id: view for view in fleet.backends}
    verdict = decide(request, fleet, policy, tried)
    assert not {one.backend for one in verdict.rejections} & set(ids(verdict))
    for name in ids(verdict):
        view = by_id[name]
        limit = request.annotations.max_power_watts
        assert name not in tried
        assert view.health.serves
        assert view.models is not None
        assert request.model in view.models
        assert request.needs <= view.capabilities
        assert not limit or 0 < view.spec.power_watts <= limit
        # One that is short of power waits for another set, and is decided anew then.
        if policy.power_set is not None and not (isinstance(verdict, Decision) and verdict.short_of_power):
            assert name in policy.power_set.active


@many
@cases
def test_a_latency_limit_that_is_to_be_kept_is_kept_or_refused_by_every_rule(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    wishes = request.annotations
    verdict = decide(request, fleet, policy, tried)
    wanted = wishes.latency_probability or policy.probability
    if not isinstance(verdict, Decision):
        return
    chances = [one.estimate.chance for one in verdict.ranking]
    if not wishes.max_latency_ms:
        assert set(chances) == {None}
    elif (wishes.on_infeasible or policy.on_infeasible) == "reject":
        assert all(chance is not None and chance >= wanted for chance in chances)
    elif policy.rule == "predictive" and (chances[0] or 0) >= wanted:
        assert all((chance or 0) >= wanted for chance in chances)
    elif policy.rule == "predictive":
        shown = [round(chance or 0, 9) for chance in chances]
        assert max(shown) < HOPELESS or shown == sorted(shown, reverse=True)


def is_late(request: RoutingRequest, fleet: FleetView, policy: Policy, backend: str) -> bool:
    """Whether a backend that is asked alone, and whatever its chance, has less than is wanted."""
    place = [view.id for view in fleet.backends].index(backend)
    wishes = request.annotations
    free = msgspec.structs.replace(wishes, target="", latency_probability=1e-300, on_infeasible="best_effort")
    lenient = msgspec.structs.replace(request, annotations=free)
    alone = decide(lenient, keep(fleet, [place]), policy)
    wanted = wishes.latency_probability or policy.probability
    # Any chance at all was asked for; who has none is refused, or is too slow for its first token even when idle.
    return isinstance(alone, Refusal) or (alone.chosen.estimate.chance or 0) < wanted + 1e-6


def is_too_long(request: RoutingRequest, view: BackendView) -> bool:
    """By what the server says of its context, and by what it has refused."""
    if Need.EMBED in request.needs:  # many texts, each of which has to fit
        return False
    context = (view.models or {}).get(request.model, ModelFacts("")).context_length
    return 0 < context * 1.3 < request.prompt_tokens or any(
        request.prompt_tokens >= one.prompt_tokens * 0.85 and request.max_tokens >= one.max_tokens
        for one in view.prompt_limits.get(request.model, ())
    )


def forget_lengths(fleet: FleetView) -> FleetView:
    """The same fleet while nothing is known of how long prompts may be."""

    def forget(view: BackendView, wait: Wait | None) -> tuple[BackendView, Wait | None]:
        models = view.models
        if models is not None:
            models = {name: msgspec.structs.replace(one, context_length=0) for name, one in models.items()}
        return msgspec.structs.replace(view, models=models, prompt_limits={}, memory={}), wait

    return changed(fleet, forget)


@many
@cases
def test_a_prompt_goes_where_it_is_too_long_only_if_nobody_else_can_take_it(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    verdict, bold = decide(request, fleet, policy, tried), decide(request, forget_lengths(fleet), policy, tried)
    if not request.annotations.max_latency_ms:
        # What is known of lengths never makes a refusal of what somebody might do.
        assert isinstance(verdict, Refusal) is isinstance(bold, Refusal)
    by_id = {view.id: view for view in fleet.backends}
    long = [is_too_long(request, by_id[name]) for name in ids(verdict)]
    assert len(set(long)) <= 1
    if any(long):
        assert ids(verdict) == ids(bold)
        assert isinstance(verdict, Decision)
        assert "seems too long" in verdict.reason


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
            Limit.POWER_NOW: sum(one.spec.power_watts for one in fleet.backends if one.in_flight or one is view)
            > request.annotations.max_power_watts,
            Limit.CAPABILITY: not request.needs <= view.capabilities,
            Limit.SYSTEM_POWER: policy.power_set is not None
            and (rejection.backend not in policy.power_set.active or rejection.backend in policy.power_set.brief),
            Limit.MODEL_EXCLUDED: request.model == "m:7b" and bool(view.spec.excluded_patterns),
            Limit.MODEL_TOO_LARGE: 0
            < view.spec.max_model_size_gb * 1e9
            < (view.models or {}).get(request.model, ModelFacts("")).size_bytes,
            Limit.MEMORY: 0
            < view.spec.memory_gb * 1e9
            < (view.models or {}).get(request.model, ModelFacts("")).size_bytes,
            # The other model can be unloaded; what others beside it hold cannot.
            Limit.MEMORY_NOW: view.beside_bytes > 0 and request.model not in view.loaded,
            Limit.LATENCY: rejection.limit is Limit.LATENCY and is_late(request, fleet, policy, rejection.backend),
            Limit.PROMPT_LENGTH: is_too_long(request, view),
            Limit.NOT_TARGET: request.annotations.target not in (view.id, view.spec.hardware),
        }
        assert truth[rejection.limit], rejection
    if isinstance(verdict, Decision):
        assert len(verdict.ranking) + len(verdict.rejections) == len(fleet.backends)


@many
@cases
def test_removing_a_loser_never_changes_the_winner(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    if policy.rule == "round-robin":
        return  # whose turn it is depends on how many there are
    verdict = decide(request, fleet, policy, tried)
    slow = impatient(request, policy, verdict)
    soonest = min(verdict.ranking, key=lambda one: one.estimate.e2e_s).backend if slow else ""
    for loser in ids(verdict)[1:]:
        if loser == soonest:
            continue  # its end is what others were too late for
        rest = keep(fleet, [place for place, view in enumerate(fleet.backends) if view.id != loser])
        assert ids(decide(request, rest, policy, tried))[0] == ids(verdict)[0]


@many
@cases
def test_neighbours_make_nobody_cheaper_or_sooner_and_idle_ones_change_nothing(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    wishes = msgspec.structs.replace(request.annotations, max_latency_ms=0)
    request = msgspec.structs.replace(request, annotations=wishes)
    alone = decide(request, msgspec.structs.replace(fleet, beside=()), policy, tried)
    beside = decide(request, fleet, policy, tried)
    if isinstance(alone, Decision):
        before = {one.backend: one for one in alone.ranking}
        assert sorted(before) == sorted(ids(beside))
        for one in beside.ranking if isinstance(beside, Decision) else ():
            old = before[one.backend]
            assert one.cost_j >= old.cost_j - 1e-6
            assert one.estimate.decode_s >= old.estimate.decode_s
            assert one.estimate.joules >= old.estimate.joules - 1e-9
            assert one.estimate.prefill_s == old.estimate.prefill_s
    idle = tuple(
        tuple(msgspec.structs.replace(one, until_s=0.0, busy_share=0.0) for one in each) for each in fleet.beside
    )
    assert decide(request, msgspec.structs.replace(fleet, beside=idle), policy, tried) == alone


@many
@cases
def test_heat_makes_nobody_cheaper_or_sooner_and_what_is_far_away_changes_nothing(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    def give(heat: Heat | None) -> FleetView:
        return changed(fleet, lambda view, wait: (msgspec.structs.replace(view, heat=heat, memory={}), wait))

    wishes = msgspec.structs.replace(request.annotations, max_latency_ms=0)
    request = msgspec.structs.replace(request, annotations=wishes)
    cool, hot = decide(request, give(None), policy, tried), decide(request, fleet, policy, tried)
    assert decide(request, give(Heat(1e9, 4.0)), policy, tried) == cool
    if isinstance(cool, Decision):
        assert isinstance(hot, Decision)
        before = {one.backend: one for one in cool.ranking}
        assert sorted(before) == sorted(ids(hot))
        for one in hot.ranking:
            old = before[one.backend]
            assert one.cost_j >= old.cost_j - 1e-6
            assert one.estimate.prefill_s >= old.estimate.prefill_s
            assert one.estimate.decode_s >= old.estimate.decode_s - 1e-9


def improve(view: BackendView, wait: Wait | None, model: str) -> tuple[BackendView, Wait | None]:
    """Half the watts, half of every time, half the wait. Its load stays: a joule shared is less than one alone."""
    old, base = view.rates.get(model), view.spec
    spec = msgspec.structs.replace(
        base,
        power_watts=base.power_watts / 2,
        prefill_watts=base.prefill_watts / 2,
        avg_latency_ms=(base.avg_latency_ms or 500) / 2,
        max_tokens_per_second=(base.max_tokens_per_second or 20) * 2,
        prefill_tokens_per_second=base.prefill_tokens_per_second * 2,
        load_seconds=base.load_seconds / 2,
    )
    rates = {
        name: msgspec.structs.replace(
            one,
            overhead_s=one.overhead_s / 2,
            prefill_tps=one.prefill_tps * 2,
            decode_tps=one.decode_tps * 2,
            load_s=None if one.load_s is None else one.load_s / 2,
        )
        for name, one in view.rates.items()
    }
    if base.load_seconds == 0 and (old is None or old.load_s is None):
        # What is reckoned from the size is not halved with the rest; so is the chance, then.
        models = {
            name: msgspec.structs.replace(facts, size_bytes=facts.size_bytes // 2)
            for name, facts in (view.models or {}).items()
        }
        view = msgspec.structs.replace(view, models=models)
    better = None if wait is None else Wait(wait.mean_s / 2, wait.var_s2)
    return msgspec.structs.replace(view, spec=spec, rates=rates, memory={}), better


@many
@cases
def test_a_backend_that_gets_better_never_falls(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    if policy.rule == "round-robin":
        return
    # What is over sooner may be over before its neighbour is, and share all of its time.
    fleet = msgspec.structs.replace(fleet, beside=())
    before = ids(decide(request, fleet, policy, tried))
    for place, name in enumerate(before):
        better = changed(
            fleet,
            lambda view, wait: improve(view, wait, request.model) if view.id == name else (view, wait),  # noqa: B023
        )
        after = ids(decide(request, better, policy, tried))
        assert after.index(name) <= place


@many
@cases
def test_tightening_a_limit_only_removes(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    """With a latency limit that is to be kept; a best effort lets everybody try when nobody keeps it."""
    wishes = msgspec.structs.replace(request.annotations, on_infeasible="reject")
    loose = msgspec.structs.replace(request, annotations=wishes)
    fleet = forget_lengths(fleet)  # who has refused such prompts is asked when nobody else is left
    before = ids(decide(loose, fleet, policy, tried))
    tighter = [
        msgspec.structs.replace(wishes, max_power_watts=(wishes.max_power_watts or 100) / 2),
        msgspec.structs.replace(wishes, max_latency_ms=(wishes.max_latency_ms or 8000) // 2),
    ]
    if wishes.max_latency_ms:
        surer = 1 - (1 - (wishes.latency_probability or policy.probability)) / 2
        tighter.append(msgspec.structs.replace(wishes, latency_probability=surer))
    for one in tighter:
        after = ids(decide(msgspec.structs.replace(request, annotations=one), fleet, policy, tried))
        assert set(after) <= set(before)


@many
@cases
def test_what_is_shown_is_what_was_scored(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    verdict = decide(request, fleet, policy, tried)
    if isinstance(verdict, Refusal):
        assert verdict.message
        return
    assert verdict.reason
    assert verdict.reason.isascii()
    assert len(verdict.reason) <= 200
    assert verdict.ranking[0] == verdict.chosen
    assert [verdict.backend, *verdict.alternatives] == ids(verdict)
    price = price_of_seconds(request.annotations, policy)
    counted = dict(zip([view.id for view in fleet.backends], fleet.waits, strict=False))
    for one in verdict.ranking:
        found = one.estimate
        assert min(found.wait_s, found.load_s, found.prefill_s, found.decode_s, found.joules) >= 0
        assert one.cost_j == pytest.approx(found.joules + price * found.e2e_s + found.neighbours_j, rel=1e-9, abs=1e-6)
        wait = counted.get(one.backend)
        assert wait is None or found.wait_s == wait.mean_s
        assert found.chance is None or 0 <= found.chance <= 1
    if policy.rule == "predictive" and not request.annotations.max_latency_ms:
        slow = impatient(request, policy, verdict)
        home = max(request.held, key=lambda name: (request.held[name], name), default="")
        for late in (False, True):
            # Who holds much of the prompt may be before those that are cheaper, and only at the head.
            group = [one for one in verdict.ranking if (one.backend in slow) is late]
            costs = [one.cost_j for one in (group[1:] if group and group[0].backend == home else group)]
            assert costs == sorted(costs)
        assert set(ids(verdict)[len(ids(verdict)) - len(slow) :]) == slow
        assert (
            f"{policy.efficient_patience:g} times the soonest" in verdict.reason or not slow or wished_target(request)
        )


def wished_target(request: RoutingRequest) -> bool:
    """The reason is then the target."""
    return bool(request.annotations.target)


def impatient(request: RoutingRequest, policy: Policy, verdict: Decision | Refusal) -> set[str]:
    """Those that a frugal request is not to wait for."""
    wishes = request.annotations
    frugal = wishes.prefer_power_efficiency and not wishes.latency_critical and not wishes.max_latency_ms
    if not frugal or policy.rule != "predictive" or not isinstance(verdict, Decision):
        return set()
    ends_s = {one.backend: one.estimate.e2e_s for one in verdict.ranking}
    return {name for name, end_s in ends_s.items() if end_s > policy.efficient_patience * min(ends_s.values())}


@many
@cases
def test_rules_change_the_order_and_nothing_else(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    """Without a latency limit, of which other rules know nothing."""
    wishes = msgspec.structs.replace(request.annotations, max_latency_ms=0)
    free = msgspec.structs.replace(request, annotations=wishes)
    verdicts = [decide(free, fleet, msgspec.structs.replace(policy, rule=rule), tried) for rule in POLICY_RULES]
    assert len({tuple(sorted(ids(verdict))) for verdict in verdicts}) == 1
    assert len({verdict.rejections for verdict in verdicts}) == 1


@many
@cases
def test_a_frugal_request_is_never_sent_beyond_its_patience(
    request: RoutingRequest, fleet: FleetView, policy: Policy, tried: frozenset[str]
) -> None:
    own = msgspec.structs.replace(policy, rule="predictive", power_set=None)
    asked = msgspec.structs.replace(request, annotations=Annotations(prefer_power_efficiency=True))
    verdict = decide(
        asked, make_able(fleet), own, tried if len(tried) == 1 and len(fleet.backends) > 1 else frozenset()
    )
    assert isinstance(verdict, Decision)
    soonest_s = min(one.estimate.e2e_s for one in verdict.ranking)
    assert verdict.chosen.estimate.e2e_s <= own.efficient_patience * soonest_s


def make_able(fleet: FleetView) -> FleetView:
    """All of them well, with every model and skill: what is left is the choice."""
    models = {name: ModelFacts(name, size_bytes=4 * 10**8) for name in MODELS}

    def heal(view: BackendView, wait: Wait | None) -> tuple[BackendView, Wait | None]:
        spec = msgspec.structs.replace(view.spec, excluded_patterns=(), max_model_size_gb=0.0, memory_gb=0.0)
        able = {"spec": spec, "health": Health.HEALTHY, "models": models, "capabilities": frozenset(Need)}
        return msgspec.structs.replace(view, memory={}, **able), wait

    return changed(fleet, heal)
