"""Times the decision in this process and prints JSON: median microseconds by number of backends."""

from __future__ import annotations

import json
import statistics
import time

from msgspec.structs import replace

from bench.participants.ours import DEVICES
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Policy, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Health, ModelFacts, Rates
from ollama_proxy.routing.decide import decide

SIZES = (1, 4, 16, 64, 1000)
_TIMES = 4000
_MODEL = "qwen2.5:0.5b"
_POLICY = Policy("Balanced", 10.0, "npu-0")
_REQUEST = RoutingRequest(_MODEL, _MODEL, frozenset((Need.GENERATE,)), Annotations(), max_tokens=100)


def measure_sizes() -> dict[str, float]:
    """`us_4` and so on with three backends changed before each decision, `unchanged_us_4` with none."""
    found = {}
    for size in SIZES:
        found[f"us_{size}"] = time_decisions(size, changes=min(3, size))
        found[f"unchanged_us_{size}"] = time_decisions(size, changes=0)
    return found


def time_decisions(size: int, changes: int) -> float:
    """Median microseconds of `decide`."""
    return statistics.median(sample_decisions(size, changes))


def sample_decisions(size: int, changes: int, times: int = _TIMES) -> list[float]:
    """Microseconds of `decide`, so many times. Making the changed views is not in them."""
    views = [make_view(number) for number in range(size)]
    taken_us = []
    for turn in range(times):
        for number in range(changes):
            place = (turn * 7 + number * 5) % size
            views[place] = replace(views[place], in_flight=(turn + number) % 4)
        fleet = FleetView(turn, tuple(views))
        began_ns = time.perf_counter_ns()
        decide(_REQUEST, fleet, _POLICY)
        taken_us.append((time.perf_counter_ns() - began_ns) / 1e3)
    return taken_us


def make_view(number: int) -> BackendView:
    """A healthy device that holds the model and whose speed is known."""
    hardware, power_watts, latency_ms, tokens_per_s = DEVICES[number % len(DEVICES)]
    name = f"{hardware}-{number}"
    spec = BackendSpec(name, "ollama", name, hardware, power_watts, latency_ms, tokens_per_s)
    return BackendView(
        spec,
        Health.HEALTHY,
        models={_MODEL: ModelFacts(_MODEL, size_bytes=400_000_000)},
        rates={_MODEL: Rates(latency_ms / 1e3, 15 * tokens_per_s, tokens_per_s, samples=20)},
        loaded=frozenset({_MODEL}),
    )


if __name__ == "__main__":
    print(json.dumps(measure_sizes()))
