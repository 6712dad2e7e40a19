"""Fans: turns a minute, and how hard they are driven. Often absent on laptops."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ollama_proxy.domain.metering import Source
from ollama_proxy.energy.meters import sysfs

_FOLDER = "sys/class/hwmon"
_PWM_MAX = 255


class Fan(msgspec.Struct, frozen=True):
    """One fan; `rpm` 0 is a fan that stands still, None one that does not tell."""

    source: str
    chip: str
    label: str
    rpm: float | None
    percent: float | None


class FanSensor:
    """Every fan of every hwmon chip that is awake."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def describe(self) -> tuple[Source, ...]:
        """Fans as sources, for the doctor."""
        return tuple(
            Source(
                id=fan.source,
                meter="fan",
                domain="other",
                covers=f"fan {fan.label or ''} of {fan.chip}".replace("  ", " "),
            )
            for fan in self.read()
        )

    def read(self) -> tuple[Fan, ...]:
        """What each fan tells."""
        found = []
        for folder in sysfs.list_folder(self._root / _FOLDER):
            if sysfs.is_suspended(folder / "device"):
                continue
            chip = sysfs.read_text(folder / "name") or folder.name
            for number in _numbers(folder):
                rpm = sysfs.read_number(folder / f"fan{number}_input")
                pwm = sysfs.read_number(folder / f"pwm{number}")
                if rpm is None and pwm is None:
                    continue
                label = sysfs.read_text(folder / f"fan{number}_label") or ""
                percent = None if pwm is None else 100 * min(pwm, _PWM_MAX) / _PWM_MAX
                device = sysfs.device_name(folder) or folder.name
                found.append(Fan(f"fan/{device}/fan{number}", chip, label, rpm, percent))
        return tuple(found)


def _numbers(folder: Path) -> list[int]:
    names = {one.name for one in sysfs.list_folder(folder)}
    return [n for n in range(1, 17) if f"fan{n}_input" in names or f"pwm{n}" in names]
