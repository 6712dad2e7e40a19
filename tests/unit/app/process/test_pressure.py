"""Memory and descriptors run short: what is taken on then."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.app.process.pressure import Pressure, Stage, find_stage
from ollama_proxy.domain.annotations import Priority
from ollama_proxy.domain.errors import ErrorKind
from tests.unit.app.requests.test_dispatch import Client
from tests.unit.app.requests.test_dispatch import Stage as House
from tests.unit.app.requests.test_waiting import submit


@pytest.mark.parametrize(
    ("share", "before", "stage"),
    [
        (0.5, 0, 0),
        (0.86, 0, 1),
        (0.84, 0, 0),
        (0.84, 1, 1),
        (0.81, 1, 0),
        (0.96, 0, 2),
        (0.94, 1, 1),
        (0.94, 2, 2),
        (0.9, 2, 1),
        (0.1, 2, 0),
    ],
)
def test_stages_begin_at_their_marks_and_end_a_little_below(share: float, before: int, stage: int) -> None:
    assert find_stage(share, Stage(before), 0.85, 0.95) == stage


@given(st.floats(0, 1.2), st.floats(0, 1.2), st.sampled_from(Stage))
def test_more_use_is_never_a_lower_stage(one: float, other: float, before: Stage) -> None:
    assert find_stage(max(one, other), before, 0.85, 0.95) >= find_stage(min(one, other), before, 0.85, 0.95)


def write_resident(folder: Path, resident_bytes: int) -> None:
    (folder / "statm").write_text(f"9999999 {resident_bytes // resource.getpagesize()} 0 0 0 0 0\n")


def fake_process(folder: Path, resident_bytes: int, descriptors: int) -> Path:
    write_resident(folder, resident_bytes)
    (folder / "fd").mkdir()
    for number in range(descriptors):
        (folder / "fd" / str(number)).touch()
    return folder


def test_memory_is_resident_memory(tmp_path: Path) -> None:
    pressure = Pressure(100, 0.85, 0.95, fake_process(tmp_path, 90_000_000, 3))
    assert pressure.look() is Stage.NOT_LOW
    assert pressure.told == "90% of its memory are in use"


def test_what_is_free_is_given_back_before_anybody_is_refused(tmp_path: Path) -> None:
    asked: list[int] = []

    def give_back() -> None:
        asked.append(1)
        write_resident(tmp_path, 90_000_000 if len(asked) < 2 else 50_000_000)

    pressure = Pressure(100, 0.85, 0.95, fake_process(tmp_path, 99_000_000, 3), give_back)
    assert [pressure.look() for _ in range(5)] == [Stage.NOT_LOW] * 5
    assert len(asked) == 1  # not each time: it costs something
    assert pressure.look() is Stage.ALL
    assert pressure.look() is Stage.ALL
    assert len(asked) == 2


def test_the_more_it_costs_the_less_often_memory_is_given_back(tmp_path: Path) -> None:
    asked: list[float] = []
    now_s = iter(range(100))
    proc = fake_process(tmp_path, 99_000_000, 3)
    # Each attempt takes twenty milliseconds.
    pressure = Pressure(100, 0.85, 0.95, proc, lambda: asked.append(0), lambda: next(now_s) * 0.02)
    for looks, attempts in ((1, 1), (19, 1), (1, 2), (19, 2)):
        for _ in range(looks):
            assert pressure.look() is Stage.NOTHING
        assert len(asked) == attempts


def test_descriptors_are_counted(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    proc = fake_process(tmp_path, 1, 600)
    resource.setrlimit(resource.RLIMIT_NOFILE, (620, limits[1]))
    try:
        pressure = Pressure(100, 0.85, 0.95, proc)
        assert pressure.look() is Stage.NOTHING
        assert pressure.told == "97% of its descriptors are in use"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_where_nothing_is_known_nothing_is_shed(tmp_path: Path) -> None:
    assert Pressure(1, 0.85, 0.95, tmp_path / "none").look() is Stage.ALL


def test_this_process_can_be_looked_at() -> None:
    assert Pressure(1e9, 0.85, 0.95).look() is Stage.ALL
    assert Pressure(0.001, 0.85, 0.95).look() is Stage.NOTHING
    assert os.path.isdir("/proc/self/fd")


@pytest.mark.parametrize(("stage", "refused"), [(0, ""), (1, "low"), (2, "low normal critical")])
def test_low_classes_go_first(stage: int, refused: str) -> None:
    house = House("a")
    house.dispatcher.pressure = Stage(stage)
    house.dispatcher.pressure_told = "96% of its memory are in use"
    clients = {"low": Client(), "normal": Client(), "critical": Client()}
    submit(house, clients["low"], priority=Priority.LOW)
    submit(house, clients["normal"])
    submit(house, clients["critical"], latency_critical=True)
    assert " ".join(name for name, one in clients.items() if one.error) == refused
    for client in clients.values():
        if client.error is not None:
            assert client.error.kind is ErrorKind.OVERLOADED
            assert client.error.retry_after_s > 0
            assert "96% of its memory are in use" in client.error.message
