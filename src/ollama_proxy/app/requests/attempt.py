"""One attempt that is under way, and all that is written down of it: why there, since when, what it takes and costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ollama_proxy.domain.answer import AnswerEvent, Finished, Usage
from ollama_proxy.domain.decision import Decision
from ollama_proxy.domain.errors import Failure
from ollama_proxy.domain.ports import Attempt
from ollama_proxy.fleet.running import Running, predict_running
from ollama_proxy.observability.decisions import Taken
from ollama_proxy.routing.record import Inputs

if TYPE_CHECKING:
    from ollama_proxy.app.requests.dispatch import Dispatcher
    from ollama_proxy.app.requests.job import Job
    from ollama_proxy.app.requests.reuse import Reuse


class OpenAttempt:
    """The attempt with its lines in the books of fleet, energy and decisions; whoever opens it releases or closes it.

    It is what the backend answers to. Times are of the dispatcher's monotonic clock, in seconds.
    """

    __slots__ = (
        "_client",
        "_clock",
        "_job",
        "_owner",
        "_reuse",
        "alone",
        "backend",
        "bill",
        "decision",
        "first_s",
        "handle",
        "head",
        "held_tokens",
        "last_s",
        "opened_s",
        "relayed",
        "resent",
        "running",
        "taken",
        "view",
    )

    def __init__(
        self,
        owner: Dispatcher,
        job: Job,
        decision: Decision,
        given: Inputs,
        now_s: float,
        reuse: Reuse | None = None,
    ) -> None:
        """Write down that an attempt of `job` begins by a decision on `given`; `send` makes it."""
        fleet, backend, call = owner.fleet_state, decision.backend, job.errand.call
        view = fleet.look(backend)
        self._owner = owner
        self._clock = owner.clock
        self._job = job
        self._client = job.client
        self._reuse = reuse
        self.backend = backend
        self.decision = decision
        #: The backend as it was then.
        self.view = view
        #: Whether nothing else ran there.
        self.alone = not view.in_flight
        #: The backend's end of it, while it runs.
        self.handle: Attempt | None = None
        #: Status, content type and length of the answer, until its first byte.
        self.head: tuple[int, bytes, int | None] | None = None
        self.opened_s = self.last_s = now_s
        self.first_s: float | None = None
        #: How much of its relaying was seen by the last look at its silence.
        self.relayed = 0
        #: Whether the backend was asked twice, since the first connection was lost at once.
        self.resent = False
        self.taken: Taken = owner.decisions.take(call.request_id, job.life.attempts, given, decision, call.caller.name)
        request = given[0]
        #: What is predicted of it. Whoever takes no slot is not counted among those that keep one.
        self.running: Running | None = None
        if (view.spec.held or view.spec.memory_pool or fleet.adapts) and not request.embed:
            self.running = predict_running(request, decision, now_s, given[2])
            if owner.preemption is not None and job.makes_way:
                owner.preemption.opened(self.running, backend, job)
        fleet.opened(backend, self.running, now_s)
        if view.kept_out:
            fleet.tried(backend, decision.model, now_s)
        #: Tokens of the prompt that the backend probably held from before.
        self.held_tokens = 0.0
        if reuse is not None:
            reuse.begin(decision, request, substitute=given[5])
            self.held_tokens = reuse.held_tokens
        #: What it costs is written down here.
        self.bill = owner.accounting.open(view, call, decision, request, now_s)

    def send(self) -> Attempt:
        """Make it. Raises whatever the backend raises, first of all `ProxyError`."""
        decision = self.decision
        self.handle = handle = self._owner.backends[self.backend].open(self._job.errand.call, decision.model, self)
        return handle

    # -- the backend's answer ------------------------------------------------------

    def on_head(self, status: int, content_type: bytes, length: int | None) -> None:
        self.head = (status, content_type, length)

    def on_raw(self, data: bytes) -> None:
        self.last_s = self._clock()
        if self.first_s is None:
            self._job.begin(self)
        self._client.send_raw(data)

    def relay(self) -> Callable[[bytes], None] | None:
        return self._client.relay()

    def on_events(self, events: Sequence[AnswerEvent]) -> None:
        self.last_s = self._clock()
        if self.first_s is None:
            self._job.begin(self)
        self._client.send_events(events)

    def on_whole(self, status: int, content_type: bytes, body: bytes, finished: Finished) -> None:
        self.first_s = self.last_s = self._clock()
        self._job.answer_whole(self, status, content_type, body, finished)

    def on_end(self, finished: Finished) -> None:
        self.last_s = self._clock()
        self._job.end(self, finished)

    def on_failure(self, failure: Failure) -> None:
        self._job.attempt_failed(self, failure)

    def may_resend(self) -> bool:
        owner, life = self._owner, self._job.life
        # Who is tried after failures is asked once.
        if self.resent or self.view.kept_out or not life.may_resend or not owner.retries.allows(self._clock()):
            return False
        self.resent = True
        life.resent()
        owner.retries.opened(self._clock(), again=True)
        return True

    # -- what is known of it -------------------------------------------------------

    def begin(self) -> None:
        """The first byte has come."""
        self.first_s = first_s = self.last_s
        if self.bill is not None:
            self.bill.first_s = first_s
        if self.running is not None:
            self.running.first_s = first_s

    @property
    def heard_s(self) -> float | None:
        """When the backend said something last; None before the first token."""
        return None if self.first_s is None else self.last_s

    @property
    def reading_s(self) -> float:
        """Seconds predicted until the first token."""
        return self.decision.scored[0][3]

    def listen(self, now_s: float) -> None:
        """What went past all books was a sign of life as well."""
        handle = self.handle
        if handle is not None and handle.relayed != self.relayed:
            self.relayed = handle.relayed
            self.last_s = now_s

    # -- its end --------------------------------------------------------------------

    def abort(self) -> None:
        """Drop the connection."""
        if self.handle is not None:
            self.handle.abort()

    def release(self, *, unread: bool = False, failed: bool = False) -> None:
        """It is over: whoever waits for its slot may have it.

        `unread`: it was broken off before its first token, and the server may not care.
        """
        owner, now_s = self._owner, self._clock()
        # The backend's end knows whoever made it; taken apart, both are freed at once and not by the collector.
        self.handle = None
        if self.running is not None and owner.preemption:
            owner.preemption.closed(self.running, self.backend)
        if unread:
            _, one, _, prefill_s, *_ = self.decision.scored[0]
            read_s = self.opened_s + one.load_s + prefill_s
            owner.fleet_state.abandoned(self.backend, self.running, read_s, now_s)
        else:
            owner.fleet_state.closed(self.backend, self.running, now_s)
        if self._reuse is not None:
            self._reuse.end(failed=failed)
        if len(owner.admission):
            owner.plan_soon()

    def close(self, result: str, why: str, *, unread: bool = False, tokens: int | None = None) -> None:
        """It ended without an answer (`result` is failed or cancelled): what it has taken was spent nevertheless.

        `tokens` is what it has written, None where that is not known. What one leaves in its slot that failed is not
        known.
        """
        owner, opened_s = self._owner, self.opened_s
        self.release(unread=unread, failed=result == "failed")
        now_s = owner.clock()
        written = Usage(output_tokens=tokens, counted_events=True)
        owner.accounting.close(self.bill, result, now_s, self.first_s, written)
        owner.decisions.ended(self.taken, result, why, opened_s - self._job.errand.call.arrived_s, now_s - opened_s)
