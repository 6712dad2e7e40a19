"""What the runs say, in figures: plain data for JSON, and a table for the terminal.

A figure that has no request behind it is absent, never zero. Percentiles are nearest rank: the p-th of n values is the
ceil(p * n)-th smallest, a value that did occur. Joules are the emulator's; the microseconds of a decision are real.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, UnsetType

from ollama_proxy.lab.simulation.workload import Arrival, Run, Served

if TYPE_CHECKING:
    from ollama_proxy.lab.simulation.bound import Bound

Figures = dict[str, float | int]

_ROUNDING: Final = 1e-9  # 0.07 * 100 is a little more than 7


class Meta(msgspec.Struct, frozen=True):
    """What the figures depend on, so that somebody else can have them again."""

    seed: int
    rate_per_min: float
    requests: int
    trace: str  # file name, or synthetic:conv
    slice: str  # K/N of the trace
    mix: str
    devices: tuple[str, ...]
    versions: Mapping[str, str]
    trace_sha256: str | UnsetType = UNSET  # of the file's bytes
    cap_w: float | UnsetType = UNSET
    bound_like: str | UnsetType = UNSET  # the policy whose tails and misses the bound may have
    energy_kind: str = "emulated"


class Report(msgspec.Struct, frozen=True):
    """Figures by policy, in the order they were asked for."""

    meta: Meta
    policies: dict[str, Figures]


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank: the ceil(share * n)-th smallest; None of none."""
    if not values:
        return None
    return sorted(values)[max(1, math.ceil(share * len(values) - _ROUNDING)) - 1]


def summarise_run(run: Run, is_capped: bool = False) -> Figures:
    """The figures of one policy. Joules a request are dynamic joules by requests that were not rejected.

    Seconds above the cap are there only where there was one.
    """
    done = [one for one in run.served if one.device]
    promised = [one for one in run.served if one.arrival.deadline_s > 0]
    e2e_s = [measure_e2e_s(one) for one in done]
    ttft_s = [one.first_token_s - one.arrival.at_s for one in done]
    critical_s = [measure_e2e_s(one) for one in done if one.arrival.wish == "critical"]
    return _drop_unknown(
        {
            "requests": len(run.served),
            "rejected": len(run.served) - len(done),
            "joules": run.joules,
            "standby_joules": run.standby_joules,
            "joules_per_request": run.joules / len(done) if done else None,
            "deadline_requests": len(promised),
            "deadline_met_ratio": sum(map(meets_deadline, promised)) / len(promised) if promised else None,
            "e2e_p50_s": percentile(e2e_s, 0.5),
            "e2e_p99_s": percentile(e2e_s, 0.99),
            "critical_e2e_p99_s": percentile(critical_s, 0.99),
            "ttft_p50_s": percentile(ttft_s, 0.5),
            "ttft_p99_s": percentile(ttft_s, 0.99),
            "seconds_above_cap": run.seconds_above_cap if is_capped else None,
            "decide_us_p50": percentile(run.decide_us, 0.5),
            "decide_us_p99": percentile(run.decide_us, 0.99),
        }
    )


def summarise_bound(found: Bound, arrivals: Sequence[Arrival]) -> Figures:
    """The bound's figures: it has joules and late parts of requests, but no times."""
    promised = [late for one, late in zip(arrivals, found.request_late, strict=True) if one.deadline_s > 0]
    return _drop_unknown(
        {
            "requests": len(arrivals),
            "rejected": 0,
            "joules": found.joules,
            "joules_per_request": found.joules / len(arrivals) if arrivals else None,
            "deadline_requests": len(promised),
            "deadline_met_ratio": 1.0 - math.fsum(promised) / len(promised) if promised else None,
        }
    )


def measure_e2e_s(one: Served) -> float:
    """From arrival to end, the wait included."""
    return one.ended_s - one.arrival.at_s


def meets_deadline(one: Served) -> bool:
    """Whether it ended in time; a rejected request did not."""
    return bool(one.device) and measure_e2e_s(one) <= one.arrival.deadline_s


def allow_like(run: Run) -> tuple[dict[str, float], dict[str, float]]:
    """Targets in seconds and late shares by wish with which the bound is as good as this run, for `bound`.

    Requests without deadline get the run's p99 of their wish, at most 1 % later. Those with one may be late as often
    as in the run.
    """
    targets_s: dict[str, float] = {}
    late_shares: dict[str, float] = {}
    for wish in sorted({one.arrival.wish for one in run.served}):
        mine = [one for one in run.served if one.arrival.wish == wish]
        promised = [one for one in mine if one.arrival.deadline_s > 0]
        tail_s = percentile([measure_e2e_s(one) for one in mine if one.device and not one.arrival.deadline_s], 0.99)
        if tail_s is not None:
            targets_s[wish] = tail_s
        if promised:
            late_shares[wish] = 1.0 - sum(map(meets_deadline, promised)) / len(promised)
    return targets_s, late_shares


def _drop_unknown(figures: Mapping[str, float | int | None]) -> Figures:
    return {name: value for name, value in figures.items() if value is not None and math.isfinite(value)}


_COLUMNS: Final[tuple[tuple[str, str, Callable[[float], str]], ...]] = (
    ("J/req", "joules_per_request", "{:.1f}".format),
    ("on time", "deadline_met_ratio", lambda ratio: f"{100 * ratio:.1f} %"),
    ("e2e p50 s", "e2e_p50_s", "{:.1f}".format),
    ("e2e p99 s", "e2e_p99_s", "{:.1f}".format),
    ("critical p99 s", "critical_e2e_p99_s", "{:.1f}".format),
    ("ttft p50 s", "ttft_p50_s", "{:.2f}".format),
    ("ttft p99 s", "ttft_p99_s", "{:.1f}".format),
    ("above cap s", "seconds_above_cap", "{:.0f}".format),
    ("rejected", "rejected", "{:.0f}".format),
    ("decide p50 us", "decide_us_p50", "{:.1f}".format),
    ("p99 us", "decide_us_p99", "{:.1f}".format),
)


def render_table(report: Report) -> str:
    """A table, one line a policy; a dash where a figure is absent, no column where all are."""
    columns = [one for one in _COLUMNS if any(one[1] in figures for figures in report.policies.values())]
    lines = [["policy", *(title for title, _, _ in columns)]]
    for name, figures in report.policies.items():
        lines.append([name, *(show(figures[key]) if key in figures else "-" for _, key, show in columns)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines
    )
