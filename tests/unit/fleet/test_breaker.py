"""Breakers: when they open, how they are tried, that they do not flap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.fleet.breaker import DWELL_S, FIRST_OUT_S, LONGEST_OUT_S, RAMP_S, Breaker, Phase

THRESHOLD = 5


def fail(breaker: Breaker, now_s: float, *, at_once: bool = False) -> None:
    breaker.failed(now_s, "why", at_once=at_once, slow=at_once)


def opened(now_s: float = 100.0) -> Breaker:
    breaker = Breaker(THRESHOLD)
    fail(breaker, now_s, at_once=True)
    return breaker


def test_it_opens_at_the_fifth_failure_in_a_row() -> None:
    breaker = Breaker(THRESHOLD)
    for _ in range(4):
        fail(breaker, 100.0)
    breaker.succeeded(100.0)
    for _ in range(4):
        fail(breaker, 100.1)
        assert breaker.phase is Phase.CLOSED
        assert breaker.most(100.1) is None
    fail(breaker, 100.1)
    assert breaker.phase is Phase.OPEN
    assert breaker.most(100.1) == 0


def test_it_opens_after_a_second_of_nothing_but_failures() -> None:
    breaker = Breaker(THRESHOLD)
    fail(breaker, 100.0)
    fail(breaker, 100.9)
    assert breaker.phase is Phase.CLOSED
    fail(breaker, 101.0)
    assert breaker.phase is Phase.OPEN


def test_one_is_tried_an_interval() -> None:
    breaker = opened()
    breaker.move(101.4)
    assert breaker.most(101.4) == 0
    breaker.move(101.5)
    assert breaker.most(101.5) == 1
    breaker.tried(101.5)
    assert breaker.most(102.9) == 0
    assert 0 < breaker.wait_s(102.9) <= 0.11
    assert breaker.most(103.0) == 1


def test_whoever_does_well_gets_more_and_more() -> None:
    breaker = opened()
    breaker.move(101.5)
    breaker.tried(101.5)
    breaker.succeeded(102.0)
    assert breaker.most(102.0) == 1
    most = [breaker.most(102.0 + seconds) for seconds in (0, 1, 2, 3, 4)]
    assert all(one is not None for one in most)
    assert most == sorted(set(most), key=lambda one: one or 0)
    assert breaker.most(102.0 + RAMP_S) is None
    breaker.succeeded(102.0 + RAMP_S)
    assert breaker.phase is Phase.CLOSED


def test_traffic_is_back_soon_after_a_long_failure() -> None:
    breaker = opened()
    now_s = 100.0
    while now_s < 400:
        now_s += 0.25
        breaker.move(now_s)
        if breaker.most(now_s):
            breaker.tried(now_s)
            fail(breaker, now_s)
    assert breaker.wait_s(now_s) <= FIRST_OUT_S


def test_whoever_costs_seconds_or_fails_again_is_left_alone_for_longer() -> None:
    breaker = opened()
    waited_s = []
    now_s = 100.0
    for _ in range(8):
        waited_s.append(breaker.wait_s(now_s))
        now_s += waited_s[-1]
        breaker.move(now_s)
        fail(breaker, now_s, at_once=True)
    assert waited_s[:5] == [1.5, 3, 6, 12, 24]
    assert waited_s[-1] == LONGEST_OUT_S


def test_it_is_forgotten_in_time() -> None:
    breaker = Breaker(THRESHOLD)
    fail(breaker, 100.0)
    assert not breaker.is_forgotten(101.0)
    assert breaker.is_forgotten(160.0)
    breaker.succeeded(101.0)
    assert breaker.is_forgotten(101.0)
    assert not opened().is_forgotten(1000.0)


STEPS = st.lists(st.tuples(st.sampled_from(("fail", "hang", "do well", "wait")), st.floats(0, 4)), max_size=120)


@given(STEPS)
def test_it_changes_at_most_once_in_five_seconds(steps: list[tuple[str, float]]) -> None:
    breaker = Breaker(THRESHOLD)
    now_s, changed_s, was_closed = 100.0, -100.0, True
    for what, passed_s in steps:
        now_s += passed_s
        breaker.move(now_s)
        if what != "wait" and breaker.most(now_s) != 0:
            breaker.tried(now_s)
            if what == "do well":
                breaker.succeeded(now_s)
            else:
                fail(breaker, now_s, at_once=what == "hang")
        is_closed = breaker.phase is Phase.CLOSED
        if is_closed is not was_closed:
            assert now_s - changed_s >= DWELL_S
            changed_s, was_closed = now_s, is_closed


@given(STEPS)
def test_at_most_one_is_tried_an_interval(steps: list[tuple[str, float]]) -> None:
    """Until one does well."""
    breaker = opened()
    now_s, tried_s = 100.0, 98.0
    for what, passed_s in steps:
        now_s += passed_s
        breaker.move(now_s)
        if breaker.most(now_s):
            assert now_s - tried_s >= FIRST_OUT_S
            breaker.tried(now_s)
            tried_s = now_s
            if what in ("fail", "hang"):
                fail(breaker, now_s, at_once=what == "hang")
