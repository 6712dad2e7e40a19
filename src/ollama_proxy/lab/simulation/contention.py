"""What waiting for a shared memory costs at least, as part of the bound's programme.

While a set of devices decodes from the pool together and wants more than there is, each of them runs at the part
`speed` = available / wanted of its own speed, and draws its power for that part of the time and `waiting_power_share`
of it for the rest. So a second of the set does `speed` seconds' work on each of its devices and costs, above the joules
of that work, the sum over them of (1 - speed) x share x watts. The seconds of all sets are at most the time from the
first arrival to the last moment by which a request can be in time; and what a device decodes in time is done in seconds
of sets that it belongs to. The programme chooses the sets: it may decode whatever fits together whenever it likes.

Why this is a lower bound. Take any schedule, and for each set the seconds in which just that set decodes: they satisfy
both rules, and their joules are what the schedule pays for waiting. The package's limiter scales speed and draw alike
by some factor; as many seconds less that factor do the same work for the same joules, and are fewer. Late requests and
those without target are left out, which only takes joules away.

What it does not cover: a die that throttles slows devices down at no cost in joules and so spares them the waiting. It
bounds the schedules that keep the package from throttling. Nor is it told where a device of the pool drifts or runs
several requests at once; there nothing is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from ollama_proxy.lab.simulation.device_model import DeviceModel, HostModel
from ollama_proxy.lab.simulation.host import share_memory
from ollama_proxy.lab.simulation.programme import Booleans, Floats, Programme

#: Of so many devices all sets are asked: 2^n of them.
_MOST_SHARING = 8


def charge_waiting(
    devices: Sequence[DeviceModel],
    host: HostModel,
    programme: Programme,
    decode_s: Floats,
    on_time: Booleans,
    span_s: float,
) -> None:
    """Let the programme pay for waiting. `decode_s` and `on_time` are of shape (requests, devices)."""
    sharing = [number for number, each in enumerate(devices) if not each.bandwidth_gb_s]
    plain = all(devices[number].slots == 1 and not devices[number].drift for number in sharing)
    if not plain or not 1 < len(sharing) <= _MOST_SHARING:
        return
    sets = [each for size in range(1, len(sharing) + 1) for each in combinations(sharing, size)]
    wanted_gb_s = [host.gb_per_token * sum(devices[number].decode_tps for number in each) for each in sets]
    speeds = np.array([share_memory(each, host.memory_gb_s) for each in wanted_gb_s])
    watts = np.array([sum(devices[number].decode_w for number in each) for each in sets])
    modes = programme.add_modes((1 - speeds) * host.waiting_power_share * watts)
    programme.limit_modes(modes, span_s)
    for number in sharing:
        requests = np.flatnonzero(on_time[:, number])
        member = np.array([number in each for each in sets])
        programme.require_modes(requests, number, decode_s[requests, number], modes[member], speeds[member])
