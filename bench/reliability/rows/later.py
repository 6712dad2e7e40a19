"""Rows that have their place in the table and are not built yet: take one out here when its module has it."""

from __future__ import annotations

from bench.reliability.row import not_built

_NOBODY = "nobody has built this row yet"

ROWS = (
    not_built("E2", "100 reloads in 60 s, ten of them invalid, under load", "0 failed requests", _NOBODY),
    not_built("E3", "restart by socket hand-over at 200 a second", "0 refused, 0 reset, 0 failed", _NOBODY),
)
