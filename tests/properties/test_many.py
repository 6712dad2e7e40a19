"""A large fleet is decided by arrays as it would be by the loop: to the last bit, whatever has changed since."""

from __future__ import annotations

import gc
import random
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Policy, Refusal, RoutingRequest
from ollama_proxy.domain.device import (
    BackendSpec,
    BackendView,
    FleetView,
    Health,
    Heat,
    ModelFacts,
    PromptLimit,
    Rates,
    Wait,
)
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.lengths import BINS, Lengths
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.running import Running
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.routing import decide as decide_module
from ollama_proxy.routing import many, ranking
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.prospect import Tail, look_ahead, subject_of
from tests.properties.test_decide import MODELS, learned, specs, waits

several = settings(max_examples=60, deadline=None)
a_few = settings(max_examples=25, deadline=None)

SHORT = {
    "m:1b": ModelFacts("m:1b", size_bytes=4 * 10**8, context_length=4096),
    "m:7b": ModelFacts("m:7b", size_bytes=5 * 10**9, context_length=200_000),
}
BOTH = {"m:1b": ModelFacts("m:1b", size_bytes=4 * 10**8), "m:7b": ModelFacts("m:7b", size_bytes=5 * 10**9)}
#: Few kinds of device, so that many are equal; most of them are fit, or there would be no choice.
kinds = st.builds(
    BackendView,
    spec=st.builds(
        msgspec.structs.replace,
        specs,
        stand_in_model=st.sampled_from(("", "", "", "", "m:1b", "tiny")),
        priority=st.integers(0, 1),
        preferred_models=st.sampled_from(((), ("m:1b",))),
    ),
    health=st.sampled_from((*[Health.HEALTHY] * 5, Health.UNHEALTHY)),
    models=st.sampled_from((BOTH, BOTH, SHORT, {"m:7b": BOTH["m:7b"]}, {})),
    rates=st.dictionaries(st.sampled_from(MODELS), learned),
    capabilities=st.sampled_from((frozenset(Need), frozenset(Need), frozenset((Need.GENERATE,)))),
    prompt_limits=st.sampled_from(({}, {}, {"m:1b": (PromptLimit(900.0, 50),)})),
)
requests = st.builds(
    RoutingRequest,
    model=st.sampled_from(MODELS),
    requested_model=st.sampled_from(MODELS),
    needs=st.sampled_from((frozenset((Need.GENERATE,)), frozenset((Need.EMBED,)))),
    annotations=st.builds(
        Annotations,
        latency_critical=st.sampled_from((False, False, False, True)),
        prefer_power_efficiency=st.sampled_from((False, False, False, True)),
        max_power_watts=st.sampled_from((0.0, 0.0, 0.0, 30.0)),
    ),
    prompt_tokens=st.sampled_from((0.0, 100.0, 8000.0)) | st.floats(0, 1e6),
    max_tokens=st.sampled_from((0, 1, 50, 1000)),
    embed=st.booleans(),
    lengths=st.sampled_from((None, Lengths([1.0] * BINS))),
)
policies = st.builds(
    Policy,
    lambda_watts=st.sampled_from((0.0, 1.0, 10.0)) | st.floats(0, 100),
    default_backend=st.sampled_from(("", "b-70")),
    power_aware=st.booleans(),
    auto_optimize_latency=st.booleans(),
)


class Crowd:
    """Many backends made of few kinds, which can change."""

    def __init__(self, models: list[BackendView], count: int, counted: list[Wait | None], dice: random.Random) -> None:
        self._models, self._counted, self._dice = models, counted, dice
        self._views = [self._make(place) for place in range(count)]

    def _make(self, place: int) -> BackendView:
        model, dice = self._dice.choice(self._models), self._dice
        return msgspec.structs.replace(
            model,
            spec=msgspec.structs.replace(model.spec, id=f"b-{place}"),
            loaded=frozenset(MODELS[: dice.randrange(3)]),
            in_flight=dice.choice((0, 0, dice.randrange(7))),
            memory={},
        )

    def change(self, places: int) -> None:
        for _ in range(places):
            place = self._dice.randrange(len(self._views))
            self._views[place] = self._make(place)

    def show(self) -> FleetView:
        held = tuple(self._dice.choice(self._counted) for _ in self._views) if self._counted else ()
        return FleetView(7, tuple(self._views), held)


crowds = st.builds(
    Crowd,
    st.lists(kinds, min_size=1, max_size=6),
    st.integers(65, 300),
    st.lists(waits, max_size=4),
    st.randoms(use_true_random=False),
)


@contextmanager
def only_the_loop() -> Iterator[None]:
    before, decide_module.MOST_LOOPED = decide_module.MOST_LOOPED, sys.maxsize
    try:
        yield
    finally:
        decide_module.MOST_LOOPED = before


