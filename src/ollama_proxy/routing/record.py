"""A decision as a value that can be taken again: what it read, what came of it, what then happened.

Of the fleet it holds what the decision read and no more: of each backend the asked model, its speeds and its place in
memory. No prompt and no custom annotation is in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.decision import Candidate, Decision, Policy, Refusal, RefusalKind, Rejection, RoutingRequest
from ollama_proxy.domain.device import BackendView, FleetView, ModelFacts
from ollama_proxy.domain.lengths import make_typical_lengths
from ollama_proxy.routing.deadline import HOPELESS
from ollama_proxy.routing.decide import decide, price_of_seconds
from ollama_proxy.routing.patience import find_slow, is_bounded
from ollama_proxy.routing.prospect import Fitness
from ollama_proxy.routing.room import measure_residents

FORMAT = 1
#: How clauses of a decision's reason begin that say not what was given up, but what was there before.
SEAMS = ("continues after", "begins again")

#: What one decision was given: the request, the fleet, the policy and the backends that were tried; then what the
#: request had given up by then (a clause, "" for nothing), and whether that was the model itself.
Inputs = tuple[RoutingRequest, FleetView, Policy, frozenset[str], str, bool]


class CandidateRecord(msgspec.Struct, frozen=True):
    """One that passed all limits: the predictions that were compared, and their sum as a cost in joules.

    `ttft_s` and `e2e_s` are sums of the others: from the decision to the first token, and to the last.
    """

    backend: str
    cost_j: float
    wait_s: float
    load_s: float
    prefill_s: float
    decode_s: float
    ttft_s: float
    e2e_s: float
    joules: float
    joules_kind: str
    power_watts: float | None = None
    chance: float | None = None
    #: What those that run beside it lose by it, as a cost.
    neighbours_j: float = 0.0


class Verdict(msgspec.Struct, frozen=True):
    """What was decided. `backend` is "" for a refusal, which has a `refusal` and its message as `reason` instead.

    `lambda_watts` is the price of a second in joules and `lambda_origin` where it comes from; `margin_j` is how much
    dearer the runner-up would have been, absent where nobody else was left or costs were not what was compared.
    """

    backend: str
    reason: str
    lambda_watts: float
    lambda_origin: str
    candidates: tuple[CandidateRecord, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    runner_up: str = ""
    margin_j: float | None = None
    model: str = ""
    stand_in: bool = False
    refusal: RefusalKind | None = None
    nearest: tuple[str, ...] = ()


class AttemptOutcome(msgspec.Struct, frozen=True):
    """What then happened. `result` is ok, failed, cancelled or refused; what is not known is absent.

    `waited_s` is the time from the request's arrival to this attempt; the other seconds count from the attempt on, as
    the predictions do.
    """

    result: str
    waited_s: float | None = None
    ttft_s: float | None = None
    e2e_s: float | None = None
    load_s: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    joules: float | None = None
    joules_kind: str = ""
    error: str = ""


class Record(msgspec.Struct, frozen=True):
    """One decision. `supposed` says in words what was other than it is, for a decision that was never acted on."""

    id: str
    decided_unix_s: float
    request: RoutingRequest
    fleet: FleetView
    policy: Policy
    verdict: Verdict
    tried: frozenset[str] = frozenset()
    given_up: str = ""
    substitute: bool = False
    supposed: str = ""
    attempt: int = 1
    outcome: AttemptOutcome | None = None
    #: In which way it is written.
    format: int = FORMAT


def make_record(
    ident: str,
    decided_unix_s: float,
    given: Inputs,
    verdict: Decision | Refusal,
    *,
    attempt: int = 1,
    outcome: AttemptOutcome | None = None,
    supposed: str = "",
) -> Record:
    """The record of a decision that was taken on `given`."""
    request, fleet, policy, tried, given_up, substitute = given
    nowhere = isinstance(verdict, Refusal) and verdict.kind is RefusalKind.MODEL_NOWHERE
    views = tuple([_restrict(view, request, with_names=nowhere) for view in fleet.backends])
    return Record(
        ident,
        decided_unix_s,
        _restrict_request(request),
        FleetView(fleet.version, views, fleet.waits, beside=fleet.beside),
        policy,
        _describe(verdict, request, policy, fleet),
        tried,
        given_up,
        substitute,
        supposed,
        attempt,
        outcome,
    )


def replay(record: Record, policy: Policy | None = None) -> Record:
    """The same decision once more, under its own policy or another; everything else of the record stays."""
    given: Inputs = (
        record.request,
        record.fleet,
        policy or record.policy,
        record.tried,
        record.given_up,
        record.substitute,
    )
    return make_record(
        record.id,
        record.decided_unix_s,
        given,
        decide_again(given),
        attempt=record.attempt,
        outcome=record.outcome,
        supposed=record.supposed,
    )


def decide_again(given: Inputs) -> Decision | Refusal:
    """What `decide` says of the inputs, with what the request had given up told in the reason."""
    request, fleet, policy, tried, *_ = given
    verdict = decide(request, fleet, policy, tried)
    return verdict if isinstance(verdict, Refusal) else tell_given_up(verdict, given)


def tell_given_up(decision: Decision, given: Inputs) -> Decision:
    """The decision with what the request had given up told in its reason."""
    *_, given_up, substitute = given
    if not given_up:
        return decision
    return decision.restated(f"{decision.reason}; {given_up}", stand_in=decision.stand_in or substitute)


# -- what the decision read --------------------------------------------------------


def _restrict_request(request: RoutingRequest) -> RoutingRequest:
    """Without what callers say to each other, and without the lengths that are reckoned with in any case."""
    wishes, lengths = request.annotations, request.lengths
    if wishes.custom:
        wishes = msgspec.structs.replace(wishes, custom={})
    if lengths == make_typical_lengths():
        lengths = None
    return msgspec.structs.replace(request, annotations=wishes, lengths=lengths)


def _restrict(view: BackendView, request: RoutingRequest, *, with_names: bool) -> BackendView:
    """A backend without what this decision did not read. All names are read when a model is nowhere, to tell of
    those that resemble it."""
    resident = Fitness(view, request).resident
    # What else is in memory is read where this model may have to make room.
    makes_room = bool(view.spec.memory_gb)
    names_read = {resident, *view.loaded} if makes_room else {resident}
    models = view.models
    if models is not None:
        shown = {request.model: models[request.model]} if request.model in models else {}
        if with_names and view.health.serves:
            shown = dict(models)
        models = {name: _strip(facts) for name, facts in shown.items()}
    names = view.spec.model_names
    there = names.get(request.model)
    spec = msgspec.structs.replace(view.spec, model_names={request.model: there} if there else {}) if names else None
    return BackendView(
        spec or view.spec,
        view.health,
        view.message,
        models=models,
        loaded=view.loaded if makes_room else view.loaded & {resident},
        in_flight=view.in_flight,
        rates={name: view.rates[name] for name in names_read if name in view.rates},
        capabilities=view.capabilities,
        emulated=view.emulated,
        memory={},
        asleep=view.asleep,
        resident_bytes=measure_residents(view) if makes_room else {},
        beside_bytes=view.beside_bytes if makes_room else 0,
        kept_out={resident: view.kept_out[resident]} if resident in view.kept_out else {},
        heat=view.heat,
        load_factor=view.load_factor,
        prompt_limits={resident: view.prompt_limits[resident]} if resident in view.prompt_limits else {},
    )


def _strip(facts: ModelFacts) -> ModelFacts:
    return ModelFacts(facts.name, size_bytes=facts.size_bytes, context_length=facts.context_length, there=facts.there)


# -- what was decided ----------------------------------------------------------------


def _describe(verdict: Decision | Refusal, request: RoutingRequest, policy: Policy, fleet: FleetView) -> Verdict:
    lambda_watts = price_of_seconds(request.annotations, policy)
    origin = name_origin(request.annotations, policy)
    if isinstance(verdict, Refusal):
        return Verdict(
            "",
            verdict.message,
            lambda_watts,
            origin,
            rejections=verdict.rejections,
            refusal=verdict.kind,
            nearest=verdict.nearest,
        )
    kinds = {view.spec.id: _kind_of(view) for view in fleet.backends}
    ranking = verdict.ranking
    second = ranking[1] if len(ranking) > 1 else None
    compared = policy.rule == "predictive" and not is_best_effort(request, policy, ranking[0].estimate.chance)
    if second is not None and second.cost_j < ranking[0].cost_j:
        # Behind in spite of its cost: it is late, or the winner holds much of the prompt.
        compared = False
    return Verdict(
        verdict.backend,
        verdict.reason,
        lambda_watts,
        origin,
        tuple([_show(one, kinds[one.backend]) for one in ranking]),
        verdict.rejections,
        second.backend if second is not None else "",
        round(second.cost_j - ranking[0].cost_j, 6) if second is not None and compared else None,
        verdict.model,
        verdict.stand_in,
    )


def find_impatience(ends_s: Sequence[float], request: RoutingRequest, policy: Policy) -> list[bool]:
    """Of each predicted end, in seconds, whether it was put last for being beyond the request's patience."""
    if not is_bounded(request.annotations, policy):
        return [False] * len(ends_s)
    return find_slow(ends_s, policy.efficient_patience)


