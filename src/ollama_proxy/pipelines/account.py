"""What a stage has taken so far, whether it ends well or not."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.energy_kinds import join_kinds


class Work(msgspec.Struct, frozen=True):
    """One piece of work at one backend. Joules are None where nobody knows."""

    backend: str
    model: str
    tokens_in: int
    tokens_out: int
    joules: float | None
    energy_kind: str
    attempts: int = 1
    #: Why somebody else than was chosen first did it.
    moved: str = ""


class Account:
    """The sum of a stage's work. Work of nobody is not counted: it took nothing."""

    def __init__(self) -> None:
        self.works: list[Work] = []

    def add(self, work: Work) -> None:
        """One more piece was done, or was broken off."""
        self.works.append(work)

    @property
    def joules(self) -> float | None:
        """Of all of it; None where one is not known."""
        known = [work.joules for work in self.works if work.joules is not None]
        return sum(known) if len(known) == len(self.works) else None

    @property
    def known_joules(self) -> float:
        """Of those of which it is known."""
        return sum(work.joules for work in self.works if work.joules is not None)

    @property
    def tokens(self) -> int:
        """Read and written."""
        return sum(work.tokens_in + work.tokens_out for work in self.works)

    @property
    def tokens_out(self) -> int:
        """Written."""
        return sum(work.tokens_out for work in self.works)

    @property
    def energy_kind(self) -> str:
        """As good as the least of them."""
        return join_kinds(work.energy_kind for work in self.works)
