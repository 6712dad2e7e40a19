"""How fast vectors are made, learned from sizes and times."""

from __future__ import annotations

import pytest

from ollama_proxy.fleet.embed_speeds import EmbedSpeeds, weigh


def test_a_line_is_found_and_followed_where_it_moves() -> None:
    speeds = EmbedSpeeds()
    assert speeds.find("a", "m") is None
    for units in (100, 1000, 5000, 300, 2000):
        speeds.learn("a", "m", units, 0.5 + units * 0.01)
    found = speeds.find("a", "m")
    assert found is not None
    assert found.fixed_s == pytest.approx(0.5)
    assert found.s_per_unit == pytest.approx(0.01)
    for units in (100, 1000, 5000, 300, 2000) * 10:
        speeds.learn("a", "m", units, 0.2 + units * 0.03)
    found = speeds.find("a", "m")
    assert found is not None
    assert found.s_per_unit == pytest.approx(0.03, rel=0.02)
    assert speeds.find("b", "m") is None


def test_one_size_tells_no_more_than_a_rate() -> None:
    speeds = EmbedSpeeds()
    for _ in range(3):
        speeds.learn("a", "m", 1000, 5.0)
    speeds.learn("a", "m", 0, 5.0)
    found = speeds.find("a", "m")
    assert found is not None
    assert (found.fixed_s, found.s_per_unit) == (0.0, pytest.approx(0.005))


def test_every_text_weighs_something() -> None:
    assert 0 < weigh("") < weigh("a") < weigh("ä")
    assert weigh("\ud800") > 0
