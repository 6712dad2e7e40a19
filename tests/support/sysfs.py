"""A `/sys` of files in a folder: machines with meters, as their kernels show them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534
#: In memory, as the kernel's are: a disk's file system may write each change through, milliseconds each time.
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None


class FakeSysfs:
    """Context manager; `root` is what readers are given instead of `/`, open to every user."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="sysfs-", dir=_MEMORY))
        self.root.chmod(0o755)

    def __enter__(self) -> FakeSysfs:
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.root)

    # -- single files -------------------------------------------------------------

    def path(self, name: str) -> Path:
        return self.root / name

    def set(self, name: str, value: object) -> None:
        """A file with a value and the line end that the kernel gives it."""
        file = self.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_symlink():
            file.unlink()
        file.write_text(f"{value}\n")

    def forbid(self, name: str) -> None:
        """Mode 000, as the kernel has energy counters for everybody but root."""
        (self.root / name).chmod(0)

    def vanish(self, name: str) -> None:
        """In the list, and gone when it is opened."""
        file = self.root / name
        file.unlink(missing_ok=True)
        file.symlink_to(self.root / "gone")

    def fail(self, name: str) -> None:
        """Opens, and answers with an error (EIO), as a driver does whose device does not answer."""
        file = self.root / name
        file.unlink(missing_ok=True)
        file.symlink_to("/proc/self/mem")

    def empty(self, name: str) -> None:
        (self.root / name).write_text("")

    # -- machines -----------------------------------------------------------------

    def add_zone(self, name: str, word: str, microjoules: int = 0, range_uj: int = 262_143_328_850) -> None:
        folder = f"sys/class/powercap/{name}"
        self.set(f"{folder}/name", word)
        self.set(f"{folder}/energy_uj", microjoules)
        self.set(f"{folder}/max_energy_range_uj", range_uj)

    def add_packages(self) -> None:
        """Two packages whose children are numbered differently, the platform, and one package once more by MMIO."""
        self.path("sys/class/powercap/intel-rapl").mkdir(parents=True)
        self.add_zone("intel-rapl:0", "package-1", 1_000_000)
        self.add_zone("intel-rapl:0:0", "dram", 100_000)
        self.add_zone("intel-rapl:0:1", "core", 400_000)
        self.add_zone("intel-rapl:1", "package-0", 2_000_000)
        self.add_zone("intel-rapl:1:0", "core", 900_000)
        self.add_zone("intel-rapl:1:1", "uncore", 300_000)
        self.add_zone("intel-rapl:2", "psys", 9_000_000)
        self.path("sys/class/powercap/intel-rapl-mmio").mkdir()
        self.add_zone("intel-rapl-mmio:0", "package-0", 2_000_500)

    def add_pci(self, address: str, *, vendor: str, kind: str, status: str = "active", control: str = "auto") -> str:
        folder = f"sys/devices/pci0000:00/{address}"
        for name, value in (("vendor", vendor), ("class", kind), ("power/runtime_status", status)):
            self.set(f"{folder}/{name}", value)
        self.set(f"{folder}/power/control", control)
        link = self.path(f"sys/bus/pci/devices/{address}")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.path(folder))
        return folder

    def add_hwmon(self, number: int, name: str, device: str = "", **files: object) -> str:
        folder = f"sys/class/hwmon/hwmon{number}"
        self.set(f"{folder}/name", name)
        for file, value in files.items():
            self.set(f"{folder}/{file}", value)
        if device:
            self.path(f"{folder}/device").symlink_to(self.path(device))
        return folder

    def add_intel_card(self, *, status: str = "active", control: str = "auto") -> str:
        device = self.add_pci("0000:03:00.0", vendor="0x8086", kind="0x030000", status=status, control=control)
        return self.add_hwmon(
            3, "xe", device, energy1_input=50_000_000, energy2_input=40_000_000, temp2_input=51000, fan1_input=900
        )

    def add_amd_apu(self) -> str:
        device = self.add_pci("0000:c4:00.0", vendor="0x1002", kind="0x030000", control="on")
        return self.add_hwmon(
            5, "amdgpu", device, power1_average=15_000_000, in1_label="vddnb", temp1_input=48000, temp1_label="edge"
        )

    def add_nvidia(self, *, status: str = "active", control: str = "auto", address: str = "0000:01:00.0") -> str:
        return self.add_pci(address, vendor="0x10de", kind="0x030200", status=status, control=control)

    def add_npu(self, *, renamed: bool = False, busy_us: int = 5_000_000) -> str:
        """Before Linux 7.2, or after its rename."""
        folder = "sys/bus/pci/drivers/intel_vpu/0000:00:0b.0"
        self.set(f"{folder}/npu_busy_time_us", busy_us)
        self.set(f"{folder}/npu_memory_utilization", 1 << 30)
        self.set(f"{folder}/freq/current_freq" if renamed else f"{folder}/npu_current_frequency_mhz", 1400)
        return folder

    def add_supplies(self, *, online: int = 0, status: str = "Discharging") -> None:
        """Mains, a battery that counts energy, one that counts charge with its sign turned, and a mouse."""
        base = "sys/class/power_supply"
        energy = {
            "status": status,
            "capacity": 50,
            "energy_now": 25_000_000,
            "energy_full": 50_000_000,
            "power_now": 12_000_000,
        }
        charge = {
            "status": status,
            "capacity": 80,
            "charge_now": 2_000_000,
            "charge_full": 2_500_000,
            "current_now": -500_000,
            "voltage_now": 12_000_000,
            "voltage_min_design": 10_000_000,
        }
        mouse = {"status": "Discharging", "scope": "Device", "capacity": 3, "power_now": 1}
        for name, files in (("BAT0", energy), ("BAT1", charge), ("hidpp_battery_0", mouse)):
            for file, value in {"type": "Battery", **files}.items():
                self.set(f"{base}/{name}/{file}", value)
        self.set(f"{base}/AC/type", "Mains")
        self.set(f"{base}/AC/online", online)

    def add_temperatures(self) -> None:
        """Zones in an order of their own, chips that stand for a device and chips that do not, throttle counters."""
        for number, (kind, millidegrees) in enumerate(
            (("iwlwifi_1", 40000), ("x86_pkg_temp", 61000), ("acpitz", -274000))
        ):
            self.set(f"sys/class/thermal/thermal_zone{number}/type", kind)
            self.set(f"sys/class/thermal/thermal_zone{number}/temp", millidegrees)
        self.set("sys/class/thermal/thermal_zone1/trip_point_0_type", "critical")
        self.set("sys/class/thermal/thermal_zone1/trip_point_0_temp", 105000)
        self.set("sys/class/thermal/cooling_device0/type", "Processor")
        self.add_hwmon(0, "nvme", temp1_input=35000)
        self.add_hwmon(1, "coretemp", temp1_input=63000, temp1_label="Package id 0", temp1_crit=100000)
        self.add_hwmon(2, "thinkpad", fan1_input=2400, pwm1=128)
        self.set("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms", 70)
        self.set("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_total_time_ms", 70)

    def add_profile(self) -> None:
        self.set("sys/firmware/acpi/platform_profile", "low-power")
        self.set("sys/firmware/acpi/platform_profile_choices", "low-power balanced performance")


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, which reads files whatever their mode."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
