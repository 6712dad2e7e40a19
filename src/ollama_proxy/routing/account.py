"""A decision told to people: what was asked, who won and why, who lost and why, and what then happened."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from ollama_proxy.domain.annotations import Annotations, Priority
from ollama_proxy.domain.decision import Policy
from ollama_proxy.domain.device import BackendView, Neighbour
from ollama_proxy.routing.decide import expect_tokens
from ollama_proxy.routing.record import SEAMS, AttemptOutcome, CandidateRecord, Record, find_impatience, is_best_effort

_COLUMNS = ("backend", "wait s", "load s", "prefill s", "decode s", "end s", "in time", "joules", "watts", "cost J")
#: Differences that are not worth a word: seconds, joules.
_LEAST_S = 0.005
_LEAST_J = 0.05
#: A refusal names every backend.
_MOST_REFUSED_CHARS = 10_000


def tell(record: Record) -> str:
    """The whole account, in plain text of several paragraphs, each line ending in a line feed."""
    parts = [
        _tell_question(record),
        _tell_verdict(record),
        _tell_candidates(record),
        _tell_losers(record),
        _tell_rejections(record),
        _tell_outcome(record),
    ]
    return "\n".join(["\n".join(lines) + "\n" for lines in map(list, parts) if lines])


# -- what was asked ------------------------------------------------------------------


def _tell_question(record: Record) -> Iterator[str]:
    request = record.request
    when = datetime.fromtimestamp(record.decided_unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if record.supposed:
        yield f"Supposed, not sent: {record.supposed}"
    else:
        again = f", attempt {record.attempt}" if record.attempt > 1 else ""
        yield f"Decision {record.id}, {when}{again}"
    kind = "vectors" if request.embed else "text"
    yield (
        f"Asked: {kind} from model {_clean(request.requested_model)}, "
        f"a prompt of about {request.prompt_tokens:.0f} tokens"
        + (f", an answer of about {expect_tokens(request):.0f} tokens{_limit(record)}" if not request.embed else "")
    )
    yield f"Wishes: {'; '.join(_name_wishes(request.annotations, record.policy)) or 'none'}"
    if record.tried:
        yield f"Tried before: {', '.join(sorted(record.tried))}"
    if request.held:
        held = ", ".join([f"{tokens:.0f} at {name}" for name, tokens in sorted(request.held.items())])
        yield f"Tokens of the prompt held from before: {held}"
    if record.given_up:
        lead = "It" if record.given_up.startswith(SEAMS) else "Given up:"
        yield f"{lead} {_clean(record.given_up)}"
    if request.spent_s:
        yield f"Time gone by since the request came: {request.spent_s:.2f} s"


def _limit(record: Record) -> str:
    return f" (at most {record.request.max_tokens})" if record.request.max_tokens else ""


def _name_wishes(wishes: Annotations, policy: Policy) -> Iterator[str]:
    if wishes.target:
        yield f"target {_clean(wishes.target)}"
    if wishes.latency_critical:
        yield "latency_critical"
    if wishes.prefer_power_efficiency:
        yield "prefer_power_efficiency"
    if wishes.max_latency_ms:
        what = "first" if (wishes.latency_metric or policy.metric) == "ttft" else "last"
        probability = wishes.latency_probability or policy.probability
        yield f"the {what} token within {wishes.max_latency_ms} ms, with probability {probability:g}"
    if wishes.max_power_watts:
        whole = ", all that work at once together" if wishes.power_scope == "system" else ""
        yield f"at most {wishes.max_power_watts:g} W{whole}"
    if wishes.priority is not Priority.NORMAL:
        yield f"priority {wishes.priority.name.lower().replace('_', '-')}"
    if wishes.on_infeasible:
        yield f"if nobody can be in time: {wishes.on_infeasible}"


def _clean(text: str, most: int = 200) -> str:
    """One line, and nothing that a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text[:most])


# -- who won ----------------------------------------------------------------------------


