"""The sampler: its pace, its patience with meters that fail, and what it answers. Clock and wait are the test's."""

from __future__ import annotations

import logging
import threading

import pytest

from ollama_proxy.domain.metering import Energy, Reading, Source
from ollama_proxy.energy.meters.powercap import PowercapMeter
from ollama_proxy.energy.meters.sampler import Sampler
from tests.support.sysfs import FakeSysfs


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class SteadyMeter:
    """A device that draws `watts`, by its counter; fails while `error` is set."""

    def __init__(
        self, name: str = "steady", watts: float = 10.0, min_period_s: float = 0.0, blocks: bool = False
    ) -> None:
        self.name = name
        self.watts = watts
        self.min_period_s = min_period_s
        self.blocks = blocks
        self.error: Exception | None = None
        self.asked: list[tuple[float, bool]] = []

    def describe(self) -> tuple[Source, ...]:
        return (Source(self.name, "test", "card", "a card", update_s=0.0),)

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
        self.asked.append((now_s, active))
        if self.error:
            raise self.error
        return (Reading(self.name, "card", now_s, joules=now_s * self.watts),)


def run(sampler: Sampler, clock: Clock, until_s: float) -> None:
    """Rounds as the thread makes them, in the clock's time."""
    while clock.now_s < until_s:
        clock.now_s = min(until_s, clock.now_s + max(sampler.sample(), 1e-9))
    sampler.sample()


def test_the_pace_is_quick_while_somebody_waits_and_slow_otherwise() -> None:
    clock, meter = Clock(), SteadyMeter()
    sampler = Sampler([meter], clock=clock, active_period_s=0.125, idle_period_s=2.0)
    run(sampler, clock, 110.0)
    assert [at_s for at_s, _ in meter.asked] == [100, 102, 104, 106, 108, 110]
    assert not any(active for _, active in meter.asked)
    meter.asked.clear()
    sampler.set_active(True)
    run(sampler, clock, 115.0)
    assert len(meter.asked) == 25  # until 112 the slow round is awaited; a thread would have been woken
    assert all(active for _, active in meter.asked)


def test_the_quick_pace_lingers_after_the_last_answer() -> None:
    clock, meter = Clock(), SteadyMeter()
    sampler = Sampler([meter], clock=clock, active_period_s=0.25, idle_period_s=2.0)
    sampler.set_active(True)
    run(sampler, clock, 101.0)
    sampler.set_active(False)
    meter.asked.clear()
    run(sampler, clock, 109.0)
    assert [at_s for at_s, _ in meter.asked if at_s <= 103.0] == [
        101.25,
        101.5,
        101.75,
        102,
        102.25,
        102.5,
        102.75,
        103,
    ]
    assert [at_s for at_s, _ in meter.asked if at_s > 103.0] == [105, 107, 109]


def test_a_meter_with_a_pace_of_its_own_is_not_asked_more_often() -> None:
    clock, quick, slow = Clock(), SteadyMeter("quick"), SteadyMeter("slow", min_period_s=1.0)
    sampler = Sampler([quick, slow], clock=clock, active_period_s=0.25)
    sampler.set_active(True)
    run(sampler, clock, 104.0)
    assert len(quick.asked) == 17
    assert [at_s for at_s, _ in slow.asked] == [100, 101, 102, 103, 104]


def test_sums_watts_and_staleness() -> None:
    clock, meter = Clock(), SteadyMeter(watts=12.0)
    sampler = Sampler([meter], clock=clock, active_period_s=0.125)
    sampler.set_active(True)
    run(sampler, clock, 104.0)
    assert sampler.joules_between("steady", 101.05, 103.3) == Energy(pytest.approx(27.0), pytest.approx(0.0, abs=1e-6))
    assert sampler.joules_between("steady", 101.0, 105.0) is None
    assert sampler.joules_between("other", 101.0, 102.0) is None
    assert sampler.busy_s_between("steady", 101.0, 102.0) is None
    assert sampler.watts("steady") == pytest.approx(12.0)
    assert sampler.span("steady") == (100.0, 104.0)
    assert [source.id for source in sampler.sources()] == ["steady"]
    clock.now_s += 0.26
    assert sampler.is_stale("steady")
    assert sampler.watts("steady") is None
    assert sampler.is_stale("other")
    assert sampler.watts("other") is None


