"""Tells the fleet which devices of this machine are or will be throttled, and when what was learned no longer holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from ollama_proxy.app.energy.climate import Climate
from ollama_proxy.app.energy.metering import is_local
from ollama_proxy.config.schema import Backend
from ollama_proxy.domain.device import BackendView, Heat
from ollama_proxy.energy.meters.profile import ProfileSensor
from ollama_proxy.energy.meters.thermal import ThermalState
from ollama_proxy.energy.warmth import Warmth
from ollama_proxy.fleet.state import Fleet

_LOOK_EVERY_S = 2.0
#: What is further away than this is no concern of a request.
_HORIZON_S = 600.0
#: Those without a sensor of their own are a part of the package.
_PACKAGE = {"npu": "cpu", "igpu": "cpu"}
#: Speed is cut this much below the temperature at which a device switches off; where a card tells none, at this.
_BELOW_CRITICAL_C = 5.0
_CARD_C = 87.0
#: Times as long as work takes on a throttled device until one has shown its own; bounds; share of a new observation.
_USUAL_SLOWDOWN, _MOST_SLOWDOWN, _SHARE = 1.5, 4.0, 0.3
#: Answers after which the speeds that are learned are those of the throttled device.
_RELEARNED = 3


class _Device(msgspec.Struct):
    """What is known of one backend's device."""

    warmth: Warmth
    slowdown: float = _USUAL_SLOWDOWN
    #: The seconds a token took before it was throttled, by model, and the answers by then; None while it is not.
    before: dict[str, float] | None = None
    answers: int = 0
    relearned: bool = False


class Thermals:
    """Looks every two seconds, while a backend is on this machine; the clock is handed in."""

    def __init__(
        self,
        fleet: Fleet,
        climate: Climate,
        profile: ProfileSensor,
        entries: Callable[[], Mapping[str, Backend]],
        clock: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._climate = climate
        self._profile_sensor = profile
        self._profile: str | None = None
        self._entries = entries
        self._clock = clock
        self._devices: dict[str, _Device] = {}

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if any(self._is_here(view) for view in self._fleet.view().backends):
                await self._climate.read()
                profile = await asyncio.to_thread(self._profile_sensor.read)
                self.take(self._climate.states, profile.active)

    def take(self, states: Mapping[str, ThermalState], profile: str | None) -> None:
        """What the sensors say now, by class of device, and the power profile in force."""
        changed, self._profile = self._profile is not None and profile != self._profile, profile
        for view in self._fleet.view().backends:
            if not self._is_here(view):
                continue
            state = find_state(states, view.spec.hardware)
            self._judge(view, state, find_threshold(view, state))
            if changed:
                self._fleet.unsettle(view.id)

    def _is_here(self, view: BackendView) -> bool:
        """Whether sensors of this machine show what its device does; what is emulated gets no hotter by its work."""
        entry = self._entries().get(view.id)
        return entry is not None and not view.emulated and is_local(entry)

    def _judge(self, view: BackendView, state: ThermalState, threshold_c: float | None) -> None:
        device = self._devices.setdefault(view.id, _Device(Warmth()))
        warmth = device.warmth
        was_throttled = warmth.throttling
        warmth.take(state.temperature_c, state.throttling, threshold_c, self._clock())
        answers = sum([one.decode_samples for one in view.rates.values()])
        if warmth.throttling is not was_throttled:
            self._fleet.unsettle(view.id)
            device.before = _paces(view) if warmth.throttling else None
            device.answers, device.relearned = answers, False
        elif device.before is not None and not device.relearned and answers - device.answers >= _RELEARNED:
            device.relearned = True
            _learn_slowdown(device, _paces(view))
        throttles_in_s = warmth.throttles_in_s(threshold_c)
        is_near = throttles_in_s <= _HORIZON_S and not device.relearned
        self._fleet.set_heat(view.id, Heat(round(throttles_in_s), device.slowdown) if is_near else None)


def find_state(states: Mapping[str, ThermalState], hardware: str) -> ThermalState:
    """Of a device's own sensors, or of the package that it is a part of."""
    own = states.get(hardware, ThermalState())
    if own.temperature_c is None and own.throttling is None and hardware in _PACKAGE:
        return states.get(_PACKAGE[hardware], own)
    return own


def find_threshold(view: BackendView, state: ThermalState) -> float | None:
    """Degrees at which a device is throttled: as configured, else by what its sensor calls critical."""
    if view.spec.throttle_celsius:
        return view.spec.throttle_celsius
    if state.critical_c is not None:
        return state.critical_c - _BELOW_CRITICAL_C
    return _CARD_C if view.spec.hardware == "nvidia" else None


def _paces(view: BackendView) -> dict[str, float]:
    return {model: 1 / one.decode_tps for model, one in view.rates.items() if one.decode_samples >= _RELEARNED}


def _learn_slowdown(device: _Device, now: Mapping[str, float]) -> None:
    ratios = [now[model] / pace for model, pace in (device.before or {}).items() if model in now]
    if ratios:
        seen = min(max(1.0, *ratios), _MOST_SLOWDOWN)
        device.slowdown += _SHARE * (seen - device.slowdown)
