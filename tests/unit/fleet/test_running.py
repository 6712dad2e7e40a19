"""When backends will be free, against drawn requests that queue."""

from __future__ import annotations

import bisect
import heapq
import math
import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.lengths import BINS, EDGES, Lengths, make_typical_lengths
from ollama_proxy.fleet.running import Running, add_work, forecast_slots, forecast_wait

TYPICAL = make_typical_lengths()
_PLAYS = 1500


def running(
    began_s: float = 0.0,
    ttft_s: float = 1.0,
    s_per_token: float = 0.05,
    lengths: Lengths | None = TYPICAL,
    limit: int = 0,
    *,
    var: float = 0.0,
) -> Running:
    return Running(began_s, ttft_s, var, s_per_token, var, lengths, limit)


def draw_tokens(dice: random.Random, more_than: float, limit: int) -> float:
    """The length of an answer that is longer than it is already."""
    ends = list(accumulate(TYPICAL.weights))
    while True:
        place = bisect.bisect_left(ends, dice.random() * ends[-1])
        tokens = dice.uniform(EDGES[place], EDGES[place + 1])
        if tokens > more_than:
            return min(tokens, limit or math.inf)


def play_left(dice: random.Random, one: Running, now_s: float) -> float:
    done = max(0.0, now_s - one.first_s) / one.s_per_token
    tokens = draw_tokens(dice, done, one.limit)
    return max(0.0, one.first_s - now_s) + (tokens - done) * one.s_per_token


def mean_of(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize("limit", [0, 100])
@pytest.mark.parametrize("now_s", [0.0, 0.6, 1.0, 3.0])
def test_what_a_request_still_needs(now_s: float, limit: int) -> None:
    dice = random.Random(5)
    one = running(limit=limit)
    drawn = [play_left(dice, one, now_s) for _ in range(_PLAYS)]
    mean_s, var_s2 = one.left(now_s)
    deviation_s = math.sqrt(var_s2)
    assert mean_of(drawn) == pytest.approx(mean_s, abs=4 * deviation_s / math.sqrt(_PLAYS))
    spread_s2 = mean_of([(value - mean_s) ** 2 for value in drawn])
    assert math.sqrt(spread_s2) == pytest.approx(deviation_s, rel=0.25)  # the tail is heavy


def test_the_wait_of_a_queue_of_one_slot_is_the_sum_of_what_is_before() -> None:
    """Exact for one slot: whoever runs, and each that queues there, one after the other."""
    dice = random.Random(6)
    queue = [running(), running(5.0, 0.5, 0.02), running(6.0, 2.0, 0.1, limit=50)]
    now_s = 7.0
    waits_s = []
    for _ in range(_PLAYS):
        wait_s = play_left(dice, queue[0], now_s)
        wait_s += sum(play_left(dice, one, one.began_s) for one in queue[1:])
        waits_s.append(wait_s)
    wait = forecast_wait(queue, 1, now_s)
    assert wait is not None
    assert wait.mean_s == pytest.approx(mean_of(waits_s), abs=4 * math.sqrt(wait.var_s2 / _PLAYS))
    spread_s2 = mean_of([(value - wait.mean_s) ** 2 for value in waits_s])
    assert math.sqrt(wait.var_s2) == pytest.approx(math.sqrt(spread_s2), rel=0.1)


@pytest.mark.parametrize("slots", [2, 4])
def test_with_certain_lengths_several_slots_are_forecast_exactly(slots: int) -> None:
    """Each to whichever slot is free first, in the order in which they were sent."""
    one_token = Lengths([0.0] * (BINS - 1) + [1.0])
    queue = [running(ttft_s=0.5 + place % 3, lengths=one_token, limit=20 + 30 * place) for place in range(9)]
    free_s = [one.left(0.0)[0] for one in queue[:slots]]
    heapq.heapify(free_s)
    for one in queue[slots:]:
        heapq.heapreplace(free_s, free_s[0] + one.takes()[0])
    wait = forecast_wait(queue, slots, 0.0)
    assert wait is not None
    assert wait.mean_s == pytest.approx(min(free_s))
    assert wait.var_s2 == pytest.approx(0, abs=1e-6)
    assert sorted(mean_s for mean_s, _ in forecast_slots(queue, slots, 0.0)) == pytest.approx(sorted(free_s))


def test_with_a_free_slot_nobody_waits() -> None:
    assert forecast_wait([], 1, 0.0) is None
    assert forecast_wait([running()], 2, 0.0) is None
    assert forecast_slots([running()], 3, 0.0)[0] == (0.0, 0.0)


def test_one_that_is_overdue_is_not_taken_to_be_gone() -> None:
    over = running(limit=10)
    wait = forecast_wait([over], 1, 1000.0)
    assert wait is not None
    # It has been there since 0 s: whatever holds it up may go on for a while.
    assert wait.mean_s == pytest.approx(100.0)
    assert wait.var_s2 > 0


def test_embeddings_end_with_their_first_token() -> None:
    one = running(lengths=None, ttft_s=3.0, var=0.04)
    assert one.left(1.0) == (2.0, pytest.approx(9 * 0.04))
    assert one.left(3.1)[0] < 1


def test_uncertain_speeds_spread_the_end() -> None:
    sure, unsure = running(), running(var=0.25)
    assert unsure.left(0.0)[0] == sure.left(0.0)[0]
    assert unsure.left(0.0)[1] > sure.left(0.0)[1] * 1.1


def test_planned_work_goes_to_the_slot_that_is_free_first() -> None:
    slots = [(1.0, 0.1), (5.0, 0.2)]
    add_work(slots, 2.0, 0.5)
    assert sorted(slots) == [(3.0, 0.6), (5.0, 0.2)]
    add_work(slots, 3.0, 0.0)
    assert sorted(slots) == [(5.0, 0.2), (6.0, 0.6)]


parts = st.builds(
    running,
    began_s=st.floats(0, 100),
    ttft_s=st.floats(0, 50),
    s_per_token=st.floats(1e-6, 10),
    lengths=st.sampled_from((None, TYPICAL)),
    limit=st.sampled_from((0, 1, 500)),
    var=st.floats(0, 2),
)


@given(st.lists(parts, max_size=8), st.integers(1, 4), st.floats(0, 1000))
def test_forecasts_are_finite_and_one_more_never_shortens_them(queue: list[Running], slots: int, now_s: float) -> None:
    found = forecast_slots(queue, slots, now_s)
    assert len(found) == slots
    assert found[0] == min(found)
    for mean_s, var_s2 in found:
        assert 0 <= mean_s < math.inf
        assert 0 <= var_s2 < math.inf
    longer = forecast_slots([*queue, running()], slots, now_s)
    assert longer[0][0] >= found[0][0]


@given(parts, st.floats(0, 100), st.floats(0, 100))
def test_before_its_first_token_a_request_comes_nearer_its_end_second_by_second(
    one: Running, now_s: float, more_s: float
) -> None:
    """Once it writes, it may turn out to be a long one."""
    if now_s + more_s < one.first_s:
        assert one.left(now_s + more_s)[0] <= one.left(now_s)[0]
