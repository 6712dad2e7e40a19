"""What the doctor says of a full machine, of one with nothing, and of one that is in the way of itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner

from ollama_proxy.cli.doctor import examine
from ollama_proxy.cli.doctor_report import render_examination
from ollama_proxy.cli.main import app
from ollama_proxy.config.schema import Backend, Characteristics, Config, Meters, MeterSource
from ollama_proxy.energy.meters.powercap import GRANT
from tests.support.sysfs import FakeSysfs, as_nobody

CPU = Backend(id="cpu", endpoint="http://localhost:1", hardware="cpu")
NPU = Backend(id="npu", endpoint="http://localhost:2", hardware="npu")
CLOUD = Backend(id="cloud", endpoint="https://api.example.com", hardware="cloud")
FAR = Backend(
    id="far", endpoint="http://10.0.0.7:1", hardware="nvidia", characteristics=Characteristics(power_watts=300)
)
CONFIG = Config(backends=(CPU, NPU, CLOUD, FAR))


class Time:
    """Stands still but for waits, in which the machine works on."""

    def __init__(self, sysfs: FakeSysfs) -> None:
        self.now_s = 50.0
        self.waits = 0
        self._sysfs = sysfs

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.waits += 1
        for file in self._sysfs.path("sys/class/powercap").glob("*/energy_uj"):
            file.write_text(str(int(file.read_text()) + int(20e6 * seconds)))
        self._sysfs.set("sys/bus/pci/drivers/intel_vpu/0000:00:0b.0/npu_busy_time_us", 5_000_000 + int(seconds * 25e4))


def test_a_full_machine_tells_power_now(sysfs: FakeSysfs) -> None:
    sysfs.add_packages()
    sysfs.add_intel_card()
    sysfs.add_npu()
    sysfs.add_supplies()
    sysfs.add_temperatures()
    sysfs.add_profile()
    time = Time(sysfs)
    found = examine(CONFIG, {}, sysfs.root, lambda: time.now_s, time.wait)
    rows = {row.id: row for row in found.meters}
    assert rows["powercap/package-0"].watts == pytest.approx(20.0)
    assert rows["npu/0000:00:0b.0"].busy_percent == pytest.approx(25.0)
    assert rows["supply/BAT0"].watts == 12.0
    assert rows["hwmon/0000:03:00.0/card"].watts is None  # it has not moved: unknown, not nought
    text = render_examination(found)
    for words in ("20.0 W", "25 % busy", "61 °C", "2,400 rpm", "low-power", "the machine runs from"):
        assert words in text
    assert "What is in the way" not in text
    assert time.waits == 1


def test_backends_are_told_what_measures_them(sysfs: FakeSysfs) -> None:
    sysfs.add_zone("intel-rapl:0", "package-0", 1_000_000)
    time = Time(sysfs)
    found = examine(CONFIG, {}, sysfs.root, lambda: time.now_s, time.wait)
    assert {row.id: (row.measured_by, row.shared_with) for row in found.backends} == {
        "cpu": (("powercap/package-0",), ("npu",)),
        "npu": (("powercap/package-0",), ("cpu",)),
        "cloud": ((), ()),
        "far": ((), ()),
    }
    text = render_examination(found)
    assert "shared with npu: apportioned" in text
    assert "modelled from 300 W" in text
    assert "its energy is unknown" in text


def test_what_an_emulated_meter_tells_is_never_called_measured(sysfs: FakeSysfs) -> None:
    plug = MeterSource(
        id="plug", type="command", command=("echo", "33"), unit="W", emulated=True, backends=("far", "cloud")
    )
    config = Config(backends=(CLOUD, FAR), meters=Meters(sources=(plug,)))
    found = examine(config, {}, sysfs.root, lambda: 1.0, lambda _: None)
    assert [(row.id, row.measured_by, row.kind) for row in found.backends] == [
        ("cloud", ("plug",), "emulated"),
        ("far", ("plug",), "emulated"),
    ]
    text = render_examination(found)
    assert "plug, shared with cloud: emulated" in text
    assert "measured" not in text.partition("Where the joules")[2]


def test_the_folder_of_the_proxy_is_the_doctors_too(sysfs: FakeSysfs, monkeypatch: pytest.MonkeyPatch) -> None:
    sysfs.add_temperatures()
    monkeypatch.setenv("OLLAMA_PROXY_SYSFS_ROOT", str(sysfs.root))
    assert "2,400 rpm" in CliRunner().invoke(app, ["doctor"]).stdout


def test_a_machine_with_nothing_is_told_so_plainly(sysfs: FakeSysfs) -> None:
    sysfs.set("proc/cpuinfo", "processor: 0\nflags\t\t: fpu hypervisor lahf_lm")
    time = Time(sysfs)
    found = examine(CONFIG, {}, sysfs.root, lambda: time.now_s, time.wait)
    text = render_examination(found)
    assert "None. This is a virtual machine" in text
    assert "none told by this machine" in text
    assert time.waits == 0


def test_a_missing_permission_is_told_once_with_the_command_on_one_line(sysfs: FakeSysfs) -> None:
    sysfs.add_packages()
    for file in sysfs.path("sys/class/powercap").glob("*/energy_uj"):
        file.chmod(0)
    time = Time(sysfs)
    examine(CONFIG, {}, sysfs.root, lambda: time.now_s, lambda _: None)  # imports what is imported late
    with as_nobody():
        found = examine(CONFIG, {}, sysfs.root, lambda: time.now_s, lambda _: None)
    text = render_examination(found)
    assert text.count("permission denied") == 1
    assert f"    {GRANT}" in text.splitlines()
    assert "log in again" in text


def test_meters_may_be_switched_off(sysfs: FakeSysfs) -> None:
    sysfs.add_packages()
    found = examine(Config(meters=Meters(enabled="never")), {}, sysfs.root, lambda: 0.0, lambda _: None)
    assert found.meters == ()
    assert "meters.enabled is never" in render_examination(found)


def test_a_plug_that_answers_nonsense_is_told(sysfs: FakeSysfs, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/cm").respond_with_data("busy", 503)
    plug = MeterSource(id="plug", type="http", url=httpserver.url_for("/").rstrip("/"), preset="tasmota")
    found = examine(Config(meters=Meters(sources=(plug,))), {}, sysfs.root, lambda: 0.0, lambda _: None)
    (row,) = found.meters
    assert (row.readable, row.problem) == (False, "it answers with status 503")


def test_the_command_tells_programs_in_json(sysfs: FakeSysfs, tmp_path: Path) -> None:
    sysfs.add_temperatures()
    file = tmp_path / "c.yaml"
    file.write_text("backends: [{id: a, endpoint: 'http://localhost:1'}]\n")
    answer = CliRunner().invoke(app, ["doctor", "--json", "--config", str(file), "--root", str(sysfs.root)])
    document = json.loads(answer.stdout)
    assert answer.exit_code == 0
    assert document["meters"] == []
    assert {"id": "fan/hwmon2/fan1", "name": "fan fan1 of thinkpad", "value": 2400.0, "unit": "rpm"} in document[
        "sensors"
    ]
    assert document["backends"] == [{"id": "a"}]


def test_a_faulty_file_does_not_keep_the_doctor_from_looking(sysfs: FakeSysfs, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("bakends: []\n")
    answer = CliRunner().invoke(app, ["doctor", "--config", str(file), "--root", str(sysfs.root)])
    assert answer.exit_code == 2
    assert "Power meters" in answer.stdout
    assert "bakends" in answer.stderr
