"""C3: a server that can do a quarter of what it could, and later as much as before."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from bench.reliability.clients import ask
from bench.reliability.fake import Fake
from bench.reliability.loads import start_load
from bench.reliability.row import Outcome, Row, Setting, judge
from bench.reliability.tested import ProvenByTests
from ollama_proxy.net.http1.exchange import Exchange
from tests.support.proxy import ProxyProcess

#: How many it works on at once; and what it is asked for, of the most that it can do.
_WIDE, _NARROW, _ASKED = 16, 4, 2.0
_TOKENS, _PACE_S = 10, 0.04
_SETTLES_S, _BACK_S = 10, 30
_TESTS = ("tests/unit/fleet/test_concurrency.py", "tests/unit/app/requests/test_adaptive_slots.py")


class _Narrow(Fake):
    """Works on `capacity` requests at once; others wait in it, and count as being there."""

    def __init__(self) -> None:
        super().__init__(tokens=_TOKENS, pace_s=_PACE_S)
        self.capacity = 1000
        self._queue: deque[Exchange] = deque()

    @property
    def inside(self) -> int:
        """Requests that were sent to it and are not over."""
        self._begin_more()
        return self.running + sum(not one.gone for one in self._queue)

    def _generate(self, exchange: Exchange) -> None:
        self._queue.append(exchange)
        self._begin_more()

    def _begin_more(self) -> None:
        while self._queue and self.running < self.capacity:
            exchange = self._queue.popleft()
            if not exchange.gone:
                super()._generate(exchange)


def cut(setting: Setting) -> Outcome:
    """The tests in simulated time, and the same over a server that is asked for more than it can do."""
    proven = ProvenByTests(
        ("tests/unit/fleet/test_concurrency.py", "tests/unit/app/requests/test_adaptive_slots.py")
    ).run(setting)
    if setting.quick:
        return proven
    words, figures, holds = asyncio.run(_play(setting))
    return judge(f"{proven.found}; {words}", {"tests": proven.figures, **figures}, proven.holds, holds)


async def _play(setting: Setting) -> tuple[str, dict[str, Any], bool]:
    fake = _Narrow()
    await fake.start()
    backend = {"id": "b0", "endpoint": fake.url}
    routing = {"default_backend": "", "adaptive_slots": True}
    proxy = ProxyProcess(setting.work, replace={"backends": [backend], "routing": routing})
    rate = _ASKED * _WIDE / (_TOKENS * _PACE_S)
    await asyncio.to_thread(proxy.start)
    try:
        # Quiet times first: what is slow is told by what was not.
        for number in range(30):
            await ask(proxy.http_port, f"quiet {number}", stream=False)
        fake.capacity = _WIDE
        with start_load(proxy.url, rate, 200, setting.work, "--model", "qwen2.5:0.5b"):
            phases = {
                "wide": await _look(fake, 60),
                "narrow": await _look(fake, 60, _NARROW),
                "back": await _look(fake, 60, _WIDE),
            }
    finally:
        await asyncio.to_thread(proxy.stop)
        await fake.stop()
    before, settled = _middle(phases["wide"][30:]), _middle(phases["narrow"][-20:])
    most, back = max(phases["narrow"][_SETTLES_S:]), min(phases["back"][_BACK_S:])
    words = (
        f"at a server that did {_WIDE}, then {_NARROW}, then {_WIDE} at once: {before} there at once, {settled} after"
        f" the cut ({most} at most from {_SETTLES_S} s on), {back} at least from {_BACK_S} s after it was whole again"
    )
    return words, dict(phases), settled < before / 2 and most <= 1.5 * settled + 1 and back >= 0.8 * before


async def _look(fake: _Narrow, seconds: int, capacity: int | None = None) -> list[int]:
    """How many were there at the end of each second, most of the time of that second."""
    fake.capacity = capacity or fake.capacity
    found = []
    for _ in range(seconds):
        looks = []
        for _ in range(20):
            await asyncio.sleep(0.05)
            looks.append(fake.inside)
        found.append(_middle(looks))
    return found


def _middle(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]


ROWS = (
    Row(
        "C3",
        "capacity cut to a quarter in mid-run, later restored",
        "the limit settles within 10 s, overshoot <= 50 %; back within 30 s",
        "A server of the tests' own in simulated time; then `routing.adaptive_slots` over a server that does 16, 4 and"
        " 16 at once, asked for twice of what it can (a quick run leaves that out)",
        cut,
    ),
)
