"""The states of a device that works, rests and sleeps, and what each draws.

asleep -> waking -> working -> lingering -> idle -> asleep. A device without suspend never sleeps; one without linger
is idle as soon as its last request is over. This draw is standby: no request's own. While the device works there is
none; all that it draws then is its work's.
"""

from __future__ import annotations

import enum
import math

from ollama_proxy.lab.simulation.device_model import DeviceModel


class State(enum.Enum):
    ASLEEP = "asleep"
    WAKING = "waking"
    WORKING = "working"
    LINGERING = "lingering"
    IDLE = "idle"


class PowerState:
    """Where one device stands, and until when (virtual seconds; inf when only work or rest changes it)."""

    __slots__ = ("_device", "state", "until_s", "watts")

    def __init__(self, device: DeviceModel) -> None:
        self._device = device
        self._enter(State.ASLEEP if device.suspend_after_s else State.IDLE, math.inf)

    def begin_work(self, now_s: float) -> None:
        """Work has come: waking if the device sleeps and that takes time, else working."""
        if self.state is State.ASLEEP and self._device.wake_s:
            self._enter(State.WAKING, now_s + self._device.wake_s)
        elif self.state is not State.WAKING:
            self._enter(State.WORKING, math.inf)

    def rest(self, now_s: float) -> None:
        """No work is left; a device that is just waking finishes that first."""
        if self.state is State.WORKING:
            if self._device.linger_s:
                self._enter(State.LINGERING, now_s + self._device.linger_s)
            else:
                self._be_idle(now_s)

    def pass_time(self, now_s: float) -> None:
        """Make the change that is due at `now_s`, if any."""
        if now_s < self.until_s:
            return
        match self.state:
            case State.WAKING:
                self._enter(State.WORKING, math.inf)
            case State.LINGERING:
                self._be_idle(now_s)
            case State.IDLE:
                self._enter(State.ASLEEP, math.inf)
            case State.ASLEEP | State.WORKING:
                pass

    def _be_idle(self, now_s: float) -> None:
        self._enter(State.IDLE, now_s + self._device.suspend_after_s if self._device.suspend_after_s else math.inf)

    def _enter(self, state: State, until_s: float) -> None:
        self.state = state
        self.until_s = until_s
        self.watts = self._draw(state)

    def _draw(self, state: State) -> float:
        match state:
            case State.ASLEEP | State.WORKING:
                return 0.0
            case State.WAKING:
                return self._device.wake_w
            case State.LINGERING:
                return self._device.linger_w
            case State.IDLE:
                return self._device.idle_w
