"""Pictures by rate as SVG, written by hand: a line a policy, the mean of the slices with their range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape

import msgspec

from bench.evaluation.results import Spread
from ollama_proxy.lab.simulation.scale import Scale

Series = Mapping[float, Spread]

_WIDTH, _HEIGHT = 760, 400
_LEFT, _TOP, _RIGHT, _BOTTOM = 70, 66, 560, 350
_APART = 4  # side by side, so that no range hides another
_OURS = "predictive"
_COLOURS = ("#0b7a55", "#b44d12", "#2f6fde", "#8a4fbf", "#9aa5b1")
_STYLE = """\
<style>
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933 }
.title { font-size: 17px; font-weight: 600 }
.quiet { font-size: 12px; fill: #52606d }
.grid { stroke: #e4e7eb }
.ours { font-weight: 600 }
polyline { fill: none; stroke-width: 2 }
</style>"""


class Chart(msgspec.Struct, frozen=True):
    """What is drawn: values are multiplied by `factor`; `most` is where the scale ends at the latest."""

    file: str
    title: str
    figure: str
    unit: str
    factor: float = 1.0
    most: float = float("inf")


CHARTS = (
    Chart("evaluation-joules.svg", "Joules a request, by rate", "joules_per_request", "J, dynamic; lower is better"),
    Chart(
        "evaluation-deadlines.svg", "Deadlines met, by rate", "deadline_met_ratio", "%; higher is better", 100.0, 100.0
    ),
    Chart("evaluation-critical.svg", "p99 of critical requests, by rate", "critical_e2e_p99_s", "s; lower is better"),
    Chart("evaluation-p99.svg", "p99 of all requests, by rate", "e2e_p99_s", "s; lower is better"),
)


def draw_chart(chart: Chart, lines: Mapping[str, Series]) -> str:
    """The whole SVG document."""
    spreads = [spread for series in lines.values() for spread in series.values()]
    rates = sorted({rate for series in lines.values() for rate in series})
    across = Scale.spanning(rates, _LEFT, _RIGHT)
    ends = [value * chart.factor for one in spreads for value in (one.low, one.high)]
    up = Scale.spanning(ends, _BOTTOM, _TOP, chart.most)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
            _STYLE,
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
            _text(_LEFT, 28, chart.title, "title"),
            _text(_LEFT, 48, f"{chart.unit}. Mean and range of three slices; emulated, not measured.", "quiet"),
            *_draw_axes(across, up, rates),
            *_draw_lines(across, up, chart.factor, lines),
            "</svg>",
            "",
        ]
    )


def _draw_axes(across: Scale, up: Scale, rates: Sequence[float]) -> Iterator[str]:
    for tick in up.ticks():
        y = up.place(tick)
        yield f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_RIGHT}" y2="{y:.1f}"/>'
        yield _text(_LEFT - 8, y + 4, f"{tick:g}", "quiet", "end")
    for rate in rates:
        yield _text(across.place(rate), _BOTTOM + 18, f"{rate:g}", "quiet", "middle")
    yield _text((_LEFT + _RIGHT) / 2, _BOTTOM + 38, "requests a minute", "quiet", "middle")


def _draw_lines(across: Scale, up: Scale, factor: float, lines: Mapping[str, Series]) -> Iterator[str]:
    order = sorted(lines, key=lambda name: name != _OURS)  # ours has the first colour
    ends: list[tuple[float, str, str]] = []
    for place, (name, colour) in enumerate(zip(order, _COLOURS, strict=False)):
        places = []
        for rate, spread in sorted(lines[name].items()):
            x = across.place(rate) + _APART * (place - len(order) / 2)
            y, low, high = (up.place(one * factor) for one in (spread.mean, spread.low, spread.high))
            places.append((x, y))
            span = f'x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}"'
            yield f'<line stroke="{colour}" stroke-opacity="0.45" {span}/>'
            yield f'<circle fill="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
        if places:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            yield f'<polyline stroke="{colour}" points="{points}"/>'
            ends.append((places[-1][1], name, colour))
    height = 0.0
    for y, name, colour in sorted(ends):
        height = max(y, height + 16)
        yield f'<circle fill="{colour}" cx="{_RIGHT + 16}" cy="{height:.1f}" r="5"/>'
        yield _text(_RIGHT + 26, height + 4, name, "ours" if name == _OURS else "")


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
