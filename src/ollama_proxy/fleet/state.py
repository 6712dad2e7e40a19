"""The live state of all backends. One writer, the event loop; readers get immutable views.

Only the view of the backend that changed is rebuilt. Clock values are handed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import msgspec

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec, BackendView, FleetView, Rates
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.health import HealthRecord, after_failure, after_success
from ollama_proxy.fleet.rates import MAX_MODELS, Observation, learn, prior

_WINDOW_S = 60.0
#: Share of a new request in the error rate and the mean latency.
_SHARE = 0.1


class _Record:
    """One backend's mutable side."""

    def __init__(self, spec: BackendSpec, capabilities: frozenset[Need]) -> None:
        self.health = HealthRecord()
        self.finished_s: deque[float] = deque()
        self.view = BackendView(spec, capabilities=capabilities, message=self.health.message)


class Fleet:
    """All backends, in the order of the configuration."""

    def __init__(self, unhealthy_threshold: int = 3) -> None:
        self._threshold = unhealthy_threshold
        self._records: dict[str, _Record] = {}
        self._version = 0
        #: Attempts that still run on backends that left; one of the same id that joins must not be billed for them.
        self._ghosts: dict[str, int] = {}
        self._view: FleetView | None = None

    def add(self, spec: BackendSpec, capabilities: frozenset[Need]) -> None:
        """A backend joins."""
        self._records[spec.id] = _Record(spec, capabilities)
        self._touch()

    def remove(self, backend: str) -> None:
        """A backend leaves; what still runs there ends without being booked."""
        gone = self._records.pop(backend, None)
        if gone is not None and gone.view.in_flight:
            self._ghosts[backend] = self._ghosts.get(backend, 0) + gone.view.in_flight
        self._touch()

    def view(self) -> FleetView:
        """The backends at this moment."""
        if self._view is None:
            self._view = FleetView(self._version, tuple(record.view for record in self._records.values()))
        return self._view

    def find(self, backend: str) -> BackendView | None:
        """One backend, if it is there."""
        record = self._records.get(backend)
        return record.view if record else None

    # -- traffic -------------------------------------------------------------

    def opened(self, backend: str) -> None:
        """An attempt has begun."""
        record = self._records.get(backend)
        if record is not None:
            self._change(record, in_flight=record.view.in_flight + 1)

    def closed(self, backend: str) -> None:
        """An attempt is over, however it ended."""
        if backend in self._ghosts:
            self._ghosts[backend] -= 1
            if not self._ghosts[backend]:
                del self._ghosts[backend]
            return
        record = self._records.get(backend)
        if record is not None:
            self._change(record, in_flight=max(0, record.view.in_flight - 1))

    def succeeded(self, backend: str, model: str, seen: Observation, now_s: float) -> None:
        """An answer ended well: learn its speeds. `model` is the name as asked."""
        record = self._records.get(backend)
        if record is None:
            return
        name = canonical_model(model)
        view = record.view
        record.health = after_success()
        record.finished_s.append(now_s)
        self._change(
            record,
            health=record.health.state,
            message="",
            rates=_with_rates(view.rates, name, learn(view.rates.get(name) or prior(view.spec), seen)),
            error_rate=view.error_rate * (1 - _SHARE),
            avg_latency_ms=_decayed(view.avg_latency_ms, seen.ttft_s),
            requests_per_minute=_count_recent(record.finished_s, now_s),
            loaded=view.loaded | {name},
        )

    def failed(self, backend: str, model: str, failure: Failure) -> None:
        """An attempt failed: traffic tells sooner than probes."""
        record = self._records.get(backend)
        if record is None:
            return
        if failure.kind is FailureKind.MODEL_MISSING:
            self._drop_model(record, canonical_model(model))
        if not failure.kind.blames_backend:
            return
        hard = failure.kind is FailureKind.REFUSED
        record.health = after_failure(record.health, failure.message, self._threshold, hard=hard)
        error_rate = record.view.error_rate * (1 - _SHARE) + _SHARE
        self._change(record, health=record.health.state, message=record.health.message, error_rate=error_rate)

    def _drop_model(self, record: _Record, model: str) -> None:
        """The list was wrong; believe the 404 until the next probe."""
        models = record.view.models
        if models is not None and model in models:
            self._change(record, models={name: facts for name, facts in models.items() if name != model})

    # -- probes --------------------------------------------------------------

    def probed(self, backend: str, report: ProbeReport, now_unix_s: int) -> None:
        """A probe answered."""
        record = self._records.get(backend)
        if record is None:
            return
        record.health = after_success()
        self._change(
            record,
            health=record.health.state,
            message="",
            checked_unix_s=now_unix_s,
            models=report.models,
            loaded=report.loaded,
            loaded_entries=report.loaded_entries,
            version=report.version,
            emulated=report.emulated,
        )

    def probe_failed(self, backend: str, message: str, now_unix_s: int, *, hard: bool) -> None:
        """A probe failed."""
        record = self._records.get(backend)
        if record is None:
            return
        record.health = after_failure(record.health, message, self._threshold, hard=hard)
        self._change(record, health=record.health.state, message=message, checked_unix_s=now_unix_s)

    def age(self, now_s: float) -> None:
        """Let the counts of the last minute run out; call now and then."""
        for record in self._records.values():
            count = _count_recent(record.finished_s, now_s)
            if count != record.view.requests_per_minute:
                self._change(record, requests_per_minute=count)

    def _change(self, record: _Record, **fields: object) -> None:
        record.view = msgspec.structs.replace(record.view, **fields)
        self._touch()

    def _touch(self) -> None:
        self._version += 1
        self._view = None


def _with_rates(known: Mapping[str, Rates], model: str, rates: Rates) -> Mapping[str, Rates]:
    """A copy with one entry new and last; the longest untouched falls out when there are too many."""
    updated = {name: value for name, value in known.items() if name != model}
    updated[model] = rates
    if len(updated) > MAX_MODELS:
        updated.pop(next(iter(updated)))
    return updated


def _decayed(mean_ms: float, ttft_s: float | None) -> float:
    if ttft_s is None:
        return mean_ms
    return ttft_s * 1000 if not mean_ms else mean_ms * (1 - _SHARE) + ttft_s * 1000 * _SHARE


def _count_recent(finished_s: deque[float], now_s: float) -> int:
    while finished_s and finished_s[0] < now_s - _WINDOW_S:
        finished_s.popleft()
    return len(finished_s)
