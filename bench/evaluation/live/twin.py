"""The simulator over devices that are the lab's: no noise, no stalls, nothing shared, no standby.

Three runs answer three questions. `simulate` in life's time is the simulator as everybody uses it. `simulate` in the
lab's hurried time has the same constants in seconds as the proxy there, such as how fast waiting makes urgent.
`follow` takes each service time from what the proxy saw, so that all that can differ is the choice.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

import msgspec

from bench.evaluation.live.client import write_prompt
from bench.evaluation.live.stage import NAMES
from ollama_proxy.domain.decision import Policy, RoutingRequest
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.fleet.lengths import PromptRatio
from ollama_proxy.lab.device import DEVICES, LARGE, DeviceSpec
from ollama_proxy.lab.simulation.device_model import DeviceModel, HostModel, ThermalModel
from ollama_proxy.lab.simulation.events import Ended, Event
from ollama_proxy.lab.simulation.physics import World
from ollama_proxy.lab.simulation.run import Setting, Simulation
from ollama_proxy.lab.simulation.workload import Arrival, Run, Served

_PLENTY = 1e12
#: Seconds within which a request begins at the same time as in another run; a busy machine may sit on one for as long.
_SAME_S = 0.25
#: The proxy's records tell milliseconds: an end and the start that it allows may seem the wrong way round.
_CLOCK_S = 0.002
_COLD = ThermalModel(die_k_per_w=0, die_tau_s=1, throttle_c=1000, resume_c=999)
#: Nothing limits, heats or unloads.
HOST = HostModel(
    package_sustained_w=_PLENTY,
    package_burst_w=_PLENTY,
    memory_gb_s=_PLENTY,
    keep_alive_s=-1,
    chassis_k_per_w=0,
    package_thermal=_COLD,
)


def simulate(arrivals: Sequence[Arrival], policy: Policy, speed: float = 1.0) -> Run:
    """The arrivals through the simulator; times and joules of the run are life's, however hurried it was."""
    hurried = sorted((hurry(one, speed) for one in arrivals), key=_arrival_s)
    return _slow_down(Simulation(policy.rule, make_setting(policy, speed)).run(hurried), speed)


def follow(live: Run, policy: Policy, speed: float) -> Run:
    """The live run's arrivals, where a device takes as long for each request as it took there."""
    setting = make_setting(policy, speed)
    took = {one.arrival.id: _hurry_served(one, speed) for one in live.served}
    world = RecordedWorld(setting, took)
    run = Follower(policy.rule, setting, world).run(sorted((one.arrival for one in took.values()), key=_arrival_s))
    return _slow_down(run, speed)


def make_setting(policy: Policy, speed: float) -> Setting:
    """The lab's devices at a speed, with the shipped priors in their time."""
    devices = [make_device(DEVICES[name], speed) for name in NAMES]
    return Setting(devices, HOST, prior_factor=1 / speed, bytes_sigma=0.0, policy=policy)


def make_device(spec: DeviceSpec, speed: float = 1.0) -> DeviceModel:
    """What the lab emulates, as the simulator knows devices. The model is in memory, so loads do not matter."""
    return DeviceModel(
        name=f"ollama-{spec.name}",
        hardware=spec.name,
        prefill_tps=spec.prefill_tps * speed,
        decode_tps=spec.decode_tps * speed,
        overhead_s=spec.first_token_s / speed,
        prefill_w=spec.watts,
        decode_w=spec.watts,
        load_s=spec.load_s / speed,
        load_w=spec.watts,
        memory_gb=_PLENTY,
        on_package=False,
        bandwidth_gb_s=_PLENTY,
        noise=0,
        stall_probability=0,
    )


def hurry(arrival: Arrival, speed: float) -> Arrival:
    """The same with times that are `speed` times shorter."""
    return msgspec.structs.replace(
        arrival, at_s=arrival.at_s / speed, deadline_s=arrival.deadline_s / speed, model=LARGE
    )


