"""The emulated machine: the four devices of the quick start, or those of a file.

The file is YAML: `devices`, a list of `DeviceModel`, and `host`, a `HostModel`. An entry with `like: ollama-npu` says
only what is different from that one of the default four; what `host` leaves out stays as it is by default.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ollama_proxy.config.document import Lines, read_document, read_text
from ollama_proxy.config.problems import ConfigError, Problem
from ollama_proxy.lab.simulation.device_model import DeviceModel, HostModel, ThermalModel

__all__ = ["DEFAULT_DEVICES", "DEFAULT_HOST", "DeviceModel", "HostModel", "ThermalModel", "read_devices"]

Machine = tuple[tuple[DeviceModel, ...], HostModel]

_HARDWARE = ("npu", "igpu", "nvidia", "cpu")
_TOP = ("devices", "host")

Model = TypeVar("Model", DeviceModel, HostModel)

DEFAULT_HOST = HostModel()

#: A laptop with a Core Ultra 7 155H and an RTX 4060, a 7B model at Q4. Prefill draws the stated multiple of decode; the
#: card is at its board's limit in both.
DEFAULT_DEVICES = (
    DeviceModel(
        name="ollama-npu",
        hardware="npu",
        prefill_tps=150,
        decode_tps=10,
        overhead_s=0.4,
        prefill_w=3 * 1.2,
        decode_w=3,
        load_s=8,
        load_w=12,
        memory_gb=16,
        on_package=True,
        bandwidth_gb_s=0,
    ),
    DeviceModel(
        name="ollama-igpu",
        hardware="igpu",
        prefill_tps=300,
        decode_tps=22,
        overhead_s=0.15,
        prefill_w=12 * 1.3,
        decode_w=12,
        idle_w=0.3,
        load_s=3,
        load_w=10,
        memory_gb=16,
        on_package=True,
        bandwidth_gb_s=0,
    ),
    DeviceModel(
        name="ollama-nvidia",
        hardware="nvidia",
        prefill_tps=1500,
        decode_tps=65,
        overhead_s=0.05,
        prefill_w=55,
        decode_w=55,
        idle_w=5,
        load_s=3,
        load_w=25,
        memory_gb=8,
        on_package=False,
        bandwidth_gb_s=256,
        suspend_after_s=30,
        wake_s=1,
        wake_w=10,
        linger_s=10,
        linger_w=12,
        thermal=ThermalModel(die_k_per_w=0.5, die_tau_s=60, throttle_c=87, resume_c=82),
    ),
    DeviceModel(
        name="ollama-cpu",
        hardware="cpu",
        prefill_tps=45,
        decode_tps=6,
        overhead_s=0.2,
        prefill_w=28 * 1.1,
        decode_w=28,
        load_s=2,
        load_w=10,
        memory_gb=32,
        on_package=True,
        bandwidth_gb_s=0,
    ),
)

_BY_NAME = {device.name: device for device in DEFAULT_DEVICES}


def read_devices(path: Path) -> Machine:
    """The machine of a file. Raises `ConfigError` that names file, line and key of every fault it found."""
    source = str(path)
    data, lines = read_document(read_text(path), source)
    if not isinstance(data, dict):
        raise ConfigError([Problem("", "the file must hold keys and values", 1)], source)
    problems = [Problem(key, "unknown key" + _nearest(key, _TOP)) for key in data if key not in _TOP]
    devices = _read_list(data.get("devices"), problems)
    host = _read_one(data.get("host") or {}, DEFAULT_HOST, HostModel, "host", problems)
    if not problems and host is not None:
        problems = list(_check(devices, host))
    if problems or host is None:
        raise ConfigError([_place(one, lines) for one in problems], source)
    return devices, host


def _place(problem: Problem, lines: Lines) -> Problem:
    """The line of the key, else of what it stands in."""
    where = problem.where
    while where and where not in lines:
        where = where.rpartition(".")[0] or where.rpartition("[")[0]
    return Problem(problem.where, problem.message, lines.get(where, 0))


def _read_list(items: Any, problems: list[Problem]) -> tuple[DeviceModel, ...]:
    if not isinstance(items, list) or not items:
        problems.append(Problem("devices", "a list of at least one device is needed"))
        return ()
    found = []
    for index, item in enumerate(items):
        place = f"devices[{index}]"
        base = _base(item, place, problems)
        device = _read_one(item, base, DeviceModel, place, problems)
        if device is not None:
            found.append(device)
    return tuple(found)


def _base(item: Any, place: str, problems: list[Problem]) -> DeviceModel | None:
    """The default device that an entry is `like`; the key is taken out."""
    if not isinstance(item, dict) or "like" not in item:
        return None
    name = str(item.pop("like"))
    if name not in _BY_NAME:
        problems.append(Problem(f"{place}.like", f"{name!r} is not a default device{_nearest(name, _BY_NAME)}"))
    return _BY_NAME.get(name)


def _read_one(item: Any, base: Model | None, kind: type[Model], place: str, problems: list[Problem]) -> Model | None:
    """One entry over its base; None with its problems told."""
    if not isinstance(item, dict):
        problems.append(Problem(place, "must hold keys and values"))
        return None
    known = kind.__struct_fields__
    unknown = [key for key in item if key not in known]
    problems += [Problem(f"{place}.{key}", "unknown key" + _nearest(key, known)) for key in unknown]
    if unknown:
        return None
    try:
        found = msgspec.convert({**(msgspec.to_builtins(base) if base else {}), **item}, kind)
    except msgspec.ValidationError as error:
        text, _, inner = str(error).partition(" - at `$")
        text = text.replace("`", "")
        problems.append(Problem(place + inner.rstrip("`"), text[:1].lower() + text[1:]))
        return None
    endless = [key for key, value in msgspec.to_builtins(found).items() if not _is_finite(value)]
    problems += [Problem(f"{place}.{key}", "must be a finite number") for key in endless]
    return None if endless else found


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, tuple | list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _check(devices: tuple[DeviceModel, ...], host: HostModel) -> Iterator[Problem]:
    """What the types cannot say: figures that contradict each other."""
    names = [device.name for device in devices]
    for index, device in enumerate(devices):
        for key, message in _check_device(device, host):
            yield Problem(f"devices[{index}].{key}", message)
        if device.name in names[:index]:
            yield Problem(f"devices[{index}].name", f"{device.name!r} is given twice")
    if host.package_burst_w < host.package_sustained_w:
        yield Problem("host.package_burst_w", "is below package_sustained_w")
    idle_w = host.package_floor_w + sum(device.idle_w for device in devices if device.on_package)
    if idle_w >= host.package_sustained_w:
        yield Problem("host.package_sustained_w", f"the idle package alone draws {idle_w:g} W")
    yield from _check_thermal(host.package_thermal, host, "host.package_thermal")


def _check_device(device: DeviceModel, host: HostModel) -> Iterator[tuple[str, str]]:
    if not device.name:
        yield "name", "must not be empty"
    if device.hardware not in _HARDWARE:
        yield "hardware", f"{device.hardware!r} is none of {', '.join(_HARDWARE)}"
    if device.memory_gb < host.gb_per_token:
        yield "memory_gb", f"a model takes {host.gb_per_token:g} GB (host.gb_per_token)"
    for index, (from_s, to_s, _) in enumerate(device.drift):
        if to_s <= from_s:
            yield f"drift[{index}]", "ends before it begins"
    if device.thermal and device.on_package:
        yield "thermal", "a device on the package shares host.package_thermal"
    if device.thermal:
        yield from ((one.where, one.message) for one in _check_thermal(device.thermal, host, "thermal"))


def _check_thermal(thermal: ThermalModel, host: HostModel, place: str) -> Iterator[Problem]:
    if not host.ambient_c < thermal.resume_c < thermal.throttle_c:
        yield Problem(place, "needs ambient_c < resume_c < throttle_c")
    if thermal.die_tau_s >= host.chassis_tau_s:
        yield Problem(place, "die_tau_s must be below the host's chassis_tau_s")


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f'; did you mean "{near[0]}"?' if near else f"; known are {', '.join(known)}"
