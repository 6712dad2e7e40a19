"""What the doctor found, and how it is told on a terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.metering import Domain, FigureKind, Source

_WIDTH = 100


class MeterRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One source, with its power now where that is known."""

    id: str
    meter: str
    domain: Domain
    covers: str
    kind: FigureKind
    readable: bool
    problem: str = ""
    remedy: str = ""
    inside: str = ""
    backends: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    watts: float | None = None
    busy_percent: float | None = None

    def as_source(self) -> Source:
        """The source it was made from, as far as it matters here."""
        names = ("id", "meter", "domain", "covers", "kind", "readable", "inside", "backends", "hardware")
        return Source(**{name: getattr(self, name) for name in names})


class SensorRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure that is no energy: a number with its unit, or a word."""

    id: str
    name: str
    value: float | None = None
    unit: str = ""
    text: str = ""


class BackendRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the watts of a backend come from."""

    id: str
    measured_by: tuple[str, ...] = ()
    shared_with: tuple[str, ...] = ()
    #: What its figures are, where something measures it.
    kind: FigureKind | None = None
    configured_watts: float | None = None


class Examination(msgspec.Struct, frozen=True):
    """Everything the doctor found; `user` is who asked, since permissions are theirs."""

    user: str
    enabled: bool
    virtual_machine: bool
    meters: tuple[MeterRow, ...]
    sensors: tuple[SensorRow, ...]
    backends: tuple[BackendRow, ...]


def render_examination(found: Examination) -> str:
    """The whole text, without a line end behind it."""
    parts = [_render_meters(found), _render_remedies(found), _render_sensors(found), _render_backends(found)]
    return "\n\n".join(part for part in parts if part)


def _render_meters(found: Examination) -> str:
    title = f"Power meters, as {found.user} may read them"
    if not found.meters:
        return f"{title}\n\n{_indent(_explain_none(found))}"
    rows = [("", "source", "now", "kind", "what")]
    for row in found.meters:
        mark = "ok" if row.readable else "--"
        rows.append((mark, row.id, _power(row), row.kind if row.readable else "", row.covers))
    return f"{title}\n\n{_table(rows)}"


def _explain_none(found: Examination) -> str:
    if not found.enabled:
        return "None is read: meters.enabled is never in the configuration."
    why = "This is a virtual machine: the counters stay with its host. " if found.virtual_machine else ""
    return (
        f"None. {why}Energy is modelled from the watts in the configuration, and labelled so. A smart plug, Home "
        "Assistant or any command that prints a number can be a meter: docs/meters.md shows how."
    )


def _power(row: MeterRow) -> str:
    if row.watts is not None:
        return f"{row.watts:.1f} W"
    if row.busy_percent is not None:
        return f"{row.busy_percent:.0f} % busy"
    return ""


def _render_remedies(found: Examination) -> str:
    """Each problem once, with the sources that have it and the command that mends it."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in found.meters:
        if row.problem:
            groups.setdefault((row.problem, row.remedy), []).append(row.id)
    parts = []
    for (problem, remedy), ids in groups.items():
        parts.append(_indent(f"{', '.join(ids)}: {problem}"))
        if remedy:
            # A command stays on one line, so that it can be copied.
            parts.append(f"    {remedy}")
        if "usermod" in remedy:
            parts.append("  and log in again, so that the group counts.")
    return "\n\n".join(["What is in the way", *parts]) if parts else ""


def _render_sensors(found: Examination) -> str:
    title = "Temperatures, fans, supply"
    if not found.sensors:
        return f"{title}\n\n  none told by this machine"
    rows = [(row.name, row.text if row.value is None else f"{row.value:,.0f} {row.unit}") for row in found.sensors]
    return f"{title}\n\n{_table(rows)}"


def _render_backends(found: Examination) -> str:
    if not found.backends:
        return ""
    rows = []
    for row in found.backends:
        if row.measured_by:
            shared = f", shared with {', '.join(row.shared_with)}" if row.shared_with else ""
            rows.append((row.id, f"{' + '.join(row.measured_by)}{shared}: {row.kind}"))
        elif row.configured_watts:
            rows.append((row.id, f"no meter; modelled from {row.configured_watts:g} W in the configuration"))
        else:
            rows.append((row.id, "no meter and no watts in the configuration: its energy is unknown"))
    return f"Where the joules of each backend come from\n\n{_table(rows)}"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        start = "  " + "  ".join(cells) + "  "
        room = max(30, _columns() - len(start))
        first, *rest = textwrap.wrap(row[-1], room) or [""]
        lines += [(start + first).rstrip(), *(" " * len(start) + line for line in rest)]
    return "\n".join(lines)


def _indent(text: str) -> str:
    return textwrap.fill(text, min(_WIDTH, _columns()), initial_indent="  ", subsequent_indent="  ")


def _columns() -> int:
    return shutil.get_terminal_size((_WIDTH, 24)).columns
