"""What is asked of the backends for one request, as things stand: all of it, or behind a cut the rest.

Whoever runs the request (`app.requests.job`) asks it for decisions, and tells it what the client has already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ollama_proxy.app.requests.continuing import Cut, ask_to_continue, read_digest
from ollama_proxy.app.requests.reuse import Reuse, follow
from ollama_proxy.domain.answer import Finished, Progress
from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.domain.decision import Decision, Refusal, RoutingRequest
from ollama_proxy.domain.errors import Failure, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.lifecycle.continuation import find_end, why_not
from ollama_proxy.lifecycle.life import Life, State
from ollama_proxy.net.bodies.members import find_uncarried
from ollama_proxy.routing.concession import give_way
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.record import Inputs, decide_again

if TYPE_CHECKING:
    from ollama_proxy.app.requests.attempt import OpenAttempt
    from ollama_proxy.app.requests.dispatch import Dispatcher

#: Those that write token by token, and so take a slot.
_WRITTEN = frozenset((Operation.GENERATE, Operation.CHAT, Operation.COMPLETE, Operation.PASS))


class Errand:
    """One request as backends and as routing read it, its attempts so far, and what the client has of its answer."""

    __slots__ = ("call", "cut", "life", "owner", "request", "reuse")

    def __init__(self, owner: Dispatcher, call: Call) -> None:
        self.owner = owner
        self.call = call
        self.request = describe_request(owner, call)
        self.life = Life(owner.max_attempts)
        #: What it has in common with earlier prompts, where that is worth a look.
        self.reuse: Reuse | None = follow(owner, call, self.request)
        #: What the client has of an answer that broke off.
        self.cut: Cut | None = None

    @property
    def whole(self) -> Call:
        """The request as it came, before any cut."""
        return self.call if self.cut is None else self.cut.whole

    # -- decisions; they change nothing ------------------------------------------

    def decide(self) -> tuple[Decision | Refusal, Inputs]:
        """Decide on the fleet of this moment; the verdict, and what it was given."""
        owner, life, cut = self.owner, self.life, self.cut
        if self.reuse is not None:
            self.request = self.reuse.look(self.request)
        request, now_s, policy, tried = self.request, owner.clock(), owner.policy, life.tried
        if request.annotations.max_latency_ms and life.attempts:
            request = msgspec.structs.replace(request, spent_s=now_s - self.call.arrived_s)
        view = owner.fleet_state.view_at(now_s)
        if cut is None:
            return decide(request, view, policy, tried), (request, view, policy, tried, "", False)
        given = (request, view, policy, tried, cut.told, cut.substitute)
        return decide_again(given), given

    def decide_on_less(self) -> tuple[Decision, Inputs] | None:
        """The decision when nobody can take the request as it is: less than it wants, then another model."""
        owner, call, request = self.owner, self.call, self.request
        if self.cut is not None or not (call.wants or owner.substitutes):
            return None
        may_use = call.caller.may_use
        substitutes = [one for one in owner.substitutes.get(request.model, ()) if may_use(one)]
        for lesser, remark in give_way(call, request, substitutes):
            view = owner.fleet_state.view_at(owner.clock())
            given = (lesser, view, owner.policy, self.life.tried, remark, lesser.model != request.model)
            verdict = decide_again(given)
            if not isinstance(verdict, Refusal):
                return verdict, given
        return None

    def could_another(self, attempt: OpenAttempt, now_s: float) -> bool:
        """Whether somebody else could take what is under way: else nobody is given up."""
        owner, life, request = self.owner, self.life, self.request
        if not life.may_try:
            return False
        if life.state is State.STREAMING:
            if not self.may_be_continued():
                return False
            request = self.ask_behind(attempt)
        return could_take(owner, request, life.tried, now_s)

    def may_be_continued(self) -> bool:
        """Whether somebody could go on behind the stream that is under way, by all that is known before it breaks."""
        whole, cut = self.whole, self.cut
        if not self.owner.continues:
            return False
        if cut is None or not cut.sent.tokens:
            # What is written now is not in the cut yet: behind a seam before the first token it is the beginning.
            return not why_not(whole) and not find_uncarried(whole)
        return not why_not(whole, cut.sent) and not cut.why_uncarried()

    def ask_behind(self, attempt: OpenAttempt) -> RoutingRequest:
        """What would be asked, nearly, were the stream of the attempt to break off now."""
        digest = (self.cut.digest if self.cut is not None else "") or read_digest(attempt)
        return ask_to_continue(self.request, self.owner.fleet_state.view(), digest)

    # -- an answer breaks off ------------------------------------------------------

    def find_end(self, progress: Progress) -> Finished | None:
        """The end of what broke off when all was there, so that the failure takes nothing away."""
        return find_end(self.whole, None if self.cut is None else self.cut.sent, progress)

    def go_on(self, broken: OpenAttempt, progress: Progress | None, failure: Failure) -> ProxyError | None:
        """A stream broke off: from here on it is about the rest; or the error to end with.

        `progress` is how far it came, None where that cannot be told.
        """
        cut = self.cut or Cut(self.call, broken)
        error = cut.go_on(self.owner, self.life, broken, progress, failure)
        if error is None:
            self._be_about(cut)
        return error

    def make_way(self, broken: OpenAttempt, progress: Progress) -> None:
        """As `go_on`, of a stream that was broken off for a more urgent request."""
        cut = self.cut or Cut(self.call, broken)
        cut.make_way(self.owner, broken, progress)
        self._be_about(cut)

    def _be_about(self, cut: Cut) -> None:
        self.cut, self.call, self.request = cut, cut.call, cut.request


def describe_request(owner: Dispatcher, call: Call) -> RoutingRequest:
    """What routing has to know of a call that has just come."""
    model = canonical_model(call.model)
    return RoutingRequest(
        model,
        call.model,
        call.needs | call.wants if call.wants else call.needs,
        call.annotations,
        owner.prompts.expect(model, call.prompt_bytes),
        call.max_tokens,
        call.operation not in _WRITTEN,
        owner.lengths.expect(model, call.way_in, call.caller.name),
        serial=owner.take_serial(),
        allowed=call.caller.backends,
    )


def could_take(owner: Dispatcher, request: RoutingRequest, tried: frozenset[str], now_s: float) -> bool:
    """Whether somebody could who was not tried, without standing in for the model."""
    verdict = decide(request, owner.fleet_state.view_at(now_s), owner.policy, tried)
    return isinstance(verdict, Decision) and not verdict.stand_in


def hide_others(refusal: Refusal, errand: Errand) -> Refusal:
    """The refusal as its caller may read it: names that resemble one may be of models that are not there for it."""
    if not refusal.nearest or not errand.call.caller.models:
        return refusal
    told = f"model '{errand.request.requested_model[:100]}' not found"
    return msgspec.structs.replace(refusal, message=told, nearest=())