def loop(request: RoutingRequest, fleet: FleetView, policy: Policy) -> Decision | Refusal:
    with only_the_loop():
        return decide(request, fleet, policy)


def assert_same(verdict: Decision | Refusal, expected: Decision | Refusal) -> None:
    """What is shown at once is looked at before the rest, which is reckoned in another way."""
    if isinstance(expected, Decision):
        assert isinstance(verdict, Decision)
        assert (verdict.backend, verdict.wait_s, verdict.chosen) == (expected.backend, expected.wait_s, expected.chosen)
        assert verdict.reason == expected.reason
        assert len(verdict.scored) == len(expected.scored)
        assert verdict.alternatives == expected.alternatives
        assert list(verdict.scored) == list(expected.scored)
    assert verdict.rejections == expected.rejections
    assert verdict == expected


@several
@given(requests, crowds, policies)
def test_the_decision_is_the_loops(request: RoutingRequest, crowd: Crowd, policy: Policy) -> None:
    fleet = crowd.show()
    assert_same(decide(request, fleet, policy), loop(request, fleet, policy))


@several
@given(
    st.lists(requests, min_size=1, max_size=3),
    crowds,
    st.lists(policies, min_size=1, max_size=2),
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.sampled_from((0, 1, 3, 200))), min_size=2, max_size=8),
)
def test_nothing_is_left_of_what_was_before(
    asked: list[RoutingRequest], crowd: Crowd, under: list[Policy], turns: list[tuple[int, int, int]]
) -> None:
    """Kinds of request, policies and changes in any order; each decision is looked at when others have been taken."""
    taken = []
    for which, policy_at, changes in turns:
        crowd.change(changes)
        given = asked[which % len(asked)], crowd.show(), under[policy_at % len(under)]
        taken.append((decide(*given), given))
    for verdict, given in taken:
        assert_same(verdict, loop(*given))


@several
@given(requests, crowds, policies, st.data())
def test_the_best_few_are_the_first_of_the_ranking(
    request: RoutingRequest, crowd: Crowd, policy: Policy, data: st.DataObject
) -> None:
    fleet = crowd.show()
    verdict = decide(request, fleet, policy)
    if isinstance(verdict, Decision):
        whole = list(loop(request, fleet, policy).scored)  # type: ignore[union-attr]
        for _ in range(5):
            index = data.draw(st.integers(-len(whole), len(whole) - 1))
            assert verdict.scored[index] == whole[index]
            part = data.draw(st.slices(len(whole)))
            assert verdict.scored[part] == whole[part]


PLAIN = RoutingRequest("m:1b", "m:1b", frozenset((Need.GENERATE,)), Annotations())
QUICK = msgspec.structs.replace(PLAIN, annotations=Annotations(latency_critical=True))


def make_fleet(count: int) -> FleetView:
    """Equal backends that are fit."""
    return FleetView(
        1,
        tuple(
            BackendView(
                BackendSpec(f"b-{place}", "ollama", "n", "npu", 10.0, 100.0, 20.0),
                Health.HEALTHY,
                models={"m:1b": ModelFacts("m:1b")},
                memory={},
            )
            for place in range(count)
        ),
    )


@several
@given(st.integers(65, 200), policies, st.randoms(use_true_random=False))
def test_ties_are_settled_as_the_loop_settles_them(count: int, policy: Policy, dice: random.Random) -> None:
    """Equal costs throughout: a server that tells no load costs the same whatever it has in memory."""
    views = [
        msgspec.structs.replace(
            view,
            spec=msgspec.structs.replace(
                view.spec,
                kind="openai",
                slots=8,
                parallel_exponent=1.0 if dice.random() < 0.5 else 0.5,
                priority=dice.randrange(2),
                preferred_models=dice.choice(((), ("m:1b",))),
            ),
            health=dice.choice((Health.HEALTHY, Health.HEALTHY, Health.UNHEALTHY)),
            loaded=dice.choice((frozenset(), frozenset(("m:1b",)))),
            memory={},
        )
        for view in make_fleet(count).backends
    ]
    fleet = FleetView(1, tuple(views))
    verdict = decide(PLAIN, fleet, policy)
    assert isinstance(verdict, Decision)
    assert isinstance(verdict.scored, ranking.LargeRanking)
    assert_same(verdict, loop(PLAIN, fleet, policy))


numbers = st.sampled_from((0, 1, 2**16 - 2, 2**16 - 1, 2**16, 2**20))
tails = st.builds(
    lambda flags, load, priority, hashed: (*flags, 0.0, 0.0, load, -priority, hashed, "b"),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    numbers,
    st.sampled_from((-5000, -2048, -2047, -2046, 0, 1, 2046, 2047, 2048, 9000)),
    st.sampled_from((0, 1023, 1024, 2**31, 2**32 - 1)),
)


