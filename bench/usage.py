"""What a process and its children have used: CPU in nanoseconds, memory in kilobytes.

CPU comes from the kernel's process clock (clock_getcpuclockid(3)): exact to the nanosecond, for all threads, those that
have ended included. /proc/PID/task/*/schedstat would lose threads that ended, /proc/PID/stat counts in hundredths of a
second. Children that have ended are lost; servers keep theirs.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

_CPUCLOCK_SCHED = 2  # include/linux/posix-timers_types.h: the scheduler's own account, in nanoseconds


def find_session(leader: int) -> list[int]:
    """The processes of a session: whoever was started in it and has not left it."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                text = Path("/proc", entry, "stat").read_text()
                # Behind the name, which may hold anything: state, parent, group, session (proc_pid_stat(5)).
                if int(text.rpartition(")")[2].split()[3]) == leader:
                    found.append(int(entry))
    return found


def read_cpu_ns(pids: list[int]) -> int:
    """CPU time of all threads of these processes; one that has ended counts nothing."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    return total


@dataclass(frozen=True, slots=True)
class Memory:
    """In kilobytes. `pss_kb` shares what several processes map among them; `rss_kb` counts it in each."""

    rss_kb: int
    pss_kb: int


def read_memory(pids: list[int]) -> Memory:
    """Memory of these processes, by smaps_rollup."""
    sums = {"Rss:": 0, "Pss:": 0}
    for pid in pids:
        with contextlib.suppress(OSError):
            for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
                words = line.split()
                if words[0] in sums:
                    sums[words[0]] += int(words[1])
    return Memory(sums["Rss:"], sums["Pss:"])
