"""Whatever requests and meter do: no joule is lost, none is invented, none is owed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.energy.activity import Phase, Weights
from ollama_proxy.energy.attribution import Attribution

NAMES = st.sampled_from(["a", "b", "c", "d"])
TOKENS = st.none() | st.integers(0, 5000)
#: What happens, and how many seconds after the last event it does.
EVENTS = st.lists(
    st.tuples(
        st.floats(0, 3),
        st.one_of(
            st.tuples(st.just("begin"), NAMES),
            st.tuples(st.just("phase"), NAMES, st.sampled_from(Phase), TOKENS, st.floats(0, 5)),
            st.tuples(st.just("progress"), NAMES, st.integers(0, 5000)),
            st.tuples(st.just("end"), NAMES, TOKENS, TOKENS),
            st.tuples(st.just("meter"), st.floats(0, 500), st.booleans(), st.sampled_from(["measured", "modelled"])),
            st.tuples(st.just("drain")),
        ),
    ),
    max_size=60,
)
WEIGHTS = st.builds(Weights, st.floats(0, 10), st.floats(0, 10), st.floats(0, 10), st.floats(1, 4))


@given(EVENTS, WEIGHTS, st.none() | st.floats(0, 50), st.sampled_from([0.0, 0.1, 1.0]))
@settings(max_examples=150, deadline=None, database=None)
def test_what_is_given_adds_up_to_the_meter(
    events: list[tuple[float, tuple[object, ...]]], weights: Weights, floor_w: float | None, lag_s: float
) -> None:
    books = Attribution(weights=weights, floor_w=floor_w, lag_s=lag_s)
    now_s = metered_s = 0.0
    meter_j, number = 0.0, 0
    running: dict[str, str] = {}
    ended: list[str] = []
    drained = []
    for after_s, (what, *rest) in events:
        now_s += after_s
        match what, rest:
            case "begin", [str(name)]:
                number += 1
                if name not in running:
                    running[name] = f"{name}{number}"
                    books.begin(running[name], now_s)
            case "phase", [str(name), Phase() as phase, tokens, float(ago_s)]:
                books.phase(running.get(name, name), phase, now_s - ago_s, tokens)
            case "progress", [str(name), int(tokens)]:
                books.progress(running.get(name, name), tokens, now_s)
            case "end", [str(name), prompt, output] if name in running:
                ended.append(running[name])
                books.end(running.pop(name), now_s, prompt, output)
            case "meter", [float(watts), bool(gap), str(kind)] if now_s > metered_s + 1e-3:
                from_s = metered_s + (now_s - metered_s) / 2 if gap else metered_s
                joules = watts * (now_s - from_s)
                books.settle(from_s, now_s, joules, joules / 20, kind)
                meter_j, metered_s = meter_j + joules, now_s
            case "drain", _:
                drained += books.drain(now_s)
            case _:
                pass
    for name in running.values():
        ended.append(name)
        books.end(name, now_s, 10, 10)
    books.settle(now_s, now_s + 10, 100)
    drained += books.drain(now_s + 1000)

    balance = books.balance
    assert balance.meter_j == pytest.approx(meter_j + 100)
    assert balance.pending_j == pytest.approx(0, abs=1e-6)
    parts = (balance.marginal_j, balance.floor_j, balance.other_j, balance.idle_j)
    assert min(parts) >= -1e-9
    assert sum(parts) == pytest.approx(balance.meter_j, rel=1e-6)
    assert sorted(name for name, _ in drained) == sorted(ended)
    billed = sum(energy.full_j for _, energy in drained)
    assert billed == pytest.approx(balance.marginal_j + balance.floor_j, rel=1e-6, abs=1e-6)
    for _, energy in drained:
        assert energy.full_j >= (energy.marginal_j or 0) >= 0
        assert energy.plus_minus_j >= 0
        assert 0 <= energy.covered <= 1
        assert energy.kind in ("measured", "apportioned", "modelled")


@given(st.lists(st.floats(0.05, 2), min_size=1, max_size=40), st.floats(1, 100), st.integers(1, 500))
@settings(max_examples=100, deadline=None, database=None)
def test_the_meters_pace_changes_nothing_for_a_steady_draw(cuts: list[float], watts: float, tokens: int) -> None:
    """Two requests, one twice as fast as the other, under a meter read at any times."""
    books = Attribution(floor_w=0)
    for name in ("a", "b"):
        books.begin(name, 0)
        books.phase(name, Phase.DECODE, 0)
    total_s, now_s = sum(cuts), 0.0
    for seconds in cuts[:-1]:
        books.settle(now_s, now_s + seconds, watts * seconds)
        now_s += seconds
    books.end("a", total_s, 0, tokens)
    books.end("b", total_s, 0, 2 * tokens)
    books.settle(now_s, total_s + 1, watts * (total_s - now_s))
    energies = dict(books.drain())
    assert energies["a"].marginal_j == pytest.approx(watts * total_s / 3, rel=1e-6)
    assert energies["b"].marginal_j == pytest.approx(watts * total_s * 2 / 3, rel=1e-6)
