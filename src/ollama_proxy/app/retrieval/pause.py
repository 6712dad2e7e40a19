"""When files are read: the power policy of the job."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ollama_proxy.app.steering import parse_hours
from ollama_proxy.config.sections.vectors import Ingest


def why_to_pause(rules: Ingest, on_mains: Callable[[], bool], wall_clock: Callable[[], datetime] = datetime.now) -> str:
    """A clause on why no file is read now; "" when one may be."""
    if rules.on_mains_only and not on_mains():
        return "the machine runs on its battery (vectors.ingest.on_mains_only)"
    hours = parse_hours(rules.hours)
    if hours is not None:
        begin, end = hours
        now = wall_clock().time()
        inside = begin <= now < end if begin <= end else now >= begin or now < end
        if not inside:
            return f"files are read from {rules.hours} (vectors.ingest.hours)"
    return ""
