"""docs/evaluation.md: the goals first, then what misses and why, then everything it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.evaluation.line import Line
from bench.evaluation.results import Results
from bench.evaluation.tables import (
    render_details,
    render_gifts,
    render_goals,
    render_loads,
    render_policies,
    render_tails,
)
from bench.evaluation.workload import Workload

_HEAD = """\
# Evaluation

Written by `bin/evaluate`; do not edit. Does the proxy's routing reach its goals, and where does it not?

**No joule here was measured.** Devices, their watts, their rates and their meters are emulated and time is virtual
([simulator.md](simulator.md)); what decides, queues, predicts and learns is the proxy's own code. Whoever quotes a
figure says "in the emulator" beside it. Only the microseconds of G8 are real, and they are those of one machine.

Settings and goals were fixed before the runs, and nothing was tuned for a slice. Figures are means over three
disjoint slices of a workload, with the lowest and the highest slice behind them: slices differ a lot. A goal holds
where the mean reaches it at every rate it is set for.

## Goals
"""

_READING = """\
How they are read: *deadlines met* is the part of the requests with a deadline (15, 30, 60 or 120 s, at p = 0.95)
that ended within it of their arrival; rejected is missed. *Joules* are dynamic, of a request that was served. G4
compares with a bound that knows everything, may be late as often as ours and, for each other wish, as late as ours at
p99. G5: a wish starves if its longest wait is over twice that of first come, first served. G6: the graphics card is 2.2
times slower in the middle third of the run, in all lines. G7 holds devices to what they are configured to draw at work;
a fixed set is any that may run at once under the cap. G9 gives out what emulated meters show (counters in steps, the
card unread while it sleeps, the NPU without a zone of its own and configured to draw a third less than it does); nobody
else works on that machine, which makes it easier than a real one.
"""

_GIFTS = """\
What holds the policy back, by experiment: the same runs with the lengths of answers told beforehand, with memory that
no two devices have to share (and a bound for that machine), and with both.
"""

_TAILS = """\
Whose the tail is: requests that prefer efficiency may be sent to wait for a frugal device.
"""


def render_page(
    results: Results,
    lines: Sequence[Line],
    workloads: Mapping[str, Workload],
    facts: Mapping[str, str],
    pictures: Sequence[tuple[str, str]],
) -> str:
    """The whole page. The first workload is the one of the goals."""
    first = next(iter(workloads.values()))
    return "\n".join(
        [
            _HEAD,
            *render_goals(lines),
            _READING,
            "## What misses, and why",
            "",
            *_render_misses(lines, first),
            "",
            _GIFTS,
            *render_gifts(results, first.name),
            _TAILS,
            *render_tails(results, first.name),
            "The slices, and what part of all devices' capacity each rate is (1: nobody ever idles):",
            "",
            *render_loads(first),
            "## Every goal at every rate",
            "",
            *render_details(lines),
            "## Policies",
            "",
            *(f"![{title}](images/{file})" for file, title in pictures),
            "",
            "`greenest` and `round-robin` are so far from the others that they stand in the tables only.",
            "",
            *_render_workloads(results, workloads),
            "## How it was run",
            "",
            "```sh\nOLLAMA_PROXY_TRACES=folder-of-traces bin/evaluate\n```",
            "",
            *(f"- {name}: {fact}" for name, fact in facts.items()),
            "",
        ]
    )


def _render_misses(lines: Sequence[Line], workload: Workload) -> Iterator[str]:
    missing = [line for line in lines if line.holds is False]
    if not missing:
        yield "Nothing misses."
    for line in missing:
        found = "; ".join(f"{where} {line.show(line.found[where])}" for where in line.misses())
        reached = [where for where in line.found if where not in line.misses()]
        rest = f"; reached at {', '.join(reached)}" if reached else ""
        yield f"- **{line.goal}** {line.what} ({line.show_target()}): {found}{rest}."


def _render_workloads(results: Results, workloads: Mapping[str, Workload]) -> Iterator[str]:
    for place, one in enumerate(workloads.values()):
        yield f"### {one.title[0].upper()}{one.title[1:]}"
        yield ""
        if place:
            yield "Capacity of all devices: " + ", ".join(
                f"slice {part} {one.capacity_per_min(part):.1f}/min" for part in (1, 2, 3)
            )
            yield ""
        yield from render_policies(results, one.name, place == 0)
