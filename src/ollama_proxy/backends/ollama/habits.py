"""What is known of the models of an Ollama server that its answers do not tell."""

from __future__ import annotations

from collections.abc import Mapping

from ollama_proxy.domain.device import ModelFacts
from ollama_proxy.domain.names import canonical_model

#: Their turns are made of parts, and what is in which part only the server's own reader knows.
_NEVER = frozenset(("gptoss", "gpt-oss"))


class Habits:
    """What is known of the models of one server: whether they go on with an open turn, how long they write."""

    def __init__(self) -> None:
        self.version = ""
        self.models: Mapping[str, ModelFacts] = {}
        #: Whether it writes down prompts, as far as is known; older ones do not.
        self.renders = True
        #: By digest and version of the server.
        self.open_turns: dict[str, bool] = {}
        #: The limits of their own, by digest; 0 for none.
        self._limits: dict[str, int] = {}

    def update(self, version: str, models: Mapping[str, ModelFacts]) -> None:
        """What a probe told."""
        if version != self.version:
            self.version, self.renders = version, True
        self.models = models

    def find_key(self, model: str) -> str:
        """What a model's habit is known by; "" where nobody says which model it is."""
        facts = self.models.get(canonical_model(model))
        return f"{facts.digest}@{self.version}" if facts is not None and facts.digest and self.version else ""

    def find_limit(self, model: str) -> int | None:
        """How many tokens a model writes unless somebody sets a limit, 0 for any number; None while nobody knows."""
        facts = self.models.get(canonical_model(model))
        return self._limits.get(facts.digest) if facts is not None else None

    def keep_limit(self, model: str, limit: int) -> None:
        """Remember it, where it is clear of which model."""
        facts = self.models.get(canonical_model(model))
        if facts is not None and facts.digest:
            self._limits[facts.digest] = limit

    def may_go_on(self, model: str) -> bool:
        """Whether there is a way at all."""
        facts = self.models.get(canonical_model(model))
        details = facts.entry.get("details") if facts is not None else None
        family = str(details.get("family", "")) if isinstance(details, Mapping) else ""
        return family not in _NEVER and not canonical_model(model).rpartition("/")[2].startswith("gpt-oss")
