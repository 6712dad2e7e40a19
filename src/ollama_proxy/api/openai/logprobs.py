"""Log probabilities as completions tell them: four lists side by side instead of one list of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class LegacyLogprobs:
    """Writes the lists of one answer; offsets count characters from the answer's begin."""

    def __init__(self) -> None:
        self._offset = 0

    def write(self, logprobs: Sequence[Any]) -> dict[str, Any]:
        """The lists of the next tokens, each an entry as chat completions have it."""
        tokens = [str(one.get("token", "")) for one in logprobs]
        offsets = []
        for token in tokens:
            offsets.append(self._offset)
            self._offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [one.get("logprob") for one in logprobs],
            "top_logprobs": [
                {str(top.get("token", "")): top.get("logprob") for top in one.get("top_logprobs") or ()}
                for one in logprobs
            ],
            "text_offset": offsets,
        }
