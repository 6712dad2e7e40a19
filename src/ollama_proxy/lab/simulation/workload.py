"""The words of the simulator: a request that arrives, its fate, and one policy's run over a workload.

Times are seconds of virtual time, energies joules of the emulator: nothing here is measured.
"""

from __future__ import annotations

from typing import Final

import msgspec

# The figure that a wish without a probability of its own stands for, as in the routing annotations.
DEFAULT_PROBABILITY: Final = 0.95


class Arrival(msgspec.Struct, frozen=True):
    """One request of the workload. `at_s` is virtual time since the start; `deadline_s` counts from it, 0 = none."""

    id: int
    at_s: float
    prompt_tokens: int
    output_tokens: int
    caller: str = ""
    model: str = "llama3:7b"
    wish: str = "balanced"  # critical | efficient | deadline | balanced
    deadline_s: float = 0.0
    probability: float = DEFAULT_PROBABILITY  # with which the deadline shall be met


class Served(msgspec.Struct, frozen=True):
    """One request's fate. Times are absolute virtual seconds; all of it is the emulator's truth."""

    arrival: Arrival
    device: str  # "" when it was rejected
    started_s: float
    first_token_s: float
    ended_s: float
    joules: float  # dynamic energy of its work
    # What was predicted when it began, given the true length of its answer: seconds from then to the last token.
    predicted_s: float | None = None


class Run(msgspec.Struct, frozen=True):
    """One policy over one workload. `joules` is dynamic, `standby_joules` what the devices drew without work."""

    policy: str
    served: tuple[Served, ...]
    joules: float
    standby_joules: float
    seconds_above_cap: float
    decide_us: tuple[float, ...]  # wall time of each decision, microseconds
    seed: int
    longest_above_s: float = 0.0  # the longest of the times above the cap
