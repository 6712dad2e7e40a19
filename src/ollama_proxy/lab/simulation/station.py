"""One device at work: its queue, its slots, the models in its memory.

As Ollama does it: first come, first served; one model loads at a time, and whoever is behind waits for it; a model
that nobody has used for the keep-alive is unloaded; one that does not fit makes the least recently used ones go, or
waits until they may.
"""

from __future__ import annotations

import math
from collections import deque

from ollama_proxy.lab.simulation.device_model import DeviceModel, HostModel
from ollama_proxy.lab.simulation.events import Event, FirstToken, Started
from ollama_proxy.lab.simulation.job import Job, Phase
from ollama_proxy.lab.simulation.power_state import PowerState, State

_DONE_S = 1e-7  # of work: what rounding may leave of a phase


class Station:
    """The state of one device. `watts` and the jobs' `speed` and `watts` are set by the world for the time being."""

    __slots__ = (
        "_capacity",
        "_keep_alive_s",
        "_queue",
        "busy_s",
        "device",
        "dynamic_j",
        "jobs",
        "models",
        "power",
        "standby_j",
        "watts",
    )

    def __init__(self, device: DeviceModel, host: HostModel, models: tuple[str, ...]) -> None:
        self.device = device
        self.power = PowerState(device)
        self.jobs: list[Job] = []
        self._queue: deque[Job] = deque()
        self._capacity = max(1, int(device.memory_gb / host.gb_per_token))
        self._keep_alive_s = host.keep_alive_s if host.keep_alive_s >= 0 else math.inf
        # Least recently used first; when each is unloaded, inf while it is in use.
        self.models = dict.fromkeys(models[: self._capacity], self._keep_alive_s)
        self.watts = self.dynamic_j = self.standby_j = self.busy_s = 0.0

    def add(self, job: Job) -> None:
        """Queue a request; `fill` gives it a slot."""
        self._queue.append(job)

    def remove(self, job: Job, now_s: float) -> None:
        """Take a request out wherever it is. A load it had begun is given up with it."""
        if job.phase is Phase.QUEUED:
            self._queue.remove(job)
        else:
            self._leave(job, now_s)

    def fill(self, now_s: float) -> list[Event]:
        """Give free slots to those who wait, and rest if there is no work."""
        events: list[Event] = []
        while self._queue and len(self.jobs) < self.device.slots and not self._is_preparing():
            if not self._make_room(self._queue[0].model):
                break
            job = self._queue.popleft()
            self.jobs.append(job)
            events.append(Started(job.id, now_s))
            self.power.begin_work(now_s)
            job.enter(Phase.WAKING, now_s)
            if self.power.state is State.WORKING:
                self._prepare(job, now_s)
        if not self.jobs:
            self.power.rest(now_s)
        return events

    def change(self, now_s: float) -> list[Event]:
        """Everything that is due at `now_s`."""
        self.power.pass_time(now_s)
        events: list[Event] = []
        for job in tuple(self.jobs):
            if job.phase is Phase.WAKING and self.power.state is State.WORKING:
                self._prepare(job, now_s)
            while job.left_s <= _DONE_S:
                events.extend(self._next_phase(job, now_s))
        for model in [name for name, until_s in self.models.items() if until_s <= now_s]:
            del self.models[model]
        return events + self.fill(now_s)

    def next_s(self, now_s: float) -> float:
        """When something is due next at the present speeds; inf if nothing is."""
        due_s = self.power.until_s
        for job in self.jobs:
            if job.speed > 0:
                due_s = min(due_s, now_s + job.left_s / job.speed)
        for until_s in self.models.values():
            due_s = min(due_s, until_s)
        return due_s

    def pass_time(self, seconds: float) -> None:
        """Work and draw for a time in which nothing changes."""
        self.standby_j += self.power.watts * seconds
        if not self.jobs:
            return
        self.dynamic_j += self.watts * seconds
        if self.watts > 0:
            self.busy_s += seconds
        for job in self.jobs:
            job.left_s -= job.speed * seconds
            job.joules += job.watts * seconds

    def _is_preparing(self) -> bool:
        return any(job.phase <= Phase.LOADING for job in self.jobs)

    def _prepare(self, job: Job, now_s: float) -> None:
        if job.model in self.models:
            self._hold(job.model)
            job.begin_prefill(now_s)
        else:
            job.enter(Phase.LOADING, now_s, self.device.load_s)

    def _next_phase(self, job: Job, now_s: float) -> list[Event]:
        if job.phase is Phase.LOADING:
            self._hold(job.model)
            job.begin_prefill(now_s)
            return []
        if job.phase is Phase.PREFILL:
            job.begin_decode(now_s)
            return [FirstToken(job.id, now_s)]
        self._leave(job, now_s)
        job.left_s = math.inf
        return [job.end(now_s)]

    def _leave(self, job: Job, now_s: float) -> None:
        self.jobs.remove(job)
        if job.phase >= Phase.PREFILL and not self._is_used(job.model):
            self.models.pop(job.model)
            self.models[job.model] = now_s + self._keep_alive_s

    def _hold(self, model: str) -> None:
        self.models[model] = math.inf

    def _is_used(self, model: str) -> bool:
        return any(job.model == model for job in self.jobs)

    def _make_room(self, model: str) -> bool:
        """Unload until the model fits; False if those that are in use leave no room."""
        if model in self.models:
            return True
        for old in [name for name in self.models if not self._is_used(name)]:
            if len(self.models) < self._capacity:
                break
            del self.models[old]
        return len(self.models) < self._capacity
