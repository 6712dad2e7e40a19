"""Full rounds of the collector: soon when nothing runs, seldom when something does."""

from __future__ import annotations

import gc

import pytest

from ollama_proxy.app.process.garbage import Garbage


@pytest.fixture(autouse=True)
def collector_as_before():
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_it_is_asked_each_minute_when_idle_and_each_ten_when_busy() -> None:
    rounds: list[float] = []
    now_s = 100.0
    garbage = Garbage(lambda: rounds.append(now_s))
    garbage.begin(now_s)
    for second in range(1, 1400):
        now_s = 100.0 + second
        garbage.sweep(now_s, idle=second < 130)
    assert rounds == [100.0, 160.0, 220.0, 820.0, 1420.0]


def test_a_full_round_never_comes_by_itself() -> None:
    garbage = Garbage()
    garbage.begin(0.0)
    before = gc.get_stats()[2]["collections"]
    kept = [[index] for index in range(300_000)]
    assert gc.get_stats()[2]["collections"] == before
    assert gc.get_stats()[0]["collections"] > 0
    assert len(kept) == 300_000