def is_best_effort(request: RoutingRequest, policy: Policy, best_chance: float | None) -> bool:
    """Whether nobody keeps the latency limit as surely as is asked, so that chances were compared and not costs."""
    asked = request.annotations.latency_probability or policy.probability
    return policy.rule == "predictive" and best_chance is not None and HOPELESS <= best_chance < asked


def _show(one: Candidate, kind: str) -> CandidateRecord:
    expected = one.estimate
    return CandidateRecord(
        one.backend,
        one.cost_j,
        expected.wait_s,
        expected.load_s,
        expected.prefill_s,
        expected.decode_s,
        expected.wait_s + expected.ttft_s,
        expected.e2e_s,
        expected.joules,
        kind,
        expected.power_watts or None,
        expected.chance,
        expected.neighbours_j,
    )


def _kind_of(view: BackendView) -> str:
    """Where predicted joules come from: predicted seconds times configured watts, or what stands in for those."""
    if view.emulated:
        return "emulated"
    return "modelled" if view.spec.power_watts else "assumed"


def name_origin(wishes: Annotations, policy: Policy) -> str:
    """What set the price of a second, in the order in which `price_of_seconds` looks."""
    if wishes.latency_critical:
        return "the request is latency_critical"
    if wishes.prefer_power_efficiency:
        return "the request wishes prefer_power_efficiency"
    if wishes.max_latency_ms:
        return "the request has max_latency_ms, and wants to be in time and no more"
    return f"efficiency mode {policy.name}"