def _tell_verdict(record: Record) -> Iterator[str]:
    verdict, policy = record.verdict, record.policy
    if verdict.refusal is not None:
        # What would be possible stands at its end.
        yield f"Refused ({verdict.refusal.value}): {_clean(verdict.reason, _MOST_REFUSED_CHARS)}"
        return
    yield f"Chosen: {verdict.backend}: {_clean(verdict.reason)}"
    if verdict.stand_in:
        yield f"It answers with model {_clean(verdict.model)} instead of the one asked for."
    if verdict.runner_up:
        margin = "" if verdict.margin_j is None else f", {_joules(verdict.margin_j)} J dearer in cost"
        yield f"Runner-up: {verdict.runner_up}{margin}"
    if policy.rule == "predictive":
        price = f"{verdict.lambda_watts:g}"
        yield f"A second sooner is worth {price} J (lambda {price} W): {verdict.lambda_origin}."
        beside = " + what neighbours lose" if any(one.neighbours_j for one in verdict.candidates) else ""
        yield f"Cost = joules + {price} x seconds to the end{beside}. The least wins{_among_whom(record)}."
    else:
        yield f"Rule: {policy.rule}. The predictions below are shown, and not what was compared."


def _among_whom(record: Record) -> str:
    if not record.request.annotations.max_latency_ms:
        patience = record.policy.efficient_patience
        return f" among those that end within {patience:g} times the soonest" if any(_find_slow(record)) else ""
    probability = record.request.annotations.latency_probability or record.policy.probability
    if _is_best_effort(record):
        return f", but nobody is in time as surely as asked ({probability:.0%}), so the best chance does"
    if _is_lost(record):
        return ", since nobody can be expected to be in time any more"
    return f" among those in time as surely as asked ({probability:.0%})"


def _is_best_effort(record: Record) -> bool:
    candidates = record.verdict.candidates
    return bool(candidates) and is_best_effort(record.request, record.policy, candidates[0].chance)


def _is_lost(record: Record) -> bool:
    """Whether the latency limit is kept by nobody, and costs were compared in spite of it."""
    wishes, candidates = record.request.annotations, record.verdict.candidates
    chance = candidates[0].chance if candidates else None
    return chance is not None and chance < (wishes.latency_probability or record.policy.probability)


# -- the candidates ---------------------------------------------------------------------


