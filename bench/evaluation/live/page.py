"""docs/evaluation-live.md: what was to agree and does it, both sides in figures, and what makes the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bench.evaluation.live.experiment import Agreement

LEAST_SAME = 0.99
MOST_APART = 0.05
_SAME_START_S = 1.0

_HEAD = """\
# The proxy beside the simulator

Written by `bin/evaluate --live`; do not edit. The same requests go over HTTP through the real proxy, in front of the
lab's emulated devices, and through the [simulator](simulator.md) with devices like the lab's. Does the simulator tell
what the proxy does? All joules are emulated, on both sides: the devices' own account, not the proxy's prediction.

The proxy runs the shipped configuration, knows no answer's length beforehand, and begins with the configured speeds.
Time is compressed: devices, arrivals and deadlines are {speed:g} times as fast as life, and figures here are in life's
seconds and joules.

## What was to agree
"""

_RUNS = """\
- **live**: the proxy. Times are by its own clock, joules are what the devices say.
- **simulated**: the simulator as it is, in life's time, from the trace alone.
- **simulated, hurried**: the same in the compressed time of the live run, with its arrivals. The only constants in
  seconds that matter are two: the minute after which waiting makes a request more urgent, which is {ageing:.0f}
  minutes of the compressed hour, and the second after which a queue is gone through again. With both stretched the
  runs in both times choose the same for every request. So live and simulated differ in the longest waits.
- **followed**: the simulator, told when each live request came, how long the device then took for it, and when the
  proxy found somebody to begin while nothing else happened. What it learns, expects, lets wait and chooses is its own,
  from the first request on. Its choices are compared with the proxy's one by one.
"""

_WHY = """\
## What makes the rest

- **Order.** Each step of the live run is some milliseconds late, times {speed:g}. Where a request comes just before a
  device is free in one run and just after it in the other, choices differ, and from then on so do the queues. What is
  *followed* has each event in the live order; hence nothing of this in the choices that were to agree.
- **Lateness in joules.** A device that sends its last token late draws power until then. What the devices say, beside
  what the same choices take when nothing is late: {late}.
- **The last token.** A device of the lab is free when it has sent the last token, one of the simulator a token later.
- **Known beforehand.** The simulator knows the tokens of a prompt; the proxy estimates them from its bytes and learns,
  and so does the run that follows it.
- **Looking again.** Both go through a queue once a second, but not in the same moments.
"""

_ROWS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("joules", "joules", "{:,.0f}".format),
    ("joules a request", "joules_per_request", "{:.1f}".format),
    ("deadlines met", "deadline_met_ratio", lambda ratio: f"{100 * ratio:.1f} %"),
    ("end to end, p50", "e2e_p50_s", "{:.1f} s".format),
    ("end to end, p99", "e2e_p99_s", "{:.1f} s".format),
    ("latency-critical, p99", "critical_e2e_p99_s", "{:.1f} s".format),
    ("first token, p50", "ttft_p50_s", "{:.1f} s".format),
    ("first token, p99", "ttft_p99_s", "{:.1f} s".format),
    ("rejected", "rejected", "{:.0f}".format),
)
_TITLES = {
    "live": "live",
    "simulated": "simulated",
    "hurried": "simulated, hurried",
    "followed": "followed",
}


def judge(found: Agreement) -> list[tuple[str, str, str, bool]]:
    """What was to agree, how much, what was found, and whether that is enough."""
    replayed = found.decisions - len(found.differing)
    same, answered = found.same_choices("followed")
    apart = _apart(found.runs["simulated"].joules, found.runs["live"].joules)
    followed_j = found.joules_of("followed")
    by_device = {name: _apart(followed_j.get(name, 0.0), joules) for name, joules in found.device_joules.items()}
    worst = max(by_device, key=lambda name: abs(by_device[name]))
    joules_goal = f"within {100 * MOST_APART:.0f} %"
    return [
        (
            "requests answered, each with the tokens asked for",
            "all",
            f"{found.as_told} of {found.requests}",
            found.as_told == answered == found.requests,
        ),
        (
            "recorded decisions taken again: the same to the byte",
            "all",
            f"{replayed} of {found.decisions}",
            replayed == found.decisions and found.decisions > 0,
        ),
        (
            "same choice, given the same arrivals and times of service",
            f">= {100 * LEAST_SAME:.0f} %",
            f"{same} of {answered}",
            same >= LEAST_SAME * found.requests,
        ),
        ("joules, live against simulated", joules_goal, _show_percent(apart), abs(apart) <= MOST_APART),
        (
            "joules of the device that is furthest off, live against followed",
            joules_goal,
            f"{_show_percent(by_device[worst])} ({worst})",
            abs(by_device[worst]) <= MOST_APART,
        ),
    ]


def render_goals(found: Agreement) -> list[str]:
    """The table of them."""
    lines = ["| what | goal | found | holds |", "|---|---|---|---|"]
    return lines + [
        f"| {what} | {goal} | {value} | {'yes' if holds else 'NO'} |" for what, goal, value, holds in judge(found)
    ]


def render_page(found: Agreement, facts: Mapping[str, str]) -> str:
    """The whole document."""
    late = ", ".join(
        f"{device.removeprefix('ollama-')} {_show_percent(joules / expected - 1)}"
        for device, joules in found.device_joules.items()
        if (expected := found.expected_joules[device])
    )
    parts = [
        _HEAD.format(speed=found.speed),
        *render_goals(found),
        "\n## Both sides\n",
        *_render_runs(found),
        "",
        _RUNS.format(ageing=found.speed),
        "## Joules by device\n",
        *_render_devices(found),
        "",
        _WHY.format(speed=found.speed, late=late),
        "## Made with\n",
        "| | |\n|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()),
    ]
    return "\n".join(parts) + "\n"


def _render_runs(found: Agreement) -> Iterator[str]:
    figures = {name: found.figures(name) for name in found.runs}
    yield "| | " + " | ".join(_TITLES[name] for name in figures) + " |"
    yield "|---|" + "---|" * len(figures)
    for title, key, show in _ROWS:
        yield f"| {title} | " + " | ".join(show(one[key]) if key in one else "-" for one in figures.values()) + " |"
    same = [found.same_choices(name) for name in figures]
    starts = [found.same_starts(name, _SAME_START_S) for name in figures]
    for title, counted in (("same device as live", same), (f"and after the same wait, to {_SAME_START_S:g} s", starts)):
        yield f"| {title} | " + " | ".join(f"{100 * n / of:.1f} %" if of else "-" for n, of in counted) + " |"


def _render_devices(found: Agreement) -> Iterator[str]:
    yield "| | " + " | ".join(_TITLES[name] for name in found.runs) + " | live, as the proxy booked it |"
    yield "|---|" + "---|" * (len(found.runs) + 1)
    columns = [*(found.joules_of(name) for name in found.runs), found.booked_joules()]
    for device in found.device_joules:
        yield f"| {device} | " + " | ".join(f"{one.get(device, 0.0):,.0f}" for one in columns) + " |"


def _apart(one: float, other: float) -> float:
    """By how much the other is more, as a share of the one."""
    if one == other:
        return 0.0
    return other / one - 1 if one else float("inf")


def _show_percent(share: float) -> str:
    return f"{100 * share:+.1f} %".replace("-", "\N{MINUS SIGN}")
