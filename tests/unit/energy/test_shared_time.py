"""A device's time among requests at once, and when a meter is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.energy.model import UNKNOWN, SharedTime, model_figure
from ollama_proxy.energy.trust import AWAKE_S, BACK_S, Trust

SPANS = st.lists(st.tuples(st.floats(0, 100), st.floats(0.001, 50)), min_size=1, max_size=20)


@given(SPANS)
def test_the_shares_add_up_to_the_time_in_which_anybody_was_there(spans: list[tuple[float, float]]) -> None:
    events = sorted(
        [(from_s, 1, number) for number, (from_s, _) in enumerate(spans)]
        + [(from_s + seconds, 0, number) for number, (from_s, seconds) in enumerate(spans)]
    )
    time, marks, shares = SharedTime(), {}, {}
    for now_s, begins, number in events:
        if begins:
            marks[number] = time.begin(now_s)
        else:
            shares[number] = time.end(marks[number], now_s)
    assert time.running == 0
    assert all(0 <= share <= spans[number][1] + 1e-9 for number, share in shares.items())
    assert sum(shares.values()) == pytest.approx(time.busy_s(-1.0, 1000.0), abs=1e-6)


def test_busy_time_of_a_span_counts_those_who_are_still_there() -> None:
    time = SharedTime()
    time.end(time.begin(10.0), 12.0)
    assert time.busy_since() is None
    time.begin(15.0)
    assert time.busy_since() == 15.0
    assert time.busy_s(11.0, 17.0) == 3.0
    assert time.busy_s(12.5, 14.0) == 0.0


def test_a_modelled_figure_doubts_its_watts() -> None:
    figure = model_figure(20.0, 3.0, emulated=False)
    assert (figure.joules, figure.full_j, figure.plus_minus_j, figure.kind) == (60.0, 60.0, 30.0, "modelled")
    assert model_figure(20.0, 3.0, emulated=True).kind == "emulated"
    assert model_figure(0.0, 3.0, emulated=False) is UNKNOWN


def test_a_meter_may_sleep_while_nobody_works() -> None:
    trust = Trust()
    assert trust.look(10.0, stale=True, busy_since_s=None)
    assert trust.look(11.0, stale=True, busy_since_s=11.0 - AWAKE_S / 2)
    assert not trust.look(12.0, stale=True, busy_since_s=11.0)


def test_a_meter_that_flickers_is_not_believed() -> None:
    trust = Trust()
    trust.look(10.0, stale=True, busy_since_s=0.0)
    for now_s in range(11, 40):
        assert not trust.look(float(now_s), stale=now_s % 4 == 0, busy_since_s=0.0)
    assert not trust.look(41.0, stale=False, busy_since_s=0.0)
    assert trust.look(41.0 + BACK_S, stale=False, busy_since_s=0.0)
