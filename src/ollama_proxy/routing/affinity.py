"""Prompts whose beginning a backend holds: what is not read again costs neither seconds nor joules.

That is all that draws a conversation to where it was; there is no bonus. It leaves only for a gain that is worth it:
what it leaves behind would have to be read again when it comes back.
"""

from __future__ import annotations

from collections.abc import Sequence

from ollama_proxy.domain.decision import Policy, RoutingRequest, Scored
from ollama_proxy.routing.patience import end_of, find_slow, is_bounded
from ollama_proxy.routing.prospect import Prospect

#: The share of the cost that a move has to save at least.
LEAST_GAIN = 0.02


def count_held(request: RoutingRequest, one: Prospect) -> float:
    """Tokens of the prompt that need no reading; what a model held when it was in memory is gone with it."""
    return 0.0 if one.load_s else min(request.held.get(one.backend, 0.0), request.prompt_tokens)


def stay_at_home(scored: list[Scored], request: RoutingRequest, lambda_watts: float) -> list[Scored]:
    """The ranking with the backend that holds most of the prompt first, unless another saves enough.

    Enough is more than `LEAST_GAIN` of the cost and more than what reading the held part again would cost.
    """
    home = find_home(request)
    place = next((place for place, one in enumerate(scored) if one[1].backend == home), 0)
    if not place:
        return scored
    stays = scored[place]
    gain_j = stays[0] - scored[0][0]
    if not count_held(request, stays[1]) or gain_j > max(
        LEAST_GAIN * stays[0], value_held(request, stays[1], lambda_watts)
    ):
        return scored
    return [stays, *scored[:place], *scored[place + 1 :]]


def has_stayed(scored: Sequence[Scored], request: RoutingRequest, policy: Policy) -> bool:
    """Whether the first is that by what it holds of the prompt, and not by its cost."""
    wishes = request.annotations
    if len(scored) == 1 or wishes.max_latency_ms or policy.rule != "predictive" or scored[1][0] >= scored[0][0]:
        return False
    return not (is_bounded(wishes, policy) and find_slow([end_of(one) for one in scored], policy.efficient_patience)[1])


def find_home(request: RoutingRequest) -> str:
    """Who holds most of the prompt; "" for nobody."""
    return max(request.held, key=lambda name: (request.held[name], name), default="")


def value_held(request: RoutingRequest, one: Prospect, lambda_watts: float) -> float:
    """Joules and priced seconds of reading again what a backend holds."""
    held = count_held(request, one)
    return held * (lambda_watts * one.s_per_prompt_token + one.prompt_token_j * one.busy_share)
