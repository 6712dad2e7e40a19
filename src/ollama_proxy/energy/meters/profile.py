"""The power profile that the firmware has in force. A change alters every speed and power that was learned."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ollama_proxy.domain.metering import Source
from ollama_proxy.energy.meters import sysfs

_FIRMWARE = "sys/firmware/acpi"
_CLASS = "sys/class/platform-profile"


class Profile(msgspec.Struct, frozen=True):
    """The profile in force (`low-power`, `balanced`, `performance`, …) and those that could be; None if not told."""

    active: str | None
    choices: tuple[str, ...] = ()


class ProfileSensor:
    """The ACPI platform profile, from its one file or from the newer class of devices."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def describe(self) -> tuple[Source, ...]:
        """The profile as a source, when the machine has one."""
        profile = self.read()
        if profile.active is None:
            return ()
        covers = f"power profile: {profile.active}, of {', '.join(profile.choices) or 'unknown choices'}"
        return (Source(id="profile/platform", meter="profile", domain="other", covers=covers),)

    def read(self) -> Profile:
        """The profile in force."""
        firmware = self._root / _FIRMWARE
        active = sysfs.read_text(firmware / "platform_profile")
        if active is not None:
            return Profile(active, _words(firmware / "platform_profile_choices"))
        for device in sysfs.list_folder(self._root / _CLASS):
            active = sysfs.read_text(device / "profile")
            if active is not None:
                return Profile(active, _words(device / "choices"))
        return Profile(None)


def _words(file: Path) -> tuple[str, ...]:
    return tuple((sysfs.read_text(file) or "").split())
