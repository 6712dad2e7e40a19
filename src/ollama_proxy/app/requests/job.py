"""One request on its way: decided, waiting for a slot, sent, answered, settled.

It feeds the request's life with events; this is the one place where decisions become attempts. Nothing here awaits:
every step is a callback of the event loop and leaves all books consistent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from ollama_proxy.app.requests.attempt import OpenAttempt
from ollama_proxy.app.requests.continuing import end_of_nothing, tell_obstacle
from ollama_proxy.app.requests.ending import settle
from ollama_proxy.app.requests.errand import Errand, hide_others
from ollama_proxy.app.requests.failing import blame, count_written, find_error, is_doubtful, read_progress
from ollama_proxy.app.requests.hedge import Race, start_hedge
from ollama_proxy.app.requests.overdue import find_overdue
from ollama_proxy.app.requests.preempting import is_reading, makes_way, may_make_way
from ollama_proxy.app.requests.settlement import describe_route
from ollama_proxy.app.requests.waiting import has_slot, make_waiting, must_wait, reckon_hold, turn_away
from ollama_proxy.domain.answer import Finished, Outcome, Progress
from ollama_proxy.domain.call import Call
from ollama_proxy.domain.decision import Decision, Refusal, RefusalKind
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind, ProxyError
from ollama_proxy.domain.ports import AnswerSink, Attempt
from ollama_proxy.fleet.admission import Full
from ollama_proxy.fleet.preemption import Will
from ollama_proxy.fleet.waiting import Waiting
from ollama_proxy.lifecycle.life import State
from ollama_proxy.net.task import spawn
from ollama_proxy.observability.decisions import Taken
from ollama_proxy.routing.record import Inputs

if TYPE_CHECKING:
    from ollama_proxy.app.requests.dispatch import Dispatcher

_log = logging.getLogger(__name__)


class Job:
    """One request on its way: the ticket of its client, and who opens its attempts."""

    __slots__ = (
        "_doubtful",
        "_held_s",
        "_looked_again",
        "_owner",
        "_paused",
        "_race",
        "_waiting",
        "client",
        "current",
        "errand",
        "life",
    )

    def __init__(self, owner: Dispatcher, call: Call, sink: AnswerSink) -> None:
        self._owner = owner
        self.client = sink
        #: What is asked of others.
        self.errand = errand = Errand(owner, call)
        self.life = errand.life
        #: Its place in the queue, while it waits for a slot.
        self._waiting: Waiting | None = None
        #: The attempt that is under way.
        self.current: OpenAttempt | None = None
        #: That and another beside it, until one of them begins to answer.
        self._race: Race | None = None
        self._looked_again = False
        #: How long it has waited for backends that are kept out.
        self._held_s = 0.0
        #: Failures that are a backend's fault only if another does better: backend, model asked for, failure.
        self._doubtful: tuple[tuple[str, str, Failure], ...] = ()
        self._paused = False

    # -- deciding and opening ------------------------------------------------

    def advance(self) -> None:
        """Decide, and open an attempt, wait for a slot, or end."""
        self.settle_verdict(*self.errand.decide())

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
        owner = self._owner
        came_up = self._waiting is not None
        self._waiting = None
        if isinstance(verdict, Refusal):
            lesser = self.errand.decide_on_less()
            if lesser is None:
                self._settle_refusal(verdict, given)
                return
            (verdict, given), came_up = lesser, False
        if came_up or not must_wait(verdict, self.errand.request, owner.admission, owner.preemption):
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
        hold_s = reckon_hold(refusal, self.life, self._held_s)
        if hold_s:
            self._held_s += hold_s
            asyncio.get_running_loop().call_later(hold_s, self._decide_anew)
            return
        taken = self._put_on_record(given, refusal)
        error = self.life.refused(hide_others(refusal, self.errand))
        if self.errand.cut is not None:
            tell_obstacle(error, "nobody else can, or may")
        self._end_with(error, taken)

    async def _look_again(self, refresh: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Decide once more over fresh lists: somebody may have put the model on a server a moment ago."""
        try:
            await refresh()
        finally:
            self._decide_anew()

    def _decide_anew(self) -> None:
        """As the fleet is now, if nobody has left meanwhile, and the end of the start has not put it into the queue."""
        if self.life.state is State.DECIDING and not self.waits:
            self.advance()

    def _put_on_record(self, given: Inputs, verdict: Decision | Refusal) -> Taken:
        """What was decided, of an attempt that there will not be."""
        call = self.errand.call
        return self._owner.decisions.take(call.request_id, self.life.attempts + 1, given, verdict, call.caller.name)

    def _wait(self, decision: Decision, given: Inputs) -> None:
        owner = self._owner
        self._waiting = waiting = make_waiting(self, given)
        try:
            displaced = owner.admission.add(waiting, owner.clock())
        except Full as full:
            if has_slot(decision) and not owner.plan_is_due:
                self._waiting = None
                self._open(decision, given)
                return
            taken = self._put_on_record(given, decision)
            self._turn_away(str(full), full.wait_s, taken)
            return
        if displaced is not None:
            displaced.owner.make_way(displaced.wait_s)
        owner.plan_soon()

    def make_way(self, wait_s: float | None) -> None:
        """The queue is full, and somebody more urgent, or of a caller with fewer places, got its place."""
        told = "the queue is full, and a more urgent request got its place, or one whose caller has fewer there"
        self._turn_away(told, wait_s or 0.0)

    def _turn_away(self, told: str, wait_s: float, taken: Taken | None = None) -> None:
        self._waiting = None
        self.life.ended()
        self._end_with(turn_away(told, wait_s, self.errand.cut), taken)

    def _open(self, decision: Decision, given: Inputs) -> None:
        owner, life, call = self._owner, self.life, self.errand.call
        now_s = owner.clock()
        owner.retries.opened(now_s, again=life.is_retry)
        life.opened(decision.backend)
        self.current = attempt = OpenAttempt(owner, self, decision, given, now_s, self.errand.reuse)
        # Another model than the one asked for is told by its own name; another name for the same is nobody's business.
        call.echo = call.model if decision.model != call.model and not decision.stand_in else ""
        try:
            handle = attempt.send()
            if self._paused:
                handle.pause()
        except ProxyError as error:
            # The whole request was read only now, to translate it, and is itself at fault.
            self._give_up(attempt, error)
        except Exception:  # noqa: BLE001  # whatever it trips over, the books are kept and the client is told
            _log.exception("%s could not be sent", call.request_id)
            self._give_up(attempt, ProxyError(ErrorKind.INTERNAL, "internal error"))

    def _give_up(self, attempt: OpenAttempt, error: ProxyError) -> None:
        """End without having sent it."""
        self.current = None
        attempt.close("failed", error.public)
        error.decision_id = attempt.taken.id
        self.life.ended()
        self._end_with(error)

    # -- an attempt tells ----------------------------------------------------

    def begin(self, attempt: OpenAttempt) -> None:
        """The first byte of the answer: from here on nothing is tried again."""
        if self._race is not None:
            self._race.win(attempt)
            self._lean_on(attempt)
        attempt.begin()
        self.life.first_byte()
        route = describe_route(self.errand.call, self.life, attempt)
        cut = self.errand.cut
        if cut is not None:
            if cut.broke:
                self._owner.books.continued(attempt.backend, attempt.last_s - cut.sent.last_s)
            self.client.continued(route)
            return
        self.client.routed(route)
        if attempt.head is not None:
            self.client.start_raw(*attempt.head)

    def answer_whole(
        self, attempt: OpenAttempt, status: int, content_type: bytes, body: bytes, finished: Finished
    ) -> None:
        """All of the answer is there at once."""
        if self._race is not None:
            self._race.win(attempt)
            self._lean_on(attempt)
        # Over before it is sent, so that nothing which sending sets off can end it once more; the books can wait.
        self.life.ended()
        try:
            self.client.routed(describe_route(self.errand.call, self.life, attempt))
            self.client.send_whole(status, content_type, body)
        except Exception:  # noqa: BLE001  # the client must not be left waiting, whatever its answer trips over
            self._fail_to_write()
        self._settle(attempt, finished)

    def end(self, attempt: OpenAttempt, finished: Finished) -> None:
        """The answer has ended well."""
        if attempt.first_s is None:
            if self.errand.cut is not None:
                finished = end_of_nothing(finished)
            self.begin(attempt)
        self.life.ended()
        outcome = self._settle(attempt, finished)
        try:
            self.client.finish(outcome)
        except Exception:  # noqa: BLE001  # as above
            self._fail_to_write()

    def _lean_on(self, attempt: OpenAttempt) -> None:
        """Of two attempts this is the only one now."""
        self.current, self._race = attempt, None
        self.life.backend = attempt.backend

    def _fail_to_write(self) -> None:
        _log.exception("the answer of %s could not be written", self.errand.call.request_id)
        self.client.fail(ProxyError(ErrorKind.INTERNAL, "internal error"))

    def _settle(self, attempt: OpenAttempt, finished: Finished) -> Outcome:
        owner = self._owner
        # Job and attempt know each other; let go, they are freed at once and not by the collector.
        self.current = None
        attempt.release()
        owner.forget(self)
        outcome = settle(self.errand, attempt, finished)
        for doubt in self._doubtful:
            owner.books.blame(*doubt, attempt.last_s)
        return outcome

    # -- failures, and going on behind them ------------------------------------

    def attempt_failed(self, attempt: OpenAttempt, failure: Failure) -> None:
        """It ended badly: go on with another one, or with that beside it, or tell the client."""
        if self._race is not None:
            left = self._race.leave(attempt)
            failure = self._book_failure(attempt, failure, None)
            if left is not self.current:
                self.life.failures = (*self.life.failures, (attempt.backend, failure))
            self._lean_on(left)
            return
        progress = read_progress(attempt, failure, self.life)
        finished = self.errand.find_end(progress) if progress is not None else None
        if progress is not None and finished is not None:
            self._end_early(attempt, progress, finished)
            return
        owner = self._owner
        self.current = None
        failure = self._book_failure(attempt, failure, progress)
        if self.life.state is State.STREAMING:
            error = self._go_on(attempt, progress, failure)
        else:
            error = find_error(self.errand, failure)
        if error is not None:
            error.decision_id = attempt.taken.id
            self._end_with(error)
            return
        if owner.policy.power_set is not None:
            # Others may run under the cap now that this one is down.
            owner.resteer()
        self.advance()

    def _book_failure(self, attempt: OpenAttempt, failure: Failure, progress: Progress | None) -> Failure:
        """Close an attempt that failed, having come so far; what the failure is for the request."""
        # Only whom we broke off ourselves may be reading on.
        unread = failure.kind is FailureKind.TIMEOUT and attempt.first_s is None
        attempt.close("failed", failure.public, unread=unread, tokens=count_written(progress))
        if is_doubtful(failure):
            self._doubtful = (*self._doubtful, (attempt.backend, attempt.decision.model, failure))
        else:
            failure = blame(self.errand, attempt, failure)
        self._owner.books.attempt_failed(attempt.backend, failure)
        return failure

    def _end_early(self, attempt: OpenAttempt, progress: Progress, finished: Finished) -> None:
        if progress.first:
            self.client.take_over(progress)
        elif progress.rest:
            self.client.send_events(progress.rest)
        attempt.on_end(finished)

    def _go_on(self, broken: OpenAttempt, progress: Progress | None, failure: Failure) -> ProxyError | None:
        """A stream broke off: the next decision is about the rest; or the error to end with."""
        error = self.errand.go_on(broken, progress, failure)
        if error is None:
            self._take_over(progress)
        return error

    @property
    def makes_way(self) -> bool:
        """Whether it is one of those that may be broken off for more urgent ones."""
        return makes_way(self.errand)

    def may_be_preempted(self, now_s: float) -> Will:
        """Whether the attempt that is under way may be broken off for a more urgent request."""
        attempt = self.current
        if attempt is None or self._race is not None:
            return Will.LATER
        return may_make_way(self.errand, attempt, now_s)

    def preempt(self) -> bool:
        """Leave the slot to a more urgent request, and go on when there is one again; False where it cannot."""
        owner, life, attempt = self._owner, self.life, self.current
        if attempt is None:
            return False
        progress = None
        if life.state is State.STREAMING:
            progress = attempt.handle.take_over() if attempt.handle is not None else None
            if progress is None:
                return False
            finished = self.errand.find_end(progress)
            if finished is not None:
                attempt.abort()
                self._end_early(attempt, progress, finished)
                return True
        self.current = None
        attempt.abort()
        unread, tokens = is_reading(attempt, owner.clock()), count_written(progress)
        attempt.close("cancelled", "made way for a more urgent request", unread=unread, tokens=tokens)
        if progress is not None:
            self.errand.make_way(attempt, progress)
            self._take_over(progress)
        life.made_way()
        owner.books.preempted(attempt.backend)
        self.advance()
        return True

    def _take_over(self, progress: Progress | None) -> None:
        """Whoever writes the rest to the client goes on behind what went past it."""
        if progress is not None and progress.first:
            self.client.take_over(progress)

    def _end_with(self, error: ProxyError, refused: Taken | None = None) -> None:
        """The last word to the client; `refused` is the decision by which nothing was sent."""
        owner, call, attempts = self._owner, self.errand.call, self.life.attempts
        owner.forget(self)
        if refused is not None:
            error.decision_id = refused.id
            owner.decisions.ended(refused, "refused", error.public, owner.clock() - call.arrived_s, 0.0)
        elif attempts and not error.decision_id:
            error.decision_id = f"d-{call.request_id}-{attempts}"
        owner.books.failed(call, self.life, error)
        self.client.fail(error)

    # -- the client's ticket -------------------------------------------------

    def cancel(self) -> None:
        """The client has gone."""
        if self._let_go("cancelled", "the client left"):
            self._owner.forget(self)
            self._owner.books.cancelled(self.errand.call, self.life)

    def break_off(self, error: ProxyError) -> None:
        """End it, whatever it is doing, with a last word to the client; safe to call at any time."""
        if self.current is not None:
            error.decision_id = self.current.taken.id
        if self._let_go("failed", error.public):
            self._end_with(error)

    def _let_go(self, result: str, why: str) -> bool:
        """Leave the backend or the queue; False when it is over already."""
        state, attempt = self.life.state, self.current
        if not self.life.left():
            return False
        if self._race is not None:
            self._race.call_off()
            self._race = None
        if attempt is not None:
            self.current = None
            attempt.abort()
            attempt.close(result, why, unread=state is State.WAITING)
        if self._waiting is not None:
            self._owner.admission.remove(self._waiting)
            self._waiting = None
        return True

    def pause(self) -> None:
        """The client reads too slowly; the backend is not to blame for the silence that follows."""
        self._paused = True
        for attempt in self._under_way:
            if attempt.handle is not None:
                attempt.handle.pause()

    def resume(self) -> None:
        """The client reads again."""
        self._paused = False
        for attempt in self._under_way:
            attempt.last_s = self._owner.clock()
            if attempt.handle is not None:
                attempt.handle.resume()

    @property
    def _under_way(self) -> tuple[OpenAttempt, ...]:
        if self._race is not None:
            return self._race.both
        return () if self.current is None else (self.current,)

    @property
    def handle(self) -> Attempt | None:
        """The backend's end of the attempt that is under way."""
        return self.current.handle if self.current is not None else None

    # -- silence -----------------------------------------------------------------

    def forgive(self, seconds: float) -> None:
        """Nobody listened for so long."""
        for attempt in self._under_way:
            attempt.last_s += seconds

    def check_silence(self, now_s: float) -> None:
        """Fail the attempt when the backend has been silent for too long, or send it a second time before that."""
        owner, attempt = self._owner, self.current
        if attempt is None:
            return
        attempt.listen(now_s)
        if self._paused:
            return
        errand = self.errand
        if owner.hedges is not None and self._race is None and errand.cut is None and errand.reuse is None:
            self._race = start_hedge(self, attempt, now_s)
        told = find_overdue(errand, attempt, now_s)
        if told:
            attempt.abort()
            self.attempt_failed(attempt, Failure(FailureKind.TIMEOUT, told))
