"""Times the decision in this process and prints JSON: microseconds, the median and the least, by number of backends.

Between two decisions happens what happens under load: one request is sent, another one ends and teaches something.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import deque
from collections.abc import Callable
from itertools import count

from msgspec.structs import replace

from bench.participants.ours import DEVICES
from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Policy, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts, Rates
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.routing.decide import decide

SIZES = (1, 4, 16, 64, 1000)
_TIMES = 4000
_MODEL = "qwen2.5:0.5b"
_NEEDS = frozenset((Need.GENERATE,))
_POLICY = Policy("Balanced", 10.0, "npu-0")
_REQUEST = RoutingRequest(_MODEL, _MODEL, _NEEDS, NO_ANNOTATIONS, max_tokens=100)
#: What other requests want, on top of that.
WISHES = {
    "power": Annotations(max_power_watts=30.0),
    "critical": Annotations(latency_critical=True),
    "frugal": Annotations(prefer_power_efficiency=True),
    "deadline": Annotations(max_latency_ms=5000),
}

Scene = Callable[[], FleetView]


def measure_sizes() -> dict[str, float]:
    """`us_4` and so on: the median under load. Beside it `least_`; `view_`, to put the fleet together; `shown_`, with
    the alternatives; `replaced_` and `unchanged_`, where three views of equal devices are new at each look, or none.
    """
    found = {}
    for size in SIZES:
        load = Load(size)
        taken_us = sample_decisions(load.next_view)
        found[f"us_{size}"] = statistics.median(taken_us)
        found[f"least_us_{size}"] = min(taken_us)
        found[f"view_us_{size}"] = statistics.median(load.view_us)
        found[f"shown_us_{size}"] = statistics.median(sample_decisions(load.next_view, look=True))
        found[f"replaced_us_{size}"] = statistics.median(sample_decisions(replace_views(size, min(3, size))))
        found[f"unchanged_us_{size}"] = statistics.median(sample_decisions(replace_views(size, 0)))
    for name, wishes in WISHES.items():
        request = replace(_REQUEST, annotations=wishes)
        found[f"{name}_us_1000"] = statistics.median(sample_decisions(Load(1000).next_view, 200, request))
    return {name: round(value, 1) for name, value in found.items()}


def sample_decisions(
    next_view: Scene, times: int = _TIMES, request: RoutingRequest = _REQUEST, *, look: bool = False
) -> list[float]:
    """Microseconds of `decide`, so many times; with those of telling the alternatives to `look` at, as an answer does.

    Changing the fleet is not in them.
    """
    taken_us = []
    for _ in range(times):
        fleet = next_view()
        began_ns = time.perf_counter_ns()
        verdict = decide(request, fleet, _POLICY)
        if look:
            verdict.alternatives  # type: ignore[union-attr]  # noqa: B018
        taken_us.append((time.perf_counter_ns() - began_ns) / 1e3)
    return taken_us


class Load:
    """A fleet under load: every backend has its own speed, and a few of them are at work."""

    def __init__(self, size: int) -> None:
        self._fleet = fleet = Fleet()
        self._names = [add_backend(fleet, number) for number in range(size)]
        self._turns = count()
        self._at_work: deque[str] = deque()
        #: Microseconds that it took to put each view together.
        self.view_us: list[float] = []

    def next_view(self) -> FleetView:
        """The fleet when one more request has been sent and another has ended."""
        fleet, turn = self._fleet, next(self._turns)
        now_s = turn / 20
        name = self._names[turn * 7 % len(self._names)]
        fleet.opened(name)
        self._at_work.append(name)
        if len(self._at_work) > len(self._names) // 2:
            done = self._at_work.popleft()
            fleet.succeeded(done, _MODEL, Observation(0.1 + turn % 5 / 100, 20.0 + turn % 7), now_s)
            fleet.closed(done)
        began_ns = time.perf_counter_ns()
        view = fleet.view_at(now_s)
        self.view_us.append((time.perf_counter_ns() - began_ns) / 1e3)
        return view


def add_backend(fleet: Fleet, number: int) -> str:
    """A healthy device that holds the model joins, and has answered once; no two are quite as quick."""
    spec = make_spec(number)
    fleet.add(spec, _NEEDS)
    models = {_MODEL: ModelFacts(_MODEL, size_bytes=400_000_000)}
    fleet.probed(spec.id, ProbeReport(models, frozenset((_MODEL,)), "", emulated=True), 1)
    quicker = 1 + number % 97 / 1000
    seen = Observation(spec.avg_latency_ms / 1e3 / quicker, spec.max_tokens_per_second * quicker)
    fleet.succeeded(spec.id, _MODEL, seen, 0.0)
    return spec.id


def replace_views(size: int, changes: int) -> Scene:
    """Backends of few kinds, many of which are equal; so many are other objects at each look, whoever changed them."""
    views = [make_view(number) for number in range(size)]
    turns = count()

    def next_view() -> FleetView:
        turn = next(turns)
        for number in range(changes):
            place = (turn * 7 + number * 5) % size
            views[place] = replace(views[place], in_flight=(turn + number) % 4)
        return FleetView(turn, tuple(views))

    return next_view


def make_view(number: int) -> BackendView:
    """A healthy device that holds the model and whose speed is known."""
    spec = make_spec(number)
    speed = spec.max_tokens_per_second
    return BackendView(
        spec,
        Health.HEALTHY,
        models={_MODEL: ModelFacts(_MODEL, size_bytes=400_000_000)},
        rates={_MODEL: Rates(spec.avg_latency_ms / 1e3, 15 * speed, speed, samples=20)},
        loaded=frozenset({_MODEL}),
    )


def make_spec(number: int) -> BackendSpec:
    """One of the benchmark's kinds of device."""
    hardware, power_watts, latency_ms, tokens_per_s = DEVICES[number % len(DEVICES)]
    name = f"{hardware}-{number}"
    return BackendSpec(name, "ollama", name, hardware, power_watts, latency_ms, tokens_per_s)


if __name__ == "__main__":
    print(json.dumps(measure_sizes()))
