"""A row of the acceptance table, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec


class NotRun(Exception):
    """The row cannot be run here, or not yet; the text says why."""


class Outcome(msgspec.Struct, frozen=True):
    """What was found. `figures` go into the report as they are, with units in their names."""

    holds: bool
    found: str
    figures: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a row runs with. `say` takes lines of progress; `work` is a folder of its own, which is deleted."""

    seed: int
    quick: bool
    work: Path
    say: Callable[[str], None]

    def of(self, full: int, quick: int) -> int:
        """A count or a number of seconds: the full one, or that of a quick run."""
        return quick if self.quick else full


@dataclass(frozen=True, slots=True)
class Row:
    """One check. `run` raises `NotRun` where it cannot be made; `how` says what is done, in a line."""

    id: str
    check: str
    target: str
    how: str
    run: Callable[[Setting], Outcome]
    #: What the table asks for and this row does not do.
    short_of: str = field(default="")


def judge(found: str, figures: dict[str, Any], *conditions: bool) -> Outcome:
    """Holds when every condition does."""
    return Outcome(all(conditions), found, figures)
