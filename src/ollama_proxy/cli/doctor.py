"""`ollama-proxy doctor`: which meters this machine has, what is in the way of reading them, and what mends it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ollama_proxy.cli.doctor_report import BackendRow, Examination, MeterRow, SensorRow, render_examination
from ollama_proxy.config.schema import Backend, Config
from ollama_proxy.domain.metering import Energy, FigureKind, Meter, Reading, Source
from ollama_proxy.energy.meters.series import Series

#: An NPU may be asked once a second.
_BETWEEN_S = 1.1


def doctor(
    config: Annotated[str | None, typer.Option(help="Configuration file.", metavar="FILE")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    root: Annotated[Path | None, typer.Option(help="Where /sys and /proc are.", metavar="DIR")] = None,
) -> None:
    """Look for power meters, temperatures and fans; say what can be read, and how to allow what cannot."""
    from msgspec import json

    from ollama_proxy.app.energy.desk import find_root
    from ollama_proxy.config.load import find_config, load_config
    from ollama_proxy.config.problems import ConfigError

    path = find_config(config, os.environ, Path.cwd())
    fault = ""
    try:
        loaded = load_config(path, os.environ)
    except ConfigError as error:
        loaded, fault = Config(), str(error)
    found = examine(loaded, os.environ, root or find_root(), time.monotonic, time.sleep)
    if as_json:
        typer.echo(json.format(json.encode(found), indent=2).decode())
    else:
        typer.echo(render_examination(found))
    if fault:
        typer.echo(f"\nollama-proxy doctor: the configuration was left aside: {fault}", err=True)
        raise typer.Exit(2)


def examine(
    config: Config,
    environ: Mapping[str, str],
    root: Path,
    clock: Callable[[], float],
    wait: Callable[[float], object],
) -> Examination:
    """Look at everything, twice at what counts, so that power now is known. Waits a second if anything counts."""
    from ollama_proxy.app.energy.metering import build_meters

    meters = build_meters(config.meters, environ, root)
    rows = _read_meters(meters, clock, wait)
    return Examination(
        user=_user_name(),
        enabled=config.meters.enabled != "never",
        virtual_machine="hypervisor" in _cpu_flags(root),
        meters=rows,
        sensors=_read_sensors(root),
        backends=_assign(config, rows),
    )


def _read_meters(
    meters: Sequence[Meter], clock: Callable[[], float], wait: Callable[[float], object]
) -> tuple[MeterRow, ...]:
    sources: dict[str, Source] = {}
    for meter in meters:
        sources.update((source.id, source) for source in meter.describe())
    series = {name: Series(source) for name, source in sources.items()}
    failures: dict[str, str] = {}
    said: dict[str, Reading] = {}
    for last in (False, True):
        for meter in meters:
            readings = _read(meter, clock, failures)
            for reading in readings:
                # What appeared since it was listed is for the next examination.
                if reading.source in series:
                    said[reading.source] = reading
                    series[reading.source].add(reading, _BETWEEN_S)
        if not said:
            break
        if not last:
            wait(_BETWEEN_S)
    return tuple(_describe(source, series[name], failures.get(name, ""), clock()) for name, source in sources.items())


def _read(meter: Meter, clock: Callable[[], float], failures: dict[str, str]) -> tuple[Reading, ...]:
    try:
        return meter.read(clock())
    except Exception as error:  # noqa: BLE001  # whatever one meter does, the doctor goes on
        failures.update((source.id, str(error) or type(error).__name__) for source in meter.describe())
        return ()


def _describe(source: Source, series: Series, failure: str, now_s: float) -> MeterRow:
    span = series.span
    busy: Energy | None = series.between(*span) if span and source.domain == "npu_busy" and span[1] > span[0] else None
    return MeterRow(
        id=source.id,
        meter=source.meter,
        domain=source.domain,
        covers=source.covers,
        kind=source.kind,
        readable=source.readable and not failure,
        problem=source.problem or failure,
        remedy=source.remedy,
        inside=source.inside,
        backends=source.backends,
        hardware=source.hardware,
        watts=series.watts(now_s),
        busy_percent=None if busy is None or span is None else 100 * busy.joules / (span[1] - span[0]),
    )


def _read_sensors(root: Path) -> tuple[SensorRow, ...]:
    from ollama_proxy.energy.meters.fan import FanSensor
    from ollama_proxy.energy.meters.profile import ProfileSensor
    from ollama_proxy.energy.meters.supply import read_supply
    from ollama_proxy.energy.meters.thermal import ThermalSensor

    thermal = ThermalSensor(root)
    rows = [SensorRow(one.source, one.name, value=one.celsius, unit="°C") for one in thermal.read()]
    throttled_ms = thermal.read_throttled_ms()
    if throttled_ms is not None:
        rows.append(SensorRow("thermal/throttled", "package was throttled since boot", value=throttled_ms, unit="ms"))
    for fan in FanSensor(root).read():
        name = f"fan {fan.label or fan.source.rpartition('/')[2]} of {fan.chip}"
        figure = (fan.rpm, "rpm") if fan.rpm is not None else (fan.percent, "%")
        rows.append(SensorRow(fan.source, name, value=figure[0], unit=figure[1]))
    supply = read_supply(root)
    if supply.on_battery is not None:
        rows.append(SensorRow("supply", "the machine runs from", text="battery" if supply.on_battery else "mains"))
    if supply.percent is not None:
        rows.append(SensorRow("supply/charge", "charge of its batteries", value=supply.percent, unit="%"))
    profile = ProfileSensor(root).read()
    if profile.active is not None:
        rows.append(SensorRow("profile", "power profile", text=profile.active))
    return tuple(rows)


def _assign(config: Config, rows: Sequence[MeterRow]) -> tuple[BackendRow, ...]:
    from ollama_proxy.app.energy.metering import find_sources

    sources = [row.as_source() for row in rows]
    enabled = [backend for backend in config.backends if backend.enabled]
    found = {backend.id: find_sources(backend, sources) for backend in enabled}
    return tuple(_describe_backend(backend, found) for backend in enabled)


def _describe_backend(backend: Backend, found: Mapping[str, Sequence[Source]]) -> BackendRow:
    own = found[backend.id]
    ids = {one.id for one in own}
    shared = tuple(name for name, sources in found.items() if name != backend.id and ids & {one.id for one in sources})
    kind: FigureKind = "apportioned" if shared else "measured"
    return BackendRow(
        id=backend.id,
        measured_by=tuple(one.id for one in own),
        shared_with=shared,
        kind=("emulated" if any(one.kind == "emulated" for one in own) else kind) if own else None,
        configured_watts=backend.characteristics.power_watts or None,
    )


def _user_name() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _cpu_flags(root: Path) -> list[str]:
    try:
        text = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return []
    line = next((one for one in text.splitlines() if one.startswith("flags")), "")
    return line.split()
