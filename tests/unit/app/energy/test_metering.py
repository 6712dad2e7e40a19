"""From the section `meters` to meters, and from backends to what measures them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_proxy.app.energy.metering import build_meters, find_busy_source, find_sources, read_options
from ollama_proxy.app.upstreams.registry import METERS, SENSORS, load_kind
from ollama_proxy.config.schema import Backend, Meters, MeterSource
from ollama_proxy.domain.metering import Source
from tests.support.processes import ROOT
from tests.support.sysfs import FakeSysfs

FOLDER = ROOT / "src" / "ollama_proxy" / "energy" / "meters"
#: What meters are made of, and what reads them.
NO_KIND = {"__init__", "choice", "counter", "nvml_cards", "sampler", "series", "session", "sysfs", "unit"}
HOME = "http://localhost:11434"


def test_every_meter_is_in_a_table() -> None:
    assert {file.stem for file in FOLDER.glob("*.py")} - NO_KIND == {*METERS, *SENSORS}
    for table in (METERS, SENSORS):
        for name in table:
            assert callable(load_kind(table, name))


def test_meters_are_found_without_being_configured(tmp_path: Path) -> None:
    names = [type(meter).__name__ for meter in build_meters(Meters(), {}, tmp_path)]
    assert names == ["PowercapMeter", "HwmonMeter", "NvmlMeter", "NpuMeter", "SupplyMeter"]
    assert build_meters(Meters(enabled="never"), {}, tmp_path) == ()


def test_a_configured_type_is_not_found_once_more() -> None:
    source = MeterSource(id="rapl", type="powercap", devices=("package-0",), backends=("cpu",))
    plug = MeterSource(id="plug", type="http", url="http://plug", preset="tasmota", token_env="PLUG")
    with FakeSysfs() as sysfs:
        sysfs.add_packages()
        meters = build_meters(Meters(sources=(source, plug)), {"PLUG": "secret"}, sysfs.root)
        ids = [one.id for meter in meters for one in meter.describe()]
    assert ids == ["rapl/package-0", "plug"]
    assert read_options(plug, {"PLUG": "secret\n"}).token == "secret"


PACKAGE = Source("package-0", "powercap", "package", "", hardware=("cpu", "igpu", "npu"))
SECOND = Source("package-1", "powercap", "package", "", hardware=("cpu", "igpu", "npu"))
GRAPHICS = Source("package-0/uncore", "powercap", "graphics", "", hardware=("igpu",), inside="package-0")
CARD = Source("card", "nvml", "card", "", hardware=("nvidia",))
BUSY = Source("npu", "npu", "npu_busy", "", hardware=("npu",))
PLUG = Source("plug", "http", "wall", "", backends=("far",))
ALL = (PACKAGE, SECOND, GRAPHICS, CARD, BUSY, PLUG)


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        (Backend(id="a", endpoint=HOME, hardware="cpu"), ["package-0", "package-1"]),
        (Backend(id="a", endpoint=HOME, hardware="npu"), ["package-0", "package-1"]),
        (Backend(id="a", endpoint=HOME, hardware="igpu"), ["package-0/uncore"]),
        (Backend(id="a", endpoint="http+unix://%2Frun%2Fo.sock", hardware="nvidia"), ["card"]),
        (Backend(id="a", endpoint="http://10.0.0.7:11434", hardware="nvidia"), []),
        (Backend(id="a", endpoint=HOME, hardware="cloud"), []),
        (Backend(id="far", endpoint="http://10.0.0.7:11434", hardware="nvidia"), ["plug"]),
    ],
)
def test_the_nearest_sources_measure_a_backend(backend: Backend, expected: list[str]) -> None:
    assert [source.id for source in find_sources(backend, ALL)] == expected


def test_named_sources_come_first_and_none_is_counted_twice() -> None:
    package = Source("p", "powercap", "package", "", backends=("a",))
    core = Source("p/core", "powercap", "core", "", backends=("a",), inside="p")
    unread = Source("q", "powercap", "package", "", backends=("a",), readable=False)
    assert find_sources(Backend(id="a", endpoint=HOME), (*ALL, core, package, unread)) == (package,)


def test_busy_time_belongs_to_the_npu_of_this_machine() -> None:
    assert find_busy_source(Backend(id="a", endpoint=HOME, hardware="npu"), ALL) == BUSY
    assert find_busy_source(Backend(id="a", endpoint=HOME, hardware="cpu"), ALL) is None
    assert find_busy_source(Backend(id="a", endpoint="http://10.0.0.7:1", hardware="npu"), ALL) is None
