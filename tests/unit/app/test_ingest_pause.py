"""When files are read: on mains, within hours, and what is told while they are not."""

from datetime import datetime

import pytest

from ollama_proxy.app.retrieval.pause import why_to_pause
from ollama_proxy.config.sections.vectors import Ingest


def pause(rules: Ingest, time: str = "12:00", *, on_mains: bool = True) -> str:
    return why_to_pause(rules, lambda: on_mains, lambda: datetime.fromisoformat(f"2026-11-28T{time}"))


def test_without_rules_nothing_is_waited_for() -> None:
    assert pause(Ingest(), on_mains=False) == ""


def test_a_battery_is_waited_for() -> None:
    rules = Ingest(on_mains_only=True)
    assert pause(rules) == ""
    assert "on_mains_only" in pause(rules, on_mains=False)


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("09:00-17:30", ("09:00", "12:00", "17:29:59"), ("08:59:59", "17:30", "23:00", "00:00")),
        ("22:00-07:00", ("22:00", "23:59:59", "00:00", "06:59"), ("07:00", "12:00", "21:59:59")),
    ],
)
def test_hours_hold_over_midnight_too(hours: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    rules = Ingest(hours=hours)
    assert [pause(rules, time) for time in inside] == [""] * len(inside)
    assert all(hours in pause(rules, time) for time in outside)


def test_both_must_hold() -> None:
    rules = Ingest(on_mains_only=True, hours="22:00-07:00")
    assert pause(rules, "23:00") == ""
    assert pause(rules, "23:00", on_mains=False)
    assert pause(rules, "12:00")
