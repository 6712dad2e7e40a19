"""A package's joules by device: learned watts, their error, and no `apportioned` where nothing shows it."""

from __future__ import annotations

import random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.energy.activity import RequestEnergy
from ollama_proxy.energy.apportioning import (
    CONFIGURED_ERROR,
    MOST_RELATIVE_ERROR,
    Apportioning,
    DeviceShare,
    Draw,
)
from ollama_proxy.energy.attribution import Attribution
from tests.unit.energy.emulation import CPU, IGPU, NPU, Device, Job, run_jobs, steps_of

PACKAGE = {"npu": NPU, "igpu": IGPU, "cpu": CPU}
FLOOR_W = 6.0


class Machine:
    """Three devices in one package, other people's work on the cores, a floor that wanders, counters that err."""

    def __init__(self, seed: int, load: float, devices: dict[str, Device], *, others_w: float = 4.0) -> None:
        self.jobs = {
            name: run_jobs(device, seed + index, 60, load) for index, (name, device) in enumerate(devices.items())
        }
        self.until_s = max(job.ended_s for jobs in self.jobs.values() for job in jobs) + 3
        self._dice = random.Random(seed)
        self._others_w = others_w
        self._floor_w = FLOOR_W

    def read(self, from_s: float, to_s: float) -> tuple[float, dict[str, float], dict[str, float]]:
        """Package joules, true joules by device (others' work in the core zone), busy seconds by device."""
        dice, seconds = self._dice, to_s - from_s
        running = {
            name: [job for job in jobs if job.begun_s < to_s and job.ended_s > from_s]
            for name, jobs in self.jobs.items()
        }
        true_j = {name: sum(_overlap(job, from_s, to_s) for job in jobs) for name, jobs in running.items()}
        busy_s = {name: _busy(jobs, from_s, to_s) for name, jobs in running.items()}
        self._floor_w += dice.gauss(0, 0.02) - 0.002 * (self._floor_w - FLOOR_W)
        others_j = self._others_w * seconds if dice.random() < 0.2 else 0.0
        true_j["cpu"] = true_j.get("cpu", 0.0) + others_j
        package_j = (sum(true_j.values()) + self._floor_w * seconds) * (1 + dice.gauss(0, 0.01))
        return package_j, true_j, busy_s


def _overlap(job: Job, from_s: float, to_s: float) -> float:
    return sum(max(0.0, min(to_s, end_s) - max(from_s, begin_s)) * watts for begin_s, end_s, watts in job.spans)


def _busy(jobs: list[Job], from_s: float, to_s: float) -> float:
    return sum(max(0.0, min(to_s, job.ended_s) - max(from_s, job.begun_s)) for job in jobs)


def bill(machine: Machine, apportioning: Apportioning, name: str, zones: tuple[str, ...]) -> dict[str, RequestEnergy]:
    """The requests of one device, from the package's meter read once a second."""
    books = Attribution(kind="apportioned", floor_w=0)
    steps = [step for job in machine.jobs[name] for step in steps_of(job, books)]

    def settle(from_s: float, to_s: float) -> None:
        package_j, true_j, busy_s = machine.read(from_s, to_s)
        split = apportioning.split(to_s - from_s, package_j, {zone: true_j[zone] for zone in zones}, busy_s)
        found = [share.joules for share in split.shares.values() if share]
        assert sum(found) + split.rest_j == pytest.approx(package_j)
        share = split.shares[name]
        if share is not None:
            books.settle(from_s, to_s, share.joules, share.joules * 0.1, share.kind, share.scale_error)

    steps += [(s + 1.0, 0, lambda s=s: settle(s, s + 1.0)) for s in range(int(machine.until_s))]
    for _, _, act in sorted(steps, key=lambda step: step[:2]):
        act()
    return dict(books.drain())


@pytest.mark.parametrize("seed", [1, 4])
@pytest.mark.parametrize("configured_w", [0.0, 1.5, 3.0, 6.0])
def test_an_npu_without_a_zone_is_found_within_fifteen_percent(seed: int, configured_w: float) -> None:
    machine = Machine(seed, 0.4, PACKAGE)
    apportioning = Apportioning({"npu": configured_w})
    energies = bill(machine, apportioning, "npu", ("igpu", "cpu"))
    draw = apportioning.draw("npu")
    assert draw is not None
    assert draw.kind == "apportioned"
    assert draw.watts == pytest.approx(3.1, rel=0.15)
    jobs = [job for job in machine.jobs["npu"] if job.name in energies and energies[job.name].kind == "apportioned"]
    assert len(jobs) > 40
    errors = [abs((energies[job.name].marginal_j or 0) / job.joules - 1) for job in jobs]
    covered = [
        abs((energies[job.name].marginal_j or 0) - job.joules) <= energies[job.name].plus_minus_j for job in jobs
    ]
    assert median(errors) < 0.15
    assert sum(covered) >= 0.9 * len(jobs)
    total_j = sum(job.joules for job in jobs)
    assert sum(energies[job.name].marginal_j or 0 for job in jobs) == pytest.approx(total_j, rel=0.15)


