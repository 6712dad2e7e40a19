"""The live state: counts, health, learned rates, views that never change under a reader."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec, BackendView, Health, KeptOut, ModelFacts
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.health import WELL, HealthRecord, after_failure
from ollama_proxy.fleet.rates import MAX_MODELS, Observation
from ollama_proxy.fleet.running import Running
from ollama_proxy.fleet.state import Fleet

CAN = frozenset((Need.GENERATE,))
SPEC = BackendSpec("a", "ollama", "A", "cpu", 20, 500, 10)
MODEL = "m:1b"
REPORT = ProbeReport({MODEL: ModelFacts(MODEL), "n:1b": ModelFacts("n:1b")}, frozenset({MODEL}), "0.9", emulated=True)


def fleet_of(*names: str, threshold: int = 3) -> Fleet:
    fleet = Fleet(threshold)
    for name in names or ("a",):
        fleet.add(BackendSpec(name, "ollama", name, "cpu", 20, 500, 10), CAN)
        fleet.probed(name, REPORT, 100)
    return fleet


def seen(ttft_s: float | None = 0.5, decode_tps: float | None = 10.0) -> Observation:
    return Observation(ttft_s, decode_tps)


def look(fleet: Fleet, name: str = "a") -> BackendView:
    view = fleet.find(name)
    assert view is not None
    return view


# -- health, the pure part -----------------------------------------------------


def test_soft_failures_degrade_until_the_threshold() -> None:
    record = WELL
    states = []
    for _ in range(4):
        record = after_failure(record, "timeout after 5 s", 3, hard=False)
        states.append(record.state)
    assert states == [Health.DEGRADED, Health.DEGRADED, Health.UNHEALTHY, Health.UNHEALTHY]
    assert record.message == "timeout after 5 s"
    assert HealthRecord(Health.HEALTHY, 0, "") == WELL


def test_a_hard_failure_and_a_first_failure_are_enough() -> None:
    assert after_failure(WELL, "connection refused", 3, hard=True).state is Health.UNHEALTHY
    assert after_failure(HealthRecord(), "HTTP 503", 3, hard=False).state is Health.UNHEALTHY


def test_a_success_in_between_starts_the_count_anew() -> None:
    record = WELL
    for _ in range(5):
        record = after_failure(record, "x", 2, hard=False)
        assert record.state is Health.DEGRADED
        record = WELL


def test_a_threshold_of_one_knows_no_degraded() -> None:
    assert after_failure(WELL, "x", 1, hard=False).state is Health.UNHEALTHY


# -- the fleet -------------------------------------------------------------------


def test_backends_keep_the_order_in_which_they_came() -> None:
    fleet = fleet_of("b", "a", "c")
    assert [view.id for view in fleet.view().backends] == ["b", "a", "c"]


def test_a_view_is_a_moment() -> None:
    fleet = fleet_of("a", "b")
    before = fleet.view()
    fleet.opened("a")
    after = fleet.view()
    assert before.backends[0].in_flight == 0
    assert after.backends[0].in_flight == 1
    assert after.version > before.version
    assert after.backends[1] is before.backends[1]
    assert fleet.view() is after


def test_load_goes_up_and_down_and_never_below_nothing() -> None:
    fleet = fleet_of()
    for expected in (1, 2):
        fleet.opened("a")
        assert look(fleet).in_flight == expected
    for expected in (1, 0, 0):
        fleet.closed("a")
        assert look(fleet).in_flight == expected


def test_strangers_are_ignored() -> None:
    fleet = fleet_of()
    before = look(fleet)
    fleet.opened("x")
    fleet.closed("x")
    fleet.succeeded("x", MODEL, seen(), 1.0)
    fleet.failed("x", MODEL, Failure(FailureKind.RESET, "reset"), 0.0)
    fleet.probed("x", REPORT, 1)
    fleet.probe_failed("x", "gone", 1, hard=True)
    fleet.remove("x")
    assert fleet.find("x") is None
    assert look(fleet) == before


def test_a_probe_tells_all_it_knows() -> None:
    view = look(fleet_of())
    assert (view.health, view.message, view.checked_unix_s) == (Health.HEALTHY, "", 100)
    assert view.loaded == {MODEL}
    assert (view.version, view.emulated) == ("0.9", True)
    assert set(view.models or ()) == {MODEL, "n:1b"}
    assert view.capabilities == CAN


def test_before_its_first_probe_a_backend_does_not_serve() -> None:
    fleet = Fleet()
    fleet.add(SPEC, CAN)
    assert look(fleet).health is Health.UNKNOWN
    assert not look(fleet).health.serves
    assert look(fleet).message == "not probed yet"
    fleet.probe_failed("a", "timeout after 5 s", 7, hard=False)
    assert (look(fleet).health, look(fleet).message) == (Health.UNHEALTHY, "timeout after 5 s")


def test_probes_and_traffic_share_one_count() -> None:
    fleet = fleet_of()
    fleet.probe_failed("a", "HTTP 503", 1, hard=False)
    fleet.failed("a", MODEL, Failure(FailureKind.TIMEOUT, "timeout"), 0.0)
    assert look(fleet).health is Health.DEGRADED
    fleet.probe_failed("a", "HTTP 503", 2, hard=False)
    assert look(fleet).health is Health.UNHEALTHY
    fleet.succeeded("a", MODEL, seen(), 3.0)
    assert (look(fleet).health, look(fleet).message) == (Health.HEALTHY, "")


@pytest.mark.parametrize("kind", list(FailureKind))
def test_who_is_to_blame(kind: FailureKind) -> None:
    fleet = fleet_of()
    fleet.failed("a", MODEL, Failure(kind, "why"), 0.0)
    health = look(fleet).health
    if not kind.blames_backend:
        assert health is Health.HEALTHY
        assert look(fleet).error_rate == 0
    else:
        assert health is (Health.UNHEALTHY if kind is FailureKind.REFUSED else Health.DEGRADED)
        assert look(fleet).message == "why"
        assert look(fleet).error_rate == pytest.approx(0.1)


def test_a_missing_model_is_believed_until_the_next_probe() -> None:
    fleet = fleet_of()
    fleet.failed("a", "M:1b", Failure(FailureKind.MODEL_MISSING, "not found"), 0.0)
    assert set(look(fleet).models or ()) == {"n:1b"}
    fleet.probed("a", REPORT, 101)
    assert MODEL in (look(fleet).models or ())


def test_a_missing_model_on_a_server_without_a_list_is_no_trouble() -> None:
    fleet = fleet_of()
    fleet.probed("a", ProbeReport(None), 1)
    fleet.failed("a", MODEL, Failure(FailureKind.MODEL_MISSING, "not found"), 0.0)
    assert look(fleet).models is None


def test_rates_survive_probes_and_are_kept_by_canonical_name() -> None:
    fleet = fleet_of()
    fleet.succeeded("a", "M", seen(), 1.0)
    fleet.probed("a", REPORT, 101)
    assert set(look(fleet).rates) == {"m:latest"}
    assert look(fleet).loaded == {MODEL}


def test_a_model_that_has_just_answered_is_loaded() -> None:
    fleet = fleet_of()
    fleet.succeeded("a", "N:1b", seen(), 1.0)
    assert look(fleet).loaded == {MODEL, "n:1b"}


def test_the_models_remembered_are_bounded_and_the_longest_untouched_goes() -> None:
    fleet = fleet_of()
    fleet.succeeded("a", "keep:1b", seen(), 0.0)
    for index in range(MAX_MODELS + 20):
        fleet.succeeded("a", f"m{index}:1b", seen(), float(index))
        fleet.succeeded("a", "keep:1b", seen(), float(index))
    rates = look(fleet).rates
    assert len(rates) == MAX_MODELS
    assert "keep:1b" in rates
    assert "m0:1b" not in rates


def test_requests_of_the_last_minute() -> None:
    fleet = fleet_of()
    for second in (0.0, 30.0, 59.0):
        fleet.succeeded("a", MODEL, seen(), second)
    assert look(fleet).requests_per_minute == 3
    for now_s, expected in ((59.9, 3), (60.0, 2), (100.0, 1), (200.0, 0)):
        fleet.age(now_s)
        assert look(fleet).requests_per_minute == expected


def test_ageing_changes_nothing_when_nothing_ran_out() -> None:
    fleet = fleet_of()
    before = fleet.view()
    fleet.age(1e9)
    assert fleet.view() is before


def test_who_fails_is_kept_out_tried_and_given_more() -> None:
    fleet = fleet_of("a", "b")
    for _ in range(3):
        fleet.failed("a", MODEL, Failure(FailureKind.RESET, "reset"), 100.0)
    assert look(fleet).health is Health.DEGRADED
    assert look(fleet).kept_out == {MODEL: KeptOut(0, "breaker open (reset), next try in 2 s", 1.5)}
    fleet.move(101.5)
    assert look(fleet).kept_out[MODEL].most == 1
    fleet.opened("a")
    fleet.tried("a", MODEL, 101.5)
    assert look(fleet).kept_out[MODEL].most == 0
    fleet.succeeded("a", MODEL, seen(), 101.5)
    fleet.move(104.0)
    assert look(fleet).kept_out[MODEL].most > 1
    fleet.move(106.5)
    assert look(fleet).kept_out == {}


def test_a_model_that_fails_keeps_no_other_out() -> None:
    fleet = fleet_of("a", "b")
    for _ in range(3):
        fleet.failed("a", "other", Failure(FailureKind.SERVER_ERROR, "HTTP 503"), 100.0)
    assert look(fleet).kept_out.get(MODEL) is None


@pytest.mark.parametrize(("names", "most_out"), [("a", 0), ("ab", 1), ("abc", 1), ("abcd", 2)])
def test_at_most_half_of_those_that_hold_a_model_are_kept_out(names: str, most_out: int) -> None:
    fleet = fleet_of(*names)
    for number, name in enumerate(names):
        for _ in range(3 + number):
            fleet.failed(name, MODEL, Failure(FailureKind.RESET, "reset"), 100.0)
    out = [name for name in names if look(fleet, name).kept_out]
    assert len(out) == most_out
    # The least bad stay in.
    assert out == list(names)[len(names) - most_out :]


def test_those_that_are_down_count_among_the_half() -> None:
    fleet = fleet_of(*"abcd")
    for name in "ab":
        fleet.failed(name, MODEL, Failure(FailureKind.REFUSED, "refused"), 100.0)
    fleet.failed("c", MODEL, Failure(FailureKind.TIMEOUT, "timeout"), 100.0)
    assert look(fleet, "c").kept_out == {}


def test_error_rate_and_mean_latency_decay() -> None:
    fleet = fleet_of()
    for _ in range(50):
        fleet.failed("a", MODEL, Failure(FailureKind.RESET, "reset"), 0.0)
    assert look(fleet).error_rate == pytest.approx(1.0, abs=0.01)
    for _ in range(50):
        fleet.succeeded("a", MODEL, seen(ttft_s=0.2), 1.0)
    assert look(fleet).error_rate == pytest.approx(0.0, abs=0.01)
    assert look(fleet).avg_latency_ms == pytest.approx(200)
    fleet.succeeded("a", MODEL, seen(ttft_s=None), 1.0)
    assert look(fleet).avg_latency_ms == pytest.approx(200)


def test_what_ran_before_a_backend_left_is_not_booked_on_its_successor() -> None:
    """The embedded model's child dies and comes back under the same id while a request is still being let go."""
    fleet = fleet_of()
    fleet.opened("a")
    fleet.remove("a")
    fleet.add(SPEC, CAN)
    fleet.opened("a")
    fleet.closed("a")  # the first request, of the child that is gone
    assert look(fleet).in_flight == 1


