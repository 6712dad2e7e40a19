"""Means and ranges over slices, and comparisons slice by slice."""

import pytest

from bench.evaluation.case import Case
from bench.evaluation.results import Results, Spread

OURS, THEIRS = Case("conv", 5.0), Case("conv", 5.0, "static-shipped")


def make_results() -> Results:
    return Results(
        {
            **{OURS.on(part): {"joules": 10.0 * part} for part in (1, 2, 3)},
            **{THEIRS.on(part): {"joules": 20.0, **({"p99": 1.0} if part < 3 else {})} for part in (1, 2, 3)},
        }
    )


def test_mean_and_range() -> None:
    assert make_results().spread(OURS, "joules") == Spread(20.0, 10.0, 30.0)


def test_ratios_are_those_of_slices_not_of_means() -> None:
    assert make_results().ratio(THEIRS, OURS, "joules") == Spread(pytest.approx((2 + 1 + 2 / 3) / 3), 2 / 3, 2.0)


def test_a_figure_that_a_slice_lacks_is_absent() -> None:
    assert make_results().spread(THEIRS, "p99") is None
    assert make_results().spread(Case("code", 5.0), "joules") is None


def test_nothing_is_compared_with_nothing() -> None:
    none = Results({OURS.on(part): {"wait": 0.0} for part in (1, 2, 3)})
    assert none.ratio(OURS, OURS, "wait") is None


def test_the_digest_tells_figures_apart_and_nothing_else() -> None:
    figures = {OURS.on(1): {"a": 1.0, "b": 2.0}, THEIRS.on(1): {"a": 3.0}}
    turned = {THEIRS.on(1): {"a": 3.0 + 1e-15}, OURS.on(1): {"b": 2.0, "a": 1.0}}
    assert Results(figures).digest() == Results(turned).digest()
    assert Results(figures).digest() != Results({**figures, THEIRS.on(1): {"a": 3.001}}).digest()
