"""Who waits and who begins: slots, classes, deadlines, callers, ageing, the bound; over real fleets and decisions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.annotations import Annotations, Priority
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Policy, Refusal, RefusalKind, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, ModelFacts
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.lengths import BINS, Lengths
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.admission import Admission, Bounds, Full
from ollama_proxy.fleet.running import Running, predict_running
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.fleet.waiting import AGEING_S, Waiting
from ollama_proxy.routing.decide import decide

MODEL = "m:1b"
CAN = frozenset((Need.GENERATE,))
#: As long as its limit: 100 tokens are ten seconds at ten a second.
LONG = Lengths([0.0] * (BINS - 1) + [1.0])


class Hall:
    """A queue before real backends, whose requests end when the test says so."""

    def __init__(
        self, most: int = 1000, policy: Policy | None = None, bounds: Bounds | None = None, **slots: int
    ) -> None:
        self.now_s = 1000.0
        self.fleet = Fleet()
        for name, count in slots.items():
            self.join(BackendSpec(name, "openai", name, "cpu", 10, 500, 10, slots=count, held=True))
        self.policy = policy or Policy()
        self.queue = Admission(self.fleet, lambda: self.policy, bounds=bounds or Bounds(most))
        self.begun: list[str] = []
        self.refused: dict[str, Refusal] = {}
        self.at: dict[str, tuple[str, Running]] = {}

    def join(self, spec: BackendSpec) -> None:
        self.fleet.add(spec, CAN)
        self.fleet.probed(spec.id, ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL})), 0)

    def wait(
        self, name: str, caller: str = "", tokens: int = 100, tried: tuple[str, ...] = (), **wishes: Any
    ) -> Waiting:
        request = RoutingRequest(MODEL, MODEL, CAN, Annotations(**wishes), max_tokens=tokens, lengths=LONG)
        waiting = Waiting(name, request, self.now_s, caller, frozenset(tried))
        self.queue.add(waiting, self.now_s)
        return waiting

    def plan(self) -> list[str]:
        """Names of those that begin now."""
        found = []
        for waiting, verdict in self.queue.plan(self.now_s):
            if isinstance(verdict, Refusal):
                self.refused[waiting.owner] = verdict
                continue
            running = predict_running(waiting.request, verdict, self.now_s, Policy())
            self.fleet.opened(verdict.backend, running)
            self.at[waiting.owner] = verdict.backend, running
            found.append(waiting.owner)
        self.begun += found
        return found

    def end(self, name: str) -> list[str]:
        """It ends; names of those that begin then."""
        self.fleet.closed(*self.at.pop(name))
        return self.plan()

    def serve_all(self, seconds_each: float = 10.0) -> list[str]:
        """Let whoever began first end first, until nobody is left; the order of beginnings."""
        self.plan()
        while self.at:
            self.now_s += seconds_each
            self.end(next(iter(self.at)))
        return self.begun


# -- slots -----------------------------------------------------------------------


def test_never_more_begin_than_there_are_slots_and_each_end_lets_one_in() -> None:
    hall = Hall(a=2)
    for name in "123456":
        hall.wait(name)
    assert hall.plan() == ["1", "2"]
    assert hall.plan() == []
    assert hall.end("2") == ["3"]
    assert hall.end("1") == ["4"]
    assert len(hall.queue) == 2


steps = st.lists(st.tuples(st.sampled_from(("wait", "end", "pass", "leave")), st.integers(0, 5)), max_size=40)


@settings(max_examples=60, deadline=None)
@example([("wait", 0), ("wait", 0), ("wait", 2), ("leave", 2)], 1, 1)
@given(steps, st.integers(1, 3), st.integers(1, 2))
def test_whatever_happens_slots_hold_and_nobody_is_lost(
    history: list[tuple[str, int]], slots_a: int, slots_b: int
) -> None:
    hall = Hall(a=slots_a, b=slots_b)
    waiting: dict[str, Waiting] = {}
    left = 0
    for number, (event, which) in enumerate(history):
        match event:
            case "wait":
                wishes = ({}, {"priority": Priority.HIGH}, {"max_latency_ms": 9000}, {"target": "b"})[which % 4]
                waiting[str(number)] = hall.wait(str(number), f"caller {which % 2}", **wishes)
            case "end" if hall.at:
                hall.end(list(hall.at)[which % len(hall.at)])
            case "pass":
                hall.now_s += 3.0 * which
            case "leave" if waiting:
                name = list(waiting)[which % len(waiting)]
                if name not in hall.begun and name not in hall.refused:
                    hall.queue.remove(waiting.pop(name))
                    left += 1
        hall.plan()
        for view in hall.fleet.view().backends:
            assert view.in_flight <= view.spec.slots
    # A limit that the queue makes impossible is told at once; nobody else is refused.
    assert {refusal.kind for refusal in hall.refused.values()} <= {RefusalKind.BUSY}
    arrived = sum(event == "wait" for event, _ in history)
    assert len(hall.begun) + len(hall.queue) + left + len(hall.refused) == arrived
    hall.serve_all()
    assert len(hall.queue) == 0
    assert sorted(hall.begun) == sorted(set(hall.begun))
    assert len(hall.begun) + left + len(hall.refused) == arrived


def test_a_free_slot_that_gains_a_request_does_not_stay_free() -> None:
    """Two alike: nobody waits for one of them while the other is idle."""
    hall = Hall(a=1, b=1)
    for name in "123":
        hall.wait(name)
    assert hall.plan() == ["1", "2"]
    assert {backend for backend, _ in hall.at.values()} == {"a", "b"}


def test_waiting_for_a_better_device_beats_beginning_on_a_bad_one_while_it_is_shorter() -> None:
    hall = Hall(quick=1)
    hall.join(BackendSpec("slow", "openai", "slow", "cpu", 10, 500, 2, slots=1, held=True))
    for number in range(20):
        hall.wait(str(number))
    hall.plan()
    at = {name: backend for name, (backend, _) in hall.at.items()}
    # The first begins where it is quick; of those behind, one for whom slow is sooner than its turn takes the slow one.
    assert at.pop("0") == "quick"
    ((later, backend),) = at.items()
    assert backend == "slow"
    assert int(later) > 5


def test_many_who_wait_for_one_device_do_not_keep_others_from_an_idle_one() -> None:
    hall = Hall(a=1, b=1)
    for number in range(100):
        hall.wait(f"for a {number}", target="a")
    hall.wait("for anybody")
    assert hall.plan() == ["for a 0", "for anybody"]


# -- order -------------------------------------------------------------------------


def order_of(hall: Hall) -> str:
    return "".join(hall.serve_all())


def test_first_come_first_served_among_equals() -> None:
    hall = Hall(a=1)
    for name in "12345":
        hall.wait(name)
        hall.now_s += 0.1
    assert order_of(hall) == "12345"


def test_higher_classes_go_first() -> None:
    hall = Hall(a=1)
    for priority in Priority:
        hall.wait(str(int(priority)), priority=priority)
    assert order_of(hall) == "543210"


def test_a_critical_wish_is_of_the_critical_class() -> None:
    hall = Hall(a=1)
    hall.wait("h", priority=Priority.HIGH)
    hall.wait("l", latency_critical=True)
    hall.wait("r", priority=Priority.REALTIME)
    assert order_of(hall) == "rlh"


def test_within_a_class_the_nearest_deadline_goes_first() -> None:
    hall = Hall(a=1)
    hall.wait("n")
    hall.wait("l", max_latency_ms=60_000)
    hall.wait("s", max_latency_ms=30_000)
    hall.wait("h", priority=Priority.HIGH)
    assert order_of(hall) == "hsln"


def test_a_deadline_that_is_lost_gives_way_to_those_that_can_be_kept() -> None:
    """Ten seconds each: one that must end within twelve cannot, with one before it."""
    hall = Hall(a=1)
    hall.wait("r")
    hall.plan()
    hall.wait("l", max_latency_ms=12_000, on_infeasible="best_effort")
    hall.plan()
    hall.now_s += 5
    hall.wait("k", max_latency_ms=60_000)
    hall.wait("n")
    assert order_of(hall) == "rkln"


def test_a_request_to_be_kept_or_refused_is_refused_once_it_cannot_be_kept() -> None:
    hall = Hall(a=1)
    hall.wait("runs")
    hall.plan()
    hall.wait("late", max_latency_ms=60_000, on_infeasible="reject")
    assert hall.plan() == []
    assert len(hall.queue) == 1
    hall.now_s += 60
    hall.plan()
    assert "late" in hall.refused
    assert len(hall.queue) == 0


def test_ageing_lifts_a_class_a_minute() -> None:
    hall = Hall(a=1)
    hall.wait("old", priority=Priority.LOW)
    hall.now_s += 2 * AGEING_S + 1
    hall.wait("high", priority=Priority.HIGH)
    hall.wait("critical", priority=Priority.CRITICAL)
    # Three minutes and it would be of their class; after two it is as high, and was there before.
    assert hall.serve_all() == ["critical", "old", "high"]


def test_no_class_starves() -> None:
    """One more of a high class comes with each that ends, for ten minutes."""
    hall = Hall(a=1)
    hall.wait("first", priority=Priority.HIGH)
    hall.plan()
    hall.wait("last", priority=Priority.BEST_EFFORT)
    for number in range(60):
        hall.wait(str(number), priority=Priority.HIGH)
        hall.now_s += 10
        hall.end(next(iter(hall.at)))
        if "last" in hall.begun:
            break
    assert "last" in hall.begun
    assert 60 < number * 10 + 10 + 60 <= 4 * AGEING_S + 60


def test_a_caller_who_floods_does_not_keep_another_waiting() -> None:
    hall = Hall(a=1)
    for number in range(10):
        hall.wait(f"flood {number}", caller="ann")
    hall.plan()
    hall.wait("bob 0", caller="bob")
    hall.wait("bob 1", caller="bob")
    order = hall.serve_all()
    assert order.index("bob 0") <= 2
    assert order.index("bob 1") <= 4
    assert [name for name in order if name.startswith("flood")] == [f"flood {number}" for number in range(10)]


def test_fairness_is_by_work_and_not_by_requests() -> None:
    """Ann's answers are five times as long, so Bob has about five in the time of one of hers."""
    hall = Hall(a=1)
    for number in range(10):
        hall.wait(f"ann {number}", caller="ann", tokens=500)
        hall.wait(f"bob {number}", caller="bob", tokens=100)
    order = hall.serve_all()[:12]
    assert sum(name.startswith("bob") for name in order) >= 8


