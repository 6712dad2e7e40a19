"""How texts became vectors, for the metrics page: those that were not simply sent to one backend."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class EmbedCounts(Collector):
    """Numbers of texts."""

    def __init__(self, read_kept_bytes: Callable[[], int]) -> None:
        """`read_kept_bytes` tells how much room kept vectors take."""
        self._read_kept_bytes = read_kept_bytes
        #: Shared over several backends; gone along with others while all were busy; taken from those that are kept.
        self.spread = self.gathered = self.kept = 0

    def collect(self) -> Iterable[Metric]:
        """What was counted."""
        texts = CounterMetricFamily(
            "ollama_proxy_embedded_texts",
            "Texts whose vectors came in a way of their own: spread over backends, gathered into one request, kept",
            labels=["how"],
        )
        for how in ("spread", "gathered", "kept"):
            texts.add_metric([how], getattr(self, how))
        size = GaugeMetricFamily(
            "ollama_proxy_kept_vectors_bytes", "Vectors that are kept, in bytes", value=self._read_kept_bytes()
        )
        return texts, size
