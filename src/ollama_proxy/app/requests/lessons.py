"""What an answer teaches besides speed: how long prompts and answers are, and whether what was predicted came true."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ollama_proxy.app.requests.settlement import Timing
from ollama_proxy.domain.answer import Finished, Usage
from ollama_proxy.domain.call import COST_NOTHING, Call
from ollama_proxy.domain.decision import Decision, RoutingRequest
from ollama_proxy.domain.device import PromptLimit
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.routing.prompt_limits import is_one_text
from ollama_proxy.routing.target import read_target

if TYPE_CHECKING:
    from ollama_proxy.app.requests.dispatch import Dispatcher

#: What is less of a prompt is lost in the noise of speeds.
_LEAST_HELD = 0.3
#: An answer that a limit ended tells nothing of how long it would have been.
_NOT_WRITTEN_OUT = ("length", "load", "unload")


def teach(
    owner: Dispatcher,
    call: Call,
    request: RoutingRequest,
    decision: Decision,
    timing: Timing,
    finished: Finished,
    teaches: bool,
) -> None:
    """Take in an answer that ended well, and its lessons if it `teaches`; `request` as it was when it came."""
    usage = finished.usage
    quota = call.caller.quota
    if quota is not None and call.operation not in COST_NOTHING:
        # What was sent before was read as well by the last one: it is paid for once.
        sent = call.continued.tokens if call.continued is not None else 0
        written = (usage.output_tokens or 0) + sent
        quota.settle(call.prompt_bytes, usage.prompt_before(sent), written, owner.clock())
    if not teaches or request.embed or call.continued is not None:
        return
    if usage.output_tokens and finished.reason not in _NOT_WRITTEN_OUT:
        owner.lengths.learn(request.model, call.way_in, call.caller.name, usage.output_tokens)
    if timing.held_tokens:
        _learn_trust(owner, decision, timing, usage)
    elif usage.prompt_tokens and not usage.cached_tokens:
        owner.prompts.learn(request.model, call.prompt_bytes, usage.prompt_tokens)
    if decision.scored[0][1].prompt_limits is not None:
        owner.fleet_state.took_prompt(decision.backend, decision.model, request.prompt_tokens, request.max_tokens)
    if usage.output_tokens:
        _judge(owner, request, decision, timing, usage.output_tokens)


def learn_limit(
    owner: Dispatcher, request: RoutingRequest, backend: str, model: str, failure: Failure, tried: frozenset[str]
) -> Failure:
    """Take in that a backend refused a prompt for its length; `model` is the name that it was asked for.

    Returns what it is for the request: a refusal for good where no other backend is meant by its target. A target that
    is well never gives way in silence.
    """
    if not request.embed and is_one_text(request.needs):
        limit = PromptLimit(request.prompt_tokens, request.max_tokens)
        owner.fleet_state.refused_prompt(backend, model, limit, owner.clock())
    wish = request.annotations.target
    target = read_target(wish, request.model, owner.fleet_state.view(), tried) if wish else None
    if target is None or target.wanted:
        return failure
    return msgspec.structs.replace(failure, kind=FailureKind.REJECTED)


def _learn_trust(owner: Dispatcher, decision: Decision, timing: Timing, usage: Usage) -> None:
    """Whether the backend held what it was taken to hold of the prompt: as it says, else by the time of reading."""
    one, tokens, held = decision.scored[0][1], usage.prompt_tokens or 0, timing.held_tokens
    if owner.prefixes is None or held < _LEAST_HELD * tokens:
        return
    if usage.cached_tokens is not None:
        owner.prefixes.learn(one.backend, held, usage.cached_tokens)
    elif usage.prompt_ns and tokens:
        owner.prefixes.learn(one.backend, held, tokens - usage.prompt_ns / 1e9 / one.s_per_prompt_token)


def _judge(owner: Dispatcher, request: RoutingRequest, decision: Decision, timing: Timing, tokens: int) -> None:
    _, one, _, prefill_s, _, _, chance = decision.scored[0]
    judge = owner.fleet_state.judge(one.backend)
    if judge is None:
        return
    wishes = request.annotations
    if chance is not None:
        first = (wishes.latency_metric or owner.policy.metric) == "ttft"
        took_s = (timing.first_s if first else timing.ended_s) - timing.arrived_s
        judge.keep_promise(chance, took_s * 1000 <= wishes.max_latency_ms)
    if timing.streamed:
        ttft_s = one.load_s + prefill_s
        e2e_s = ttft_s + tokens * one.s_per_output_token * one.crowding
        judge.compare(ttft_s, timing.first_s - timing.opened_s, e2e_s, timing.ended_s - timing.opened_s)