@pytest.mark.parametrize(("floods", "goes_to"), [(20, "fast"), (1, "slow")])
def test_while_others_fill_every_slot_joules_are_no_reason_to_be_slow(floods: int, goes_to: str) -> None:
    """Alone, the frugal device is worth its 20 s; of those that wait for it too, whoever does not take it is served."""
    hall = Hall()
    for name, watts, tokens_per_s in (("fast", 100, 20), ("slow", 10, 5)):
        hall.join(BackendSpec(name, "openai", name, "cpu", watts, 100, tokens_per_s, slots=1, held=True))
    for number in range(2 + floods):
        hall.wait(f"ann {number}", caller="ann")
        hall.plan()
    hall.wait("bob", caller="bob")
    hall.plan()
    there = {backend: name for name, (backend, _) in hall.at.items()}
    hall.now_s += 4
    hall.end(there["slow"])
    hall.now_s += 1
    if "bob" not in hall.begun:
        hall.end(there["fast"])
    assert hall.at["bob"][0] == goes_to


def test_who_was_away_has_saved_nothing() -> None:
    hall = Hall(a=1)
    for number in range(20):
        hall.wait(f"ann {number}", caller="ann")
    hall.plan()
    for _ in range(8):
        hall.end(next(iter(hall.at)))
    for number in range(6):
        hall.wait(f"new {number}", caller="new")
    order = hall.serve_all()[9:19]
    assert 4 <= sum(name.startswith("new") for name in order) <= 6