@settings(max_examples=400, deadline=None)
@given(tails, tails, st.sampled_from((0, 5, 5, 6, 6, 7)))
def test_ties_in_one_number_keep_their_order(one: Tail, other: Tail, alike: int) -> None:
    """Those that the number does not tell apart are equal in it; none changes places."""
    other = (*one[:alike], *other[alike:])  # type: ignore[assignment]
    view = make_fleet(1).backends[0]
    packed = []
    for tail in sorted((one, other)):
        prospect = look_ahead(view, PLAIN, subject_of(PLAIN))
        prospect.tail = tail
        packed.append(many._ties_of(prospect)[3])
    assert packed == sorted(packed)
    assert [float(number) for number in packed] == packed
    if abs(one[6]) < 2047 and abs(other[6]) < 2047 and max(one[5], other[5]) < 2**16 - 1 and one[:7] != other[:7]:
        assert packed[0] < packed[1]


def test_who_ends_soonest_is_not_said_to_begin_soonest() -> None:
    views = list(make_fleet(100).backends)
    for place, (first_s, tokens_per_s) in {40: (0.15, 90.0), 60: (0.09, 20.0)}.items():
        rates = {"m:1b": Rates(first_s, 1000.0, tokens_per_s)}
        views[place] = msgspec.structs.replace(views[place], rates=rates, memory={})
    fleet = FleetView(1, tuple(views))
    verdict = decide(QUICK, fleet, Policy())
    assert isinstance(verdict, Decision)
    assert verdict.backend == "b-40"
    assert verdict.reason.startswith("soonest predicted end")
    assert_same(verdict, loop(QUICK, fleet, Policy()))


class Live:
    """A large fleet to which things happen, as it tells of them itself."""

    def __init__(self, held: bool) -> None:
        self.fleet = Fleet()
        self.now_s = 0.0
        self._running: list[tuple[str, Running]] = []
        for place in range(80):
            name = f"b-{place}"
            self.fleet.add(
                BackendSpec(name, "ollama", name, "npu", 10.0 + place % 9, 100.0, 20.0, held=held), frozenset(Need)
            )
            self.fleet.probed(name, ProbeReport(BOTH, frozenset(), "", emulated=True), 1)

    def act(self, what: str, place: int) -> None:
        name = f"b-{place}"
        self.now_s += 0.03
        if what == "open":
            running = Running(self.now_s, 1.0, 0.1, 0.1, 0.1, None, 0)
            self._running.append((name, running))
            self.fleet.opened(name, running)
        elif what == "close" and self._running:
            self.fleet.closed(*self._running.pop(0))
        elif what == "learn":
            self.fleet.succeeded(name, "m:1b", Observation(0.1, 5.0 + place), self.now_s)
        elif what == "fail":
            self.fleet.failed(name, "m:1b", Failure(FailureKind.REFUSED, "refused"), 0.0)
        elif what == "leave":
            self.fleet.remove(name)


@a_few
@given(
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from(("open", "open", "close", "learn", "fail", "leave")), st.integers(0, 8), st.booleans()
        ),
        min_size=3,
        max_size=25,
    ),
)
def test_what_a_fleet_tells_of_its_changes_is_enough(held: bool, acts: list[tuple[str, int, bool]]) -> None:
    live = Live(held)
    for what, place, asks in [*acts, ("open", 0, True)]:
        live.act(what, place)
        if asks:
            fleet = live.fleet.view_at(live.now_s)
            request = QUICK if place % 2 else PLAIN
            assert_same(decide(request, fleet, Policy()), loop(request, fleet, Policy()))


