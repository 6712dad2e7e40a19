"""Whether a request that runs may be broken off for a more urgent one: only where little of its work would be lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_proxy.app.attempt import OpenAttempt
from ollama_proxy.app.continuing import Cut
from ollama_proxy.app.deciding import could_go_on
from ollama_proxy.domain.call import Call, Need, Operation
from ollama_proxy.domain.decision import RoutingRequest
from ollama_proxy.fleet.lingering import READ_ON_KINDS
from ollama_proxy.lifecycle.life import Life, State

if TYPE_CHECKING:
    from ollama_proxy.app.dispatch import Dispatcher

#: Whoever made way so often is left alone from then on.
_MOST_TIMES = 3
#: What has run for longer, and of which nothing can be kept, is left alone.
_MOST_LOST_S = 5.0
#: After so many times the predicted time of reading a prompt it is taken to be read.
_SURELY_READ = 1.5
_TEXT = frozenset((Operation.GENERATE, Operation.CHAT, Operation.COMPLETE))
_TOOLS = frozenset((Need.TOOLS, Need.TOOL_CHOICE))


def may_make_way(
    owner: Dispatcher,
    call: Call,
    request: RoutingRequest,
    life: Life,
    attempt: OpenAttempt,
    cut: Cut | None,
    now_s: float,
) -> bool:
    """Whether the `attempt` that is under way may be broken off, to go on later or to begin anew."""
    if life.made_way_for >= _MOST_TIMES or call.operation not in _TEXT:
        return False
    if life.state is State.STREAMING:
        # Whether a tool is being called shows only when it has been.
        whole = call if cut is None else cut.whole
        tools = (whole.needs | whole.wants) & _TOOLS
        return not tools and could_go_on(owner, request, life, whole, cut, now_s)
    if life.state is not State.WAITING or (is_reading(attempt, now_s) and _reads_on(attempt)):
        return False
    return call.stream or now_s - attempt.opened_s <= _MOST_LOST_S


def is_reading(attempt: OpenAttempt, now_s: float) -> bool:
    """Whether the prompt may still be read, or the model be loaded for it."""
    if attempt.first_s is not None:
        return False
    load_s: float = attempt.decision.scored[0][1].load_s
    return now_s - attempt.opened_s < _SURELY_READ * (load_s + attempt.reading_s)


def _reads_on(attempt: OpenAttempt) -> bool:
    """Whether the server would go on reading, so that its slot would not be free."""
    return attempt.view.spec.kind in READ_ON_KINDS and not attempt.view.emulated