class Follower(Simulation):
    """Guesses prompts by their bytes, as the proxy does, and looks at the queue when nothing happens in those moments
    in which the proxy found somebody to begin."""

    def __init__(self, name: str, setting: Setting, world: RecordedWorld) -> None:
        super().__init__(name, setting, world)
        self._looks_s = [start_s + _CLOCK_S for start_s in world.starts_s]
        self._prompts = PromptRatio()

    def next_look_s(self) -> float:
        """The next of them."""
        place = bisect_right(self._looks_s, self._world.now_s)
        return self._looks_s[place] if place < len(self._looks_s) else super().next_look_s()

    def describe(self, arrival: Arrival) -> RoutingRequest:
        """With as many tokens as so many bytes probably are."""
        request = super().describe(arrival)
        expected = self._prompts.expect(request.model, _count_bytes(arrival))
        return msgspec.structs.replace(request, prompt_tokens=expected)

    def learn_lengths(self, arrival: Arrival) -> None:
        """That of the prompt is known as well."""
        super().learn_lengths(arrival)
        self._prompts.learn(canonical_model(arrival.model), _count_bytes(arrival), arrival.prompt_tokens)


class RecordedWorld(World):
    """A machine on which a request takes as long as it took in a run, if it is on the same device again."""

    def __init__(self, setting: Setting, took: Mapping[int, Served]) -> None:
        super().__init__(setting.devices, setting.host, setting.seed)
        self._took = took
        self._begun: dict[int, str] = {}
        self.starts_s = sorted(one.started_s for one in took.values() if one.device)

    def start(self, device: str, job: int, prompt_tokens: int, output_tokens: int, model: str = LARGE) -> None:
        """As in the world above."""
        super().start(device, job, prompt_tokens, output_tokens, model)
        self._begun[job] = device
        seen = self._took[job]
        if seen.device == device:
            # The very moments where it begins as it did, so that what was before another event still is.
            late_s = self.now_s - seen.started_s
            late_s = 0.0 if abs(late_s) < _SAME_S else late_s
            first_s = max(self.now_s, seen.first_token_s + late_s)
            one, _ = self._jobs[job]
            one.left_s = one.prefill_s = first_s - self.now_s
            one.decode_s = max(0.0, seen.ended_s + late_s - first_s)
            self._plan()

    def advance(self, to_s: float) -> list[Event]:
        """As in the world above, but the times that are learned are those that the proxy had to learn from."""
        return [self._report(one) if isinstance(one, Ended) else one for one in super().advance(to_s)]

    def _report(self, ended: Ended) -> Ended:
        """Decoding as the lab says, which is how long it should take; the prompt as the proxy saw it."""
        seen, device = self._took[ended.job], self._begun[ended.job]
        tps = next(one.decode_tps for one in self.devices() if one.name == device)
        is_same = seen.device == device
        return msgspec.structs.replace(
            ended,
            prefill_s=seen.first_token_s - seen.started_s if is_same else ended.prefill_s,
            decode_s=seen.arrival.output_tokens / tps,
        )


def _count_bytes(arrival: Arrival) -> int:
    """Of the prompt in JSON, its quotes included."""
    return len(write_prompt(arrival)) + 2


def _arrival_s(arrival: Arrival) -> float:
    return arrival.at_s


def _hurry_served(one: Served, speed: float) -> Served:
    times = {name: getattr(one, name) / speed for name in ("started_s", "first_token_s", "ended_s")}
    return msgspec.structs.replace(one, arrival=hurry(one.arrival, speed), **times)


def _slow_down(run: Run, speed: float) -> Run:
    """A run in hurried seconds as one in life's."""
    served = [msgspec.structs.replace(_hurry_served(one, 1 / speed), joules=one.joules * speed) for one in run.served]
    return msgspec.structs.replace(
        run, served=tuple(served), joules=math.fsum(one.joules for one in served), standby_joules=0.0
    )
