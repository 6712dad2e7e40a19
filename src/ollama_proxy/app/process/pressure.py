"""How near the process is to the end of its memory or of its descriptors, and what it takes on then. Linux; elsewhere
nothing is known and nothing is shed.

By stages: from one mark on requests of a low class are refused, from a higher one all new ones, while those that run
go on. A stage is left only a little below its mark, so that it does not flicker.
"""

from __future__ import annotations

import ctypes
import enum
import logging
import os
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

_log = logging.getLogger(__name__)

#: Below its mark by this, a stage is left.
_SLACK = 0.03
_MB = 1e6
#: How many looks there are, at least, from one attempt to give memory back to the next; and for each second it took:
#: with a large heap it is tens of milliseconds, in which nothing else is done.
_GIVE_BACK_EACH, _LOOKS_PER_S = 5, 1000


class Stage(enum.IntEnum):
    """What is taken on."""

    ALL = 0
    NOT_LOW = 1
    NOTHING = 2


class Use(msgspec.Struct, frozen=True):
    """Of one resource: what it is, how much is used and how much there is."""

    what: str
    used: float
    limit: float

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.used / self.limit if self.limit > 0 else 0.0


def find_stage(share: float, before: Stage, low_at: float, all_at: float) -> Stage:
    """The stage at a share of the scarcest resource, coming from the stage before."""
    for stage, mark in ((Stage.NOTHING, all_at), (Stage.NOT_LOW, low_at)):
        if share >= mark - (_SLACK if before >= stage else 0.0):
            return stage
    return Stage.ALL


def _find_trim() -> Callable[[], object]:
    """What gives back to the system the memory that the C library holds and nobody uses, where that can be told to.

    By itself it gives back what lies at the end of its heap: after a peak, one small object there would keep the rest.
    """
    try:
        return partial(ctypes.CDLL(None).malloc_trim, 0)
    except (OSError, AttributeError):
        return lambda: None


class Pressure:
    """Looks at the process when it is told to."""

    def __init__(
        self,
        memory_limit_mb: float,
        low_at: float,
        all_at: float,
        proc: Path = Path("/proc/self"),
        give_back: Callable[[], object] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`memory_limit_mb` 0 takes the control group's limit, if there is one; marks are shares from 0 to 1.

        `give_back` is tried while too much is in use, so that what is free counts as free; `clock` times it.
        """
        self._limit_bytes = memory_limit_mb * _MB or _read_group_limit()
        self._low_at, self._all_at = low_at, all_at
        self._proc = proc
        self._give_back = give_back or _find_trim()
        self._clock = clock
        #: How often it is looked before memory is given back again.
        self._left_looks = 0
        self.stage = Stage.ALL
        #: What is scarce, for people; "" while nothing is.
        self.told = ""

    def look(self) -> Stage:
        """The stage now; call about once a second."""
        scarcest = self._find_scarcest()
        self._left_looks = max(self._left_looks - 1, 0)
        if scarcest.what == "memory" and scarcest.share >= self._low_at - _SLACK and not self._left_looks:
            began_s = self._clock()
            self._give_back()
            took_s = self._clock() - began_s
            self._left_looks = max(_GIVE_BACK_EACH, round(took_s * _LOOKS_PER_S))
            scarcest = self._find_scarcest()
        before, self.stage = self.stage, find_stage(scarcest.share, self.stage, self._low_at, self._all_at)
        self.told = f"{scarcest.share:.0%} of its {scarcest.what} are in use" if self.stage else ""
        if self.stage > before:
            _log.warning("sheds load, stage %d: %s", self.stage, self.told)
        elif self.stage < before:
            _log.info("takes on more again, stage %d", self.stage)
        return self.stage

    def _find_scarcest(self) -> Use:
        return max(self._read(), key=lambda one: one.share, default=Use("nothing", 0, 1))

    def _read(self) -> Sequence[Use]:
        found = []
        try:
            if self._limit_bytes:
                pages = int((self._proc / "statm").read_text().split()[1])
                found.append(Use("memory", pages * resource.getpagesize(), self._limit_bytes))
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            if limit not in (-1, resource.RLIM_INFINITY):
                found.append(Use("descriptors", len(os.listdir(self._proc / "fd")), limit))
        except (OSError, ValueError, IndexError):
            # Without descriptors this folder cannot be opened either.
            found.append(Use("descriptors", 1, 1))
        return found if self._proc.exists() else ()


def _read_group_limit() -> float:
    """Bytes that the control group may take; 0.0 where it has no limit, or none is known."""
    try:
        return float(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return 0.0
