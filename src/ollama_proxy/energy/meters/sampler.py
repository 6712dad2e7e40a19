"""Threads that look at the meters: often while somebody waits for an answer, rarely otherwise.

Meters that read files share one thread; one that waits for a network or a process has its own, so that a slow plug
never makes a package counter late. What they see is kept in a `Series` a source, from which anybody may ask sums.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.domain.metering import Energy, Meter, Reading, Source
from ollama_proxy.energy.meters.series import Series

_log = logging.getLogger("ollama_proxy.meters")
#: So long the pace stays quick after the last answer: requests come in bursts, and a device's power falls slowly.
_LINGER_S = 2.0
_LONGEST_WAIT_S = 60.0

Wait = Callable[[threading.Event, float], object]


def wait_for(event: threading.Event, seconds: float) -> object:
    """The wait of real life."""
    return event.wait(seconds)


class _Task:
    """One meter and when to ask it next."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.due_s = float("-inf")
        self.failures = 0


class Sampler:
    """Reads meters and answers for them. `start` begins, `stop` ends; `sample` does one round in the calling thread."""

    def __init__(
        self,
        meters: Sequence[Meter],
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Wait = wait_for,
        active_period_s: float = 0.15,
        idle_period_s: float = 2.0,
        points: int = 2048,
    ) -> None:
        self._clock = clock
        self._wait = wait
        self._active_period_s = active_period_s
        self._idle_period_s = idle_period_s
        self._points = points
        self._lock = threading.Lock()
        self._series: dict[str, Series] = {}
        self._sources: dict[str, Source] = {}
        quick = [_Task(meter) for meter in meters if not meter.blocks]
        slow = [[_Task(meter)] for meter in meters if meter.blocks]
        self._lanes = [lane for lane in [quick, *slow] if lane]
        self._wakes = [threading.Event() for _ in self._lanes]
        self._threads: list[threading.Thread] = []
        self._stopped = False
        self._is_active = False
        self._quick_until_s = float("-inf")

    # -- running ----------------------------------------------------------------

    def start(self) -> None:
        """Begin to look, in threads that do not keep the process alive."""
        self._stopped = False
        for number, lane in enumerate(self._lanes):
            name = "meters" if number == 0 else f"meter-{number}"
            thread = threading.Thread(target=self._run, args=(lane, self._wakes[number]), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End; a meter that hangs in a read is left to end with the process."""
        self._stopped = True
        for wake in self._wakes:
            wake.set()
        for thread in self._threads:
            thread.join(timeout_s)
        self._threads.clear()

    def set_active(self, active: bool) -> None:
        """Say whether anybody waits for an answer. Cheap; the change to quick looks at the meters at once."""
        if active is self._is_active:
            return
        now_s = self._clock()
        was_quick = self._is_quick(now_s)
        self._is_active = active
        if not active:
            self._quick_until_s = now_s + _LINGER_S
        elif not was_quick:
            for wake in self._wakes:
                wake.set()

    def sample(self) -> float:
        """Ask every meter that is due; the seconds until the next one is."""
        return min((self._sample_lane(lane, forced=False) for lane in self._lanes), default=self._idle_period_s)

    # -- answers ----------------------------------------------------------------

    def sources(self) -> tuple[Source, ...]:
        """Every source that has been seen."""
        with self._lock:
            return tuple(self._sources.values())

    def joules_between(self, source: str, from_s: float, to_s: float) -> Energy | None:
        """Joules between two moments of the monotonic clock; None when they are not (yet) known or have a gap."""
        with self._lock:
            series = self._series.get(source)
            return None if series is None or series.source.domain == "npu_busy" else series.between(from_s, to_s)

    def busy_s_between(self, source: str, from_s: float, to_s: float) -> float | None:
        """Busy seconds of a source that tells time instead of energy; None as above."""
        with self._lock:
            series = self._series.get(source)
            found = series.between(from_s, to_s) if series and series.source.domain == "npu_busy" else None
            return None if found is None else found.joules

    def watts(self, source: str) -> float | None:
        """Power now; None when nothing new has come for two periods."""
        with self._lock:
            series = self._series.get(source)
            return None if series is None else series.watts(self._clock())

    def is_stale(self, source: str) -> bool:
        """Whether a source has told nothing new for two periods, or nothing ever."""
        with self._lock:
            series = self._series.get(source)
            return series is None or series.is_stale(self._clock())

    def span(self, source: str) -> tuple[float, float] | None:
        """First and last moment that can be asked about."""
        with self._lock:
            series = self._series.get(source)
            return None if series is None else series.span

    def gaps(self, source: str) -> int:
        """Intervals that were dropped: resets, impossible jumps, pauses."""
        with self._lock:
            series = self._series.get(source)
            return 0 if series is None else series.gaps

    # -- within -----------------------------------------------------------------

    def _run(self, lane: list[_Task], wake: threading.Event) -> None:
        forced = False
        while not self._stopped:
            pause_s = self._sample_lane(lane, forced)
            self._wait(wake, pause_s)
            forced = wake.is_set()
            wake.clear()

    def _is_quick(self, now_s: float) -> bool:
        return self._is_active or now_s < self._quick_until_s

    def _sample_lane(self, lane: list[_Task], forced: bool) -> float:
        now_s = self._clock()
        quick = self._is_quick(now_s)
        pace_s = self._active_period_s if quick else self._idle_period_s
        for task in lane:
            period_s = max(pace_s, task.meter.min_period_s)
            if now_s < task.due_s and not (forced and not task.failures and period_s == pace_s):
                continue
            self._ask(task, quick, period_s)
        return max(0.0, min(task.due_s for task in lane) - self._clock())

    def _ask(self, task: _Task, quick: bool, period_s: float) -> None:
        asked_s = self._clock()
        try:
            readings = task.meter.read(asked_s, quick)
            if task.meter.blocks:
                # The figure is of some moment between question and answer.
                middle_s = (asked_s + self._clock()) / 2
                readings = tuple(msgspec.structs.replace(one, at_s=middle_s) for one in readings)
            self._take(task.meter, readings, period_s)
        except Exception as error:  # noqa: BLE001  # a task root: whatever a meter does, the others are looked at
            if not task.failures:
                _log.warning("meter %s failed: %s: %s", type(task.meter).__name__, type(error).__name__, error)
            task.failures += 1
            period_s = min(_LONGEST_WAIT_S, max(period_s, self._idle_period_s) * 2 ** min(task.failures, 6))
        else:
            # Nothing told is no recovery: a meter that leaves a sleeping card alone would go back and forth.
            if task.failures and readings:
                _log.info("meter %s answers again", type(task.meter).__name__)
                task.failures = 0
        task.due_s = asked_s + period_s

    def _take(self, meter: Meter, readings: Sequence[Reading], period_s: float) -> None:
        unknown = any(reading.source not in self._sources for reading in readings)
        described = {source.id: source for source in meter.describe()} if unknown else {}
        with self._lock:
            for reading in readings:
                if reading.source not in self._series:
                    source = described.get(reading.source)
                    if source is None:
                        continue
                    self._sources[source.id] = source
                    self._series[source.id] = Series(source, self._points)
                self._series[reading.source].add(reading, period_s)
