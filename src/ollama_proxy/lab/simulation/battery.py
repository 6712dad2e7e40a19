"""An emulated battery: what it holds, and what it shows of that every few seconds."""

from __future__ import annotations

import msgspec

_J_PER_WH = 3600.0


class BatteryModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Watt-hours when full, the share in it at 0 s, volts empty and full, and the driver's habits."""

    full_wh: float = 60.0
    start_share: float = 1.0
    empty_v: float = 10.2
    full_v: float = 12.6
    update_s: float = 5.0
    online: bool = True
    negative_when_discharging: bool = False


class Battery:
    """Drains by what the platform uses while the mains are out. Charging is not modelled: it keeps what it has."""

    def __init__(self, model: BatteryModel, platform_j: float, platform_w: float) -> None:
        self.model = model
        self.online = model.online
        self._left_j = model.full_wh * model.start_share * _J_PER_WH
        self._seen_j = platform_j
        self.shown_wh = self.shown_w = 0.0
        self.update(platform_j, platform_w)

    def plug(self, platform_j: float, *, online: bool) -> None:
        """Mains in or out; what was used until now is counted under the old state. Shown at the next update."""
        self._drain(platform_j)
        self.online = online

    def update(self, platform_j: float, platform_w: float) -> None:
        """Show the charge and the draw as they are now."""
        self._drain(platform_j)
        self.shown_wh = self._left_j / _J_PER_WH
        discharging = not self.online and self._left_j > 0
        self.shown_w = (-platform_w if self.model.negative_when_discharging else platform_w) if discharging else 0.0

    @property
    def share(self) -> float:
        """Of the full charge, as shown."""
        return self.shown_wh / self.model.full_wh

    @property
    def volts(self) -> float:
        """On a straight line between empty and full."""
        return self.model.empty_v + (self.model.full_v - self.model.empty_v) * self.share

    @property
    def status(self) -> str:
        """The word that Linux has for it."""
        if not self.online:
            return "Discharging"
        return "Full" if self.share >= 0.99 else "Not charging"

    def _drain(self, platform_j: float) -> None:
        if not self.online:
            self._left_j = max(0.0, self._left_j - (platform_j - self._seen_j))
        self._seen_j = platform_j
