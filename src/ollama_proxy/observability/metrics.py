"""Prometheus metrics of the proxy, in a registry of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from ollama_proxy.domain.answer import Outcome
from ollama_proxy.domain.device import FleetView

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counts what happened; gauges are read from the fleet when the page is asked for."""

    def __init__(self, read_fleet: Callable[[], FleetView], version: str) -> None:
        self._registry = registry = CollectorRegistry(auto_describe=True)
        self._requests = Counter(
            "ollama_proxy_requests",
            "Requests by way in, backend and result",
            ["way_in", "backend", "result"],
            registry=registry,
        )
        self._failures = Counter(
            "ollama_proxy_attempt_failures", "Failed attempts at a backend", ["backend", "kind"], registry=registry
        )
        self._ttft = Histogram(
            "ollama_proxy_ttft_seconds", "Arrival to first token", ["backend"], buckets=_SECONDS, registry=registry
        )
        self._total = Histogram(
            "ollama_proxy_request_seconds", "Arrival to last token", ["backend"], buckets=_SECONDS, registry=registry
        )
        self._tokens = Counter("ollama_proxy_tokens", "Tokens", ["backend", "direction"], registry=registry)
        self._joules = Counter(
            "ollama_proxy_energy_joules",
            "Energy of requests, by kind of the figure",
            ["backend", "kind"],
            registry=registry,
        )
        registry.register(_FleetGauges(read_fleet, version))

    def succeeded(self, way_in: str, backend: str, outcome: Outcome) -> None:
        """Book a request that ended well."""
        self._requests.labels(way_in, backend, "ok").inc()
        self._ttft.labels(backend).observe(outcome.ttft_s)
        self._total.labels(backend).observe(outcome.total_s)
        usage = outcome.finished.usage
        if usage.prompt_tokens:
            self._tokens.labels(backend, "prompt").inc(usage.prompt_tokens)
        if outcome.output_tokens:
            self._tokens.labels(backend, "output").inc(outcome.output_tokens)
        if outcome.joules is not None:
            self._joules.labels(backend, outcome.energy_kind).inc(outcome.joules)

    def failed(self, way_in: str, backend: str, kind: str) -> None:
        """Book a request that ended in an error, or whose client left (`cancelled`)."""
        self._requests.labels(way_in, backend, kind).inc()

    def attempt_failed(self, backend: str, kind: str) -> None:
        """Book a failed attempt."""
        self._failures.labels(backend, kind).inc()

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
        for backend in self._read_fleet().backends:
            up.add_metric([backend.id], float(backend.health.serves))
            running.add_metric([backend.id], backend.in_flight)
            if backend.spec.power_watts:
                watts.add_metric([backend.id, backend.watts_kind], backend.spec.power_watts)
        return info, up, running, watts
