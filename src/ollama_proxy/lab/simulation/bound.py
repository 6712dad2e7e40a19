"""The clairvoyant bound: no schedule, however clever and whatever it foresees, needs fewer joules.

A linear programme relaxes the schedule. Requests may be split over devices; order and preemption are free. What stays:

- a request's whole work is done, and in time (arrival + target) but for a permitted share of late ones for each wish;
- only a device whose idle service time meets the target can do it in time;
- in a window of time, a device cannot do more work than the window's length times its slots. The work that a request
  must do inside a window is the least overlap over all places where it may lie ("energetic reasoning", Baptiste, Le
  Pape, Nuijten: Constraint-Based Scheduling, 2001). Windows of many lengths are asked; fewer only weaken the bound.

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

from ollama_proxy.lab.simulation.programme import InfeasibleError, Programme
from ollama_proxy.lab.simulation.windows import Jobs, overfull_windows
from ollama_proxy.lab.simulation.workload import Arrival

__all__ = ["Bound", "Device", "InfeasibleError", "bound", "least_joules"]

DEFAULT_LATE_SHARE: Final = 0.01


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
    def service_s(self, prompt_tokens: int, output_tokens: int, /) -> float: ...
    def energy_j(self, prompt_tokens: int, output_tokens: int, /) -> float: ...


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
) -> Bound:
    """Least dynamic joules of any schedule of `arrivals` that meets the targets.

    A request's target, from its arrival to its end, is its own deadline, else that of its wish in `targets_s`, else
    none. `late_shares` says for each wish what part of its requests with a target may be late, 1 % where it says
    nothing. Raises `InfeasibleError`.
    """
    if not arrivals:
        return Bound(0.0, (), ())
    lengths = [(one.prompt_tokens, one.output_tokens) for one in arrivals]
    joules = np.array([[least_joules(each, *length) for each in devices] for length in lengths])
    request_joules = joules.min(axis=1)
    request_late = np.zeros(len(arrivals))
    target_s = np.array([one.deadline_s or targets_s.get(one.wish, math.inf) for one in arrivals])
    aimed = np.flatnonzero(np.isfinite(target_s))
    if aimed.size:
        release_s = np.array([one.at_s for one in arrivals])[aimed]
        due_s = release_s + target_s[aimed]
        service_s = np.array([[each.service_s(*length) for each in devices] for length in lengths])[aimed]
        on_time = service_s <= target_s[aimed, None]
        programme = Programme(joules[aimed], on_time)
        wishes = np.array([one.wish for one in arrivals])[aimed]
        for wish in sorted(set(wishes.tolist())):
            members = np.flatnonzero(wishes == wish)
            programme.limit_late(members, (late_shares or {}).get(wish, DEFAULT_LATE_SHARE) * members.size)
        for number, device in enumerate(devices):
            able = np.flatnonzero(on_time[:, number])
            jobs = Jobs(release_s[able], due_s[able], service_s[able, number])
            for window in overfull_windows(jobs, device.slots):
                programme.limit_work(number, able[window.jobs], window.work_s, window.capacity_s)
        request_joules[aimed], request_late[aimed] = programme.solve()
    return Bound(float(request_joules.sum()), tuple(request_joules.tolist()), tuple(request_late.tolist()))


def least_joules(device: Device, prompt_tokens: int, output_tokens: int) -> float:
    """Joules of a request at the cheapest number of requests at once, up to the device's slots.

    k at once run together at k^exponent of the speed of one and draw `batch_power_share` more each.
    """
    cheapest = min(
        (1.0 + device.batch_power_share * (many - 1)) / math.pow(many, device.batch_exponent)
        for many in range(1, device.slots + 1)
    )
    return device.energy_j(prompt_tokens, output_tokens) * cheapest
