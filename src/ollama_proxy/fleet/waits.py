"""When the slots of a backend will be free, and how long a new request would wait there."""

from __future__ import annotations

from ollama_proxy.domain.device import Wait
from ollama_proxy.fleet.record import Record
from ollama_proxy.fleet.running import Slot, forecast_slots, forecast_wait

#: Beyond so many requests at a backend, nobody works out when each will end.
_MOST_COUNTED = 32
#: In larger fleets, what was forecast of a backend is kept for a while.
_MOST_FORECAST_ANEW = 64


def find_slots(record: Record, backends: int, now_s: float) -> list[Slot]:
    """When each slot will be free, one of so many `backends`: a heap; empty for one whose slots are not held."""
    if not record.spec.held:
        return []
    if backends > _MOST_FORECAST_ANEW:
        return record.forecast.look(record.running, record.spec.slots, now_s)
    return forecast_slots(list(record.running), record.spec.slots, now_s)


def find_wait(record: Record, backends: int, now_s: float) -> Wait | None:
    """How long a new request would wait; None where it would not, or nobody knows."""
    running, spec = record.running, record.spec
    if not spec.held or len(running) > _MOST_COUNTED:
        return None
    if backends <= _MOST_FORECAST_ANEW:
        return forecast_wait(list(running), spec.slots, now_s)
    return Wait(*find_slots(record, backends, now_s)[0]) if len(running) >= spec.slots else None
