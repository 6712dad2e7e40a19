"""Who is measured by what: a meter alone, a package with several devices, plugs with several servers behind them."""

from __future__ import annotations

import pytest

from ollama_proxy.app.energy.plan import plan_meters
from ollama_proxy.config.schema import Backend
from ollama_proxy.domain.device import BackendSpec, BackendView
from ollama_proxy.domain.metering import Source

HOME = "http://localhost:11434"
PACKAGE = Source("p", "powercap", "package", "", hardware=("cpu", "igpu", "npu"))
CORE = Source("p/core", "powercap", "core", "", hardware=("cpu",), inside="p")
UNCORE = Source("p/uncore", "powercap", "graphics", "", hardware=("igpu",), inside="p")
CARD = Source("card", "nvml", "card", "", hardware=("nvidia",))
BUSY = Source("npu", "npu", "npu_busy", "", hardware=("npu",))
ALL = (PACKAGE, CORE, UNCORE, CARD, BUSY)
FAKE = Source("fake", "command", "other", "", kind="emulated", backends=("nvidia",))
PLUG = Source("plug", "http", "wall", "", backends=("cpu", "nvidia"))
Plans = list[tuple[list[str], dict[str, list[str]]]]


def plan(sources: tuple[Source, ...], *names: str, emulated: bool = False) -> Plans:
    """By meter: its sources, and of each backend the zones and the source of busy time."""
    views = [BackendView(BackendSpec(name, "ollama", name, name, 10.0), emulated=emulated) for name in names]
    entries = {name: Backend(id=name, endpoint=HOME, hardware=name) for name in names}  # type: ignore[arg-type]
    return [
        (
            [one.id for one in found.sources],
            {
                one.backend: [zone.id for zone in (*one.zones, *((one.busy,) if one.busy else ()))]
                for one in found.members
            },
        )
        for found in plan_meters(views, entries, sources)
    ]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("cpu",), [(["p"], {"cpu": []})]),
        (("igpu",), [(["p/uncore"], {"igpu": []})]),
        (("nvidia", "cpu"), [(["card"], {"nvidia": []}), (["p"], {"cpu": []})]),
        (("cpu", "npu"), [(["p"], {"cpu": ["p/core"], "npu": ["npu"]})]),
        (("npu", "nvidia", "igpu"), [(["card"], {"nvidia": []}), (["p"], {"npu": ["npu"], "igpu": ["p/uncore"]})]),
    ],
)
def test_backends_that_share_a_meter_come_together(names: tuple[str, ...], expected: Plans) -> None:
    assert plan(ALL, *names) == expected


def test_a_plug_with_several_servers_behind_it_is_shared_out() -> None:
    assert plan((*ALL, PLUG), "cpu", "nvidia") == [(["plug"], {"cpu": [], "nvidia": []})]


def test_two_servers_on_the_same_cores_have_no_zone_of_their_own() -> None:
    views = [BackendView(BackendSpec(name, "ollama", name, "cpu", 10.0)) for name in ("a", "b")]
    entries = {name: Backend(id=name, endpoint=HOME, hardware="cpu") for name in ("a", "b")}
    (found,) = plan_meters(views, entries, ALL)
    assert [(one.backend, one.zones, one.busy) for one in found.members] == [("a", (), None), ("b", (), None)]


def test_an_emulated_device_is_measured_by_emulated_sources_only() -> None:
    assert plan((*ALL, PLUG), "cpu", "nvidia", emulated=True) == []
    assert plan((*ALL, FAKE), "cpu", "nvidia", emulated=True) == [(["fake"], {"nvidia": []})]
