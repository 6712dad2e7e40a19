"""Whether the silence of a backend is strange: by its learned speeds, by what else was heard of it, by asking it.

Nothing is done on a request's way: all is reckoned by the sweep, and only of requests that are silent for seconds. A
model that may be loading is left alone, since to ask somebody else would begin the load anew, and so is a request that
may be waiting behind others in the backend's own queue while the backend works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from ollama_proxy.domain.call import Call, Need
from ollama_proxy.domain.decision import Decision, RoutingRequest
from ollama_proxy.domain.device import BackendView, Rates
from ollama_proxy.domain.lengths import make_typical_lengths
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.routing.silence import (
    LEAST_S,
    longest_before_first,
    longest_before_whole,
    longest_between,
)
from ollama_proxy.routing.speeds import LOADING_KINDS

if TYPE_CHECKING:
    from ollama_proxy.app.requests.attempt import OpenAttempt

#: Some first tokens, of prompts of different lengths, have to be seen before it is known how fast a device reads.
_KNOWN_FROM = 8
#: A backend is asked whether it is there at most so often.
_ASK_EVERY_S = 2.0
#: Its first token, or any piece, may be held back: servers parse calls of tools before they tell them.
_HELD_BACK = frozenset((Need.TOOLS, Need.TOOL_CHOICE, Need.FORMAT))
#: How long these take to read is not to be told by the length of the prompt.
_UNMEASURED = frozenset((Need.IMAGES, Need.AUDIO, Need.REMOTE_IMAGES, Need.DOCUMENTS, Need.WEB_SEARCH, Need.CHOICES))
#: These may make an Ollama load a model again that it has loaded.
_RELOADING = (b'"num_ctx"', b'"num_gpu"', b'"num_batch"', b'"num_thread"', b'"use_mmap"', b'"main_gpu"')


class Listener:
    """Knows of each backend when it was heard last, and what it has to read."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._streams: dict[str, float] = {}
        self._reading_s: dict[str, float] = {}
        self._dumb_s: dict[str, float] = {}
        self._asked_s: dict[str, float] = {}
        #: Asks a backend whether it is there, and says `found_dumb` if it is not.
        self.ask: Callable[[str], object] | None = None

    def listen(self, attempts: Iterable[OpenAttempt]) -> None:
        """Take in how those that run are getting on; call before a round of questions."""
        self._streams.clear()
        self._reading_s.clear()
        for one in attempts:
            backend = one.backend
            if (heard_s := one.heard_s) is not None:
                self._streams[backend] = max(heard_s, self._streams.get(backend, 0.0))
            elif reading_s := one.reading_s:
                self._reading_s[backend] = reading_s + self._reading_s.get(backend, 0.0)

    def heard(self, backend: str) -> float:
        """When a backend has said anything to anybody, in monotonic seconds; 0.0 if never."""
        return max(self._streams.get(backend, 0.0), self._fleet.heard_at(backend))

    def found_dumb(self, backend: str, since_s: float) -> None:
        """It has said nothing since then where it should have."""
        self._dumb_s[backend] = max(since_s, self._dumb_s.get(backend, 0.0))

    def is_dumb(self, backend: str, now_s: float) -> bool:
        """Whether it said nothing of late, to anybody, where it should have; has it asked besides."""
        if self._dumb_s.get(backend, 0.0) > self.heard(backend):
            return True
        if self.ask is not None and now_s - self._asked_s.get(backend, -_ASK_EVERY_S) >= _ASK_EVERY_S:
            self._asked_s[backend] = now_s
            self.ask(backend)
        return False

    def find_limit(
        self,
        call: Call,
        request: RoutingRequest,
        decision: Decision,
        opened: BackendView,
        now_s: float,
        *,
        streaming: bool,
        silent_s: float,
    ) -> float | None:
        """The seconds after which silence is strange, once it is; None while it is not.

        `opened` is the backend as it was when the request was sent there.
        """
        backend, name = opened.spec.id, canonical_model(decision.model)
        now = self._fleet.find(backend)
        if silent_s < LEAST_S or now is None or request.needs & _UNMEASURED:
            return None
        if not is_warm(call, name, opened, now, time.time()):
            return None
        patience = 2 ** min(self._fleet.count_silences(backend, name), 10)
        first_s, whole_s, between_s = (
            patience * limit_s for limit_s in self._reckon(request, decision, now.rates.get(name))
        )
        is_held_back = bool(request.needs & _HELD_BACK)
        if streaming:
            return between_s if silent_s >= between_s and not is_held_back else None
        limit_s = first_s
        works_for_others = opened.in_flight >= opened.spec.slots
        if not call.stream or is_held_back or works_for_others:
            limit_s = whole_s
        heard_s = self.heard(backend)
        if silent_s >= first_s / 2 and now_s - heard_s >= first_s / 2 and self.is_dumb(backend, now_s):
            # Whoever says nothing of itself either is not at work but gone.
            limit_s = first_s
        elif works_for_others:
            silent_s = min(silent_s, now_s - heard_s)
        return limit_s if silent_s >= limit_s else None

    def _reckon(self, request: RoutingRequest, decision: Decision, rates: Rates | None) -> tuple[float, float, float]:
        """The limits of a first token, of a whole answer, of a gap."""
        _, one, _, prefill_s, *_ = decision.scored[0]
        reading_s = self._reading_s.get(one.backend, 0.0)
        s_per_token = one.s_per_output_token * one.crowding
        ttft_s = max(prefill_s, reading_s)
        guessed = rates is None or rates.ttft_samples < _KNOWN_FROM
        overhead_s = min(one.overhead_s, ttft_s)
        first_s = longest_before_first(overhead_s, ttft_s - overhead_s, one.ttft_var, guessed=guessed)
        if request.embed:
            return first_s, first_s, first_s
        lengths = request.lengths or make_typical_lengths()
        return (
            first_s,
            longest_before_whole(ttft_s, one.ttft_var, s_per_token, one.decode_var, lengths, request.max_tokens),
            longest_between(reading_s, one.ttft_var, s_per_token, one.decode_var),
        )


def is_warm(call: Call, name: str, opened: BackendView, now: BackendView, now_unix_s: float) -> bool:
    """Whether the model was surely in memory when the request came, and still is, so that nothing has to be loaded."""
    if name not in opened.loaded or name not in now.loaded or opened.asleep:
        return False
    if opened.spec.kind not in LOADING_KINDS:
        return True
    if call.raw is not None and any(option in call.raw.body for option in _RELOADING):
        return False
    return all(_expires_unix_s(one) > now_unix_s for one in opened.loaded_entries if _is_named(one, name))


def _is_named(entry: object, name: str) -> bool:
    return isinstance(entry, dict) and canonical_model(str(entry.get("model") or entry.get("name") or "")) == name


def _expires_unix_s(entry: object) -> float:
    """When a server will unload a model by itself; never, where it does not say."""
    told = entry.get("expires_at") if isinstance(entry, dict) else None
    try:
        return datetime.fromisoformat(str(told)).timestamp() if told else float("inf")
    except (ValueError, OverflowError):
        return float("inf")
