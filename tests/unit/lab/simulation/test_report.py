"""The report: each figure by its definition, and nothing where nothing is known."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.lab.simulation.bound import Bound, bound
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES
from ollama_proxy.lab.simulation.report import (
    Meta,
    Report,
    allow_like,
    percentile,
    render_table,
    summarise_bound,
    summarise_run,
)
from ollama_proxy.lab.simulation.workload import Arrival, Run, Served


def served(
    number: int, wish: str = "balanced", deadline_s: float = 0.0, e2e_s: float = 10.0, device: str = "a"
) -> Served:
    arrival = Arrival(number, 100.0 * number, 10, 10, wish=wish, deadline_s=deadline_s)
    at_s = arrival.at_s
    return Served(arrival, device, at_s + 1, at_s + 2, at_s + e2e_s, 50.0 if device else 0.0)


def run(*fates: Served, decide_us: tuple[float, ...] = ()) -> Run:
    return Run("some", fates, math.fsum(one.joules for one in fates), 7.0, 3.0, decide_us, 1)


META = Meta(1, 5.0, 3, "t.csv", "1/1", "default", ("a",), {"python": "3"})


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.floats(0.001, 1.0))
def test_a_percentile_occurred_and_leaves_at_most_the_rest_above(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(one > found for one in values) <= len(values) * (1 - share) + 1e-6
    assert sum(one < found for one in values) < len(values) * share


def test_percentiles_by_hand() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0


def test_every_figure() -> None:
    figures = summarise_run(
        run(
            served(0, "critical", e2e_s=20.0),
            served(1, "deadline", 15.0, e2e_s=15.0),
            served(2, "deadline", 15.0, e2e_s=16.0),
            served(3, "deadline", 15.0, e2e_s=0.0, device=""),
            decide_us=(5.0, 1.0, 9.0),
        ),
        is_capped=True,
    )
    assert figures == {
        "requests": 4,
        "rejected": 1,
        "joules": 150.0,
        "standby_joules": 7.0,
        "joules_per_request": 50.0,
        "deadline_requests": 3,
        "deadline_met_ratio": pytest.approx(1 / 3),
        "e2e_p50_s": 16.0,
        "e2e_p99_s": 20.0,
        "critical_e2e_p99_s": 20.0,
        "ttft_p50_s": 2.0,
        "ttft_p99_s": 2.0,
        "seconds_above_cap": 3.0,
        "decide_us_p50": 5.0,
        "decide_us_p99": 9.0,
    }


def test_what_nobody_knows_is_absent() -> None:
    figures = summarise_run(run(served(0, device="")))
    assert figures == {
        "requests": 1,
        "rejected": 1,
        "joules": 0.0,
        "standby_joules": 7.0,
        "deadline_requests": 0,
    }
    assert "deadline_met_ratio" not in summarise_run(run(served(0)))


def test_the_bound_has_joules_and_no_times() -> None:
    arrivals = [served(0).arrival, served(1, "deadline", 15.0).arrival, served(2, "deadline", 15.0).arrival]
    figures = summarise_bound(Bound(30.0, (5.0, 10.0, 15.0), (0.5, 0.0, 0.5)), arrivals)
    assert figures == {
        "requests": 3,
        "rejected": 0,
        "joules": 30.0,
        "joules_per_request": 10.0,
        "deadline_requests": 2,
        "deadline_met_ratio": 0.75,
    }


def test_the_bound_may_be_as_late_as_the_run() -> None:
    fates = [served(n, e2e_s=float(n)) for n in range(200)]
    fates += [served(200 + n, "deadline", 15.0, e2e_s=10.0 + 10 * (n % 4 == 0)) for n in range(8)]
    targets_s, late_shares = allow_like(run(*fates))
    assert targets_s == {"balanced": 197.0}
    assert late_shares == {"deadline": 0.25}
    assert bound([one.arrival for one in fates], DEFAULT_DEVICES, targets_s, late_shares).joules > 0


def test_json_has_no_null_and_no_nan() -> None:
    report = Report(META, {"some": summarise_run(run(served(0)))})
    text = msgspec.json.encode(report).decode()
    assert "null" not in text
    back = msgspec.json.decode(text)
    assert back["policies"]["some"]["requests"] == 1
    assert (back["meta"]["seed"], back["meta"]["energy_kind"]) == (1, "emulated")
    assert "cap_w" not in back["meta"]


def test_the_table_has_a_line_a_policy_and_dashes() -> None:
    done = run(served(0))
    low = summarise_bound(Bound(5.0, (5.0,), (0.0,)), [served(0).arrival])
    header, one, bounded = render_table(Report(META, {"one": summarise_run(done), "bound": low})).splitlines()
    assert header.split()[:2] == ["policy", "J/req"]
    assert "critical" not in header
    assert "above cap" not in header
    assert one.split()[:2] == ["one", "50.0"]
    assert bounded.split()[:3] == ["bound", "5.0", "-"]
    assert "above cap s" in render_table(Report(META, {"one": summarise_run(done, is_capped=True)}))
