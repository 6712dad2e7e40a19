"""Bar charts as SVG, written by hand: a bar a participant, shortest first, ours in colour."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from bench.results import Results

_BAR, _GAP, _LABELS, _BARS, _NUMBERS = 22, 6, 130, 470, 100
_TOP = 52
_OURS, _OTHERS, _INK = "#2f6fde", "#9aa5b1", "#1f2933"


@dataclass(frozen=True, slots=True)
class Plot:
    """One chart: which number, and what it is called. Bars that are cut say their number all the same."""

    file: str
    title: str
    measure: str
    metric: str
    unit: str


PLOTS = (
    Plot("unary.svg", "CPU of a whole answer", "unary", "cpu_us", "us"),
    Plot("streams-100.svg", "CPU of a streamed chunk, 100 streams", "streams-100", "cpu_us", "us"),
    Plot("streams-400.svg", "CPU of a streamed chunk, 400 streams", "streams-400", "cpu_us", "us"),
    Plot("delay-400.svg", "Delay of a chunk p99, 400 streams", "streams-400", "delay_p99_us", "us"),
    Plot("memory.svg", "Memory of an open stream, 2,000 streams", "streams-2000", "stream_kb", "KB"),
    Plot("grpc.svg", "CPU of a gRPC HealthCheck", "grpc-health", "cpu_us", "us"),
)


def draw_plot(plot: Plot, results: Results) -> str:
    """The SVG text; "" where nobody has a number."""
    found = [(results.median((name, plot.measure, plot.metric)), name) for name in results.versions]
    bars = sorted((value, name) for value, name in found if value is not None and name != "direct")
    return draw_bars(plot.title, plot.unit, bars) if bars else ""


def draw_bars(title: str, unit: str, bars: list[tuple[float, str]]) -> str:
    """Linear bars. One that is more than ten times the median is cut, or the others could not be told apart."""
    middle = bars[len(bars) // 2][0]
    full = max((value for value, _ in bars if value <= 10 * middle), default=1.0) or 1.0
    width, height = _LABELS + _BARS + _NUMBERS, _TOP + len(bars) * (_BAR + _GAP) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' font-family="sans-serif" font-size="13" fill="{_INK}">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="24" font-size="16" font-weight="bold">{escape(title)}</text>',
        f'<text x="10" y="42" font-size="12">{escape(unit)}, shorter is better</text>',
    ]
    for row, (value, name) in enumerate(bars):
        parts += _draw_bar(row, value, name, full)
    return "\n".join([*parts, "</svg>", ""])


def _draw_bar(row: int, value: float, name: str, full: float) -> list[str]:
    y = _TOP + row * (_BAR + _GAP)
    length = max(1.0, min(value / full, 1.0) * _BARS)
    colour = _OURS if name.startswith("ours") else _OTHERS
    number = f"{value:,.1f}" + (" (cut)" if value > full else "")
    return [
        f'<text x="{_LABELS - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{_LABELS}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
        f'<text x="{_LABELS + length + 6:.1f}" y="{y + 16}">{number}</text>',
    ]
