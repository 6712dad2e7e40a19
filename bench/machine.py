"""Where and when a run took place: processor, kernel, load, time stolen by the hypervisor, versions of the tools."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Ticks:
    """Time of all processors since boot, in hundredths of a second (proc_stat(5))."""

    total: int
    stolen: int


def read_ticks() -> Ticks:
    """From the first line of /proc/stat: user nice system idle iowait irq softirq steal."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return Ticks(sum(numbers), numbers[7])


def stolen_share(before: Ticks, after: Ticks) -> float:
    """0 to 1."""
    return (after.stolen - before.stolen) / max(1, after.total - before.total)


def describe_machine() -> dict[str, str]:
    """Facts in words, for the head of a report."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{read_processor()}, {os.cpu_count()} cores",
        "kernel": f"{platform.system()} {platform.release()}",
        "load": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "Python": platform.python_version(),
        "Go": read_words(["go", "version"]),
        "h2load": read_words(["h2load", "--version"]),
    }


def read_processor() -> str:
    """Its name, or the architecture."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def read_words(command: list[str]) -> str:
    """What a program says about itself, or that it is missing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "missing"
