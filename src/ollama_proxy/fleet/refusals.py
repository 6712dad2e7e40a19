"""Which prompts were too long for whom, as the fleet remembers it: for a day, or until a longer one is answered.

The clock is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ollama_proxy.domain.device import PromptLimit
from ollama_proxy.routing.prompt_limits import NEARLY

#: Servers are set up anew; what one refused is tried again after this.
KEPT_S = 86_400.0
#: No context is so short: what is refused with fewer tokens is refused for something else.
LEAST_TOKENS = 256
#: Models of a backend, and refusals of a model. These differ in the answers that were allowed for.
_MOST_MODELS, _MOST_REFUSALS = 256, 4


class SavedRefusal(msgspec.Struct, frozen=True):
    """A limit, and how long ago it was seen."""

    prompt_tokens: float
    max_tokens: int
    age_s: float


class PromptRefusals:
    """What models of one backend, by canonical name, have refused for its length."""

    def __init__(self) -> None:
        self._seen_s: dict[str, dict[PromptLimit, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._seen_s)

    def learn(self, model: str, limit: PromptLimit, seen_s: float) -> bool:
        """A prompt was refused; whether that says anything new. Of refusals that say the same the least is kept."""
        if limit.prompt_tokens < LEAST_TOKENS:
            return False
        known = self._seen_s.pop(model, {})
        self._seen_s[model] = known
        said = [one for one in known if covers(one, limit)]
        for one in said:
            known[one] = max(known[one], seen_s)
        if said:
            return False
        for one in [one for one in known if covers(limit, one)]:
            del known[one]
        known[limit] = seen_s
        if len(known) > _MOST_REFUSALS:
            del known[max(known, key=lambda one: (one.max_tokens, one.prompt_tokens))]
        if len(self._seen_s) > _MOST_MODELS:
            del self._seen_s[next(iter(self._seen_s))]
        return True

    def took(self, model: str, prompt_tokens: float, max_tokens: int) -> bool:
        """A prompt was answered; whether that disproves a refusal."""
        known = self._seen_s.get(model)
        if known is None:
            return False
        asked = PromptLimit(prompt_tokens / NEARLY, max_tokens)
        return self._drop(model, [one for one in known if covers(one, asked)])

    def forget(self, now_s: float) -> bool:
        """Let go of what is old; whether there was any."""
        old = {
            model: [one for one, seen_s in known.items() if now_s - seen_s >= KEPT_S]
            for model, known in self._seen_s.items()
        }
        for model, limits in old.items():
            self._drop(model, limits)
        return any(old.values())

    def _drop(self, model: str, limits: Sequence[PromptLimit]) -> bool:
        known = self._seen_s[model]
        for one in limits:
            del known[one]
        if not known:
            del self._seen_s[model]
        return bool(limits)

    def look(self) -> dict[str, tuple[PromptLimit, ...]]:
        """All that is known."""
        return {
            model: tuple(sorted(known, key=lambda one: (one.max_tokens, one.prompt_tokens)))
            for model, known in self._seen_s.items()
        }

    def save(self, now_s: float) -> dict[str, list[SavedRefusal]]:
        """What is to outlast a restart."""
        return {
            model: [SavedRefusal(one.prompt_tokens, one.max_tokens, now_s - seen_s) for one, seen_s in known.items()]
            for model, known in self._seen_s.items()
        }

    def restore(self, saved: Mapping[str, Sequence[SavedRefusal]], age_s: float, now_s: float) -> None:
        """Take up what was saved `age_s` ago."""
        for model, refusals in saved.items():
            for one in refusals:
                if 0 <= one.age_s + age_s < KEPT_S:
                    self.learn(model, PromptLimit(one.prompt_tokens, one.max_tokens), now_s - one.age_s - age_s)


def covers(one: PromptLimit, other: PromptLimit) -> bool:
    """Whether whatever the other keeps out, the one does too."""
    return one.prompt_tokens <= other.prompt_tokens and one.max_tokens <= other.max_tokens