@pytest.mark.parametrize(
    "wishes",
    [
        Annotations(),
        Annotations(max_power_watts=10.0),
        Annotations(latency_critical=True),
        Annotations(latency_critical=True, prefer_power_efficiency=True, max_power_watts=10.0),
    ],
)
def test_usual_wishes_go_through_the_sieve(wishes: Annotations, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is looked at but the few that can win, and the words are those of the loop."""
    fleet, request = make_fleet(300), msgspec.structs.replace(PLAIN, annotations=wishes)
    expected = loop(request, fleet, Policy())
    assert isinstance(expected, Decision)
    looked_at: list[int] = []
    score = decide_module._score

    def count(*given: Any) -> Any:
        looked_at.append(len(given[-1].backends))
        return score(*given)

    monkeypatch.setattr(decide_module, "_score", count)
    verdict = decide(request, fleet, Policy())
    assert isinstance(verdict, Decision)
    assert (verdict.backend, verdict.reason) == (expected.backend, expected.reason)
    assert sum(looked_at) < 30


def test_less_than_nothing_is_left_to_the_loop() -> None:
    """A sum of great numbers of both signs says nothing: here all of them come to the same, but for the least bit."""
    fleet = make_fleet(100)
    views = [
        msgspec.structs.replace(
            view, rates={"m:1b": Rates(0.1, 100.0, 20.0, fixed_j=-1e9, prefill_j=1e7, decode_j=place * 1e-3)}, memory={}
        )
        for place, view in enumerate(reversed(fleet.backends))
    ]
    request = msgspec.structs.replace(PLAIN, prompt_tokens=100.0)
    fleet = FleetView(1, tuple(views))
    verdict = decide(request, fleet, Policy())
    assert isinstance(verdict, Decision)
    assert isinstance(verdict.scored, list)
    assert_same(verdict, loop(request, fleet, Policy()))


def test_a_kind_of_request_that_was_long_away_learns_of_every_change() -> None:
    views = list(make_fleet(100).backends)
    other = msgspec.structs.replace(PLAIN, requested_model="M:1b")
    decide(other, FleetView(0, tuple(views)), Policy())
    for place in (7, 50, 99):
        spec = msgspec.structs.replace(views[place].spec, power_watts=5.0 + place / 100)
        views[place] = msgspec.structs.replace(views[place], spec=spec, memory={})
        decide(PLAIN, FleetView(place, tuple(views)), Policy())
    verdict = decide(other, FleetView(100, tuple(views)), Policy())
    assert isinstance(verdict, Decision)
    assert [verdict.backend, *verdict.alternatives[:2]] == ["b-7", "b-50", "b-99"]


def test_costs_that_only_rounding_makes_equal_are_settled_by_the_tie_breakers() -> None:
    fleet = make_fleet(200)
    views = [
        msgspec.structs.replace(
            view, spec=msgspec.structs.replace(view.spec, power_watts=10 + place * 1e-10, priority=place % 7), memory={}
        )
        for place, view in enumerate(fleet.backends)
    ]
    fleet = FleetView(1, tuple(views))
    verdict = decide(PLAIN, fleet, Policy())
    assert isinstance(verdict, Decision)
    assert len({one[0] for one in loop(PLAIN, fleet, Policy()).scored}) < len(views)  # type: ignore[union-attr]
    assert_same(verdict, loop(PLAIN, fleet, Policy()))


def test_what_is_kept_is_bounded() -> None:
    class Memory(dict[object, object]):
        """One that can be watched."""

    fleet = make_fleet(80)
    watched = Memory()
    old = FleetView(1, (msgspec.structs.replace(fleet.backends[0], memory=watched), *fleet.backends[1:]))
    gone = weakref.ref(watched)
    for turn in range(100):
        spelled = msgspec.structs.replace(PLAIN, requested_model=f"M:{turn}b")
        decide(spelled, old, Policy())
        decide(msgspec.structs.replace(spelled, model=f"made-up:{turn}"), old, Policy())
    decide(PLAIN, fleet, Policy())
    del old, watched
    gc.collect()
    assert gone() is None
    (memory,) = many._kept
    assert len(memory._tables) <= many._MOST_KINDS


def test_without_numpy_the_loop_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = make_fleet(80)
    expected = decide(PLAIN, fleet, Policy())
    monkeypatch.setitem(sys.modules, "ollama_proxy.routing.many", None)
    ranking._load_many.cache_clear()
    try:
        verdict = decide(PLAIN, fleet, Policy())
    finally:
        ranking._load_many.cache_clear()
    assert isinstance(verdict, Decision)
    assert isinstance(verdict.scored, list)
    assert verdict == expected


def test_no_more_alternatives_are_shown_than_anybody_reads() -> None:
    verdict = decide(PLAIN, make_fleet(300), Policy())
    assert isinstance(verdict, Decision)
    assert len(verdict.alternatives) == 16
    assert len(verdict.ranking) == 300


def test_one_that_gets_hot_is_reckoned_with() -> None:
    """The first of the ranking is throttled, so that it is not the first any more."""
    request = RoutingRequest("m:1b", "m:1b", frozenset((Need.GENERATE,)), Annotations(), 100.0, 50)
    specs = [BackendSpec(f"b-{place}", "openai", "n", "cpu", 20, 500, 20.0 + place) for place in range(80)]
    views = [BackendView(spec, Health.HEALTHY, models=BOTH) for spec in specs]
    cool = decide(request, FleetView(1, tuple(views)), Policy())
    assert isinstance(cool, Decision)
    assert cool.backend == "b-79"
    hot = FleetView(1, (*views[:-1], msgspec.structs.replace(views[-1], heat=Heat(0.0, 3.0))))
    found = decide(request, hot, Policy())
    with only_the_loop():
        assert found == decide(request, hot, Policy())
    assert isinstance(found, Decision)
    assert found.backend == "b-78"
