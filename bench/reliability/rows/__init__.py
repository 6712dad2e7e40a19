"""The registry of rows: a row in one of these modules' `ROWS` is run and told of, in this order."""

from __future__ import annotations

from bench.reliability.row import Row
from bench.reliability.rows import (
    access,
    conformance,
    continuation,
    cut_capacity,
    destinations,
    fairness,
    faults,
    fuzzing,
    hostile,
    intrusion,
    killed,
    leaks,
    lifecycle,
    linted,
    overload,
    rubbish,
    secrets,
    smuggling,
    soaking,
    starving,
    truth,
)

_MODULES = (
    access,
    conformance,
    continuation,
    cut_capacity,
    destinations,
    fairness,
    faults,
    fuzzing,
    hostile,
    intrusion,
    killed,
    leaks,
    lifecycle,
    linted,
    overload,
    rubbish,
    secrets,
    smuggling,
    soaking,
    starving,
    truth,
)


def _key(row: Row) -> tuple[str, int]:
    return row.id[0], int(row.id[1:])


ROWS: dict[str, Row] = {row.id: row for row in sorted((row for module in _MODULES for row in module.ROWS), key=_key)}
