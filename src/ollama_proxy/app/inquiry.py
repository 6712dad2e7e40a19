"""Answers questions about decisions: looks them up, or takes one for a request that is not sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ollama_proxy.app.requests.dispatch import Dispatcher
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation, Need, Operation
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.decision import Decision, Policy, Refusal, RoutingRequest
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.inquiry import Question
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.observability.decisions import Served, Taken
from ollama_proxy.routing.account import tell
from ollama_proxy.routing.concession import give_way
from ollama_proxy.routing.policies import MODES, find_mode
from ollama_proxy.routing.record import Inputs, Record, decide_again, make_record
from ollama_proxy.routing.record_lines import write_record

_SUPPOSED = "what-if"


class RecordedAccount:
    """A record, shown."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def as_json(self) -> bytes:
        return write_record(self.record)

    def as_text(self) -> str:
        return tell(self.record)


class ServedAccount:
    """What is on record of a request that was answered from the cache."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def as_json(self) -> bytes:
        return msgspec.json.encode(_describe_served(self._served))

    def as_text(self) -> str:
        one = self._served
        told = [f"{one.id}: answered from the cache, so that nothing was decided."]
        told.append(f"{one.backend} made the answer {one.age_s:.0f} s before, by the decision {one.made_by}.")
        if one.similarity is not None:
            told.append(f"Its prompt was another one, of similarity {one.similarity:.4f}.")
        if one.saved_joules is not None:
            told.append(f"That took {one.saved_joules:.4g} J ({one.joules_kind}), which were not spent again.")
        return "\n".join(told) + "\n"


class Desk:
    """Where questions are asked; it reads the dispatcher's state and changes nothing."""

    def __init__(self, dispatcher: Dispatcher, policy_in: Callable[[str], Policy]) -> None:
        """`policy_in` gives the policy that an efficiency mode would be now."""
        self._dispatcher = dispatcher
        self._policy_in = policy_in

    def list_decisions(self, most: int) -> bytes:
        decisions = self._dispatcher.decisions
        found = [_sum_up(taken) for taken in decisions.latest(most)]
        served = [_describe_served(one) for one, _ in zip(reversed(decisions.served), range(most), strict=False)]
        if served:
            found = sorted([*found, *served], key=lambda one: one["decided_unix_s"], reverse=True)[:most]
        return msgspec.json.encode({"decisions": found})

    def find_decision(self, ident: str, caller: Caller) -> RecordedAccount | ServedAccount | None:
        key = None if "admin" in caller.permissions else caller.name
        taken = self._dispatcher.decisions.find(ident, key)
        if taken is not None:
            return RecordedAccount(taken.make_record())
        served = self._dispatcher.decisions.find_served(ident, key)
        return None if served is None else ServedAccount(served)

    def suppose(self, question: Question) -> RecordedAccount:
        owner = self._dispatcher
        now_s = owner.clock()
        fleet = leave_out(owner.fleet_state.view_at(now_s), question.without)
        policy = self._policy_in(_find_mode(question.mode)) if question.mode else owner.policy
        call = _make_call(question, now_s)
        given: Inputs = (self._make_request(question, call), fleet, policy, frozenset(), "", False)
        verdict = decide_again(given)
        if isinstance(verdict, Refusal):
            verdict, given = self._give_way(call, given) or (verdict, given)
        supposed = "; ".join(_tell_suppositions(question))
        unix_s = round(owner.decisions.unix_clock(), 3)
        return RecordedAccount(make_record(_SUPPOSED, unix_s, given, verdict, supposed=supposed))

    def _make_request(self, question: Question, call: Call) -> RoutingRequest:
        owner, model = self._dispatcher, canonical_model(question.model)
        return RoutingRequest(
            model,
            question.model,
            call.needs,
            question.annotations,
            owner.prompts.expect(model, question.prompt_bytes),
            question.max_tokens,
            question.embed,
            owner.lengths.expect(model, "", ""),
        )

    def _give_way(self, call: Call, given: Inputs) -> tuple[Decision, Inputs] | None:
        request, fleet, policy, *_ = given
        for lesser, remark in give_way(call, request, self._dispatcher.substitutes.get(request.model, ())):
            less: Inputs = (lesser, fleet, policy, frozenset(), remark, lesser.model != request.model)
            verdict = decide_again(less)
            if isinstance(verdict, Decision):
                return verdict, less
        return None


def leave_out(fleet: FleetView, without: tuple[str, ...]) -> FleetView:
    """The fleet without some of its backends. Raises `ProxyError` for one that is not there."""
    known = [view.spec.id for view in fleet.backends]
    for name in without:
        if name not in known:
            message = f"there is no backend {name[:64]!r} to do without; known are {', '.join(known)}"
            raise ProxyError(ErrorKind.INVALID_REQUEST, message)
    left = [place for place, name in enumerate(known) if name not in without]
    waits = tuple([fleet.waits[place] for place in left]) if fleet.waits else ()
    beside = tuple([fleet.beside[place] for place in left]) if fleet.beside else ()
    return FleetView(fleet.version, tuple([fleet.backends[place] for place in left]), waits, beside=beside)


def _find_mode(name: str) -> str:
    mode = find_mode(name)
    if mode is None:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"unknown mode {name[:40]!r}; known are {', '.join(MODES)}")
    return mode


def _make_call(question: Question, now_s: float) -> Call:
    """As much of a call as tells what it may give up."""
    operation = Operation.EMBED if question.embed else Operation.CHAT
    needs = frozenset((Need.EMBED if question.embed else Need.GENERATE,))

    def write_out() -> Generation | Embedding:
        return Embedding(()) if question.embed else Generation()

    return Call(
        _SUPPOSED, Dialect.COMPUTE, operation, question.model, False, now_s, write_out, question.annotations, needs
    )


def _tell_suppositions(question: Question) -> Iterator[str]:
    yield f"a request for {question.model[:100]} came now"
    if question.without:
        yield f"without {', '.join(question.without)}"
    if question.mode:
        yield f"in efficiency mode {find_mode(question.mode)}"


def _describe_served(one: Served) -> dict[str, Any]:
    """A request that was answered from the cache; what is not known is absent."""
    found = {
        "id": one.id,
        "decided_unix_s": one.unix_s,
        "model": one.model,
        "annotated": True,
        "policy": "cache",
        "attempt": 0,
        "backend": one.backend,
        "reason": f"from the cache: {one.backend} made it {one.age_s:.0f} s before",
        "result": "from the cache",
        "made_by": one.made_by,
        "age_s": one.age_s,
        "similarity": one.similarity,
        "saved_joules": one.saved_joules,
        "joules_kind": one.joules_kind or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _sum_up(taken: Taken) -> dict[str, Any]:
    """One line of the list; what is not known is absent."""
    verdict, request = taken.decide(), taken.given[0]
    outcome = taken.outcome
    found: dict[str, Any] = {
        "id": taken.id,
        "decided_unix_s": round(taken.unix_s, 3),
        "model": request.requested_model[:200],
        "annotated": request.annotations != Annotations(),
        "backend": verdict.backend if isinstance(verdict, Decision) else None,
        "reason": verdict.reason if isinstance(verdict, Decision) else verdict.message,
        "policy": taken.given[2].name,
        "attempt": taken.attempt,
        "result": "running" if outcome is None else outcome.result,
    }
    if outcome is not None:
        found |= {
            "e2e_s": outcome.e2e_s,
            "output_tokens": outcome.output_tokens,
            "joules": outcome.joules,
            "joules_kind": outcome.joules_kind or None,
            "error": outcome.error or None,
        }
    return {name: value for name, value in found.items() if value is not None}
