"""What a request takes on a device that it has to itself, at full speed: nominally, or with the luck of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from ollama_proxy.lab.simulation.device_model import DeviceModel
from ollama_proxy.lab.simulation.job import Job, Luck
from ollama_proxy.lab.simulation.workload import Arrival


class Timed(Protocol):
    """What is asked of a device."""

    def service_s(self, prompt_tokens: int, output_tokens: int, /) -> float: ...
    def energy_j(self, prompt_tokens: int, output_tokens: int, /) -> float: ...


class Timing(msgspec.Struct, frozen=True, gc=False):
    """Seconds of both phases, and the dynamic joules."""

    prefill_s: float
    decode_s: float
    joules: float


def time_nominally(device: Timed, arrival: Arrival) -> Timing:
    """Without noise."""
    prompt_tokens, output_tokens = arrival.prompt_tokens, arrival.output_tokens
    prefill_s = device.service_s(prompt_tokens, 0)
    decode_s = device.service_s(prompt_tokens, output_tokens) - prefill_s
    return Timing(prefill_s, decode_s, device.energy_j(prompt_tokens, output_tokens))


def time_as_drawn(seed: int) -> Callable[[DeviceModel, Arrival], Timing]:
    """With the noise and the stalls that a world of this seed has for each request."""

    def time(device: DeviceModel, arrival: Arrival) -> Timing:
        tokens = arrival.prompt_tokens, arrival.output_tokens
        job = Job(arrival.id, tokens, arrival.model, device, Luck(seed, arrival.id))
        joules = device.prefill_w * job.prefill_s + device.decode_w * job.decode_s
        return Timing(job.prefill_s, job.decode_s, joules)

    return time
