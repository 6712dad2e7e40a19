"""What a line of the goals says, and when it holds."""

import pytest

from bench.evaluation.line import Line, Target
from bench.evaluation.results import Spread
from bench.evaluation.tables import render_details, render_goals

GOOD, BAD = Spread(0.98, 0.97, 0.99), Spread(0.95, 0.91, 0.98)


def make_line(**found: Spread | None) -> Line:
    return Line("G1", "deadlines met", "share", Target(">=", 0.97), found)


def test_it_holds_where_every_mean_reaches_the_target() -> None:
    assert make_line(a=GOOD, b=GOOD).holds is True
    line = make_line(a=GOOD, b=BAD)
    assert line.holds is False
    assert line.misses() == ["b"]
    assert line.worst == ("b", BAD)


def test_what_is_absent_neither_holds_nor_misses() -> None:
    assert make_line(a=GOOD, b=None).holds is None
    assert make_line(a=None).worst is None
    assert Line("G4", "", "ratio", None, {"a": GOOD}).holds is None
    assert "| - |" in "\n".join(render_details([make_line(a=None)]))


@pytest.mark.parametrize(
    ("kind", "spread", "text"),
    [
        ("share", BAD, "95.0 % (91.0 to 98.0)"),
        ("saved", Spread(0.8, 0.75, 1.1), "20.0 % (−10.0 to 25.0)"),
        ("points", Spread(-0.01, -0.02, 0.01), "−1.0 points (−2.0 to +1.0)"),
        ("seconds", Spread(2.0, 2.0, 2.0), "2.0 s"),
        ("share", Spread(0.0, 0.0, 1e-9), "0.0 %"),
        ("ratio", None, "-"),
    ],
)
def test_mean_and_range_as_they_are_written(kind: str, spread: Spread | None, text: str) -> None:
    assert Line("G", "", kind, None, {}).show(spread) == text


def test_a_target_of_what_is_saved_is_turned_round() -> None:
    line = Line("G2", "joules saved", "saved", Target("<=", 0.85), {"a": Spread(0.84, 0.8, 0.9)})
    assert line.show_target() == ">= 15.0 %"
    assert line.holds is True
    assert "16.0 % (10.0 to 20.0)" in "\n".join(render_goals([line]))
