"""One request on its way: decided, waiting for a slot, sent, answered, settled.

It feeds the request's life with events; this is the one place where decisions become attempts. Nothing here awaits:
every step is a callback of the event loop and leaves all books consistent.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ollama_proxy.app.bill import Bill
from ollama_proxy.app.continuing import (
    ask_for_rest,
    end_of_nothing,
    find_obstacle,
    join_outcomes,
    tell_obstacle,
    tell_seam,
)
from ollama_proxy.app.hedge import Hedge, is_late, start_hedge
from ollama_proxy.app.lessons import learn_limit, teach
from ollama_proxy.app.reuse import follow
from ollama_proxy.app.settlement import Timing, believe, describe_route, sum_up
from ollama_proxy.domain.answer import AnswerEvent, Finished, Outcome, Progress, Route
from ollama_proxy.domain.call import COST_NOTHING, Call, Need, Operation
from ollama_proxy.domain.decision import Decision, Refusal, RefusalKind, RoutingRequest
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import AnswerSink, Attempt
from ollama_proxy.fleet.admission import Full, Waiting
from ollama_proxy.fleet.running import Running, predict_running
from ollama_proxy.lifecycle.continuation import Sent, continue_call, find_end, why_not
from ollama_proxy.lifecycle.life import Life, State
from ollama_proxy.net.task import spawn
from ollama_proxy.observability.decisions import Taken
from ollama_proxy.routing.concession import give_way
from ollama_proxy.routing.decide import decide
from ollama_proxy.routing.record import Inputs, decide_again

if TYPE_CHECKING:
    from ollama_proxy.app.dispatch import Dispatcher

_log = logging.getLogger(__name__)

_FAILED_WITH_WORDS = 500
_NO_ROOM = "there is no room in the queue"
#: Those that write token by token, and so take a slot.
_WRITTEN = frozenset((Operation.GENERATE, Operation.CHAT, Operation.COMPLETE, Operation.PASS))
#: Shorter answers say little of how long a token takes.
_LEAST_TOKENS = 8
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


class Job:
    """One request on its way: the ticket of its client and the sink of its attempts."""

    __slots__ = (
        "_alone",
        "_asked",
        "_attempt",
        "_bill",
        "_decision",
        "_doubtful",
        "_first_s",
        "_head",
        "_hedge",
        "_last_s",
        "_looked_again",
        "_opened_s",
        "_owner",
        "_paused",
        "_relayed",
        "_request",
        "_reuse",
        "_running",
        "_seam",
        "_sent",
        "_sink",
        "_taken",
        "_view",
        "_waiting",
        "_whole",
        "call",
        "life",
    )

    def __init__(self, owner: Dispatcher, call: Call, sink: AnswerSink) -> None:
        self._owner = owner
        self.call = call
        self._sink = sink
        self.life = Life(owner.max_attempts)
        model = canonical_model(call.model)
        self._request = RoutingRequest(
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
        #: What it has in common with earlier prompts, where that is worth a look.
        self._reuse = follow(owner, call, self._request)
        #: Its place in the queue, while it waits for a slot.
        self._waiting: Waiting | None = None
        #: What is predicted of the attempt that runs.
        self._running: Running | None = None
        self._attempt: Attempt | None = None
        #: The same request beside it at another backend.
        self._hedge: Hedge | None = None
        #: What it costs is written down here.
        self._bill: Bill | None = None
        self._decision: Decision | None = None
        #: That decision among those that are kept, until it is known how it ended.
        self._taken: Taken | None = None
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
        #: What the client has of an answer that broke off, and the call for the whole of it.
        self._sent: Sent | None = None
        self._whole = call
        #: Behind a seam: what is told of it, and whether another model than the one asked for wrote what is before it.
        self._seam = "", False
        self._asked: RoutingRequest | None = None

    # -- deciding and opening ------------------------------------------------

    def advance(self) -> None:
        """Decide, and open an attempt, wait for a slot, or end."""
        owner = self._owner
        now_s = owner.clock()
        if self._reuse is not None:
            self._request = self._reuse.look(self._request)
        request = self._request
        if request.annotations.max_latency_ms and self.life.attempts:
            request = msgspec.structs.replace(request, spent_s=now_s - self.call.arrived_s)
        view, tried = owner.fleet_state.view_at(now_s), self.life.tried
        given = (request, view, owner.policy, tried, *self._seam)
        verdict = decide(request, view, owner.policy, tried) if self._sent is None else decide_again(given)
        self.settle_verdict(verdict, given)

    def is_affordable(self) -> bool:
        """Whether there is anything left of the hour's energy; ends the request if not."""
        budget, now_s = self._owner.budget, self._owner.clock()
        wait_s = budget.wait_s(now_s)
        call = self.call
        # Nothing to read: a model is to be loaded or unloaded.
        is_empty = call.operation in (Operation.GENERATE, Operation.CHAT) and not call.prompt_bytes
        if not wait_s or is_empty or call.operation in COST_NOTHING:
            return True
        told = f"the energy budget of {budget.limit_j / 3600:g} Wh an hour is spent; there is more in {wait_s:.0f} s"
        self.refuse(ProxyError(ErrorKind.OVERLOADED, told, retry_after_s=wait_s))
        return False

    def refuse(self, error: ProxyError) -> None:
        """End before anything is decided."""
        self.life.ended()
        self._end_with(error)

    @property
    def waits(self) -> bool:
        """Whether it is in the queue."""
        return self._waiting is not None

    def settle_verdict(self, verdict: Decision | Refusal, given: Inputs) -> None:
        """Do what was decided on `given`, now or when its turn has come."""
        came_up = self._waiting is not None
        self._waiting = None
        if isinstance(verdict, Refusal) and not self._sent and (self.call.wants or self._owner.substitutes):
            lesser = self._give_way()
            if lesser is not None:
                (verdict, given), came_up = lesser, False
        if isinstance(verdict, Refusal):
            self._settle_refusal(verdict, given)
        elif came_up or not self._must_wait(verdict):
            self._open(verdict, given)
        else:
            self._wait(verdict, given)

    def _settle_refusal(self, refusal: Refusal, given: Inputs) -> None:
        owner = self._owner
        if owner.starting and refusal.kind is RefusalKind.NO_HEALTHY:
            return
        if refusal.kind is RefusalKind.MODEL_NOWHERE and not self._looked_again and owner.refresh is not None:
            self._looked_again = True
            spawn(self._look_again(owner.refresh), "look for a model again")
            return
        self._taken = owner.decisions.take(self.call.request_id, self.life.attempts + 1, given, refusal)
        if refusal.nearest and self.call.caller.models:
            # Names that resemble it may be of models that are not there for this caller.
            told = f"model '{self._request.requested_model[:100]}' not found"
            refusal = msgspec.structs.replace(refusal, message=told, nearest=())
        error = self.life.refused(refusal)
        if self._sent is not None:
            tell_obstacle(error, "nobody else can, or may")
        self._end_with(error, "refused")

    def _must_wait(self, decision: Decision) -> bool:
        """Whether the chosen backend has no slot for it, or others were there first. Only what writes takes a slot."""
        if decision.short_of_power:
            return True
        one = decision.scored[0][1]
        if not one.spec.held or self._request.embed:
            return False
        return one.full or len(self._owner.admission) > 0

    def _wait(self, decision: Decision, given: Inputs) -> None:
        owner = self._owner
        request, *_, given_up, substitute = given
        self._waiting = Waiting(self, request, self.call.arrived_s, self.call.caller.name, self.life.tried)
        self._waiting.given_up, self._waiting.substitute = given_up, substitute
        if self._reuse is not None and not substitute:
            self._waiting.find_held = self._reuse.find_held
        self._waiting.size_bytes = len(self.call.raw.body) if self.call.raw is not None else self.call.prompt_bytes
        try:
            displaced = owner.admission.add(self._waiting, owner.clock())
        except Full as full:
            self._taken = owner.decisions.take(self.call.request_id, self.life.attempts + 1, given, decision)
            self._turn_away(str(full), full.wait_s)
            return
        if displaced is not None:
            displaced.owner.make_way(displaced.wait_s)
        owner.plan_soon()

    def make_way(self, wait_s: float | None) -> None:
        """The queue is full, and somebody more urgent got its place."""
        self._turn_away("the queue is full, and a more urgent request got its place", wait_s or 0.0)

    def _turn_away(self, told: str, wait_s: float) -> None:
        """End it for want of room in the queue."""
        self._waiting = None
        self.life.ended()
        error = ProxyError(ErrorKind.OVERLOADED, told, retry_after_s=max(1.0, wait_s))
        if self._sent is not None:
            tell_obstacle(error, _NO_ROOM)
        self._end_with(error, "refused")

    async def _look_again(self, refresh: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Decide once more over fresh lists: somebody may have put the model on a server a moment ago."""
        try:
            await refresh()
        finally:
            if self.life.state is State.DECIDING:
                self.advance()

    def _give_way(self) -> tuple[Decision, Inputs] | None:
        """The decision when nobody can take the request as it is: less than it wants, then another model."""
        owner, request = self._owner, self._request
        may_use = self.call.caller.may_use
        substitutes = [one for one in owner.substitutes.get(request.model, ()) if may_use(one)]
        for lesser, remark in give_way(self.call, request, substitutes):
            view = owner.fleet_state.view_at(owner.clock())
            given = (lesser, view, owner.policy, self.life.tried, remark, lesser.model != request.model)
            verdict = decide_again(given)
            if not isinstance(verdict, Refusal):
                return verdict, given
        return None

    def _open(self, decision: Decision, given: Inputs) -> None:
        owner, fleet = self._owner, self._owner.fleet_state
        chosen = decision.backend
        self._view = view = fleet.look(chosen)
        self._decision = decision
        self._alone = not view.in_flight
        self._head = None
        self._relayed = 0
        self._opened_s = self._last_s = owner.clock()
        self._first_s = None
        owner.retries.opened(self._opened_s, again=self.life.attempts > 0)
        self.life.opened(chosen)
        self._taken = owner.decisions.take(self.call.request_id, self.life.attempts, given, decision)
        # Whoever takes no slot is not counted among those that keep one.
        self._running = None
        if (view.spec.held or view.spec.memory_pool or fleet.adapts) and not self._request.embed:
            self._running = predict_running(self._request, decision, self._opened_s, given[2])
        fleet.opened(chosen, self._running, self._opened_s)
        if view.kept_out:
            fleet.tried(chosen, decision.model, self._opened_s)
        if self._reuse is not None:
            self._reuse.begin(decision, given[0], substitute=given[5])
        self._bill = owner.accounting.open(view, self.call, decision, given[0], self._opened_s)
        call, model = self.call, decision.model
        # Another model than the one asked for is told by its own name; another name for the same is nobody's business.
        call.echo = call.model if model != call.model and not decision.stand_in else ""
        try:
            self._attempt = attempt = owner.backends[chosen].open(call, model, self)
            if self._paused:
                attempt.pause()
        except ProxyError as error:
            # The whole request was read only now, to translate it, and is itself at fault.
            self._give_up(error)
        except Exception:  # noqa: BLE001  # whatever it trips over, the books are kept and the client is told
            _log.exception("%s could not be sent", call.request_id)
            self._give_up(ProxyError(ErrorKind.INTERNAL, "internal error"))

    def _give_up(self, error: ProxyError) -> None:
        """End before the attempt that was about to begin."""
        self._close()
        self._close_bill("failed")
        self.life.ended()
        self._end_with(error)

    def _close(self, *, unread: bool = False) -> None:
        """The attempt is over: whoever waits for its slot may have it.

        `unread`: it was broken off before its first token, and the server may not care.
        """
        fleet, decision = self._owner.fleet_state, self._decision
        if unread and decision is not None:
            _, one, _, prefill_s, *_ = decision.scored[0]
            read_s = self._opened_s + one.load_s + prefill_s
            fleet.abandoned(self.life.backend, self._running, read_s, self._owner.clock())
        else:
            fleet.closed(self.life.backend, self._running, self._owner.clock())
        self._running = None
        if self._reuse is not None:
            self._reuse.end()
        if len(self._owner.admission):
            self._owner.plan_soon()

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
        if self._hedge is not None:
            self._drop_hedge("the first attempt ended sooner")
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
            if self._sent is not None:
                finished = end_of_nothing(finished)
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
        owner, call, life, decision = self._owner, self.call, self.life, self._decision
        assert decision is not None
        finished = believe(finished)
        # Job and attempt know each other; let go, they are freed at once and not by the collector.
        self._attempt = None
        self._close()
        owner.forget(self)
        now_s = self._last_s
        held = self._reuse.held_tokens if self._reuse is not None else 0.0
        timing = Timing(call.arrived_s, self._opened_s, self._first_s or now_s, now_s, self._alone, call.stream, held)
        figure = owner.accounting.close(self._bill, "ok", now_s, self._first_s, finished.usage)
        self._bill = None
        outcome = sum_up(finished, timing, figure)
        teach(owner, call, self._request, decision, timing, finished)
        if owner.fleet_state.adapts and outcome.output_tokens >= _LEAST_TOKENS:
            owner.fleet_state.measured(life.backend, (now_s - self._opened_s) / outcome.output_tokens)
        owner.books.succeeded(call, life, decision, outcome, timing)
        if self._taken is not None:
            owner.decisions.answered(self._taken, outcome, self._opened_s - call.arrived_s, call.stream)
            self._taken = None
        for doubt in self._doubtful:
            owner.books.blame(*doubt, now_s)
        return outcome if self._sent is None else join_outcomes(self._sent, outcome)

    def on_failure(self, failure: Failure) -> None:
        owner, life = self._owner, self.life
        if self._hedge is not None:
            self._lean_on_hedge(self._hedge, failure)
            return
        attempt, self._attempt = self._attempt, None
        progress = self._read_progress(attempt, failure)
        finished = None if progress is None else find_end(self._whole, self._sent, progress)
        if progress is not None and finished is not None:
            self._end_early(progress, finished)
            return
        if self._reuse is not None:
            self._reuse.end(failed=True)
        # Only whom we broke off ourselves may be reading on.
        self._close(unread=failure.kind is FailureKind.TIMEOUT and self._first_s is None)
        self._close_bill("failed")
        asked = self._decision.model if self._decision is not None else self.call.model
        if failure.kind is FailureKind.SERVER_ERROR and failure.status == _FAILED_WITH_WORDS and failure.body:
            # Every server may say so to a request that is itself at fault.
            self._doubtful.append((life.backend, asked, failure))
        else:
            owner.books.blame(life.backend, asked, failure, owner.clock())
            if failure.kind is FailureKind.PROMPT_TOO_LONG:
                failure = learn_limit(owner, self._request, life.backend, asked, failure, life.tried)
        owner.books.attempt_failed(life.backend, failure)
        given = self._taken.given if self._taken is not None else None
        self._close_decision("failed", failure.message)
        if life.state is not State.STREAMING or given is None:
            error = self._may_try_again(failure)
        else:
            error = self._go_on(progress, failure, given)
        if error is None:
            if owner.policy.power_set is not None:
                # Others may run under the cap now that this one is down.
                owner.resteer()
            self.advance()
        else:
            self._end_with(error)

    def _may_try_again(self, failure: Failure) -> ProxyError | None:
        owner = self._owner
        # What the client has already of an answer must not be in vain.
        may_retry = self._sent is not None or owner.retries.allows(owner.clock())
        error = self.life.failed(failure, may_retry=may_retry)
        if error is not None and self._sent is not None:
            tell_obstacle(error, "no attempt is left" if failure.kind.retryable else "the request for the rest failed")
        return error

    def _read_progress(self, attempt: Attempt | None, failure: Failure) -> Progress | None:
        """How far a stream came that broke off, where somebody else might go on."""
        if self.life.state is not State.STREAMING or attempt is None or failure.told or not failure.kind.retryable:
            return None
        return attempt.take_over()

    def _end_early(self, progress: Progress, finished: Finished) -> None:
        """All was there: what broke off takes nothing away."""
        if progress.first:
            self._sink.take_over(progress)
        elif progress.rest:
            self._sink.send_events(progress.rest)
        self.on_end(finished)

    def _go_on(self, progress: Progress | None, failure: Failure, given: Inputs) -> ProxyError | None:
        """A stream broke off: have the next decision be about the rest, or say why there is none."""
        life, owner, decision = self.life, self._owner, self._decision
        sent = self._sent or Sent((self._first_s or self._last_s) - self.call.arrived_s)
        if progress is not None:
            sent.add(progress.events, progress.tokens)
        obstacle = why_not(self._whole, sent) if owner.continues else "routing.continuation is never"
        obstacle = obstacle or find_obstacle(life, progress, failure, decision, given)
        if progress is None or obstacle:
            error = life.failed(failure)
            if error is not None:
                tell_obstacle(error, obstacle)
            return error
        if progress.first:
            self._sink.take_over(progress)
        sent.last_s = self._last_s
        self._sent = sent
        self.call = continue_call(self._whole, sent)
        self._asked = self._asked or given[0]
        self._request = ask_for_rest(self._asked, self.call, owner.fleet_state.view(), life.backend)
        self._seam = tell_seam(sent, life.backend, failure), given[5]
        life.broke(failure)
        return None

    def _begin(self) -> None:
        """The first byte of the answer: from here on nothing is tried again."""
        if self._hedge is not None:
            self._drop_hedge("the first attempt began sooner")
        self._first_s = self._last_s
        if self._bill is not None:
            self._bill.first_s = self._last_s
        if self._running is not None:
            self._running.first_s = self._last_s
        self.life.first_byte()
        if self._sent is not None:
            self._owner.books.continued(self.life.backend, self._last_s - self._sent.last_s)
            self._sink.continued(self._route())
            return
        self._sink.routed(self._route())
        if self._head is not None:
            self._sink.start_raw(*self._head)

    def _route(self) -> Route:
        assert self._decision is not None
        assert self._view is not None
        return describe_route(self.call, self.life, self._decision, self._view)

    def _end_with(self, error: ProxyError, result: str = "failed") -> None:
        self._owner.forget(self)
        attempts = self.life.attempts
        if self._taken is not None:
            error.decision_id = self._taken.id
        elif attempts:
            error.decision_id = f"d-{self.call.request_id}-{attempts}"
        self._close_decision(result, error.message)
        self._owner.books.failed(self.call, self.life, error)
        self._sink.fail(error)

    def _close_bill(self, result: str) -> None:
        """Broken off: what it has taken so far was spent nevertheless."""
        self._owner.accounting.close(self._bill, result, self._owner.clock(), self._first_s)
        self._bill = None

    def _close_decision(self, result: str, error: str) -> None:
        """What is kept of the decision in force, if there is one, learns how it ended."""
        taken, self._taken = self._taken, None
        if taken is not None:
            now_s = self._owner.clock()
            began_s = now_s if result == "refused" else self._opened_s
            self._owner.decisions.ended(taken, result, error, began_s - self.call.arrived_s, now_s - began_s)

    # -- the client's ticket -------------------------------------------------

    def cancel(self) -> None:
        """The client has gone."""
        if self._let_go("cancelled"):
            self._owner.forget(self)
            self._close_decision("cancelled", "the client left")
            self._owner.books.cancelled(self.call, self.life)

    def break_off(self, error: ProxyError) -> None:
        """End it, whatever it is doing, with a last word to the client; safe to call at any time."""
        if self._let_go("failed"):
            self._end_with(error)

    def _let_go(self, result: str) -> bool:
        """Leave the backend or the queue; False when it is over already."""
        state = self.life.state
        if not self.life.left():
            return False
        if self._hedge is not None:
            self._drop_hedge("the client left")
        if self._attempt is not None:
            self._attempt.abort()
            self._attempt = None
        if state in (State.WAITING, State.STREAMING):
            self._close(unread=state is State.WAITING and self._first_s is None)
            self._close_bill(result)
        if self._waiting is not None:
            self._owner.admission.remove(self._waiting)
            self._waiting = None
        return True

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

    def kept_bytes(self) -> int:
        """How much is kept of what the client was sent, nearly."""
        return self._attempt.kept_bytes() if self._attempt is not None else 0

    def shorten_kept(self) -> None:
        """Keep of it what it says, and not how it came."""
        if self._attempt is not None:
            self._attempt.read_kept()

    def give_up_kept(self) -> None:
        """Keep none of it: if the stream breaks off now, nobody goes on with it."""
        if self._attempt is not None:
            self._attempt.give_up_kept()

    def forgive(self, seconds: float) -> None:
        """Nobody listened for so long."""
        self._last_s += seconds

    def check_silence(self, now_s: float) -> None:
        """Fail the attempt when the backend has been silent for too long."""
        attempt = self._attempt
        if attempt is not None and attempt.relayed != self._relayed:
            self._relayed = attempt.relayed
            self._last_s = now_s
        owner = self._owner
        if owner.hedges is not None and self._hedge is None and self._is_to_be_hedged(now_s):
            self._hedge = start_hedge(owner, self, self._request, self._decision, now_s)
        silence_s = self._longest_silence_s()
        if now_s - self._last_s >= silence_s:
            self._fail_silent(f"timeout: silent for {silence_s:g} s")
            return
        limit_s = self._find_strange_silence(now_s) if silence_s < math.inf else None
        if limit_s is not None and self._is_wanted_elsewhere(now_s):
            owner, backend = self._owner, self.life.backend
            owner.listener.found_dumb(backend, self._last_s)
            if self._decision is not None:
                owner.fleet_state.fell_silent(backend, self._decision.model)
            told = f"timeout: silent for {now_s - self._last_s:.1f} s, where more than {limit_s:.1f} s is strange"
            self._fail_silent(told)

    # -- a second attempt beside the first -----------------------------------

    def _is_to_be_hedged(self, now_s: float) -> bool:
        call, view, decision = self.call, self._view, self._decision
        wishes = call.annotations
        if not wishes.latency_critical or wishes.target or not call.stream or self.life.state is not State.WAITING:
            return False
        if view is None or decision is None or self._sent is not None or self._reuse is not None:
            return False
        now = self._owner.fleet_state.find(view.spec.id)
        return self.life.may_try and now is not None and is_late(call, decision, view, now, now_s - self._last_s)

    def _drop_hedge(self, why: str) -> None:
        """Break it off; what it did is billed."""
        hedge, self._hedge = self._hedge, None
        if hedge is not None and hedge.attempt is not None:
            hedge.attempt.abort()
            hedge.close(self._owner, "cancelled", why)

    def adopt(self, hedge: Hedge) -> bool:
        """The second attempt begins first, and takes the place of the first; False if it has it already."""
        if self._hedge is not hedge:
            return False
        if self._attempt is not None:
            self._attempt.abort()
            self._close(unread=True)
            self._close_bill("cancelled")
            self._close_decision("cancelled", "a second attempt began sooner")
        self._take_place(hedge)
        return True

    def _take_place(self, hedge: Hedge) -> None:
        self._hedge = None
        self._attempt, self._decision, self._view = hedge.attempt, hedge.decision, hedge.view
        self._running, self._bill, self._taken = hedge.running, hedge.bill, hedge.taken
        self._opened_s = self._last_s = hedge.opened_s
        self._alone, self._head, self._relayed = True, None, 0
        self.life.backend = hedge.backend

    def _lean_on_hedge(self, hedge: Hedge, failure: Failure) -> None:
        """The first attempt failed while the second runs: that is the only one now."""
        self._attempt = None
        self._close(unread=failure.kind is FailureKind.TIMEOUT)
        self._close_bill("failed")
        owner, backend = self._owner, self.life.backend
        owner.books.blame(backend, hedge.decision.model, failure, owner.clock())
        owner.books.attempt_failed(backend, failure)
        self._close_decision("failed", failure.message)
        self.life.failures = (*self.life.failures, (backend, failure))
        self._take_place(hedge)

    def hedge_failed(self, hedge: Hedge, failure: Failure) -> None:
        """The second attempt failed: on its own account, or after it took the first one's place."""
        if self._hedge is not hedge:
            self.on_failure(failure)
            return
        self._hedge = None
        owner = self._owner
        hedge.close(owner, "failed", failure.message)
        owner.books.blame(hedge.backend, hedge.decision.model, failure, owner.clock())
        owner.books.attempt_failed(hedge.backend, failure)

    def _fail_silent(self, message: str) -> None:
        if self._attempt is not None:
            self._attempt.abort()
        self.on_failure(Failure(FailureKind.TIMEOUT, message))

    def _find_strange_silence(self, now_s: float) -> float | None:
        """The silence that is strange by what was learned, if it has lasted for so long."""
        decision, view = self._decision, self._view
        if decision is None or view is None or self.call.operation in _NOT_MEASURED:
            return None
        return self._owner.listener.find_limit(
            self.call,
            self._request,
            decision,
            view,
            now_s,
            streaming=self.life.state is State.STREAMING,
            silent_s=now_s - self._last_s,
        )

    def _is_wanted_elsewhere(self, now_s: float) -> bool:
        """Whether somebody else could take it, so that nobody is given up for an error."""
        owner, request = self._owner, self._request
        if not self.life.may_try:
            return False
        if self.life.state is State.STREAMING:
            if not owner.continues or why_not(self._whole, self._sent):
                return False
            request = msgspec.structs.replace(request, needs=request.needs | {Need.CONTINUATION})
        verdict = decide(request, owner.fleet_state.view_at(now_s), owner.policy, self.life.tried)
        return isinstance(verdict, Decision) and not verdict.stand_in

    @property
    def heard_s(self) -> float | None:
        """When the backend of a stream said something last; None of what is no stream or has not begun."""
        return self._last_s if self.life.state is State.STREAMING else None

    @property
    def reading_s(self) -> float:
        """Seconds predicted until the first token of a request that has none yet; else 0.0."""
        decision = self._decision
        return decision.scored[0][3] if decision is not None and self.life.state is State.WAITING else 0.0

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