def test_one_who_comes_back_after_a_failed_attempt_keeps_its_place() -> None:
    hall = Hall(a=1, b=1)
    first = Waiting("retried", hall.wait("x").request, hall.now_s - 30, "", frozenset({"b"}))
    hall.plan()
    for name in "123":
        hall.wait(name)
    hall.plan()
    hall.queue.add(first, hall.now_s)
    assert hall.queue.line(hall.now_s).index(first) == 0


# -- backends that come and go -----------------------------------------------------


def test_when_the_backend_dies_the_waiting_are_decided_anew() -> None:
    hall = Hall(a=1, b=1)
    hall.wait("1")
    hall.wait("2")
    hall.plan()
    hall.wait("3", target="a")
    assert hall.plan() == []
    hall.fleet.failed("a", MODEL, Failure(FailureKind.REFUSED, "connection refused"), 0.0)
    assert hall.plan() == []
    name = next(name for name, (backend, _) in hall.at.items() if backend == "b")
    assert hall.end(name) == ["3"]
    assert hall.at["3"][0] == "b"


def test_when_nobody_is_left_the_waiting_are_refused() -> None:
    hall = Hall(a=1)
    hall.wait("1")
    hall.plan()
    hall.wait("2")
    hall.fleet.failed("a", MODEL, Failure(FailureKind.REFUSED, "connection refused"), 0.0)
    assert hall.plan() == []
    assert "connection refused" in hall.refused["2"].message
    assert len(hall.queue) == 0


