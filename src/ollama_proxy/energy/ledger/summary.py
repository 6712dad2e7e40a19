"""Sums over the ledger: joules by model, backend, key or day, with what kind of figure they are and what was saved."""

from __future__ import annotations

import sqlite3
from typing import Literal

import msgspec

By = Literal["model", "backend", "key", "day"]
Accounting = Literal["marginal", "full"]

_NAMES: dict[By, str] = {
    "model": "model",
    "backend": "backend",
    "key": "key",
    "day": "strftime('%Y-%m-%d', unix_s, 'unixepoch', 'localtime')",
}
_JOULES_PER_KWH = 3_600_000


class Tariff(msgspec.Struct, frozen=True):
    """What a kilowatt hour costs and emits; None where nobody said."""

    price_per_kwh: float | None = None
    currency: str = ""
    carbon_g_per_kwh: float | None = None


class KindShare(msgspec.Struct, frozen=True):
    """How much of a sum rests on figures of one kind."""

    attempts: int
    joules: float


class Group(msgspec.Struct, frozen=True):
    """One line of a summary. Energy is None where no attempt of it has a figure.

    `plus_minus_j` is the sum of the single errors, as if all erred the same way. `saved_j` is `static_j` less the
    marginal joules of the same `compared` attempts.
    """

    name: str
    requests: int
    attempts: int
    prompt_tokens: int
    output_tokens: int
    seconds: float
    joules: float | None
    plus_minus_j: float | None
    kinds: dict[str, KindShare]
    #: Attempts that have no figure of the kind that is summed, and those of them that have one of the other kind.
    unknown: int
    otherwise_known: int
    compared: int
    static_j: float | None
    saved_j: float | None

    def cost(self, tariff: Tariff) -> float | None:
        """In the tariff's currency."""
        return _per_kwh(self.joules, tariff.price_per_kwh)

    def carbon_g(self, tariff: Tariff) -> float | None:
        """Grams of CO2."""
        return _per_kwh(self.joules, tariff.carbon_g_per_kwh)


class Summary(msgspec.Struct, frozen=True):
    """The groups, the largest first (days in order), and all of them together."""

    by: By
    accounting: Accounting
    groups: tuple[Group, ...]
    total: Group


def summarise(
    ledger: sqlite3.Connection,
    by: By,
    since_unix_s: float,
    until_unix_s: float,
    accounting: Accounting = "marginal",
) -> Summary:
    """What ended in [since, until), in the ledger as it is at one instant."""
    span = (since_unix_s, until_unix_s)
    ledger.execute("BEGIN")
    try:
        groups = _group(ledger, _NAMES[by], accounting, span)
        total = _group(ledger, "'total'", accounting, span)
    finally:
        ledger.execute("ROLLBACK")
    if by != "day":
        groups.sort(key=lambda group: (-(group.joules or 0.0), group.name))
    return Summary(by, accounting, tuple(groups), total[0] if total else _NOTHING)


_NOTHING = Group("total", 0, 0, 0, 0, 0.0, None, None, {}, 0, 0, 0, None, None)


def _group(ledger: sqlite3.Connection, name: str, accounting: Accounting, span: tuple[float, float]) -> list[Group]:
    joules, other = ("marginal_j", "full_j") if accounting == "marginal" else ("full_j", "marginal_j")
    # The static rule's joules are marginal ones, whichever are summed beside them.
    both = "static_j IS NOT NULL AND marginal_j IS NOT NULL"
    kinds: dict[str, dict[str, KindShare]] = {}
    for group, kind, attempts, kind_j in ledger.execute(
        f"""SELECT {name} AS name, kind, COUNT(*), SUM({joules}) FROM requests
        WHERE unix_s >= ? AND unix_s < ? AND {joules} IS NOT NULL GROUP BY 1, 2""",
        span,
    ):
        kinds.setdefault(group, {})[kind] = KindShare(attempts, kind_j)
    rows = ledger.execute(
        f"""SELECT {name} AS name, COUNT(DISTINCT request_id), COUNT(*),
            COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(output_tokens), 0), SUM(seconds),
            SUM({joules}), SUM(CASE WHEN {joules} IS NOT NULL THEN plus_minus_j END), COUNT(*) - COUNT({joules}),
            SUM({joules} IS NULL AND {other} IS NOT NULL),
            SUM({both}), SUM(CASE WHEN {both} THEN static_j END), SUM(CASE WHEN {both} THEN static_j - marginal_j END)
        FROM requests WHERE unix_s >= ? AND unix_s < ? GROUP BY 1 ORDER BY 1""",
        span,
    )
    return [
        Group(name, requests, attempts, prompt, output, seconds, summed_j, error_j, kinds.get(name, {}), *comparison)
        for name, requests, attempts, prompt, output, seconds, summed_j, error_j, *comparison in rows
    ]


def _per_kwh(joules: float | None, rate: float | None) -> float | None:
    return None if joules is None or rate is None else joules / _JOULES_PER_KWH * rate
