"""How probes and traffic change a backend's health: a pure transition on a small record."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.device import Health


class HealthRecord(msgspec.Struct, frozen=True):
    """State, failures in a row, and a clause for people."""

    state: Health = Health.UNKNOWN
    failures: int = 0
    message: str = "not probed yet"


#: After any success: a backend that answers is healthy.
WELL = HealthRecord(Health.HEALTHY, 0, "")


def after_failure(record: HealthRecord, message: str, threshold: int, *, hard: bool) -> HealthRecord:
    """Degraded until `threshold` failures in a row; unhealthy at once when nothing listens or it never was healthy."""
    failures = record.failures + 1
    down = hard or failures >= threshold or record.state in (Health.UNKNOWN, Health.UNHEALTHY)
    return HealthRecord(Health.UNHEALTHY if down else Health.DEGRADED, failures, message)