def test_which_request_ends_is_told_by_what_was_predicted_of_it() -> None:
    """Another server came under the same id: what ends there is not what still runs at the one that left."""
    fleet = Fleet()
    held = msgspec.structs.replace(SPEC, held=True)
    fleet.add(held, CAN)
    old, new = (Running(0, 1, 0.1, 0.1, 0, None, 0) for _ in range(2))
    fleet.opened("a", old)
    fleet.remove("a")
    fleet.add(held, CAN)
    fleet.opened("a", new)
    fleet.closed("a", new)
    assert look(fleet).in_flight == 0
    fleet.opened("a", new)
    fleet.closed("a", old)
    assert look(fleet).in_flight == 1


def test_a_backend_that_is_described_anew_keeps_what_is_known_of_it() -> None:
    fleet = fleet_of("a", "b")
    fleet.succeeded("a", MODEL, seen(), 1.0)
    fleet.opened("a", Running(0, 1, 0.1, 0.1, 0, None, 0))
    before = look(fleet)
    before.memory["kind of request"] = "what was worked out"
    fleet.renew(msgspec.structs.replace(SPEC, slots=1, held=True), frozenset((Need.EMBED,)))
    after = look(fleet)
    assert (after.health, after.in_flight, after.rates) == (before.health, 1, before.rates)
    assert (after.spec.held, after.capabilities, after.memory) == (True, {Need.EMBED}, {})
    # It is full now, and whoever comes has to wait.
    assert fleet.view_at(0.5).waits[0] is not None


