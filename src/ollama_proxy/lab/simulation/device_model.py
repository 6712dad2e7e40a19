"""The parameters of an emulated machine: its devices, and what they share.

Every figure is configured, none is measured: published benchmarks of one laptop class where there are any, typical
values of the kind where there are none. Power is in watts above the platform's floor.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Speed = Annotated[float, msgspec.Meta(gt=0, le=1)]
#: From when to when (virtual seconds), and how many times slower the device is then.
Drift = tuple[NonNegative, Positive, Annotated[float, msgspec.Meta(ge=1)]]


class ThermalModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One die on the chassis: its heat resistance and time constant, and the throttle with its hysteresis."""

    die_k_per_w: NonNegative
    die_tau_s: Positive
    throttle_c: float
    resume_c: float
    throttled_speed: Speed = 0.8


class DeviceModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device: rates and draw while it works, and the states it passes through when it does not.

    `prefill_w` and `decode_w` are all that it draws while it works, `idle_w` what it draws awake without work; each is
    above the platform's floor. With k requests at once all of them together run at k^`batch_exponent` of the speed of
    one and draw `batch_power_share` more each. `bandwidth_gb_s` is the device's own memory; 0 takes it from the pool
    that the package shares. `noise` is the sigma of the logarithm of each request's rates; a stall makes a whole
    request take twice its time. A device with `suspend_after_s` sleeps that long after its linger is over, and then
    takes `wake_s` at `wake_w` before it works.
    `thermal` is the die of a device off the package; those on it share the host's.
    """

    name: str
    hardware: str
    prefill_tps: Positive
    decode_tps: Positive
    overhead_s: NonNegative
    prefill_w: NonNegative
    decode_w: NonNegative
    load_s: NonNegative
    load_w: NonNegative
    memory_gb: Positive
    on_package: bool
    bandwidth_gb_s: NonNegative
    idle_w: NonNegative = 0
    slots: Annotated[int, msgspec.Meta(ge=1, le=4096)] = 1
    batch_exponent: Share = 0.8
    batch_power_share: NonNegative = 0.03
    noise: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.03
    stall_probability: Share = 0.002
    suspend_after_s: NonNegative = 0
    wake_s: NonNegative = 0
    wake_w: NonNegative = 0
    linger_s: NonNegative = 0
    linger_w: NonNegative = 0
    thermal: ThermalModel | None = None
    drift: tuple[Drift, ...] = ()

    def service_s(self, prompt_tokens: int, output_tokens: int) -> float:
        """Seconds of a request that is alone on the awake device with its model loaded, without noise."""
        return self.overhead_s + prompt_tokens / self.prefill_tps + output_tokens / self.decode_tps

    def energy_j(self, prompt_tokens: int, output_tokens: int) -> float:
        """Dynamic joules of the same request; the overhead draws what prefill draws."""
        prefill_s = self.overhead_s + prompt_tokens / self.prefill_tps
        return self.prefill_w * prefill_s + self.decode_w * output_tokens / self.decode_tps


class HostModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the devices share: the package's power limits, its memory, the chassis, Ollama's keep-alive.

    The package may draw up to `package_burst_w` while its running average (time constant `burst_s`) is below
    `package_sustained_w`. Every model is `gb_per_token` gigabytes, which a step of decoding reads once. A negative
    `keep_alive_s` never unloads. The floors are not part of the devices' power: `package_floor_w` is what the idle
    package draws, `platform_floor_w` the whole machine with that and the screen. A device that waits for memory draws
    `waiting_power_share` of its power for the part of its time that it waits.
    """

    package_sustained_w: Positive = 45
    package_burst_w: Positive = 64
    burst_s: Positive = 28
    memory_gb_s: Positive = 100
    gb_per_token: Positive = 4
    keep_alive_s: float = 300
    package_floor_w: NonNegative = 2
    platform_floor_w: NonNegative = 7
    waiting_power_share: Share = 0.5
    ambient_c: float = 25
    chassis_k_per_w: NonNegative = 0.35
    chassis_tau_s: Positive = 600
    package_thermal: ThermalModel = ThermalModel(die_k_per_w=1.0, die_tau_s=30, throttle_c=100, resume_c=92)
