"""Whether the attempt of one request has been silent for too long: beyond fixed limits, or beyond what is usual there.

What is usual `silence.Listener` knows. The sweep asks this about once a second of each request.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from ollama_proxy.app.requests.attempt import OpenAttempt
from ollama_proxy.config.sections.timeouts import Timeouts as TimeoutsConfig
from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.domain.names import canonical_model, matches_pattern
from ollama_proxy.lifecycle.life import State

if TYPE_CHECKING:
    from ollama_proxy.app.requests.errand import Errand

#: Their answers come at once, however long they are.
_SOON_WHOLE = frozenset((Operation.EMBED, Operation.SHOW, Operation.COUNT))
#: Nothing is known of how long they take.
_NOT_MEASURED = frozenset((Operation.PASS, Operation.SHOW, Operation.COUNT))


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds without a byte after which an attempt has failed.

    A model that is not loaded may load for minutes, and of a whole answer nothing comes before its last token.
    """

    first_byte_loaded_s: float = 120.0
    first_byte_cold_s: float = 300.0
    whole_answer_s: float = 600.0
    idle_s: float = 120.0
    #: Of models whose names match a pattern; the first that does counts.
    of_models: tuple[tuple[str, Timeouts], ...] = ()

    def find_limit(self, call: Call, attempt: OpenAttempt, state: State) -> float:
        """How long the backend may say nothing as things stand; inf while nothing is asked of it."""
        if self.of_models:
            return self._of(canonical_model(attempt.decision.model))._find_limit(call, attempt, state)
        return self._find_limit(call, attempt, state)

    def _of(self, model: str) -> Timeouts:
        return next((one for pattern, one in self.of_models if matches_pattern(model, pattern)), self)

    def _find_limit(self, call: Call, attempt: OpenAttempt, state: State) -> float:
        if state is State.STREAMING:
            return self.idle_s
        if state is not State.WAITING:
            return math.inf
        if not call.stream and call.operation not in _SOON_WHOLE:
            return self.whole_answer_s
        loaded = canonical_model(attempt.decision.model) in attempt.view.loaded
        return self.first_byte_loaded_s if loaded else self.first_byte_cold_s


def make_timeouts(config: TimeoutsConfig) -> Timeouts:
    """As configured."""
    general = Timeouts(
        config.first_byte_seconds, config.loading_seconds, config.whole_answer_seconds, config.between_seconds
    )
    own = [
        Timeouts(
            one.first_byte_seconds or general.first_byte_loaded_s,
            one.loading_seconds or general.first_byte_cold_s,
            one.whole_answer_seconds or general.whole_answer_s,
            one.between_seconds or general.idle_s,
        )
        for one in config.models.values()
    ]
    return msgspec.structs.replace(general, of_models=tuple(zip(config.models, own, strict=True)))


def find_overdue(errand: Errand, attempt: OpenAttempt, now_s: float) -> str:
    """Why the attempt is given up for its silence, in words; "" while it is not.

    For a silence that is merely strange nobody is given up whom no other could replace.
    """
    owner, call, state = errand.owner, errand.call, errand.life.state
    silent_s = now_s - attempt.last_s
    limit_s = owner.timeouts.find_limit(call, attempt, state)
    if silent_s >= limit_s:
        return f"timeout: silent for {limit_s:g} s"
    if limit_s == math.inf or call.operation in _NOT_MEASURED:
        return ""
    decision = attempt.decision
    streaming = state is State.STREAMING
    strange_s = owner.listener.find_limit(
        call, errand.request, decision, attempt.view, now_s, streaming=streaming, silent_s=silent_s
    )
    if strange_s is None or not errand.could_another(attempt, now_s):
        return ""
    owner.listener.found_dumb(attempt.backend, attempt.last_s)
    owner.fleet_state.fell_silent(attempt.backend, decision.model)
    return f"timeout: silent for {silent_s:.1f} s, where more than {strange_s:.1f} s is strange"
