"""One policy over one workload in virtual time: the emulated machine, and the proxy's own brain in front of it.

What decides, admits, predicts and learns here is what does so in the proxy: `decide`, `Admission`, `Fleet` with its
learners, `LengthBook`. Only the bytes are missing.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations
from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Decision, Policy, PowerSet, Refusal, RoutingRequest
from ollama_proxy.domain.device import BackendSpec, FleetView, ModelFacts
from ollama_proxy.domain.lengths import BINS, Lengths, bin_of
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.admission import Admission
from ollama_proxy.fleet.lengths import LengthBook
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.running import Running, predict_running
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.fleet.waiting import Waiting
from ollama_proxy.lab.simulation.device_model import DeviceModel, HostModel
from ollama_proxy.lab.simulation.devices import DEFAULT_DEVICES, DEFAULT_HOST
from ollama_proxy.lab.simulation.events import Ended, FirstToken
from ollama_proxy.lab.simulation.physics import World
from ollama_proxy.lab.simulation.workload import Arrival, Run, Served
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.power_set import Draw, Want, choose_power_set, exchange_power_set
from ollama_proxy.routing.rules import EARLY

#: What the shipped configuration says of the four devices: watts, milliseconds, tokens a second, priority.
_CONFIGURED = {
    "npu": (3.0, 800.0, 10.0, 1),
    "igpu": (12.0, 350.0, 22.0, 5),
    "nvidia": (55.0, 150.0, 65.0, 10),
    "cpu": (28.0, 1200.0, 6.0, 2),
}
_NEEDS = frozenset((Need.GENERATE,))
#: As often as the proxy sweeps.
_TICK_S = 1.0
_WAY_IN = "simulated"
#: The pool of those without memory of their own.
_HOST = "host"
_SIZE_BYTES = 4_000_000_000


class Setting(msgspec.Struct, frozen=True):
    """What a run is made with besides its workload. `prior_factor` makes every configured speed wrong by so much."""

    devices: Sequence[DeviceModel] = DEFAULT_DEVICES
    host: HostModel = DEFAULT_HOST
    seed: int = 1
    cap_w: float = 0.0
    prior_factor: float = 1.0
    learns: bool = True
    in_order: bool = True
    #: The length of each answer is known beforehand: what not knowing it costs.
    knows_lengths: bool = False
    #: How well the size of a body tells the number of its tokens: sigma of the logarithm.
    bytes_sigma: float = 0.08
    policy: Policy = Policy("Balanced", 10.0)


def run_policy(
    name: str, arrivals: Sequence[Arrival], setting: Setting, progress: Callable[[int], None] | None = None
) -> Run:
    """The fate of every request under a policy. `progress` is told how many have ended."""
    return Simulation(name, setting).run(arrivals, progress)


class _Job:
    __slots__ = ("arrival", "device", "first_s", "request", "running", "started_s", "ttft_s")

    def __init__(self, arrival: Arrival, request: RoutingRequest) -> None:
        self.arrival = arrival
        self.request = request
        self.device = ""
        self.started_s = self.first_s = self.ttft_s = 0.0
        self.running: Running | None = None


class Simulation:
    """One run."""

    def __init__(self, name: str, setting: Setting, world: World | None = None) -> None:
        """`world` stands in for the emulated machine of the setting; it has the same devices."""
        self._name = name
        self._setting = setting
        self._policy = msgspec.structs.replace(setting.policy, rule=name)
        self._world = world or World(setting.devices, setting.host, setting.seed)
        self._fleet = Fleet()
        for device in setting.devices:
            spec = describe_device(device, setting.prior_factor)
            self._fleet.add(spec, _NEEDS)
        self._look()
        if setting.cap_w and name not in EARLY:
            self._set_power()
        self._lengths = LengthBook()
        self._admission = Admission(self._fleet, lambda: self._policy, in_order=setting.in_order, judge=self._decide)
        self._early = name in EARLY
        self._jobs: dict[int, _Job] = {}
        self._served: list[Served] = []
        self._decide_us: list[float] = []
        self._above_s = self._streak_s = self._longest_above_s = 0.0

    def run(self, arrivals: Sequence[Arrival], progress: Callable[[int], None] | None = None) -> Run:
        """The fate of every request."""
        world = self._world
        upcoming = iter(arrivals)
        arrival = next(upcoming, None)
        told = 0
        while arrival is not None or self._jobs:
            look_s = self.next_look_s() if len(self._admission) else math.inf
            next_s = min(world.next_s(), look_s, arrival.at_s if arrival is not None else math.inf)
            has_news = self._pass(max(next_s, world.now_s)) or look_s <= world.now_s
            while arrival is not None and arrival.at_s <= world.now_s:
                self._arrive(arrival)
                arrival = next(upcoming, None)
                has_news = True
            # As the proxy does: a first token is no reason to plan anew.
            if has_news:
                self._plan()
            if progress is not None and len(self._served) - told >= 50:
                told = len(self._served)
                progress(told)
        self._served.sort(key=lambda one: one.arrival.id)
        return Run(
            self._name,
            tuple(self._served),
            world.joules_dynamic,
            world.joules_standby,
            self._above_s,
            tuple(self._decide_us),
            self._setting.seed,
            self._longest_above_s,
        )

    def next_look_s(self) -> float:
        """When the queue is gone through again, whatever else happens until then."""
        return (self._world.now_s // _TICK_S + 1.0) * _TICK_S

    def describe(self, arrival: Arrival) -> RoutingRequest:
        """What the proxy knows of a request when it comes, but for the usual lengths of answers."""
        return describe_request(arrival, self._setting)

    def learn_lengths(self, arrival: Arrival) -> None:
        """It is known now how long its answer was."""
        self._lengths.learn(canonical_model(arrival.model), _WAY_IN, arrival.caller, arrival.output_tokens)

    def _pass(self, to_s: float) -> bool:
        """Move the clock; whether a request has ended meanwhile."""
        world, cap_w = self._world, self._setting.cap_w
        if cap_w and to_s > world.now_s:
            above_s = to_s - world.now_s if world.power_w() > cap_w else 0.0
            self._above_s += above_s
            self._streak_s = self._streak_s + above_s if above_s else 0.0
            self._longest_above_s = max(self._longest_above_s, self._streak_s)
        has_ended = False
        for event in world.advance(to_s):
            if isinstance(event, Ended):
                has_ended = True
                self._end(event)
            elif isinstance(event, FirstToken):
                job = self._jobs[event.job]
                job.first_s = event.at_s
                if job.running is not None:
                    job.running.first_s = event.at_s
        return has_ended

    # -- what the proxy does ---------------------------------------------------------

    def _arrive(self, arrival: Arrival) -> None:
        self._fleet.age(self._world.now_s)
        request = self.describe(arrival)
        if self._name == "predictive":
            lengths = (
                _exactly(arrival.output_tokens)
                if self._setting.knows_lengths
                else self._lengths.expect(request.model, _WAY_IN, arrival.caller)
            )
            request = msgspec.structs.replace(request, lengths=lengths)
        job = _Job(arrival, request)
        if self._early:
            verdict = self._decide(request, self._fleet.view_at(self._world.now_s), self._policy, frozenset())
            self._settle(job, verdict)
        else:
            self._admission.add(Waiting(job, request, arrival.at_s, arrival.caller, frozenset()), arrival.at_s)
            self._jobs[arrival.id] = job

    def _plan(self) -> None:
        asked = self._admission.wants
        self._plan_once()
        if asked or self._admission.wants:
            before = self._policy
            self._set_power(self._admission.wants)
            if self._policy is not before:
                self._plan_once()

    def _set_power(self, wants: Sequence[Want] = ()) -> None:
        """Choose the set under the cap; the same policy stays the same object, as what is remembered goes by it."""
        old = self._policy.power_set
        running = {view.id for view in self._fleet.view().backends if view.in_flight}
        chosen = exchange_power_set(old, running, *_limit_power(self._setting), wants)
        if chosen != old:
            self._policy = msgspec.structs.replace(self._policy, power_set=chosen)

    def _plan_once(self) -> None:
        for waiting, verdict in self._admission.plan(self._world.now_s):
            self._settle(waiting.owner, verdict)

    def _decide(
        self, request: RoutingRequest, view: FleetView, policy: Policy, tried: frozenset[str]
    ) -> Decision | Refusal:
        began_ns = time.perf_counter_ns()
        verdict = decide(request, view, policy, tried)
        self._decide_us.append((time.perf_counter_ns() - began_ns) / 1e3)
        return verdict

    def _settle(self, job: _Job, verdict: Decision | Refusal) -> None:
        """Begin where it was decided, or turn away."""
        now_s = self._world.now_s
        if isinstance(verdict, Refusal):
            self._jobs.pop(job.arrival.id, None)
            self._served.append(Served(job.arrival, "", now_s, now_s, now_s, 0.0))
            return
        self._jobs[job.arrival.id] = job
        job.device, job.started_s = verdict.backend, now_s
        job.running = predict_running(job.request, verdict, now_s, self._policy)
        job.ttft_s = job.running.first_s - now_s
        self._fleet.opened(job.device, job.running, now_s)
        arrival = job.arrival
        self._world.start(job.device, arrival.id, arrival.prompt_tokens, arrival.output_tokens, arrival.model)

    def _end(self, ended: Ended) -> None:
        job = self._jobs.pop(ended.job)
        self._fleet.closed(job.device, job.running, self._world.now_s)
        self._fleet.age(self._world.now_s)
        arrival = job.arrival
        if self._setting.learns:
            tps = arrival.output_tokens / ended.decode_s if ended.decode_s > 0 else None
            load_s = ended.load_s if ended.load_s > 0.5 else None
            seen = Observation(ended.prefill_s, tps, arrival.prompt_tokens, load_s, ended.decode_s)
            self._fleet.succeeded(job.device, arrival.model, seen, self._world.now_s)
        self.learn_lengths(arrival)
        predicted_s = job.ttft_s + arrival.output_tokens * job.running.s_per_token if job.running else None
        self._served.append(
            Served(arrival, job.device, job.started_s, job.first_s, ended.at_s, ended.joules, predicted_s)
        )

    def _look(self) -> None:
        """What a probe would tell."""
        for device in self._world.devices():
            loaded = frozenset(canonical_model(name) for name in self._world.resident(device.name))
            models = {name: ModelFacts(name, size_bytes=_SIZE_BYTES) for name in loaded}
            self._fleet.probed(device.name, ProbeReport(models, loaded, emulated=True), round(self._world.now_s))


def choose_within(setting: Setting) -> PowerSet:
    """The devices that may run together under the cap; the others stand by meanwhile."""
    return choose_power_set(*_limit_power(setting))


def _limit_power(setting: Setting) -> tuple[list[Draw], float, float]:
    """What each device draws, the cap, and what is drawn besides."""
    draws = [
        Draw(one.name, one.decode_w, one.prefill_w, one.decode_tps * one.slots**one.batch_exponent)
        for one in setting.devices
    ]
    return draws, setting.cap_w, sum(one.idle_w for one in setting.devices if not one.suspend_after_s)


def _exactly(tokens: int) -> Lengths:
    """The distribution of what is known: all of it in one bin."""
    return Lengths([float(place == bin_of(tokens)) for place in range(BINS)])


def describe_device(device: DeviceModel, prior_factor: float = 1.0) -> BackendSpec:
    """The device as a configuration would describe it."""
    known = _CONFIGURED.get(device.hardware) if device.name == f"ollama-{device.hardware}" else None
    watts, latency_ms, tps, priority = known or (
        device.decode_w,
        1000 * (device.overhead_s + 50 / device.prefill_tps),
        device.decode_tps,
        1,
    )
    return BackendSpec(
        id=device.name,
        kind="ollama",
        name=device.name,
        hardware=device.hardware,
        power_watts=watts,
        avg_latency_ms=latency_ms * prior_factor,
        max_tokens_per_second=tps / prior_factor,
        priority=priority,
        slots=device.slots,
        held=True,
        parallel_exponent=device.batch_exponent,
        prefill_watts=device.prefill_w,
        load_seconds=device.load_s,
        suspend_after_seconds=device.linger_s + device.suspend_after_s if device.suspend_after_s else 0.0,
        wake_seconds=device.wake_s,
        wake_joules=_cost_of_waking(device),
        memory_pool="" if device.bandwidth_gb_s else _HOST,
    )


def _cost_of_waking(device: DeviceModel) -> float:
    """Joules of waking, lingering and idling until it sleeps again."""
    return device.wake_s * device.wake_w + device.linger_s * device.linger_w + device.suspend_after_s * device.idle_w


def describe_request(arrival: Arrival, setting: Setting) -> RoutingRequest:
    """The request as the proxy sees it: without the length of its answer, and its prompt only by its bytes."""
    luck = random.Random(f"{setting.seed}/{arrival.id}/bytes").gauss(0, setting.bytes_sigma)  # a simulation
    model = canonical_model(arrival.model)
    return RoutingRequest(
        model,
        arrival.model,
        _NEEDS,
        _annotate(arrival),
        prompt_tokens=arrival.prompt_tokens * math.exp(luck),
        serial=arrival.id,
    )


def _annotate(arrival: Arrival) -> Annotations:
    match arrival.wish:
        case "critical":
            return Annotations(latency_critical=True)
        case "efficient":
            return Annotations(prefer_power_efficiency=True)
        case "deadline":
            limit_ms = round(arrival.deadline_s * 1000)
            return Annotations(max_latency_ms=limit_ms, latency_probability=arrival.probability)
        case _:
            return NO_ANNOTATIONS
