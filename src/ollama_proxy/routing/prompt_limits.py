"""How long a prompt may be: what servers say of their context, and what they have refused.

Devices with static shapes and servers with a short context refuse what others of the fleet can read. Lengths of prompts
are estimates, and so is a limit: it only leads elsewhere. Where nobody else is left the backend is asked in spite of
it, so that a wrong limit is found out, and who has to be refused is refused in the server's own words.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.decision import Limit, Rejection, RoutingRequest
from ollama_proxy.domain.device import BackendView, PromptLimit

#: A prompt is over a context that a server tells when its estimate is this many times as long: no estimate is so wrong.
CLEARLY = 1.3
#: What is this much of the length that was refused counts as equal: what a byte is in tokens is learned meanwhile.
NEARLY = 0.85
#: What else than text such requests carry is not counted in tokens, or is many texts and not one.
_NOT_ONE_TEXT = frozenset(
    (Need.EMBED, Need.IMAGES, Need.REMOTE_IMAGES, Need.DOCUMENTS, Need.AUDIO, Need.RERANK, Need.TOKEN_INPUT)
)


class PromptLimits(msgspec.Struct, frozen=True, gc=False):
    """Of one model on one backend: its context in tokens (0 where it is not told), and what it has refused."""

    context_tokens: int = 0
    refused: tuple[PromptLimit, ...] = ()

    @property
    def least_tokens(self) -> float:
        """Shorter prompts are within every limit."""
        limits = [one.prompt_tokens * NEARLY for one in self.refused]
        return min([*limits, *([self.context_tokens * CLEARLY] if self.context_tokens else [])])


def is_one_text(needs: frozenset[Need]) -> bool:
    """Whether the estimate of a request's prompt is one of what has to fit into a context."""
    return needs.isdisjoint(_NOT_ONE_TEXT)


def find_limits(view: BackendView, model: str, context_tokens: int, needs: frozenset[Need]) -> PromptLimits | None:
    """What there is to check; `model` is its canonical name there. None where nothing is known."""
    refused = view.prompt_limits.get(model, ())
    if not (refused or context_tokens) or not is_one_text(needs):
        return None
    return PromptLimits(context_tokens, refused)


def check_prompt(backend: str, limits: PromptLimits, request: RoutingRequest) -> Rejection | None:
    """Whether a prompt is too long by what is known."""
    tokens, context = request.prompt_tokens, limits.context_tokens
    hit = find_hit(limits.refused, tokens, request.max_tokens)
    if hit is not None:
        answers = f" and answers of {hit.max_tokens}" if hit.max_tokens else ""
        detail = f"refused prompts of {hit.prompt_tokens:.0f} tokens{answers} and more, and this has about {tokens:.0f}"
        return Rejection(backend, Limit.PROMPT_LENGTH, detail)
    if context and tokens > context * CLEARLY:
        detail = f"has a context of {context} tokens, and the prompt about {tokens:.0f}"
        return Rejection(backend, Limit.PROMPT_LENGTH, detail)
    return None


def find_hit(refused: Sequence[PromptLimit], prompt_tokens: float, max_tokens: int) -> PromptLimit | None:
    """The refusal that one of so many tokens, and of so long an answer at most (0 for any), is no shorter than."""
    hits = [one for one in refused if prompt_tokens >= one.prompt_tokens * NEARLY and max_tokens >= one.max_tokens]
    return min(hits, key=lambda one: (one.max_tokens, one.prompt_tokens), default=None)
