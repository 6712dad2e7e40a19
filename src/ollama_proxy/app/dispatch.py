"""The one place where decisions become attempts: it runs each request's life, feeds it events, books the outcome.

Nothing here awaits. Every step is a callback of the event loop and leaves all books consistent.
"""

from __future__ import annotations

import itertools
import logging
import math
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import msgspec

from ollama_proxy.app.settlement import Books, Timing, describe_route, sum_up
from ollama_proxy.domain.answer import AnswerEvent, Finished, Outcome, Route
from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.domain.decision import Decision, Policy, Refusal, RefusalKind, RoutingRequest
from ollama_proxy.domain.device import BackendView, FleetView
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import AnswerSink, Attempt, Backend
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.lifecycle.life import MAX_ATTEMPTS, Life, State
from ollama_proxy.net.task import spawn
from ollama_proxy.routing.concession import give_way
from ollama_proxy.routing.decide import decide

_log = logging.getLogger(__name__)

_EMBED = Operation.EMBED
_FAILED_WITH_WORDS = 500
#: Their answers come at once, however long they are.
_SOON_WHOLE = frozenset((Operation.EMBED, Operation.SHOW, Operation.COUNT))


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds without a byte after which an attempt has failed.

    A model that is not loaded may load for minutes, and of a whole answer nothing comes before its last token.
    """

    first_byte_loaded_s: float = 120.0
    first_byte_cold_s: float = 300.0
    whole_answer_s: float = 600.0
    idle_s: float = 120.0


class Dispatcher:
    """Takes calls and sees each to its end."""

    def __init__(
        self,
        fleet: Fleet,
        backends: Mapping[str, Backend],
        policy: Policy,
        books: Books,
        clock: Callable[[], float],
        timeouts: Timeouts | None = None,
        max_attempts: int = MAX_ATTEMPTS,
        substitutes: Mapping[str, Sequence[str]] | None = None,
        refresh: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """`substitutes` are the models that may answer for another, by its canonical name; `refresh` asks the backends
        for their lists again, before a model is said to be nowhere."""
        self.fleet_state = fleet
        self.backends = backends
        self.policy = policy
        self.books = books
        self.clock = clock
        self.timeouts = timeouts or Timeouts()
        self.max_attempts = max_attempts
        self.substitutes = substitutes or {}
        self.refresh = refresh
        self.running: set[Job] = set()
        #: While true, a request that finds no healthy backend waits: one is about to start.
        self.starting = False
        self._prefix = secrets.token_hex(4)
        self._ids = itertools.count(1)

    def submit(self, call: Call, sink: AnswerSink) -> Job:
        """Begin with a call; its answer comes to the sink."""
        job = Job(self, call, sink)
        self.running.add(job)
        job.advance()
        return job

    def view(self) -> FleetView:
        """The backends at this moment."""
        return self.fleet_state.view()

    def make_request_id(self) -> str:
        """A process-wide unique id: a random prefix and a counter."""
        return f"{self._prefix}-{next(self._ids):x}"

    def started(self) -> None:
        """The start is over: whoever waited for it is decided anew."""
        self.starting = False
        for job in list(self.running):
            if job.life.state is State.DECIDING:
                job.advance()

    def sweep(self, now_s: float) -> None:
        """Fail attempts that have been silent for too long; call about once a second."""
        for job in list(self.running):
            job.check_silence(now_s)


class Job:
    """One request on its way: the ticket of its client and the sink of its attempts."""

    __slots__ = (
        "_alone",
        "_attempt",
        "_decision",
        "_doubtful",
        "_first_s",
        "_head",
        "_last_s",
        "_looked_again",
        "_opened_s",
        "_owner",
        "_paused",
        "_relayed",
        "_request",
        "_sink",
        "_view",
        "call",
        "life",
    )

    def __init__(self, owner: Dispatcher, call: Call, sink: AnswerSink) -> None:
        self._owner = owner
        self.call = call
        self._sink = sink
        self.life = Life(owner.max_attempts)
        self._request = RoutingRequest(
            canonical_model(call.model),
            call.model,
            call.needs | call.wants if call.wants else call.needs,
            call.annotations,
            call.prompt_bytes,
            call.max_tokens,
            call.operation is _EMBED,
        )
        self._attempt: Attempt | None = None
        self._decision: Decision | None = None
        #: The chosen backend as it was when the attempt was opened.
        self._view: BackendView | None = None
        self._head: tuple[int, bytes, int | None] | None = None
        self._opened_s = self._last_s = call.arrived_s
        self._first_s: float | None = None
        self._alone = True
        self._looked_again = False
        #: Failures that are a backend's fault only if another does better: backend, model asked for, failure.
        self._doubtful: list[tuple[str, str, Failure]] = []
        self._paused = False
        #: How much of the attempt's relaying was seen by the last look at its silence.
        self._relayed = 0

    # -- deciding and opening ------------------------------------------------

    def advance(self) -> None:
        """Decide, and open an attempt or end."""
        owner = self._owner
        verdict = decide(self._request, owner.fleet_state.view(), owner.policy, self.life.tried)
        if isinstance(verdict, Refusal) and (self.call.wants or owner.substitutes):
            verdict = self._give_way() or verdict
        if isinstance(verdict, Refusal):
            if owner.starting and verdict.kind is RefusalKind.NO_HEALTHY:
                return
            if verdict.kind is RefusalKind.MODEL_NOWHERE and not self._looked_again and owner.refresh is not None:
                self._looked_again = True
                spawn(self._look_again(owner.refresh), "look for a model again")
                return
            self._end_with(self.life.refused(verdict))
            return
        self._open(verdict)

    async def _look_again(self, refresh: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Decide once more over fresh lists: somebody may have put the model on a server a moment ago."""
        try:
            await refresh()
        finally:
            if self.life.state is State.DECIDING:
                self.advance()

    def _give_way(self) -> Decision | None:
        """The decision when nobody can take the request as it is: less than it wants, then another model."""
        owner, request = self._owner, self._request
        for lesser, remark in give_way(self.call, request, owner.substitutes.get(request.model, ())):
            verdict = decide(lesser, owner.fleet_state.view(), owner.policy, self.life.tried)
            if not isinstance(verdict, Refusal):
                other = lesser.model != request.model
                reason = f"{verdict.reason}; {remark}"
                return msgspec.structs.replace(verdict, reason=reason, stand_in=verdict.stand_in or other)
        return None

    def _open(self, decision: Decision) -> None:
        owner, fleet = self._owner, self._owner.fleet_state
        chosen = decision.ranking[0].backend
        self._view = view = fleet.look(chosen)
        self._decision = decision
        self._alone = not view.in_flight
        self._head = None
        self._relayed = 0
        self._opened_s = self._last_s = owner.clock()
        self.life.opened(chosen)
        fleet.opened(chosen)
        call, model = self.call, decision.model
        # Another model than the one asked for is told by its own name; another name for the same is nobody's business.
        call.echo = call.model if model != call.model and not decision.stand_in else ""
        try:
            self._attempt = owner.backends[chosen].open(call, model, self)
        except ProxyError as error:
            # The whole request was read only now, to translate it, and is itself at fault.
            self._give_up(error)
        except Exception:  # noqa: BLE001  # whatever it trips over, the books are kept and the client is told
            _log.exception("%s could not be sent", call.request_id)
            self._give_up(ProxyError(ErrorKind.INTERNAL, "internal error"))

    def _give_up(self, error: ProxyError) -> None:
        """End before the attempt that was about to begin."""
        self._owner.fleet_state.closed(self.life.backend)
        self.life.ended()
        self._end_with(error)

    # -- the attempt's sink --------------------------------------------------

    def on_head(self, status: int, content_type: bytes, length: int | None) -> None:
        self._head = (status, content_type, length)

    def on_raw(self, data: bytes) -> None:
        self._last_s = self._owner.clock()
        if self._first_s is None:
            self._begin()
        self._sink.send_raw(data)

    def relay(self) -> Callable[[bytes], None] | None:
        return self._sink.relay()

    def on_events(self, events: Sequence[AnswerEvent]) -> None:
        self._last_s = self._owner.clock()
        if self._first_s is None:
            self._begin()
        self._sink.send_events(events)

    def on_whole(self, status: int, content_type: bytes, body: bytes, finished: Finished) -> None:
        self._first_s = self._last_s = self._owner.clock()
        # Over before it is sent, so that nothing which sending sets off can end it once more; the books can wait.
        self.life.ended()
        try:
            self._sink.routed(self._route())
            self._sink.send_whole(status, content_type, body)
        except Exception:  # noqa: BLE001  # the client must not be left waiting, whatever its answer trips over
            self._fail_to_write()
        self._settle(finished)

    def on_end(self, finished: Finished) -> None:
        self._last_s = self._owner.clock()
        if self._first_s is None:
            self._begin()
        self.life.ended()
        outcome = self._settle(finished)
        try:
            self._sink.finish(outcome)
        except Exception:  # noqa: BLE001  # as above
            self._fail_to_write()

    def _fail_to_write(self) -> None:
        _log.exception("the answer of %s could not be written", self.call.request_id)
        self._sink.fail(ProxyError(ErrorKind.INTERNAL, "internal error"))

    def _settle(self, finished: Finished) -> Outcome:
        """The attempt has ended well: close it and keep the books."""
        owner, call, life, decision, view = self._owner, self.call, self.life, self._decision, self._view
        assert decision is not None
        assert view is not None
        # Job and attempt know each other; let go, they are freed at once and not by the collector.
        self._attempt = None
        owner.fleet_state.closed(life.backend)
        owner.running.discard(self)
        now_s = self._last_s
        timing = Timing(call.arrived_s, self._opened_s, self._first_s or now_s, now_s, self._alone, call.stream)
        outcome = sum_up(finished, timing, view)
        owner.books.succeeded(call, life, decision, outcome, timing)
        for doubt in self._doubtful:
            owner.books.blame(*doubt)
        return outcome

    def on_failure(self, failure: Failure) -> None:
        owner, life = self._owner, self.life
        self._attempt = None
        owner.fleet_state.closed(life.backend)
        asked = self._decision.model if self._decision is not None else self.call.model
        if failure.kind is FailureKind.SERVER_ERROR and failure.status == _FAILED_WITH_WORDS and failure.body:
            # Every server may say so to a request that is itself at fault.
            self._doubtful.append((life.backend, asked, failure))
        else:
            owner.books.blame(life.backend, asked, failure)
        owner.books.attempt_failed(life.backend, failure)
        error = life.failed(failure)
        if error is None:
            self.advance()
        else:
            self._end_with(error)

    def _begin(self) -> None:
        """The first byte of the answer: from here on nothing is tried again."""
        self._first_s = self._last_s
        self.life.first_byte()
        self._sink.routed(self._route())
        if self._head is not None:
            self._sink.start_raw(*self._head)

    def _route(self) -> Route:
        assert self._decision is not None
        assert self._view is not None
        return describe_route(self.call, self.life, self._decision, self._view)

    def _end_with(self, error: ProxyError) -> None:
        self._owner.running.discard(self)
        self._owner.books.failed(self.call, self.life, error)
        self._sink.fail(error)

    # -- the client's ticket -------------------------------------------------

    def cancel(self) -> None:
        """The client has gone."""
        was_open = self.life.state in (State.WAITING, State.STREAMING)
        if not self.life.left():
            return
        if self._attempt is not None:
            self._attempt.abort()
            self._attempt = None
        if was_open:
            self._owner.fleet_state.closed(self.life.backend)
        self._owner.running.discard(self)
        self._owner.books.cancelled(self.call, self.life)

    def pause(self) -> None:
        """The client reads too slowly; the backend is not to blame for the silence that follows."""
        self._paused = True
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        """The client reads again."""
        self._paused = False
        self._last_s = self._owner.clock()
        if self._attempt is not None:
            self._attempt.resume()

    def check_silence(self, now_s: float) -> None:
        """Fail the attempt when the backend has been silent for too long."""
        attempt = self._attempt
        if attempt is not None and attempt.relayed != self._relayed:
            self._relayed = attempt.relayed
            self._last_s = now_s
        silence_s = self._longest_silence_s()
        if now_s - self._last_s < silence_s:
            return
        if attempt is not None:
            attempt.abort()
        self.on_failure(Failure(FailureKind.TIMEOUT, f"timeout: silent for {silence_s:g} s"))

    def _longest_silence_s(self) -> float:
        """How long the backend may say nothing as things stand; a model that is not loaded may load for minutes."""
        timeouts, state = self._owner.timeouts, self.life.state
        if self._paused or self._view is None:
            return math.inf
        if state is State.STREAMING:
            return timeouts.idle_s
        if state is State.WAITING and not self.call.stream and self.call.operation not in _SOON_WHOLE:
            return timeouts.whole_answer_s
        if state is State.WAITING:
            asked = self._decision.model if self._decision is not None else self.call.model
            loaded = canonical_model(asked) in self._view.loaded
            return timeouts.first_byte_loaded_s if loaded else timeouts.first_byte_cold_s
        return math.inf