@pytest.mark.parametrize("seed", [1, 3])
def test_without_zones_all_three_are_learned_from_when_they_work(seed: int) -> None:
    machine = Machine(seed, 0.4, PACKAGE, others_w=0.0)
    apportioning = Apportioning({"npu": 2, "igpu": 20, "cpu": 20})
    bill(machine, apportioning, "igpu", ())
    for name, watts in (("igpu", 13), ("cpu", 29)):
        draw = apportioning.draw(name)
        assert draw is not None
        assert draw.kind == "apportioned"
        assert draw.watts == pytest.approx(watts, rel=0.15)
    assert apportioning.floor_w == pytest.approx(FLOOR_W, abs=1.5)


def test_what_was_never_seen_at_work_is_modelled_or_unknown() -> None:
    apportioning = Apportioning({"npu": 3, "dsp": 0})
    for _ in range(100):
        split = apportioning.split(1, 10, {"cpu": 4}, {})
    assert split.shares == {
        "cpu": DeviceShare(4, 0.01, "measured"),
        "npu": DeviceShare(0, CONFIGURED_ERROR, "modelled"),
        "dsp": None,
    }
    assert split.rest_j == pytest.approx(6)
    assert apportioning.draw("npu") == Draw(3, None, "modelled")
    assert apportioning.draw("dsp") is None
    split = apportioning.split(1, 10, {}, {"npu": 1.0})
    assert split.shares["npu"] == DeviceShare(3, CONFIGURED_ERROR, "modelled")


def test_a_machine_too_busy_to_tell_is_not_apportioned() -> None:
    """Twenty watts of noise around three."""
    dice = random.Random(1)
    apportioning = Apportioning({"npu": 3})
    for _ in range(120):
        busy = dice.random() < 0.5
        apportioning.split(1, max(0.0, 40 + 3 * busy + dice.gauss(0, 20)), {}, {"npu": float(busy)})
    draw = apportioning.draw("npu")
    assert draw == Draw(3, None, "modelled")


def test_a_device_that_never_rests_cannot_be_told_from_the_floor() -> None:
    apportioning = Apportioning({"npu": 3})
    for _ in range(200):
        apportioning.split(1, 9, {}, {"npu": 1.0})
    assert apportioning.draw("npu") == Draw(3, None, "modelled")


def test_a_night_of_idleness_forgets_nothing() -> None:
    dice = random.Random(2)
    apportioning = Apportioning({"npu": 0})
    for second in range(300):
        busy = second % 20 < 10
        apportioning.split(1, 6 + 3 * busy + dice.gauss(0, 0.2), {}, {"npu": float(busy)})
    before = apportioning.draw("npu")
    for _ in range(8 * 3600):
        apportioning.split(1, 6 + dice.gauss(0, 0.2), {}, {})
    after = apportioning.draw("npu")
    assert before is not None
    assert after is not None
    assert after.watts == pytest.approx(before.watts, rel=0.02)
    assert after.standard_error_w == pytest.approx(before.standard_error_w, rel=0.2)


def test_a_new_draw_is_learned_within_an_hour_of_work() -> None:
    dice = random.Random(3)
    apportioning = Apportioning({"npu": 3})
    for second in range(7200):
        busy = second % 20 < 10
        watts = 3 if second < 3600 else 6
        apportioning.split(1, 6 + watts * busy + dice.gauss(0, 0.2), {}, {"npu": float(busy)})
    draw = apportioning.draw("npu")
    assert draw is not None
    assert draw.watts == pytest.approx(6, rel=0.1)


@given(
    st.lists(
        st.tuples(st.floats(0.05, 10), st.floats(0, 500), st.floats(0, 500), st.floats(0, 10), st.floats(0, 10)),
        max_size=40,
    ),
    st.sampled_from([0.0, 3.0]),
)
@settings(max_examples=200, deadline=None, database=None)
def test_shares_are_never_negative_and_add_up(
    intervals: list[tuple[float, float, float, float, float]], configured_w: float
) -> None:
    apportioning = Apportioning({"npu": configured_w, "igpu": configured_w})
    for seconds, joules, cores_j, npu_s, igpu_s in intervals:
        split = apportioning.split(seconds, joules, {"cpu": cores_j}, {"npu": npu_s, "igpu": igpu_s})
        shares = [share for share in split.shares.values() if share]
        assert all(share.joules >= 0 and share.scale_error >= 0 for share in shares)
        assert split.rest_j >= -1e-9
        assert sum(share.joules for share in shares) + split.rest_j == pytest.approx(joules, abs=1e-6)
        for name in ("npu", "igpu"):
            draw = apportioning.draw(name)
            if draw is not None and draw.standard_error_w is not None:
                assert draw.standard_error_w <= MOST_RELATIVE_ERROR * draw.watts
