"""The limit of requests at once, on a server whose capacity changes, in virtual time."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.fleet.concurrency import LEAST, MOST, AdaptiveLimit

TOKENS, TOKEN_S, STEP_S = 20, 0.02, 0.02


class Server:
    """Works on so many at once, each at the same speed, and queues the rest; demand has no end."""

    def __init__(self, capacity: int, demand: int = 1000) -> None:
        self.capacity, self.demand = capacity, demand
        self.limit = AdaptiveLimit()
        self.now_s = 0.0
        self._queue: deque[float] = deque()
        self._running: list[tuple[float, float]] = []

    @property
    def in_flight(self) -> int:
        return len(self._queue) + len(self._running)

    def run(self, seconds: float) -> list[int]:
        """Go on for some time; the limit at the end of each second."""
        limits = []
        for step in range(round(seconds / STEP_S)):
            self.now_s += STEP_S
            for began_s, end_s in self._running:
                if end_s <= self.now_s:
                    self.limit.ended((self.now_s - began_s) / TOKENS, self.in_flight)
            self._running = [one for one in self._running if one[1] > self.now_s]
            allowed = self.limit.limit
            while self.in_flight < self.demand and (allowed is None or self.in_flight < allowed):
                self._queue.append(self.now_s)
            while self._queue and len(self._running) < self.capacity:
                self._running.append((self._queue.popleft(), self.now_s + TOKENS * TOKEN_S))
            self.limit.move(self.now_s, self.in_flight)
            if step % 50 == 49:
                limits.append(self.limit.limit or self.demand)
        return limits


def warm(capacity: int) -> Server:
    """It has seen quiet times, then more than it can do."""
    server = Server(capacity, demand=max(1, capacity // 2))
    server.run(10)
    assert server.limit.limit is None
    server.demand = 1000
    server.run(90)
    return server


@pytest.mark.parametrize("capacity", [8, 32, 64])
def test_it_keeps_the_server_busy_and_its_queue_short(capacity: int) -> None:
    limits = warm(capacity).run(30)
    assert min(limits) >= capacity
    # Twice the capacity is tolerated, and roots are tried beyond it.
    assert max(limits) <= 3 * capacity + 4


def test_a_cut_capacity_is_found_in_ten_seconds_and_its_return_in_thirty() -> None:
    server = warm(32)
    before = sorted(server.run(20))[10]
    server.capacity = 8
    server.run(10)
    after = server.run(60)
    settled = sorted(after[20:])[20]
    assert settled < before / 2
    assert max(after) <= 1.5 * settled
    assert min(after) >= 8
    server.capacity = 32
    back = server.run(60)
    assert min(back[30:]) >= 0.8 * before
    assert max(back) <= 1.5 * before


def test_a_server_that_does_well_is_not_limited() -> None:
    server = Server(64, demand=32)
    assert set(server.run(60)) == {32}


def test_when_the_crowd_has_gone_the_limit_goes() -> None:
    server = warm(8)
    assert server.limit.limit is not None
    server.demand = 2
    server.run(10)
    assert server.limit.limit is None


@given(st.lists(st.tuples(st.floats(1e-4, 100), st.integers(0, 2000), st.floats(0, 3)), max_size=200))
def test_it_keeps_within_bounds(steps: list[tuple[float, int, float]]) -> None:
    limit, now_s = AdaptiveLimit(), 0.0
    for s_per_token, in_flight, passed_s in steps:
        now_s += passed_s
        for _ in range(3):
            limit.ended(s_per_token, in_flight)
        limit.move(now_s, in_flight)
        assert limit.limit is None or LEAST <= limit.limit <= max(MOST, 2000)
