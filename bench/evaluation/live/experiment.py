"""The experiment: the same arrivals through the proxy over the lab and through the simulator, to be compared."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench.evaluation.live.client import LEAST_PROMPT_TOKENS, send_all
from bench.evaluation.live.records import make_run, read_recorded, sum_joules
from bench.evaluation.live.stage import NAMES, Stage
from bench.evaluation.live.twin import follow, make_device, simulate
from ollama_proxy.lab.device import DEVICES
from ollama_proxy.lab.simulation.report import Figures, summarise_run
from ollama_proxy.lab.simulation.workload import Arrival, Run, Served


class Agreement(msgspec.Struct, frozen=True):
    """What was found. Seconds are life's; joules are emulated on both sides.

    `runs` are by name: `live`, `simulated` (in life's time), `hurried` (in the lab's), `followed` (with the live
    service times). `device_joules` are what the devices say themselves. `expected_joules` is what they would have said
    of the live choices if nothing had ever been late. `as_told` counts answers of the length that the prompt asked for.
    `load` is the machine's load average afterwards.
    """

    speed: float
    requests: int
    decisions: int
    differing: tuple[str, ...]
    policy: str
    runs: dict[str, Run]
    device_joules: dict[str, float]
    expected_joules: dict[str, float]
    as_told: int
    load: float

    def figures(self, name: str) -> Figures:
        """As `lab simulate` reports them."""
        return summarise_run(self.runs[name])

    def same_choices(self, name: str) -> tuple[int, int]:
        """How many requests went to the device that the live run chose, and of how many that were answered live."""
        other = {one.arrival.id: one.device for one in self.runs[name].served}
        mine = [one for one in self.runs["live"].served if one.device]
        return sum(other.get(one.arrival.id) == one.device for one in mine), len(mine)

    def same_starts(self, name: str, within_s: float) -> tuple[int, int]:
        """How many of those also waited as long as they did live, to `within_s` seconds of life."""
        other = {one.arrival.id: one for one in self.runs[name].served}
        mine = [one for one in self.runs["live"].served if one.device]
        same = [one for one in mine if (twin := other.get(one.arrival.id)) and twin.device == one.device]
        return sum(abs(_waited_s(other[one.arrival.id]) - _waited_s(one)) <= within_s for one in same), len(mine)

    def joules_of(self, name: str) -> dict[str, float]:
        """By device; for the live run as the devices say."""
        return self.device_joules if name == "live" else sum_joules(self.runs[name])

    def booked_joules(self) -> dict[str, float]:
        """By device what the proxy booked on the live requests."""
        return sum_joules(self.runs["live"])


def run_experiment(arrivals: Sequence[Arrival], speed: float, work: Path) -> Agreement:
    """Takes as long as the workload does at that speed. Raises `Broken`."""
    arrivals = [_enlarge(one) for one in arrivals]
    with Stage(work, speed) as stage:
        sent = asyncio.run(send_all(arrivals, stage.http_port, speed))
        device_joules = stage.joules()
    recorded = read_recorded(stage.record_file)
    policy = next(iter(recorded.by_request.values())).policy
    live = make_run(arrivals, sent, recorded.by_request, speed, sum(device_joules.values()))
    runs = {
        "live": live,
        "simulated": simulate(arrivals, policy),
        "hurried": simulate([one.arrival for one in live.served], policy, speed),
        "followed": follow(live, policy, speed),
    }
    as_told = sum(answer.tokens == arrival.output_tokens for arrival, answer in zip(arrivals, sent, strict=True))
    return Agreement(
        speed,
        len(arrivals),
        recorded.decisions,
        recorded.differing,
        f"{policy.rule}, {policy.name}, a second is worth {policy.lambda_watts:g} J",
        runs,
        device_joules,
        _expect_joules(live),
        as_told,
        os.getloadavg()[0],
    )


def _waited_s(one: Served) -> float:
    return one.started_s - one.arrival.at_s


def _enlarge(arrival: Arrival) -> Arrival:
    """With a prompt that has room for what it has to say."""
    return msgspec.structs.replace(arrival, prompt_tokens=max(arrival.prompt_tokens, LEAST_PROMPT_TOKENS))


def _expect_joules(run: Run) -> dict[str, float]:
    devices = {one.name: one for one in (make_device(DEVICES[name]) for name in NAMES)}
    found = dict.fromkeys(devices, 0.0)
    for one in run.served:
        if one.device:
            found[one.device] += devices[one.device].energy_j(one.arrival.prompt_tokens, one.arrival.output_tokens)
    return found
