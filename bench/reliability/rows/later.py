"""Rows that have their place in the table and are not built yet: take one out here when its module has it."""

from __future__ import annotations

from bench.reliability.row import not_built

_NOBODY = "nobody has built this row yet"

ROWS = (
    not_built("D1", "kill -9 of each backend in turn under 200 streams", "0 lost, >= 99 % resumed", _NOBODY),
    not_built("D2", "fault matrix x APIs x unary and stream", "every cell its declared outcome", _NOBODY),
    not_built("D3", "D2 with limits, 10,000 seeded runs", "0 violations on any attempt", _NOBODY),
    not_built("E2", "100 reloads in 60 s, ten of them invalid, under load", "0 failed requests", _NOBODY),
    not_built("E3", "restart by socket hand-over at 200 a second", "0 refused, 0 reset, 0 failed", _NOBODY),
)
