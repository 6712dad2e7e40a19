"""Prometheus metrics of the proxy, in a registry of their own.

Counting is adding to plain numbers; the metrics are made of them when the page is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ollama_proxy.domain.answer import Outcome
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.metering import MeterStatus
from ollama_proxy.observability.series import BackendSeries, Durations, write_series


class Metrics(Collector):
    """Counts what happened; gauges are read from the fleet when the page is asked for."""

    def __init__(self, read_fleet: Callable[[], FleetView], version: str) -> None:
        self._series: dict[str, BackendSeries] = {}
        #: By way in, backend and result.
        self._requests: dict[tuple[str, str, str], int] = {}
        #: By backend and kind.
        self._failures: dict[tuple[str, str], int] = {}
        #: By the backend that went on: how long clients waited at the seam.
        self._gaps: dict[str, Durations] = {}
        #: By backend.
        self._preemptions: dict[str, int] = {}
        self._joules: dict[tuple[str, str], float] = {}
        #: Tells of the meters when the page is asked for.
        self.read_meters: Callable[[], tuple[MeterStatus, ...]] = tuple
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._registry.register(_FleetGauges(read_fleet, version))

    def add(self, collector: Collector) -> None:
        """Show somebody else's counts on the page, too."""
        self._registry.register(collector)

    def succeeded(self, way_in: str, backend: str, outcome: Outcome) -> None:
        """Book a request that ended well."""
        key = (way_in, backend, "ok")
        self._requests[key] = self._requests.get(key, 0) + 1
        series = self._series.get(backend)
        if series is None:
            series = self._series[backend] = BackendSeries()
        series.count(outcome)

    def failed(self, way_in: str, backend: str, kind: str) -> None:
        """Book a request that ended in an error, or whose client left (`cancelled`)."""
        key = (way_in, backend, kind)
        self._requests[key] = self._requests.get(key, 0) + 1

    def attempt_failed(self, backend: str, kind: str) -> None:
        """Book a failed attempt."""
        key = (backend, kind)
        self._failures[key] = self._failures.get(key, 0) + 1

    def continued(self, backend: str, gap_s: float) -> None:
        """Book a stream that another backend had begun, and `backend` goes on with."""
        gaps = self._gaps.get(backend)
        if gaps is None:
            gaps = self._gaps[backend] = Durations()
        gaps.observe(gap_s)

    def preempted(self, backend: str) -> None:
        """Book an attempt at `backend` that was broken off for a more urgent request."""
        self._preemptions[backend] = self._preemptions.get(backend, 0) + 1

    def add_energy(self, backend: str, kind: str, joules: float) -> None:
        """Book what an attempt took, once that is settled; those that failed or were broken off included."""
        key = (backend, kind)
        self._joules[key] = self._joules.get(key, 0.0) + joules

    def _collect_energy(self) -> Iterable[Metric]:
        joules = CounterMetricFamily(
            "ollama_proxy_energy_joules", "Energy of attempts, by kind of the figure", labels=["backend", "kind"]
        )
        for labels, sum_j in self._joules.items():
            joules.add_metric(labels, sum_j)
        stale = GaugeMetricFamily(
            "ollama_proxy_meter_stale", "1 while a meter in use is silent or not yet believed again", labels=["source"]
        )
        for source, silent in {one.source: one.stale for one in self.read_meters()}.items():
            stale.add_metric([source], float(silent))
        return joules, stale

    def collect(self) -> Iterable[Metric]:
        """What was counted, for the page."""
        requests = CounterMetricFamily(
            "ollama_proxy_requests", "Requests by way in, backend and result", labels=["way_in", "backend", "result"]
        )
        for labels, count in self._requests.items():
            requests.add_metric(labels, count)
        failures = CounterMetricFamily(
            "ollama_proxy_attempt_failures", "Failed attempts at a backend", labels=["backend", "kind"]
        )
        for labels_of_failure, count in self._failures.items():
            failures.add_metric(labels_of_failure, count)
        gaps = HistogramMetricFamily(
            "ollama_proxy_continuation_gap_seconds",
            "Streams that another backend went on with: from the last byte before the seam to the first behind it",
            labels=["backend"],
        )
        for backend, found in self._gaps.items():
            found.add_to(gaps, [backend])
        preemptions = CounterMetricFamily(
            "ollama_proxy_preemptions",
            "Attempts that were broken off for a more urgent request, to go on later",
            labels=["backend"],
        )
        for backend, count in self._preemptions.items():
            preemptions.add_metric([backend], count)
        return requests, failures, gaps, preemptions, *write_series(self._series), *self._collect_energy()

    def render(self) -> tuple[bytes, str]:
        """The page and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _FleetGauges(Collector):
    def __init__(self, read_fleet: Callable[[], FleetView], version: str) -> None:
        self._read_fleet = read_fleet
        self._version = version

    def collect(self) -> Iterable[Metric]:
        info = GaugeMetricFamily("ollama_proxy_build_info", "Version of the proxy", labels=["version"])
        info.add_metric([self._version], 1)
        up = GaugeMetricFamily("ollama_proxy_backend_up", "1 when requests may go there", labels=["backend"])
        running = GaugeMetricFamily("ollama_proxy_backend_in_flight", "Requests running", labels=["backend"])
        watts = GaugeMetricFamily(
            "ollama_proxy_backend_power_watts",
            "Power draw under load, by kind of the figure",
            labels=["backend", "kind"],
        )
        kept = GaugeMetricFamily(
            "ollama_proxy_breaker_most_at_once",
            "Requests at once that a breaker lets in after failures, 0 while it is open; absent while it is closed",
            labels=["backend", "model"],
        )
        for backend in self._read_fleet().backends:
            up.add_metric([backend.id], float(backend.health.serves))
            running.add_metric([backend.id], backend.in_flight)
            for model, one in backend.kept_out.items():
                kept.add_metric([backend.id, model], one.most)
            if backend.spec.power_watts:
                watts.add_metric([backend.id, backend.watts_kind], backend.spec.power_watts)
        return info, up, running, watts, kept, *_count_tasks()


def _count_tasks() -> Iterable[Metric]:
    """Those of the loop that answers the page: a number that grows under steady load is a leak."""
    try:
        count = len(asyncio.all_tasks())
    except RuntimeError:
        return
    yield GaugeMetricFamily("ollama_proxy_tasks", "Tasks of the event loop", value=count)