def test_a_backend_that_was_tried_is_not_waited_for() -> None:
    hall = Hall(a=1)
    hall.wait("1")
    hall.plan()
    hall.wait("2", tried=("a",))
    hall.plan()
    assert "already tried" in hall.refused["2"].message


def test_a_backend_that_joins_takes_those_that_wait() -> None:
    hall = Hall(a=1)
    for name in "123":
        hall.wait(name)
    assert hall.plan() == ["1"]
    hall.join(BackendSpec("b", "openai", "b", "cpu", 10, 500, 10, slots=1, held=True))
    assert hall.plan() == ["2"]


def test_backends_whose_slots_nobody_holds_take_all() -> None:
    hall = Hall()
    hall.join(BackendSpec("cloud", "openai", "cloud", "cloud", 10, 500, 10))
    for name in "123":
        hall.wait(name)
    assert hall.plan() == ["1", "2", "3"]


# -- bounds ----------------------------------------------------------------------


def test_no_more_wait_than_may() -> None:
    hall = Hall(most=2, a=1)
    hall.wait("1")
    hall.plan()
    hall.wait("2")
    hall.wait("3")
    hall.plan()
    with pytest.raises(Full, match="2 requests wait already") as full:
        hall.wait("4")
    # One runs for ten and a half seconds, one waits as long before the other: so the last waits some twenty.
    assert full.value.wait_s == pytest.approx(21, rel=0.05)
    assert len(hall.queue) == 2


def test_what_is_removed_waits_no_longer_and_twice_is_no_trouble() -> None:
    hall = Hall(a=1)
    hall.wait("1")
    hall.plan()
    gone, stays = hall.wait("2"), hall.wait("3")
    assert hall.queue.line(hall.now_s).index(stays) <= 1
    hall.queue.remove(gone)
    hall.queue.remove(gone)
    assert hall.queue.line(hall.now_s).index(stays) == 0
    assert hall.end("1") == ["3"]


def test_who_waits_knows_for_how_long() -> None:
    hall = Hall(a=1)
    hall.wait("1")
    hall.plan()
    second, third = hall.wait("2"), hall.wait("3")
    hall.plan()
    assert second.wait_s == pytest.approx(10.5, rel=0.01)
    assert third.wait_s == pytest.approx(21.0, rel=0.01)


def test_time_that_was_waited_is_taken_off_the_limit() -> None:
    hall = Hall(a=1)
    hall.wait("1")
    hall.plan()
    waiting = hall.wait("2", max_latency_ms=40_000)
    seen: list[RoutingRequest] = []

    def listen(request: RoutingRequest, *rest: Any) -> Decision | Refusal:
        seen.append(request)
        return judge(request, *rest)

    judge, hall.queue._judge = hall.queue._judge, listen
    hall.now_s += 7
    hall.plan()
    assert seen == [msgspec.structs.replace(waiting.request, spent_s=7.0)]


def test_without_order_all_is_first_come_first_served() -> None:
    hall = Hall(a=1)
    hall.queue = Admission(hall.fleet, Policy, in_order=False)
    hall.wait("1")
    hall.wait("2", priority=Priority.REALTIME)
    hall.wait("3", max_latency_ms=60_000)
    assert order_of(hall) == "123"


# -- bounds ------------------------------------------------------------------------


def test_bodies_that_wait_are_bounded_together() -> None:
    hall = Hall(bounds=Bounds(size_bytes=1000), a=1)
    kept = Waiting("1", RoutingRequest(MODEL, MODEL, CAN, Annotations()), 0.0, "", frozenset())
    kept.size_bytes = 900
    hall.queue.add(kept, hall.now_s)
    large = Waiting("2", kept.request, 0.0, "", frozenset())
    large.size_bytes = 200
    with pytest.raises(Full, match=r"1 requests of .* MB wait already"):
        hall.queue.add(large, hall.now_s)
    hall.queue.remove(kept)
    hall.queue.remove(kept)
    hall.queue.add(large, hall.now_s)
    assert len(hall.queue) == 1


def test_whoever_would_wait_for_too_long_is_refused_unless_it_is_urgent() -> None:
    hall = Hall(bounds=Bounds(wait_s=25), a=1)
    for name in "1234":
        hall.wait(name)
    hall.plan()
    # Each takes ten seconds, so that the last of three waits for thirty.
    with pytest.raises(Full, match="none may for more than 25 s"):
        hall.wait("5")
    hall.wait("urgent", priority=Priority.HIGH)
    hall.end("1")
    assert hall.begun[-1] == "urgent"