def _tell_candidates(record: Record) -> Iterator[str]:
    candidates = record.verdict.candidates
    if not candidates:
        return
    yield "Candidates, best first (all figures predicted):"
    rows = [_COLUMNS, *map(_row_of, candidates)]
    if all(one.chance is None for one in candidates):
        place = _COLUMNS.index("in time")
        rows = [(*row[:place], *row[place + 1 :]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *others = zip(row, widths, strict=True)
        yield "  " + first[0].ljust(first[1]) + "".join(f"  {cell.rjust(width)}" for cell, width in others)
    places = {view.spec.id: place for place, view in enumerate(record.fleet.backends)}
    for one in candidates:
        place = places[one.backend]
        beside = record.fleet.beside[place] if record.fleet.beside else ()
        yield f"  {one.backend}: {'; '.join(_state_of(record.fleet.backends[place], one, beside))}"


def _row_of(one: CandidateRecord) -> tuple[str, ...]:
    seconds = (one.wait_s, one.load_s, one.prefill_s, one.decode_s, one.e2e_s)
    return (
        one.backend,
        *[f"{value:.2f}" for value in seconds],
        "-" if one.chance is None else f"{one.chance:.0%}",
        _joules(one.joules),
        "-" if one.power_watts is None else f"{one.power_watts:g}",
        _joules(one.cost_j),
    )


def _state_of(view: BackendView, one: CandidateRecord, neighbours: Sequence[Neighbour]) -> Iterator[str]:
    """What the predictions of one candidate rest on."""
    slots = view.spec.slots
    yield (
        f"{view.in_flight} of {slots} slot{'s' if slots > 1 else ''} taken"
        if view.spec.held
        else (f"{view.in_flight} in flight, {slots} at once")
    )
    if one.load_s:
        yield "the model has to be loaded"
    if view.heat is not None:
        when = f"in {view.heat.throttles_in_s:.0f} s" if view.heat.throttles_in_s else "now"
        yield f"throttled for heat {when}, {view.heat.slowdown:.2f} times as slow then"
    beside = [neighbour for neighbour in neighbours if neighbour.until_s or neighbour.busy_share]
    if beside and one.neighbours_j:
        names = ", ".join([_tell_neighbour(neighbour) for neighbour in beside])
        yield f"beside {names}, which lose {_joules(one.neighbours_j)} J by it (part of the cost)"
    rates = next(iter(view.rates.values()), None)
    if rates is not None:
        yield f"speeds learned from {rates.samples} answer{'s' if rates.samples != 1 else ''}"
    else:
        yield "speeds as configured, none learned yet"
    yield f"joules {one.joules_kind}" + (", its draw is not configured" if one.power_watts is None else "")


def _tell_neighbour(one: Neighbour) -> str:
    """Who shares memory with a candidate, and how much slower the candidate is meanwhile."""
    return f"{one.backend} ({_work_of(one)}, then {math.exp(one.slows):.2f} times as slow)"


def _work_of(one: Neighbour) -> str:
    if one.until_s:
        return f"writing for {one.until_s:.1f} s more" if not one.from_s else f"writing in {one.from_s:.1f} s"
    return f"writing {one.busy_share:.0%} of the time"


def _joules(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


# -- who lost, and why ---------------------------------------------------------------------


def _tell_losers(record: Record) -> Iterator[str]:
    winner, *losers = record.verdict.candidates or (None,)
    if winner is None:
        return
    slow = _find_slow(record)[1:]
    for loser, is_slow in zip(losers, slow, strict=True):
        why = _tell_slow(record, winner, loser) if is_slow else _why_not(record, winner, loser)
        yield f"Why not {loser.backend}: {why}"


def _find_slow(record: Record) -> list[bool]:
    return find_impatience([one.e2e_s for one in record.verdict.candidates], record.request, record.policy)


def _tell_slow(record: Record, winner: CandidateRecord, loser: CandidateRecord) -> str:
    soonest_s = min(one.e2e_s for one in record.verdict.candidates)
    limit = f"{record.policy.efficient_patience:g} times the soonest end ({soonest_s:.2f} s)"
    return f"it ends later than {limit}, beyond the patience of a frugal request; it {_compare(loser, winner)}."


def _why_not(record: Record, winner: CandidateRecord, loser: CandidateRecord) -> str:
    against = _compare(loser, winner)
    if record.policy.rule != "predictive":
        return f"the rule {record.policy.rule} puts it behind; it {against}."
    if _is_best_effort(record):
        chances = f"its chance to be in time is {loser.chance or 0:.0%}, the winner's {winner.chance or 0:.0%}"
        return f"{chances}; it {against}."
    if loser.cost_j <= winner.cost_j:
        return _tell_no_dearer(winner, loser)
    lambda_watts = record.verdict.lambda_watts
    sooner_s, more_j = winner.e2e_s - loser.e2e_s, loser.joules - winner.joules
    dearer = f"{_joules(loser.cost_j - winner.cost_j)} J dearer in all"
    if sooner_s > _LEAST_S and more_j > _LEAST_J:
        worth = f"at {lambda_watts:g} W those seconds are worth {_joules(lambda_watts * sooner_s)} J"
        return f"it {against}; {worth}, so it is {dearer}."
    if sooner_s < -_LEAST_S and more_j < -_LEAST_J:
        worth = f"at {lambda_watts:g} W the delay costs {_joules(-lambda_watts * sooner_s)} J"
        return f"it {against}; {worth}, so it is {dearer}."
    return f"it {against}: {dearer}."


def _tell_no_dearer(winner: CandidateRecord, loser: CandidateRecord) -> str:
    against = _compare(loser, winner)
    if loser.cost_j == winner.cost_j:
        return f"it {against}: an equal cost, decided by residency, preference, load and priority."
    less = f"{_joules(winner.cost_j - loser.cost_j)} J less in all"
    return f"it {against}, {less}; that is not worth leaving what {winner.backend} holds of the prompt."


def _compare(loser: CandidateRecord, winner: CandidateRecord) -> str:
    """What would have been otherwise, in one clause behind "it"."""
    sooner_s, more_j = winner.e2e_s - loser.e2e_s, loser.joules - winner.joules
    when = "at the same time"
    if abs(sooner_s) > _LEAST_S:
        when = f"{abs(sooner_s):.2f} s {'sooner' if sooner_s > 0 else 'later'}"
    what = "the same joules"
    if abs(more_j) > _LEAST_J:
        what = f"{_joules(abs(more_j))} J {'more' if more_j > 0 else 'less'}"
    lost_j = loser.neighbours_j - winner.neighbours_j
    if abs(lost_j) > _LEAST_J:
        what += f", its neighbours losing {_joules(abs(lost_j))} J {'more' if lost_j > 0 else 'less'}"
    return f"would have ended {when} for {what}"


def _tell_rejections(record: Record) -> Iterator[str]:
    rejections = record.verdict.rejections
    if rejections:
        yield "Ruled out:"
    for one in rejections:
        told = _clean(one.detail).removeprefix("tried: ")
        detail = "" if told == one.limit.value else f": {told}"
        yield f"  {one.backend}: {one.limit.value}{detail}"


# -- what then happened ------------------------------------------------------------------------


def _tell_outcome(record: Record) -> Iterator[str]:
    found = record.outcome
    if record.supposed or record.verdict.refusal is not None:
        return
    if found is None:
        yield "What happened: it still runs."
        return
    if found.result != "ok":
        after = "" if found.e2e_s is None else f" after {found.e2e_s:.2f} s"
        yield f"What happened: {found.result}{after}" + (f": {_clean(found.error)}" if found.error else "")
        return
    yield f"What happened: {record.verdict.backend} answered."
    winner = record.verdict.candidates[0]
    if found.waited_s and found.waited_s > _LEAST_S:
        yield f"  before this decision   {found.waited_s:.2f} s in the queue or on other attempts"
    yield from _tell_figures(record, winner, found)


def _tell_figures(record: Record, winner: CandidateRecord, found: AttemptOutcome) -> Iterator[str]:
    yield _figure("first token", winner.ttft_s, found.ttft_s, "s")
    yield _figure("last token", winner.e2e_s, found.e2e_s, "s") + _for_its_length(record, winner, found)
    if not record.request.embed:
        yield _figure("answer", expect_tokens(record.request), found.output_tokens, "tokens")
    yield _figure("prompt", record.request.prompt_tokens, found.prompt_tokens, "tokens")
    kind = f", {found.joules_kind}" if found.joules is not None else ""
    yield _figure("energy", winner.joules, found.joules, "J") + kind


def _for_its_length(record: Record, winner: CandidateRecord, found: AttemptOutcome) -> str:
    """What the prediction would have been, had the length of the answer been known."""
    expected = expect_tokens(record.request)
    if not (found.output_tokens and expected):
        return ""
    end_s = winner.ttft_s + winner.decode_s * found.output_tokens / expected
    return f" ({end_s:.2f} s were predicted for the {found.output_tokens} tokens that came)"


def _figure(name: str, predicted: float, found: float | None, unit: str) -> str:
    digits = 0 if unit == "tokens" else 2
    seen = "not known" if found is None else f"{found:.{digits}f} {unit}"
    return f"  {name:<12} predicted {predicted:.{digits}f} {unit}, found {seen}"
