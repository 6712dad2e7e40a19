"""A batch of texts over backends: everything once, nothing too small, the end no later than it has to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.routing.spread import Lane, spread

DEAR = 1e6


def units_of(
    weights: list[float], lanes: list[Lane], price_watts: float = DEAR, least: float = 1.0
) -> dict[str, float]:
    return {piece.lane.backend: piece.units for piece in spread(weights, lanes, price_watts, least)}


def test_equals_get_equal_shares_and_the_fast_get_more() -> None:
    same = [Lane(name, 0, 0, 0.01) for name in "abcd"]
    assert set(units_of([10.0] * 100, same).values()) == {250.0}
    mixed = [Lane("slow", 0, 0, 0.03), Lane("fast", 0, 0, 0.01)]
    assert units_of([10.0] * 100, mixed) == {"slow": 250.0, "fast": 750.0}


def test_who_has_to_wait_or_takes_long_to_begin_gets_less_or_nothing() -> None:
    lanes = [Lane("free", 0, 0, 0.01), Lane("busy", 4, 0, 0.01)]
    assert units_of([10.0] * 100, lanes) == {"free": 700.0, "busy": 300.0}
    assert units_of([10.0] * 30, lanes) == {"free": 300.0}
    assert units_of([10.0] * 30, [Lane("a", 0, 0, 0.01), Lane("b", 0, 5, 0.001)]) == {"a": 300.0}


def test_joules_decide_where_nobody_is_in_a_hurry() -> None:
    lanes = [Lane("frugal", 0, 0, 0.01, 0, 0.001), Lane("thirsty", 0, 0, 0.01, 0, 1.0)]
    assert units_of([10.0] * 100, lanes, price_watts=1) == {"frugal": 1000.0}
    assert units_of([10.0] * 100, lanes, price_watts=1000) == {"frugal": 500.0, "thirsty": 500.0}
    # In between the thirsty one takes as much as the seconds saved are worth: nothing, as its price is by the unit.
    woken = [Lane("on", 0, 0, 0.01, 0, 0.01), Lane("asleep", 0, 0, 0.01, 500, 0.01)]
    assert units_of([10.0] * 100, woken, price_watts=10) == {"on": 1000.0}


def test_no_piece_is_less_than_the_least() -> None:
    lanes = [Lane(name, 0, 0, 0.01) for name in "abcd"]
    assert len(spread([10.0] * 10, lanes, DEAR, 40)) == 2
    assert len(spread([10.0] * 10, lanes, DEAR, 200)) == 1
    assert spread([], lanes, DEAR, 1) == []
    assert spread([1.0], [], DEAR, 1) == []


def test_very_many_texts_are_dealt_out_in_order_and_in_their_shares() -> None:
    lanes = [Lane("slow", 0, 0, 0.03), Lane("fast", 0, 0, 0.01)]
    weights = [float(5 + number % 10) for number in range(20_000)]
    pieces = spread(weights, lanes, DEAR, 100)
    assert [place for piece in pieces for place in piece.places] == list(range(20_000))
    assert {piece.lane.backend: round(piece.units / sum(weights), 3) for piece in pieces} == {
        "slow": 0.25,
        "fast": 0.75,
    }


lanes_of_any_kind = st.lists(
    st.tuples(*[st.floats(0, 10)] * 2, st.floats(1e-4, 1), *[st.floats(0, 100)] * 2), min_size=1, max_size=8
).map(lambda rows: [Lane(str(place), *row) for place, row in enumerate(rows)])


@given(
    weights=st.lists(st.floats(1, 1000), min_size=1, max_size=60),
    lanes=lanes_of_any_kind,
    price=st.floats(0, 1e4),
    least=st.floats(0, 2000),
)
def test_every_text_is_in_one_piece_and_it_never_costs_more_than_one_alone(
    weights: list[float], lanes: list[Lane], price: float, least: float
) -> None:
    pieces = spread(weights, lanes, price, least)
    places = sorted(place for piece in pieces for place in piece.places)
    assert places == list(range(len(weights)))
    assert all(list(piece.places) == sorted(piece.places) for piece in pieces)
    assert len({piece.lane.backend for piece in pieces}) == len(pieces)
    total = sum(weights)
    assert sum(piece.units for piece in pieces) == pytest.approx(total)
    alone = min(price * one.end_s(total) + one.fixed_j + total * one.j_per_unit for one in lanes)
    end_s = max(piece.lane.end_s(piece.units) for piece in pieces)
    cost = price * end_s + sum(piece.lane.fixed_j + piece.units * piece.lane.j_per_unit for piece in pieces)
    # Texts are not cut: the last one of a piece may be over its share.
    slack = max(weights) * sum(price * one.s_per_unit + one.j_per_unit for one in lanes)
    assert cost <= alone + slack + 1e-6
