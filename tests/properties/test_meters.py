"""What holds of every counter: the sum never falls, nothing is lost or made up, and nonsense changes nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.metering import Reading, Source
from ollama_proxy.energy.meters.counter import Counter, Integrator
from ollama_proxy.energy.meters.series import Series
from ollama_proxy.energy.meters.unit import JOULES, WATTS, to_reading

RANGE_J, MAX_WATTS = 1000.0, 100.0
steps = st.lists(st.tuples(st.floats(0.01, 8.0), st.floats(0.0, MAX_WATTS)), min_size=1, max_size=60)
anything = st.floats(allow_nan=True, allow_infinity=True)
SOURCE = Source("s", "test", "package", "a package", range=RANGE_J, max_rate=MAX_WATTS, update_s=0.0)


@given(st.lists(st.tuples(anything, anything), max_size=60), st.sampled_from([None, RANGE_J]))
def test_the_sum_is_finite_and_never_falls_whatever_is_read(
    looks: list[tuple[float, float]], range_: float | None
) -> None:
    for judge in (Counter(range_, MAX_WATTS), Integrator(10.0, MAX_WATTS)):
        before, before_s = 0.0, -math.inf
        for at_s, value in looks:
            point = judge.update(value, at_s)
            if point is None:
                continue
            assert math.isfinite(point.total)
            assert point.total >= before
            assert point.at_s > before_s
            if point.gap:
                assert point.total == before
            before, before_s = point.total, point.at_s


@given(steps, st.floats(0.0, RANGE_J * 0.999))
def test_what_was_spent_is_what_is_counted_across_any_number_of_wraps(
    spent: list[tuple[float, float]], start: float
) -> None:
    """As long as no look is so late that a wrap may hide: 8 s at 100 W are less than the range."""
    counter = Counter(RANGE_J, MAX_WATTS)
    counter.update(start, 0.0)
    at_s = joules = 0.0
    for passed_s, watts in spent:
        at_s += passed_s
        joules += passed_s * watts
        point = counter.update((start + joules) % RANGE_J, at_s)
        assert point is not None
        assert not point.gap
        assert point.total == pytest.approx(joules, abs=1e-6)


@given(st.floats(0.0, RANGE_J), st.floats(0.0, RANGE_J), st.floats(0.01, 8.0))
def test_a_fall_is_a_wrap_exactly_when_the_power_is_possible(before: float, after: float, passed_s: float) -> None:
    counter = Counter(RANGE_J, MAX_WATTS)
    counter.update(before, 0.0)
    point = counter.update(after, passed_s)
    assert point is not None
    delta = after - before + (RANGE_J if after < before else 0.0)
    possible = delta <= MAX_WATTS * (passed_s + 1.0)
    assert point.gap is not possible
    assert point.total == pytest.approx(delta if possible else 0.0)


@given(steps, st.data())
def test_parts_of_a_span_add_up_to_it(spent: list[tuple[float, float]], data: st.DataObject) -> None:
    series, at_s, joules = Series(SOURCE), 0.0, 0.0
    series.add(Reading("s", "package", 0.0, joules=0.0), 1.0)
    for passed_s, watts in spent:
        at_s += passed_s
        joules += passed_s * watts
        series.add(Reading("s", "package", at_s, joules=joules % RANGE_J), 1.0)
    first_s, last_s = series.span or (0.0, 0.0)
    cuts = sorted(data.draw(st.lists(st.floats(first_s, last_s), min_size=1, max_size=5)))
    whole = series.between(first_s, last_s)
    parts = [series.between(a, b) for a, b in zip([first_s, *cuts], [*cuts, last_s], strict=True)]
    assert whole is not None
    assert all(part is not None and part.joules >= 0 and part.uncertainty_j >= 0 for part in parts)
    assert sum(part.joules for part in parts if part) == pytest.approx(whole.joules, abs=1e-6)
    if whole.joules:
        assert whole.joules == pytest.approx(joules, abs=1e-6)


@given(
    st.floats(0.0, MAX_WATTS), st.floats(0.0, MAX_WATTS), st.floats(0.2, 4.8), st.floats(0.0, 5.0), st.floats(0.0, 5.0)
)
def test_the_stated_uncertainty_covers_one_change_of_power(
    before_w: float, after_w: float, change_s: float, one_s: float, other_s: float
) -> None:
    """A device that changes its power once, looked at five times a second: the truth is within what is stated."""

    def truth(at_s: float) -> float:
        return before_w * min(at_s, change_s) + after_w * max(0.0, at_s - change_s)

    series = Series(SOURCE)
    for tick in range(26):
        series.add(Reading("s", "package", tick / 5, joules=truth(tick / 5)), 0.2)
    from_s, to_s = sorted((one_s, other_s))
    energy = series.between(from_s, to_s)
    if energy is not None:
        assert abs(energy.joules - (truth(to_s) - truth(from_s))) <= energy.uncertainty_j + 1e-6


@given(st.floats(0, 1e9), st.sampled_from([*WATTS, *JOULES]))
def test_units_there_and_back(value: float, unit: str) -> None:
    reading = to_reading(SOURCE, value, unit, 1.0)
    scale = WATTS.get(unit) or JOULES[unit]
    told = reading.watts if unit in WATTS else reading.joules
    assert told is not None
    assert told / scale == pytest.approx(value)
    assert (reading.watts is None) == (unit in JOULES)


@given(anything, st.text(max_size=4))
def test_units_refuse_what_is_no_figure(value: float, unit: str) -> None:
    if math.isfinite(value) and (unit in WATTS or unit in JOULES):
        return
    with pytest.raises(ValueError, match=r"figure|unit"):
        to_reading(SOURCE, value, unit, 1.0)
