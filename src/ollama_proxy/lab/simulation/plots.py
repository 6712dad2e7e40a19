"""A picture of a report as SVG, written by hand: joules a request against deadlines met, one point a policy.

Where nothing has a deadline, the end-to-end p99 takes the place of the deadlines. The bound is a line, not a point: it
says how low a policy as good as the one it was made for could come.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

import msgspec

from ollama_proxy.lab.simulation.label_layout import Box, place_labels
from ollama_proxy.lab.simulation.report import Report
from ollama_proxy.lab.simulation.scale import Scale

_WIDTH: Final = 760
_HEIGHT: Final = 500
_FRAME: Final = Box(76, 84, 736, 436)
_FONT_SIZE: Final = 13
_RADIUS: Final = 6
_LEAD_LENGTH: Final = 14  # a label further away gets a line to its point
_OURS: Final = "predictive"
_BOUND: Final = "bound"
_STYLE: Final = """\
<style>
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933 }
.title { font-size: 17px; font-weight: 600 }
.quiet { font-size: 12px; fill: #52606d }
.grid { stroke: #e4e7eb }
.axis { stroke: #7b8794 }
.lead { stroke: #9aa5b1 }
.point { fill: #486581 }
.ours { fill: #0b7a55; font-weight: 600 }
.bound { stroke: #b44d12; stroke-dasharray: 6 4 }
text.bound { stroke: none; fill: #b44d12; font-size: 12px }
</style>"""


class _Axis(msgspec.Struct, frozen=True):
    key: str
    factor: float
    title: str
    most: float


_DEADLINES: Final = _Axis("deadline_met_ratio", 100.0, "deadlines met, % (to the right is better)", 100.0)
_TAIL: Final = _Axis("e2e_p99_s", 1.0, "end-to-end p99, s (to the left is better)", math.inf)


def draw_plot(report: Report) -> str:
    """The whole SVG document. Policies that lack one of the two figures are named below the plot."""
    axis = _DEADLINES if any(_DEADLINES.key in figures for figures in report.policies.values()) else _TAIL
    policies = {name: figures for name, figures in report.policies.items() if name != _BOUND}
    shown = {
        name: (figures[axis.key] * axis.factor, figures["joules_per_request"])
        for name, figures in policies.items()
        if axis.key in figures and "joules_per_request" in figures
    }
    bound_j = report.policies.get(_BOUND, {}).get("joules_per_request")
    across = Scale.spanning([x for x, _ in shown.values()], _FRAME.left, _FRAME.right, axis.most)
    up = Scale.spanning(
        [y for _, y in shown.values()] + ([] if bound_j is None else [bound_j]), _FRAME.bottom, _FRAME.top
    )
    points = {name: (across.place(x), up.place(y)) for name, (x, y) in shown.items()}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        _STYLE,
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        *_draw_heading(report, [name for name in policies if name not in shown]),
        *_draw_axes(across, up, axis.title),
    ]
    obstacles: list[Box] = []
    if bound_j is not None:
        height = up.place(bound_j)
        like = report.meta.bound_like
        text = f"bound: the least for what {like} achieves" if isinstance(like, str) else "bound: the least possible"
        lines += [_line(_FRAME.left, height, _FRAME.right, height, "bound")]
        lines += [_text(_FRAME.left + 8, height + 16, text, "bound")]
        obstacles = [
            Box(_FRAME.left, height - 2, _FRAME.right, height + 2),
            Box(_FRAME.left, height + 4, _FRAME.left + 8 + 8 * len(text), height + 18),
        ]
    return "\n".join([*lines, *_draw_points(points, obstacles), "</svg>", ""])


def _draw_heading(report: Report, left_out: Sequence[str]) -> Iterator[str]:
    meta = report.meta
    cap = f", cap {meta.cap_w:g} W" if isinstance(meta.cap_w, float) else ""
    yield _text(_FRAME.left, 30, "Joules a request, and what they buy", "title")
    yield _text(
        _FRAME.left,
        50,
        f"{meta.trace}, slice {meta.slice}: {meta.requests:,} requests at {meta.rate_per_min:g} a minute,"
        f" mix {meta.mix}, seed {meta.seed}{cap}",
        "quiet",
    )
    yield _text(_FRAME.left, 67, "Emulated devices in virtual time: no joule here was measured.", "quiet")
    if left_out:
        yield _text(_FRAME.left, _HEIGHT - 6, f"no figures: {', '.join(left_out)}", "quiet")


def _draw_axes(across: Scale, up: Scale, title: str) -> Iterator[str]:
    for tick in across.ticks():
        x = across.place(tick)
        yield _line(x, _FRAME.top, x, _FRAME.bottom, "grid")
        yield _text(x, _FRAME.bottom + 18, f"{tick:g}", "quiet", "middle")
    for tick in up.ticks():
        y = up.place(tick)
        yield _line(_FRAME.left, y, _FRAME.right, y, "grid")
        yield _text(_FRAME.left - 8, y + 4, f"{tick:g}", "quiet", "end")
    yield _line(_FRAME.left, _FRAME.bottom, _FRAME.right, _FRAME.bottom, "axis")
    yield _line(_FRAME.left, _FRAME.top, _FRAME.left, _FRAME.bottom, "axis")
    middle = (_FRAME.top + _FRAME.bottom) / 2
    yield _text((_FRAME.left + _FRAME.right) / 2, _FRAME.bottom + 40, title, "", "middle")
    yield (
        f'<text x="22" y="{middle:g}" text-anchor="middle" transform="rotate(-90 22 {middle:g})">'
        "joules a request, dynamic (lower is better)</text>"
    )


def _draw_points(points: dict[str, tuple[float, float]], obstacles: Sequence[Box]) -> Iterator[str]:
    boxes = place_labels(list(points.values()), list(points), _FONT_SIZE, _FRAME, obstacles)
    for (name, (x, y)), box in zip(points.items(), boxes, strict=True):
        kind = "point ours" if name == _OURS else "point"
        near_x, near_y = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
        if math.dist((x, y), (near_x, near_y)) > _LEAD_LENGTH:
            yield _line(x, y, near_x, near_y, "lead")
        yield f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{_RADIUS}"><title>{escape(name)}</title></circle>'
        # The box is as wide as a wide font needs: keep the text at the end that is next to the point.
        anchor, at = ("end", box.right) if box.right < x else ("start", box.left)
        if box.left < x < box.right:
            anchor, at = "middle", (box.left + box.right) / 2
        yield _text(at, box.bottom - 2, name, "ours" if name == _OURS else "", anchor)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
