"""What was found, row by row, in one JSON file that outlasts a run: a run of some rows keeps the others' results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

State = Literal["holds", "misses", "not run"]


class Result(msgspec.Struct, frozen=True):
    """One row's latest run. `found` is why, where it was not run."""

    id: str
    state: State
    found: str
    seed: int
    quick: bool
    took_s: float
    #: When, at which commit, and how busy the machine was (the load average as the row began).
    at: str
    commit: str
    load: float
    figures: dict[str, Any] = {}


class Report(msgspec.Struct):
    """All results by row."""

    machine: dict[str, str] = {}
    results: dict[str, Result] = {}

    @staticmethod
    def read(path: Path) -> Report:
        """What the file says; an empty report where there is none. Raises `msgspec.DecodeError`."""
        return msgspec.json.decode(path.read_bytes(), type=Report) if path.exists() else Report()

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        part = path.with_suffix(".part")
        part.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
        part.replace(path)
