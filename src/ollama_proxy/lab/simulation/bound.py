"""The clairvoyant bound: no schedule, however clever and whatever it foresees, needs fewer joules.

A linear programme relaxes the schedule. Requests may be split over devices; order and preemption are free. What stays:

- a request's whole work is done, and in time (arrival + target) but for a permitted share of late ones for each wish;
- only a device whose idle service time meets the target can do it in time;
- in a window of time, a device cannot do more work than the window's length times its slots. The work that a request
  must do inside a window is the least overlap over all places where it may lie ("energetic reasoning", Baptiste, Le
  Pape, Nuijten: Constraint-Based Scheduling, 2001). Windows of many lengths are asked; fewer only weaken the bound;
- nor do the devices that share the host's memory read more from it than fits: each output token reads the weights
  once, or a full batch does together. Decoding may be slowed at will here, so what must be read inside a window is
  only what fits neither before nor behind it at full speed.

Late requests cost the cheapest device's joules and no device's time, requests without target likewise. Service times
and joules are nominal: alone on the device, model loaded, no noise; with several slots the joules are those of the
batch size that is cheapest. Needs HiGHS (the extra `simulate`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec
import numpy as np

from ollama_proxy.lab.simulation.programme import Floats, InfeasibleError, Programme
from ollama_proxy.lab.simulation.windows import Jobs, overfull_windows
from ollama_proxy.lab.simulation.workload import Arrival

__all__ = ["Bound", "Device", "InfeasibleError", "bound", "least_joules"]

DEFAULT_LATE_SHARE: Final = 0.01
_ROUNDING_S: Final = 1e-6  # a target may be what a run needed, to the last bit


class Device(Protocol):
    """What the bound has to know of a device."""

    @property
    def name(self) -> str: ...
    @property
    def slots(self) -> int: ...
    @property
    def batch_exponent(self) -> float: ...
    @property
    def batch_power_share(self) -> float: ...
    @property
    def bandwidth_gb_s(self) -> float: ...  # 0: of the host's memory
    def service_s(self, prompt_tokens: int, output_tokens: int, /) -> float: ...
    def energy_j(self, prompt_tokens: int, output_tokens: int, /) -> float: ...


class Host(Protocol):
    """The memory that devices share."""

    @property
    def memory_gb_s(self) -> float: ...
    @property
    def gb_per_token(self) -> float: ...


class Bound(msgspec.Struct, frozen=True):
    """The cheapest relaxed schedule. Per request, in the order of the arrivals: expected joules, share that is late."""

    joules: float
    request_joules: tuple[float, ...]
    request_late: tuple[float, ...]


def bound(
    arrivals: Sequence[Arrival],
    devices: Sequence[Device],
    targets_s: Mapping[str, float],
    late_shares: Mapping[str, float] | None = None,
    host: Host | None = None,
) -> Bound:
    """Least dynamic joules of any schedule of `arrivals` that meets the targets.

    A request's target, from its arrival to its end, is its own deadline, else that of its wish in `targets_s`, else
    none. `late_shares` says for each wish what part of its requests with a target may be late, 1 % where it says
    nothing. Without `host` memory is boundless. Raises `InfeasibleError`.
    """
    if not arrivals:
        return Bound(0.0, (), ())
    lengths = [(one.prompt_tokens, one.output_tokens) for one in arrivals]
    joules = np.array([[least_joules(each, *length) for each in devices] for length in lengths])
    request_joules = joules.min(axis=1)
    request_late = np.zeros(len(arrivals))
    target_s = np.array([one.deadline_s or targets_s.get(one.wish, math.inf) for one in arrivals]) + _ROUNDING_S
    aimed = np.flatnonzero(np.isfinite(target_s))
    if aimed.size:
        work = _Work([arrivals[place] for place in aimed.tolist()], devices, target_s[aimed])
        programme = Programme(joules[aimed], work.on_time)
        wishes = np.array([one.wish for one in arrivals])[aimed]
        for wish in sorted(set(wishes.tolist())):
            members = np.flatnonzero(wishes == wish)
            programme.limit_late(members, (late_shares or {}).get(wish, DEFAULT_LATE_SHARE) * members.size)
        for number, device in enumerate(devices):
            _limit_device(programme, work, number, device.slots)
        if host is not None:
            _limit_memory(programme, work, devices, host)
        request_joules[aimed], request_late[aimed] = programme.solve()
    return Bound(float(request_joules.sum()), tuple(request_joules.tolist()), tuple(request_late.tolist()))


class _Work:
    """The requests that have a target: when each may run, and its seconds on each device (requests x devices)."""

    def __init__(self, arrivals: Sequence[Arrival], devices: Sequence[Device], target_s: Floats) -> None:
        lengths = [(one.prompt_tokens, one.output_tokens) for one in arrivals]
        self.release_s = np.array([one.at_s for one in arrivals])
        self.due_s = self.release_s + target_s
        self.output_tokens = np.array([one.output_tokens for one in arrivals], dtype=float)
        self.service_s = np.array([[each.service_s(*length) for each in devices] for length in lengths])
        self.prefill_s = np.array([[each.service_s(prompt, 0) for each in devices] for prompt, _ in lengths])
        self.on_time = self.service_s <= target_s[:, None]


def _limit_device(programme: Programme, work: _Work, number: int, slots: int) -> None:
    able = np.flatnonzero(work.on_time[:, number])
    jobs = Jobs(work.release_s[able], work.due_s[able], work.service_s[able, number], np.ones(able.size))
    for window in overfull_windows(jobs, slots):
        members = able[window.jobs]
        programme.limit_work(members, np.full(members.size, number), window.work, window.capacity)


def _limit_memory(programme: Programme, work: _Work, devices: Sequence[Device], host: Host) -> None:
    sharing = np.array([each.bandwidth_gb_s == 0 for each in devices])
    slots = np.array([each.slots for each in devices])
    decode_s = work.service_s - work.prefill_s
    request, device = np.nonzero(work.on_time & sharing & (decode_s > 0))
    seconds = decode_s[request, device]
    load_gb_s = work.output_tokens[request] * host.gb_per_token / slots[device] / seconds
    release_s = work.release_s[request] + work.prefill_s[request, device]
    jobs = Jobs(release_s, work.due_s[request], seconds, load_gb_s, may_pause=True)
    for window in overfull_windows(jobs, host.memory_gb_s):
        programme.limit_work(request[window.jobs], device[window.jobs], window.work, window.capacity)


def least_joules(device: Device, prompt_tokens: int, output_tokens: int) -> float:
    """Joules of a request at the cheapest number of requests at once, up to the device's slots.

    k at once run together at k^exponent of the speed of one and draw `batch_power_share` more each.
    """
    cheapest = min(
        (1.0 + device.batch_power_share * (many - 1)) / math.pow(many, device.batch_exponent)
        for many in range(1, device.slots + 1)
    )
    return device.energy_j(prompt_tokens, output_tokens) * cheapest
