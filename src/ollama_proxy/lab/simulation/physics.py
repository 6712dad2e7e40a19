"""The emulated machine in virtual time: events, not steps.

Between two changes every speed and every draw is constant, so that work, joules and temperatures are integrated
exactly however far the clock is moved. A device's power is dynamic while it works, and standby, that of its state,
otherwise:

- k requests at once run at k^(exponent - 1) of the speed of one each and share the device's draw equally; that is
  the mean of what their phases draw, plus a share for each beyond the first;
- a throttled die scales speed and draw alike; drift scales speed only, as a neighbour that steals time would;
- decoding from the shared pool slows down together when more is demanded than there is (`host.share_memory`); while
  a device waits it draws the host's `waiting_power_share`;
- then the package's limiter scales what is left (`host.limit_speeds`). Bandwidth that this frees is not handed on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ollama_proxy.lab.device import LARGE
from ollama_proxy.lab.simulation.device_model import DeviceModel, HostModel
from ollama_proxy.lab.simulation.events import Ended, Event, FirstToken, Started
from ollama_proxy.lab.simulation.host import (
    GIVE_WAY,
    PackageLimiter,
    draw_of_waiting,
    limit_speeds,
    share_memory,
)
from ollama_proxy.lab.simulation.job import Job, Luck, Phase
from ollama_proxy.lab.simulation.station import Station
from ollama_proxy.lab.simulation.thermal import Die, Heat

__all__ = ["Ended", "Event", "FirstToken", "Started", "World"]


class World:
    """All devices of one machine. Times are virtual seconds from 0; power is above the platform's floor."""

    def __init__(self, devices: Iterable[DeviceModel], host: HostModel, seed: int, *, warm: bool = True) -> None:
        """`warm`: `llama3:7b` is loaded everywhere at 0 s. The machine has been idle long enough to be cool."""
        self.now_s = 0.0
        self.host = host
        self.joules_aborted = 0.0
        self._seed = seed
        self._stations = {one.name: Station(one, host, (LARGE,) if warm else ()) for one in devices}
        self._package = sorted(
            (one for one in self._stations.values() if one.device.on_package),
            key=lambda one: GIVE_WAY.get(one.device.hardware, len(GIVE_WAY)),
        )
        self._jobs: dict[int, tuple[Job, Station]] = {}
        self._told: list[Event] = []
        self._limiter = PackageLimiter(host, self.package_w())
        self._heat, self._dies = self._build_heat()
        self._next_s = math.inf
        self._plan()

    # -- what happens ------------------------------------------------------------

    def start(self, device: str, job: int, prompt_tokens: int, output_tokens: int, model: str = LARGE) -> None:
        """Hand a request to a device, now.

        Raises `KeyError` for an unknown device, `ValueError` for a job that is in flight already.
        """
        if job in self._jobs:
            raise ValueError(f"job {job} is in flight")
        station = self._stations[device]
        one = Job(job, (prompt_tokens, output_tokens), model, station.device, Luck(self._seed, job))
        self._jobs[job] = (one, station)
        station.add(one)
        self._tell(station.fill(self.now_s))
        self._plan()

    def abort(self, job: int) -> float:
        """End a request whose client has left; the dynamic joules it cost. Raises `KeyError` if it is not in flight."""
        one, station = self._jobs.pop(job)
        station.remove(one, self.now_s)
        self.joules_aborted += one.joules
        self._tell(station.fill(self.now_s))
        self._plan()
        return one.joules

    def next_s(self) -> float:
        """When the state changes next: now if an event is still to be told, inf when all is idle and cold."""
        return self.now_s if self._told else self._next_s

    def advance(self, to_s: float) -> list[Event]:
        """Move the clock; the events since the last time, in order. Raises `ValueError` for a time that is past."""
        if to_s < self.now_s:
            raise ValueError(f"the clock stands at {self.now_s} s, {to_s} s is past")
        while self._next_s <= to_s:
            self._pass_time(self._next_s)
            for station in self._stations.values():
                self._tell(station.change(self.now_s))
            for die in self._heat.dies:
                die.check_throttle()
            self._plan()
        self._pass_time(to_s)
        told, self._told = self._told, []
        return told

    # -- what can be read --------------------------------------------------------

    @property
    def joules_dynamic(self) -> float:
        """Of all work so far, aborted requests and loads included."""
        return sum(one.dynamic_j for one in self._stations.values())

    @property
    def joules_standby(self) -> float:
        """Of all time without work so far: idle, lingering, waking."""
        return sum(one.standby_j for one in self._stations.values())

    @property
    def joules_in_flight(self) -> float:
        """What the requests in flight have cost so far."""
        return sum(job.joules for job, _ in self._jobs.values())

    def power_w(self, device: str | None = None) -> float:
        """Dynamic and standby draw now, of one device or of all."""
        stations = self._stations.values() if device is None else (self._stations[device],)
        return sum(one.watts + one.power.watts for one in stations)

    def package_w(self) -> float:
        """What the package draws now, its own floor included."""
        return self.host.package_floor_w + sum(one.watts + one.power.watts for one in self._package)

    def device_joules(self, device: str) -> tuple[float, float]:
        """Dynamic and standby joules of one device so far."""
        station = self._stations[device]
        return station.dynamic_j, station.standby_j

    def busy_s(self, device: str) -> float:
        """Seconds in which the device drew dynamic power."""
        return self._stations[device].busy_s

    def state(self, device: str) -> str:
        """`asleep`, `waking`, `working`, `lingering` or `idle`."""
        return self._stations[device].power.state.value

    def resident(self, device: str) -> frozenset[str]:
        """The models in the device's memory."""
        return frozenset(self._stations[device].models)

    def temperature_c(self, device: str) -> float | None:
        """Of the device's die; None where its heat is not modelled."""
        die = self._dies[device]
        return None if die is None else die.temperature_c

    def devices(self) -> tuple[DeviceModel, ...]:
        """The parameters of all devices, in the order given."""
        return tuple(one.device for one in self._stations.values())

    # -- how it comes about ------------------------------------------------------

    def _build_heat(self) -> tuple[Heat, dict[str, Die | None]]:
        """The package's die and those of devices that have their own; who is on which."""
        own = [one for one in self._stations.values() if one.device.thermal and not one.device.on_package]
        models = [self.host.package_thermal, *(one.device.thermal for one in own if one.device.thermal)]
        watts = [self.package_w(), *(self.power_w(one.device.name) for one in own)]
        heat = Heat(self.host, models, watts, self.host.platform_floor_w + self.power_w())
        dies: dict[str, Die | None] = dict.fromkeys(self._stations)
        dies.update((one.device.name, heat.dies[0]) for one in self._package)
        dies.update((one.device.name, die) for one, die in zip(own, heat.dies[1:], strict=True))
        return heat, dies

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Ended):
                del self._jobs[event.job]
        self._told += events

    def _pass_time(self, to_s: float) -> None:
        seconds = to_s - self.now_s
        if seconds <= 0:
            return
        self._limiter.pass_time(self.package_w(), seconds)
        self._heat.pass_time(seconds)
        for station in self._stations.values():
            station.pass_time(seconds)
        self.now_s = to_s

    def _plan(self) -> None:
        """Speeds and draws from now on, and when they have to be looked at again."""
        busy = [one for one in self._stations.values() if one.jobs]
        for station in self._stations.values():
            station.watts = 0.0
        demanded_gb_s = sum(self._set_speeds(station) for station in busy)
        memory = share_memory(demanded_gb_s, self.host.memory_gb_s)
        for station in busy:
            self._set_watts(station, memory)
        self._limit_package()
        next_s = min((one.next_s(self.now_s) for one in self._stations.values()), default=math.inf)
        next_s = min([next_s, *(_next_drift(one.device, self.now_s) for one in busy)])
        self._next_s = self._next_crossing(next_s)

    def _set_speeds(self, station: Station) -> float:
        """Speeds before memory and limiter; the gigabytes a second that the device wants from the pool."""
        working = [job for job in station.jobs if job.phase >= Phase.PREFILL]
        device = station.device
        die = self._dies[device.name]
        speed = (die.speed if die else 1.0) / _slowed(device, self.now_s)
        if len(working) > 1:
            speed *= len(working) ** (device.batch_exponent - 1)
        for job in station.jobs:
            job.speed = speed if job.phase >= Phase.PREFILL else float(job.phase is Phase.LOADING)
        if device.bandwidth_gb_s or all(job.phase is not Phase.DECODE for job in working):
            return 0.0
        # All requests of a step read the weights together, so the demand is that of one of them.
        return speed * device.decode_tps * self.host.gb_per_token

    def _set_watts(self, station: Station, memory: float) -> None:
        device = station.device
        waiting = 1.0 if device.bandwidth_gb_s else draw_of_waiting(memory, self.host.waiting_power_share)
        working, total_w, loading_w = 0, 0.0, 0.0
        for job in station.jobs:
            if job.phase is Phase.DECODE:
                working += 1
                total_w += device.decode_w * waiting
                if not device.bandwidth_gb_s:
                    job.speed *= memory
            elif job.phase is Phase.PREFILL:
                working += 1
                total_w += device.prefill_w
            else:
                job.watts = device.load_w if job.phase is Phase.LOADING else 0.0
                loading_w += job.watts
        station.watts = loading_w
        if working:
            die = self._dies[device.name]
            batch = (1 + device.batch_power_share * (working - 1)) * (die.speed if die else 1.0)
            each_w = total_w / working * batch / working
            station.watts += each_w * working
            for job in station.jobs:
                if job.phase >= Phase.PREFILL:
                    job.watts = each_w

    def _limit_package(self) -> None:
        watts = self.package_w()
        cap_w = self._limiter.cap_w
        if watts <= cap_w:
            return
        dynamic_w = [one.watts for one in self._package]
        speeds = limit_speeds(dynamic_w, cap_w - (watts - sum(dynamic_w)))
        for station, speed in zip(self._package, speeds, strict=True):
            station.watts *= speed
            for job in station.jobs:
                job.speed *= speed
                job.watts *= speed

    def _next_crossing(self, next_s: float) -> float:
        """The limiter's or a throttle's moment, if one comes before `next_s`."""
        next_s = min(next_s, self.now_s + self._limiter.exhausted_in_s(self.package_w()))
        heat = self._heat
        heat.watts = self.host.platform_floor_w + self.power_w()
        heat.dies[0].watts = self.package_w()
        for name, die in self._dies.items():
            if die is not None and die is not heat.dies[0]:
                die.watts = self.power_w(name)
        return min(next_s, self.now_s + heat.next_crossing_s(next_s - self.now_s))


def _slowed(device: DeviceModel, now_s: float) -> float:
    """How many times slower the device is just now."""
    return math.prod(factor for from_s, to_s, factor in device.drift if from_s <= now_s < to_s)


def _next_drift(device: DeviceModel, now_s: float) -> float:
    """When the device's speed drifts next."""
    return min((at_s for one in device.drift for at_s in one[:2] if at_s > now_s), default=math.inf)