def test_a_meter_that_raises_is_logged_once_and_asked_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    clock, good, bad = Clock(), SteadyMeter("good"), SteadyMeter("bad")
    bad.error = OSError("plug pulled")
    sampler = Sampler([bad, good], clock=clock, active_period_s=0.5, idle_period_s=2.0)
    sampler.set_active(True)
    with caplog.at_level(logging.INFO, "ollama_proxy.meters"):
        run(sampler, clock, 200.0)
        assert [round(at_s - 100.0) for at_s, _ in bad.asked] == [0, 4, 12, 28, 60]
        assert len(good.asked) == 201
        bad.error = None
        run(sampler, clock, 300.0)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "plug pulled" in caplog.records[0].getMessage()
    assert sampler.watts("bad") == pytest.approx(10.0)


class WakingCard(SteadyMeter):
    """Left alone while nobody works, so that it tells nothing then, error or not."""

    def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
        return super().read(now_s, active) if active else ()


def test_a_meter_that_is_left_alone_has_not_recovered(caplog: pytest.LogCaptureFixture) -> None:
    clock, card = Clock(), WakingCard()
    card.error = OSError("no library")
    sampler = Sampler([card], clock=clock, active_period_s=0.5, idle_period_s=2.0)
    with caplog.at_level(logging.INFO, "ollama_proxy.meters"):
        for round_ in range(4):
            sampler.set_active(round_ % 2 == 0)
            run(sampler, clock, clock.now_s + 100.0)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        card.error = None
        sampler.set_active(True)
        run(sampler, clock, clock.now_s + 100.0)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_a_counter_that_vanishes_is_stale_and_counts_on_when_it_is_back(sysfs: FakeSysfs) -> None:
    sysfs.add_zone("intel-rapl:0", "package-0", 1_000_000)
    clock = Clock()
    sampler = Sampler([PowercapMeter(sysfs.root)], clock=clock, active_period_s=1.0)
    sampler.set_active(True)
    file, source = "sys/class/powercap/intel-rapl:0/energy_uj", "powercap/package-0"
    sampler.sample()
    sysfs.vanish(file)
    run(sampler, clock, 104.0)
    assert sampler.is_stale(source)
    sysfs.set(file, 61_000_000)
    run(sampler, clock, 105.0)
    assert sampler.joules_between(source, 100.0, 105.0) == Energy(pytest.approx(60.0), pytest.approx(0.0, abs=0.1))
    assert sampler.gaps(source) == 0


def test_threads_read_at_once_when_work_begins_and_end_when_told() -> None:
    """The wait is the test's: a thread rests until it is woken, whatever the time."""
    rested, read = threading.Semaphore(0), threading.Semaphore(0)

    class SignallingMeter(SteadyMeter):
        def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
            found = super().read(now_s, active)
            read.release()
            return found

    def wait(event: threading.Event, seconds: float) -> None:
        rested.release()
        event.wait(30)

    clock = Clock()
    local, remote = SignallingMeter("local"), SignallingMeter("remote", blocks=True)
    sampler = Sampler([local, remote], clock=clock, wait=wait)
    sampler.start()
    for signal in (read, read, rested, rested):
        assert signal.acquire(timeout=30)
    clock.now_s += 0.5
    sampler.set_active(True)
    for signal in (read, read, rested, rested):
        assert signal.acquire(timeout=30)
    assert local.asked == remote.asked == [(100.0, False), (100.5, True)]
    sampler.set_active(False)
    sampler.set_active(True)  # a burst wakes nobody who is quick already
    sampler.stop(30)
    assert len(local.asked) == 2


def test_a_slow_meter_dates_its_figure_between_question_and_answer() -> None:
    clock = Clock()

    class SlowMeter(SteadyMeter):
        def read(self, now_s: float, active: bool = True) -> tuple[Reading, ...]:
            found = super().read(now_s, active)
            clock.now_s += 1.0
            return found

    sampler = Sampler([SlowMeter(blocks=True)], clock=clock)
    sampler.sample()
    assert sampler.span("steady") == (100.5, 100.5)


def test_without_meters_there_is_nothing_to_do() -> None:
    sampler = Sampler([], clock=Clock())
    assert sampler.sample() > 0
    sampler.start()
    sampler.set_active(True)
    sampler.stop()
    assert sampler.sources() == ()
