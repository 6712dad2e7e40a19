"""What was spent lately, minute by minute: by this the budgets of the hour and of keys go on after a restart."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from ollama_proxy.energy.ledger.file import LedgerError, open_for_reading

_BY_MINUTE = """SELECT MAX(unix_s), SUM(marginal_j) FROM requests
    WHERE unix_s > ? AND unix_s <= ? AND marginal_j > 0 GROUP BY CAST(unix_s / 60 AS INTEGER) ORDER BY 1"""


_BY_KEY = """SELECT MAX(unix_s), key, SUM(marginal_j) FROM requests
    WHERE unix_s > ? AND unix_s <= ? AND marginal_j > 0 AND key != ''
    GROUP BY CAST(unix_s / 60 AS INTEGER), key ORDER BY 1"""


def read_spending_by_key(path: Path, since_unix_s: float, until_unix_s: float) -> list[tuple[float, str, float]]:
    """Unix seconds, name of a key and joules, for each minute in which it spent anything, in order.

    Raises `LedgerError`.
    """
    return _read(path, _BY_KEY, (since_unix_s, until_unix_s))


def read_spending(path: Path, since_unix_s: float, until_unix_s: float) -> list[tuple[float, float]]:
    """Unix seconds and joules of each minute in which something was spent, in order. Raises `LedgerError`."""
    return _read(path, _BY_MINUTE, (since_unix_s, until_unix_s))


def _read(path: Path, query: str, span: tuple[float, float]) -> list[Any]:
    ledger = open_for_reading(path)
    if ledger is None:
        return []
    try:
        return ledger.execute(query, span).fetchall()
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger {path} cannot be read: {error}") from None
    finally:
        ledger.close()
