"""Whether a request that runs may be broken off for a more urgent one: only where it surely goes on, or loses little.

"Surely" is by all that is known without asking a server: the very backend that writes it could take up the rest.
"""

from __future__ import annotations

import msgspec

from ollama_proxy.app.requests.attempt import OpenAttempt
from ollama_proxy.app.requests.errand import Errand, could_take
from ollama_proxy.domain.annotations import Priority
from ollama_proxy.domain.call import Need, Operation
from ollama_proxy.domain.ports import Resumer
from ollama_proxy.fleet.lingering import READ_ON_KINDS
from ollama_proxy.fleet.preemption import Will
from ollama_proxy.lifecycle.life import State

#: Whoever made way so often is left alone from then on.
_MOST_TIMES = 3
#: What has run for longer, and of which nothing can be kept, is left alone.
_MOST_LOST_S = 5.0
#: After so many times the predicted time of reading a prompt it is taken to be read.
_SURELY_READ = 1.5
#: To go on, a request is read whole, in the turn of the event loop in which somebody urgent waits.
_MOST_BYTES = 128 * 1024
_TEXT = frozenset((Operation.GENERATE, Operation.CHAT, Operation.COMPLETE))
#: Whether a tool is being called shows only when it has been.
_TOOLS = frozenset((Need.TOOLS, Need.TOOL_CHOICE))


def makes_way(errand: Errand) -> bool:
    """Whether a request is one of those that are broken off for others: it asked to be last, and has no deadline."""
    call, life = errand.whole, errand.life
    wishes = call.annotations
    if wishes.priority is not Priority.BEST_EFFORT or wishes.latency_critical or wishes.max_latency_ms:
        return False
    size_bytes = len(call.raw.body) if call.raw is not None else call.prompt_bytes
    return (
        call.operation in _TEXT
        and size_bytes <= _MOST_BYTES
        and not (call.needs | call.wants) & _TOOLS
        and life.made_way_for < _MOST_TIMES
    )


def may_make_way(errand: Errand, attempt: OpenAttempt, now_s: float) -> Will:
    """Whether the `attempt` that is under way may be broken off, to go on later or to begin anew."""
    life, request = errand.life, errand.request
    if life.state is State.STREAMING:
        handle = attempt.handle
        if handle is None or not handle.wrote_plain_text():
            return Will.LATER
        if not _may_go_on(errand, attempt):
            return Will.NEVER
        request = errand.ask_behind(attempt)
    elif life.state is not State.WAITING or (is_reading(attempt, now_s) and _reads_on(attempt)):
        return Will.LATER
    elif not errand.call.stream and now_s - attempt.opened_s > _MOST_LOST_S:
        return Will.NEVER
    here = frozenset((attempt.backend,))
    request = msgspec.structs.replace(request, allowed=here if request.allowed is None else request.allowed & here)
    return Will.NOW if could_take(errand.owner, request, frozenset(), now_s) else Will.LATER


def _may_go_on(errand: Errand, attempt: OpenAttempt) -> bool:
    if not errand.may_be_continued() or (errand.cut is not None and errand.cut.sent.thinking):
        return False
    backend = errand.owner.backends.get(attempt.backend)
    if backend is None or attempt.decision.stand_in:
        return False
    return not isinstance(backend, Resumer) or backend.may_go_on(attempt.decision.model)


def is_reading(attempt: OpenAttempt, now_s: float) -> bool:
    """Whether the prompt may still be read, or the model be loaded for it."""
    if attempt.first_s is not None:
        return False
    load_s: float = attempt.decision.scored[0][1].load_s
    return now_s - attempt.opened_s < _SURELY_READ * (load_s + attempt.reading_s)


def _reads_on(attempt: OpenAttempt) -> bool:
    """Whether the server would go on reading, so that its slot would not be free."""
    return attempt.view.spec.kind in READ_ON_KINDS and not attempt.view.emulated
