"""What was spent lately, minute by minute: by this the hour's energy budget goes on after a restart."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ollama_proxy.energy.ledger.file import LedgerError, open_for_reading

_BY_MINUTE = """SELECT MAX(unix_s), SUM(marginal_j) FROM requests
    WHERE unix_s > ? AND unix_s <= ? AND marginal_j > 0 GROUP BY CAST(unix_s / 60 AS INTEGER) ORDER BY 1"""


def read_spending(path: Path, since_unix_s: float, until_unix_s: float) -> list[tuple[float, float]]:
    """Unix seconds and joules of each minute in which something was spent, in order. Raises `LedgerError`."""
    ledger = open_for_reading(path)
    if ledger is None:
        return []
    try:
        return ledger.execute(_BY_MINUTE, (since_unix_s, until_unix_s)).fetchall()
    except sqlite3.Error as error:
        raise LedgerError(f"the ledger {path} cannot be read: {error}") from None
    finally:
        ledger.close()