def test_in_a_full_queue_the_more_urgent_takes_the_place_of_the_last_of_the_lowest_class() -> None:
    hall = Hall(most=3, a=1)
    hall.wait("runs")
    hall.plan()
    for name, priority in (("low", Priority.LOW), ("lower", Priority.BEST_EFFORT), ("normal", Priority.NORMAL)):
        hall.wait(name, priority=priority)
    request = RoutingRequest(MODEL, MODEL, CAN, Annotations(priority=Priority.HIGH))
    displaced = hall.queue.add(Waiting("high", request, hall.now_s, "", frozenset()), hall.now_s)
    assert displaced is not None
    assert displaced.owner == "lower"
    assert len(hall.queue) == 3
    with pytest.raises(Full):
        hall.wait("another", priority=Priority.LOW)
    # Age counts as class.
    hall.now_s += 600
    with pytest.raises(Full):
        hall.wait("young", priority=Priority.CRITICAL)


def newcomer(name: str, caller: str, **wishes: Any) -> Waiting:
    return Waiting(name, RoutingRequest(MODEL, MODEL, CAN, Annotations(**wishes)), 1000.0, caller, frozenset())


def test_in_a_full_queue_whoever_has_the_most_makes_way_for_whoever_has_less() -> None:
    hall = Hall(most=4, a=1)
    for name in "1234":
        hall.wait(name, caller="floods")
        hall.now_s += 1
    for name, goes in (("x", "4"), ("y", "3")):
        displaced = hall.queue.add(newcomer(name, "ann"), hall.now_s)
        assert displaced is not None
        assert displaced.owner == goes
    # Two each: nobody has more than is fair, and one more for either would be.
    for caller in ("floods", "ann"):
        with pytest.raises(Full):
            hall.wait("z", caller=caller)
    displaced = hall.queue.add(newcomer("b", "bob"), hall.now_s)
    assert displaced is not None
    assert displaced.caller in ("floods", "ann")
    assert len(hall.queue) == 4


def test_nobody_of_a_higher_class_makes_way_for_whoever_has_less() -> None:
    hall = Hall(most=2, a=1)
    for name in "12":
        hall.wait(name, caller="floods", priority=Priority.HIGH)
    with pytest.raises(Full):
        hall.wait("x", caller="ann")
    assert hall.queue.add(newcomer("y", "ann", priority=Priority.HIGH), hall.now_s) is not None


def test_a_long_line_of_one_is_no_reason_to_refuse_another() -> None:
    hall = Hall(bounds=Bounds(wait_s=25), a=1)
    for name in "1234":
        hall.wait(name, caller="floods")
    hall.plan()
    with pytest.raises(Full, match="none may for more than 25 s"):
        hall.wait("5", caller="floods")
    hall.wait("x", caller="ann")
    hall.end("1")
    assert hall.begun[-1] == "x"


# -- long lines ------------------------------------------------------------------


def test_one_more_in_a_long_line_is_decided_once_and_the_others_hardly() -> None:
    judged: list[str] = []
    hall = Hall(a=1, b=1)

    def judge(request: RoutingRequest, *rest: Any) -> Decision | Refusal:
        judged.append("")
        return decide(request, *rest)

    hall.queue = Admission(hall.fleet, lambda: hall.policy, judge=judge)
    for number in range(100):
        hall.wait(str(number))
    hall.plan()
    before = [waiting.wait_s for waiting in hall.queue.line(hall.now_s)]
    judged.clear()
    last = hall.wait("last")
    hall.plan()
    assert len(judged) <= 9
    line = hall.queue.line(hall.now_s)
    assert [waiting.wait_s for waiting in line[:-1]] == before
    # Whoever is last waits for all before it, those whose plans were kept included.
    assert line[-1] is last
    assert last.wait_s == pytest.approx(500, rel=0.05)


def test_deep_in_the_line_the_free_backend_finds_the_one_who_wants_it() -> None:
    hall = Hall(a=1, b=1)
    for number in range(30):
        hall.wait(str(number), target="a")
    hall.wait("other", target="b")
    assert hall.plan() == ["0", "other"]
    for number in range(30, 40):
        hall.wait(str(number), target="a")
    hall.wait("another", target="b")
    assert hall.plan() == []
    assert hall.end("other") == ["another"]


def test_when_a_backend_dies_plans_of_a_long_line_are_not_kept() -> None:
    hall = Hall(a=1, b=1)
    for number in range(40):
        hall.wait(str(number))
    hall.plan()
    hall.fleet.failed("b", MODEL, Failure(FailureKind.REFUSED, "not there"), hall.now_s)
    hall.plan()
    assert {one.planned.backend for one in hall.queue.line(hall.now_s) if one.planned} == {"a"}
