"""The good end of a request: its bill is made out, its lessons are learned, its books are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_proxy.app.requests.attempt import OpenAttempt
from ollama_proxy.app.requests.continuing import join_outcomes
from ollama_proxy.app.requests.lessons import teach
from ollama_proxy.app.requests.settlement import Timing, believe, sum_up
from ollama_proxy.domain.answer import Finished, Outcome

if TYPE_CHECKING:
    from ollama_proxy.app.requests.errand import Errand

#: Shorter answers say little of how long a token takes.
_LEAST_TOKENS = 8


def settle(errand: Errand, attempt: OpenAttempt, finished: Finished) -> Outcome:
    """What the client is told of an answer that has ended well, whose last attempt is released already; booked
    everywhere."""
    owner, call, life = errand.owner, errand.call, errand.life
    finished = believe(finished)
    decision, opened_s, ended_s = attempt.decision, attempt.opened_s, attempt.last_s
    timing = Timing(
        call.arrived_s,
        opened_s,
        attempt.first_s or ended_s,
        ended_s,
        attempt.alone,
        call.stream,
        attempt.held_tokens,
    )
    figure = owner.accounting.close(attempt.bill, "ok", ended_s, attempt.first_s, finished.usage)
    outcome = sum_up(finished, timing, figure)
    teaches = owner.fleet_state.wants_lessons(attempt.backend, ended_s)
    teach(owner, call, errand.request, decision, timing, finished, teaches)
    if owner.fleet_state.adapts and outcome.output_tokens >= _LEAST_TOKENS:
        owner.fleet_state.measured(life.backend, (ended_s - opened_s) / outcome.output_tokens)
    told = outcome if errand.cut is None else join_outcomes(errand.cut.sent, outcome)
    owner.books.succeeded(call, life, decision, outcome, told, timing, teaches)
    owner.decisions.answered(attempt.taken, outcome, opened_s - call.arrived_s, call.stream)
    return told
