"""What is wrong with a configuration, in sentences that name the place."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """One fault: where (`backends[0].endpoint`, or a variable or flag), what, and the line if there is one."""

    where: str
    message: str
    line: int = 0


class ConfigError(Exception):
    """A configuration that cannot be used."""

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__(render_problems(self.problems, source))


def render_problems(problems: Sequence[Problem], source: str = "") -> str:
    """One line a problem: `config.yaml:12: backends[0].nmae: unknown key; did you mean "name"?`."""
    lines = []
    for problem in problems:
        place = f"{source}:{problem.line}" if source and problem.line else source
        parts = [part for part in (place, problem.where, problem.message) if part]
        lines.append(": ".join(parts))
    return "\n".join(lines)
