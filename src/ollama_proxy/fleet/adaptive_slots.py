"""Backends of which no slots are configured, and that are sent only as much as they do well with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from ollama_proxy.domain.device import BackendSpec
from ollama_proxy.fleet.concurrency import AdaptiveLimit
from ollama_proxy.fleet.record import Record


class AdaptiveSlots:
    """Who is limited at the moment."""

    __slots__ = ("_limited",)

    def __init__(self) -> None:
        self._limited: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._limited)

    def measured(self, record: Record, s_per_token: float) -> None:
        """An answer took so long for each of its tokens, from when it was sent to its end."""
        if not record.told.held:
            record.limit = record.limit or AdaptiveLimit()
            record.limit.ended(s_per_token, record.in_flight)

    def move(
        self, records: Mapping[str, Record], now_s: float, *, adapts: bool
    ) -> Iterator[tuple[Record, BackendSpec]]:
        """Time has passed: those that are to be described in another way. Nobody is limited unless `adapts`."""
        for name, record in records.items():
            if not adapts:
                record.limit = None
            most = None
            if record.limit is not None:
                record.limit.move(now_s, record.in_flight)
                most = record.limit.limit
            if most is None and name in self._limited:
                self._limited.discard(name)
                yield record, record.told
            elif most is not None and (not record.spec.held or record.spec.slots != most):
                self._limited.add(name)
                yield record, msgspec.structs.replace(record.told, slots=most, held=True)
