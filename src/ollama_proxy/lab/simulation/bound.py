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
and joules are those of a request alone on the device, model loaded: nominal ones, or those of a run's noise. With
several slots the joules are those of the batch size that is cheapest. What devices of the host's memory draw while
they wait for each other is added by `contention.charge_waiting`, for schedules that never throttle. Needs HiGHS (the
extra `simulate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

import msgspec
import numpy as np

from ollama_proxy.lab.simulation.programme import Booleans, Floats, InfeasibleError, Programme
from ollama_proxy.lab.simulation.timing import Timed, Timing, time_nominally
from ollama_proxy.lab.simulation.windows import Jobs, overfull_windows
from ollama_proxy.lab.simulation.workload import Arrival

__all__ = ["Bound", "Device", "InfeasibleError", "bound", "least_batch_share"]

DEFAULT_LATE_SHARE: Final = 0.01
_ROUNDING_S: Final = 1e-6  # a target may be what a run needed, to the last bit


class Device(Timed, Protocol):
    """What the bound has to know of a device."""

    @property
    def slots(self) -> int: ...
    @property
    def batch_exponent(self) -> float: ...
    @property
    def batch_power_share(self) -> float: ...
    @property
    def bandwidth_gb_s(self) -> float: ...  # 0: of the host's memory


D = TypeVar("D", bound=Device)
#: Adds to a programme what requests cost together, given seconds of decoding and whether they are in time, both of
#: shape (requests, devices), and the seconds in which all that is in time is done.
Charge = Callable[[Programme, Floats, Booleans, float], None]


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
    devices: Sequence[D],
    targets_s: Mapping[str, float],
    late_shares: Mapping[str, float] | None = None,
    host: Host | None = None,
    time: Callable[[D, Arrival], Timing] = time_nominally,
    charge: Charge | None = None,
) -> Bound:
    """Least dynamic joules of any schedule of `arrivals` that meets the targets.

    A request's target, from its arrival to its end, is its own deadline, else that of its wish in `targets_s`, else
    none. `late_shares` says for each wish what part of its requests with a target may be late, 1 % where it says
    nothing. Without `host` memory is boundless. `time` says what a request takes on a device. `charge`
    adds joules that requests cost together (`contention.charge_waiting`); they are no request's. Raises
    `InfeasibleError`.
    """
    if not arrivals:
        return Bound(0.0, (), ())
    timings = [[time(each, one) for each in devices] for one in arrivals]
    cheapest = np.array([least_batch_share(each) for each in devices])
    joules = np.array([[each.joules for each in row] for row in timings]) * cheapest
    request_joules = joules.min(axis=1)
    request_late = np.zeros(len(arrivals))
    shared_joules = 0.0
    target_s = np.array([one.deadline_s or targets_s.get(one.wish, math.inf) for one in arrivals]) + _ROUNDING_S
    aimed = np.flatnonzero(np.isfinite(target_s))
    if aimed.size:
        work = _Work([(arrivals[place], timings[place]) for place in aimed.tolist()], target_s[aimed])
        programme = Programme(joules[aimed], work.on_time)
        wishes = np.array([one.wish for one in arrivals])[aimed]
        for wish in sorted(set(wishes.tolist())):
            members = np.flatnonzero(wishes == wish)
            programme.limit_late(members, (late_shares or {}).get(wish, DEFAULT_LATE_SHARE) * members.size)
        for number, device in enumerate(devices):
            _limit_device(programme, work, number, device.slots)
        if host is not None:
            _limit_memory(programme, work, devices, host)
        if charge is not None:
            charge(programme, work.decode_s, work.on_time, float(work.due_s.max() - work.release_s.min()))
        request_joules[aimed], request_late[aimed] = programme.solve()
        shared_joules = programme.shared_joules
    return Bound(
        float(request_joules.sum()) + shared_joules, tuple(request_joules.tolist()), tuple(request_late.tolist())
    )


class _Work:
    """The requests that have a target: when each may run, and its seconds on each device (requests x devices)."""

    def __init__(self, requests: Sequence[tuple[Arrival, Sequence[Timing]]], target_s: Floats) -> None:
        self.release_s = np.array([one.at_s for one, _ in requests])
        self.due_s = self.release_s + target_s
        self.prefill_s = np.array([[each.prefill_s for each in row] for _, row in requests])
        self.decode_s = np.array([[each.decode_s for each in row] for _, row in requests])
        self.service_s = self.prefill_s + self.decode_s
        self.on_time = self.service_s <= target_s[:, None]


def _limit_device(programme: Programme, work: _Work, number: int, slots: int) -> None:
    able = np.flatnonzero(work.on_time[:, number])
    jobs = Jobs(work.release_s[able], work.due_s[able], work.service_s[able, number], np.ones(able.size))
    for window in overfull_windows(jobs, slots):
        members = able[window.jobs]
        programme.limit_work(members, np.full(members.size, number), window.work, window.capacity)


def _limit_memory(programme: Programme, work: _Work, devices: Sequence[Device], host: Host) -> None:
    sharing = np.array([each.bandwidth_gb_s == 0 for each in devices])
    load_gb_s = np.array([host.gb_per_token / _token_s(each) / each.slots for each in devices])
    request, device = np.nonzero(work.on_time & sharing & (work.decode_s > 0))
    release_s = work.release_s[request] + work.prefill_s[request, device]
    seconds = work.decode_s[request, device]
    jobs = Jobs(release_s, work.due_s[request], seconds, load_gb_s[device], may_pause=True)
    for window in overfull_windows(jobs, host.memory_gb_s):
        programme.limit_work(request[window.jobs], device[window.jobs], window.work, window.capacity)


def _token_s(device: Device) -> float:
    """Nominal seconds of a token of output: noise changes how long a request reads, not how fast."""
    return device.service_s(0, 1) - device.service_s(0, 0)


def least_batch_share(device: Device) -> float:
    """Joules of a request at the cheapest number of requests at once, by those that it takes alone.

    k at once run together at k^exponent of the speed of one and draw `batch_power_share` more each.
    """
    return min(
        (1.0 + device.batch_power_share * (many - 1)) / math.pow(many, device.batch_exponent)
        for many in range(1, device.slots + 1)
    )