def test_backends_are_put_in_order() -> None:
    fleet = fleet_of("a", "b", "c")
    before = fleet.view()
    fleet.arrange(["c", "a", "nobody"], 1)
    assert [one.id for one in fleet.view().backends] == ["c", "a", "b"]
    assert fleet.view().version > before.version
    fleet.probe_failed("b", "HTTP 503", 1, hard=False)
    assert look(fleet, "b").health is Health.UNHEALTHY


calls = st.lists(
    st.sampled_from(("opened", "closed", "succeeded", "reset", "refused", "missing", "probed", "probe_failed")),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(calls, st.integers(1, 4))
def test_any_history_keeps_the_books_sound(history: list[str], threshold: int) -> None:
    fleet = fleet_of("a", "b", threshold=threshold)
    other = look(fleet, "b")
    running, version = 0, fleet.view().version
    for step, event in enumerate(history):
        {
            "opened": lambda: fleet.opened("a"),
            "closed": lambda: fleet.closed("a"),
            "succeeded": lambda: fleet.succeeded("a", MODEL, seen(), float(step)),  # noqa: B023
            "reset": lambda: fleet.failed("a", MODEL, Failure(FailureKind.RESET, "reset"), 0.0),
            "refused": lambda: fleet.failed("a", MODEL, Failure(FailureKind.REFUSED, "refused"), 0.0),
            "missing": lambda: fleet.failed("a", MODEL, Failure(FailureKind.MODEL_MISSING, "missing"), 0.0),
            "probed": lambda: fleet.probed("a", REPORT, step),  # noqa: B023
            "probe_failed": lambda: fleet.probe_failed("a", "HTTP 503", step, hard=False),  # noqa: B023
        }[event]()
        running = max(0, running + {"opened": 1, "closed": -1}.get(event, 0))
        view = look(fleet)
        assert view.in_flight == running
        assert 0 <= view.error_rate <= 1
        assert bool(view.message) is (view.health is not Health.HEALTHY)
        assert fleet.view().version >= version
        version = fleet.view().version
        if event in ("succeeded", "probed"):
            assert view.health is Health.HEALTHY
        if event == "refused":
            assert view.health is Health.UNHEALTHY
    assert look(fleet, "b") is other


# -- who runs, and when they will end ---------------------------------------------


def running(began_s: float, ttft_s: float = 4.0) -> Running:
    return Running(began_s, ttft_s, 0.0, 0.1, 0.0, None, 0)


def held_fleet(slots: int = 1) -> Fleet:
    fleet = fleet_of("b")
    fleet.add(BackendSpec("a", "ollama", "a", "cpu", 20, 500, 10, slots=slots, held=True), CAN)
    fleet.probed("a", REPORT, 100)
    return fleet


def test_waits_are_counted_where_slots_are_held_and_all_are_taken() -> None:
    fleet = held_fleet(slots=2)
    first, second = running(0.0), running(1.0)
    fleet.opened("a", first)
    assert fleet.view_at(1.0).waits == ()
    fleet.opened("a", second)
    waits = fleet.view_at(3.0).waits
    assert waits[0] is None  # b, whose slots nobody holds
    assert waits[1] is not None
    assert waits[1].mean_s == pytest.approx(1.0)
    fleet.closed("a", first)
    assert fleet.view_at(3.0).waits == ()


def test_slots_to_plan_with_are_those_of_held_backends() -> None:
    fleet = held_fleet(slots=2)
    fleet.opened("a", running(0.0))
    fleet.opened("b", running(0.0))
    assert fleet.slots_at(3.0) == [[], [(0.0, 0.0), (1.0, 0.0)]]


def test_what_takes_no_slot_is_load_and_not_counted() -> None:
    fleet = held_fleet()
    fleet.opened("a")
    assert look(fleet).in_flight == 1
    assert fleet.slots_at(0.0)[1] == [(0.0, 0.0)]


def test_an_end_that_was_booked_twice_frees_one_slot() -> None:
    fleet = held_fleet(slots=2)
    first, second = running(0.0), running(0.0)
    fleet.opened("a", first)
    fleet.opened("a", second)
    fleet.closed("a", first)
    fleet.closed("a", first)
    assert [free_s for free_s, _ in fleet.slots_at(0.0)[1]] == [0.0, pytest.approx(4.0)]


def test_a_device_that_suspends_itself_sleeps_until_it_is_asked() -> None:
    spec = BackendSpec("a", "ollama", "a", "nvidia", 50, suspend_after_seconds=40)
    fleet = Fleet()
    fleet.add(spec, frozenset((Need.GENERATE,)))
    assert fleet.look("a").asleep
    fleet.opened("a")
    assert not fleet.look("a").asleep
    fleet.age(1000.0)
    fleet.closed("a")
    fleet.age(1001.0)
    fleet.age(1040.0)
    assert not fleet.look("a").asleep
    fleet.opened("a")
    fleet.closed("a")
    fleet.age(1042.0)
    assert not fleet.look("a").asleep
    fleet.age(1082.0)
    assert fleet.look("a").asleep
