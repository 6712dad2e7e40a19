"""Sums and histograms of what requests took, as plain numbers: one look-up and a few additions a request."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from ollama_proxy.domain.answer import Outcome

#: Upper bounds of the histograms' buckets.
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_BOUNDS = [*(str(float(bound)) for bound in _SECONDS), "+Inf"]


class Durations:
    """A histogram of seconds."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * len(_BOUNDS)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(_SECONDS, seconds)] += 1
        self._sum_s += seconds

    def add_to(self, family: HistogramMetricFamily, labels: list[str]) -> None:
        """Write it into a metric, cumulatively as the format wants."""
        total = 0
        buckets = []
        for bound, count in zip(_BOUNDS, self._counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric(labels, buckets, sum_value=self._sum_s)


class BackendSeries:
    """What the requests that ended well at one backend took."""

    __slots__ = ("output_tokens", "prompt_tokens", "total", "ttft")

    def __init__(self) -> None:
        self.ttft = Durations()
        self.total = Durations()
        self.prompt_tokens = 0
        self.output_tokens = 0

    def count(self, outcome: Outcome) -> None:
        """Add one request."""
        self.ttft.observe(outcome.ttft_s)
        self.total.observe(outcome.total_s)
        self.prompt_tokens += outcome.finished.usage.prompt_tokens or 0
        self.output_tokens += outcome.output_tokens


def write_series(series: dict[str, BackendSeries]) -> Iterable[Metric]:
    """The metrics of all backends."""
    ttft = HistogramMetricFamily("ollama_proxy_ttft_seconds", "Arrival to first token", labels=["backend"])
    total = HistogramMetricFamily("ollama_proxy_request_seconds", "Arrival to last token", labels=["backend"])
    tokens = CounterMetricFamily("ollama_proxy_tokens", "Tokens", labels=["backend", "direction"])
    for backend, one in series.items():
        one.ttft.add_to(ttft, [backend])
        one.total.add_to(total, [backend])
        for direction, count in (("prompt", one.prompt_tokens), ("output", one.output_tokens)):
            if count:
                tokens.add_metric([backend, direction], count)
    return ttft, total, tokens
