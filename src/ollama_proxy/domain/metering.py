"""Words of metering: what can be read on this machine, what a reading says, and how the figure came about."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import msgspec

#: How a figure came about. What nobody knows is absent, never zero.
FigureKind = Literal["measured", "apportioned", "modelled", "configured", "emulated"]

#: What a source's figure is of. `npu_busy` is time, everything else energy or power.
Domain = Literal[
    "package",  # one processor package: cores, integrated graphics, NPU
    "core",  # the cores of a package
    "graphics",  # the integrated graphics of a package
    "dram",
    "platform",  # the whole machine behind its battery or power supply
    "apu",  # an AMD APU: processor and graphics in one figure
    "card",  # a graphics card with its memory
    "gpu",  # the chip of a graphics card alone
    "battery",
    "wall",  # a plug
    "npu_busy",
    "other",
]

DOMAINS_OF_TIME = frozenset(("npu_busy",))


class Source(msgspec.Struct, frozen=True):
    """One figure that a meter reads, or would read if it were allowed to.

    `inside` is the id of the source whose figure contains this one, so that nobody adds the two. `hardware` are the
    words of a backend's `hardware` that the figure covers on this machine, `backends` the ids that the configuration
    names.
    `problem` says what is wrong, `remedy` is a command that mends it; a source may be readable and have a problem.

    `range` (in the counter's own unit, J or s) is where a counter starts again at zero; None where it does not.
    `max_rate` (W, or seconds a second) is what no such device exceeds: it tells a wrap from a reset. `update_s` is the
    age that a value may have when it is read, `step` the smallest change it shows.
    """

    id: str
    meter: str
    domain: Domain
    covers: str
    readable: bool = True
    problem: str = ""
    remedy: str = ""
    kind: FigureKind = "measured"
    inside: str = ""
    hardware: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    range: float | None = None
    max_rate: float = 1000.0
    update_s: float = 0.001
    step: float = 0.0


class Reading(msgspec.Struct, frozen=True):
    """What a source said at `at_s` (monotonic clock): joules or busy seconds since some moment, or watts now."""

    source: str
    domain: Domain
    at_s: float
    joules: float | None = None
    watts: float | None = None
    busy_s: float | None = None
    kind: FigureKind = "measured"


class Energy(NamedTuple):
    """Joules between two moments, and how far the truth may be off because of when the meter was looked at."""

    joules: float
    uncertainty_j: float


class MeterStatus(msgspec.Struct, frozen=True):
    """A source in use: whose it is, how figures of it come about, its power now in watts (None: not known now).

    `stale` says that it has fallen silent while its devices worked, or is back for too short a time to be believed.
    """

    source: str
    backends: tuple[str, ...]
    kind: FigureKind
    watts: float | None = None
    stale: bool = False


class MeterOptions(msgspec.Struct, frozen=True):
    """One configured meter. `devices` picks sources by the end of their id; empty takes all.

    `token` is a secret and kept out of `repr`.
    """

    id: str = ""
    backends: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    url: str = ""
    preset: str = ""
    pointer: str = ""
    unit: str = ""
    token: str = ""
    command: tuple[str, ...] = ()
    timeout_s: float = 2.0
    interval_s: float = 1.0
    max_watts: float = 0.0
    emulated: bool = False

    def __repr__(self) -> str:
        return f"MeterOptions(id={self.id!r}, url={self.url!r}, command={self.command!r})"


#: What a meter that nobody configured works with.
DISCOVERED = MeterOptions()


class Meter(Protocol):
    """A family of sources that are read together.

    `min_period_s` is how often it may be asked at most. A meter that `blocks` (a network, a process) gets a thread of
    its own. `read` gives what could be read and leaves out what could not; it raises only when the whole meter failed.
    `active` is whether anybody waits for an answer: a meter that would keep a device awake stays away when nobody does.
    """

    min_period_s: float
    blocks: bool

    def describe(self) -> tuple[Source, ...]: ...

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]: ...


class Sensor(Protocol):
    """Something else to look at: temperatures, fans, the power profile. What it gives is its own."""

    def describe(self) -> tuple[Source, ...]: ...
