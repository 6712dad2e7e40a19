"""Takes calls, numbers them, and keeps those that run: each is a `Job`, which lives in `app.job`.

Nothing here awaits. Every step is a callback of the event loop and leaves all books consistent.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from ollama_proxy.app.energy.accounting import Accounting
from ollama_proxy.app.process.pressure import Stage
from ollama_proxy.app.requests.job import Job
from ollama_proxy.app.requests.kept import bound_kept
from ollama_proxy.app.requests.overdue import Timeouts
from ollama_proxy.app.requests.settlement import Books
from ollama_proxy.app.requests.silence import Listener
from ollama_proxy.domain.annotations import Priority
from ollama_proxy.domain.call import COST_NOTHING, Call
from ollama_proxy.domain.caller import ANYBODY
from ollama_proxy.domain.decision import Policy
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import AnswerSink, Backend, QueuePlace
from ollama_proxy.energy.budget import HourlyBudget
from ollama_proxy.fleet.admission import Admission, Bounds
from ollama_proxy.fleet.lengths import LengthBook, PromptRatio
from ollama_proxy.fleet.preemption import Preemption
from ollama_proxy.fleet.prefixes import PrefixBook
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.fleet.waiting import Waiting, name_class
from ollama_proxy.lifecycle.hedge_budget import HedgeBudget
from ollama_proxy.lifecycle.life import MAX_ATTEMPTS, State
from ollama_proxy.lifecycle.retry_budget import RetryBudget
from ollama_proxy.net.bodies.model_spelling import says_once
from ollama_proxy.observability.decisions import Decisions

#: Those that are not taken on are asked to come back after so many seconds.
_SHED_S = 5.0


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
        bounds: Bounds | None = None,
        budget: HourlyBudget | None = None,
        decisions: Decisions | None = None,
        accounting: Accounting | None = None,
        prefixes: PrefixBook | None = None,
    ) -> None:
        """`substitutes` are the models that may answer for another, by its canonical name; `refresh` asks the backends
        for their lists again, before a model is said to be nowhere; `bounds` are those of what waits for a slot;
        `decisions` keeps what was decided; `accounting` what it costs; `prefixes` which prompts slots hold, None for
        nobody."""
        self.fleet_state = fleet
        self.backends = backends
        self.policy = policy
        self.books = books
        self.clock = clock
        self.timeouts = timeouts or Timeouts()
        self.max_attempts = max_attempts
        self.substitutes = substitutes or {}
        self.refresh = refresh
        self.decisions = decisions if decisions is not None else Decisions()
        self.accounting = accounting if accounting is not None else Accounting(fleet)
        self.running: set[Job] = set()
        self.lengths = LengthBook()
        self.prompts = PromptRatio()
        self.prefixes = prefixes
        self.admission = Admission(fleet, lambda: self.policy, bounds=bounds or Bounds(requests=512))
        self.budget = budget or HourlyBudget(0)
        #: Whether streams that break off are continued elsewhere.
        self.continues = True
        self.retries = RetryBudget()
        #: For second attempts beside the first; None for none.
        self.hedges: HedgeBudget | None = None
        #: Who is broken off for more urgent requests; None for nobody.
        self.preemption: Preemption | None = Preemption(fleet)
        #: What is taken on while memory or descriptors are short, and what is short.
        self.pressure = Stage.ALL
        self.pressure_told = ""
        #: Who is silent for longer than is usual.
        self.listener = Listener(fleet)
        self._planning = False
        self._serial = 0
        #: While true, a request that finds no healthy backend waits: one is about to start.
        self.starting = False
        #: Looks again at what sets the policy, and sets it.
        self.resteer: Callable[[], None] = lambda: None
        self._prefix = secrets.token_hex(4)
        self._ids = itertools.count(1)

    def submit(self, call: Call, sink: AnswerSink, *, taken_on: bool = False) -> Job:
        """Begin with a call; its answer comes to the sink. `taken_on` says that its key's limits were asked already."""
        job = Job(self, call, sink)
        self.running.add(job)
        if self.pressure and self._sheds(call):
            told = f"too much is under way here: {self.pressure_told}"
            job.refuse(ProxyError(ErrorKind.OVERLOADED, told, retry_after_s=_SHED_S))
            return job
        if call.caller is not ANYBODY and not taken_on:
            error = self.take_on(call)
            if error is not None:
                job.refuse(error)
                return job
        if self.budget.limit_j:
            error = self.budget.refuse(call, self.clock())
            if error is not None:
                job.refuse(error)
                return job
        job.advance()
        return job

    def _sheds(self, call: Call) -> bool:
        """Whether a request is not taken on as things stand."""
        wishes = call.annotations
        is_low = wishes.priority < Priority.NORMAL and not wishes.latency_critical
        return is_low or self.pressure is Stage.NOTHING

    def take_on(self, call: Call) -> ProxyError | None:
        """What a key's limits say of one more request of its; from here on `forget` gives back its place."""
        caller = call.caller
        if not (caller.is_live or caller.is_free):
            call.caller = ANYBODY
            return ProxyError(ErrorKind.UNAUTHENTICATED, f"the key {caller.name} was changed or revoked; connect anew")
        if not caller.may_use(call.model):
            models = ", ".join(caller.models)
            message = f"the key {caller.name} may not use the model {call.model[:100]!r}; it may use {models}"
            return ProxyError(ErrorKind.PERMISSION_DENIED, message)
        if caller.models and call.raw is not None and not says_once(call.raw.body):
            message = "the member model stands more than once in the body; servers differ in which they take: name one"
            return ProxyError(ErrorKind.INVALID_REQUEST, message)
        if caller.quota is None or call.operation in COST_NOTHING:
            return None
        excess = caller.quota.take(call.prompt_bytes, self.clock())
        if excess is None:
            call.counted = True
            return None
        message = f"the key {caller.name} may use {excess.limit}; there is more in {max(1, round(excess.wait_s))} s"
        return ProxyError(ErrorKind.RATE_LIMITED, message, retry_after_s=excess.wait_s)

    def forget(self, job: Job) -> None:
        """A request is over, however it ended."""
        self.running.discard(job)
        call = job.errand.call
        if call.counted and call.caller.quota is not None:
            call.counted = False
            call.caller.quota.leave()

    def view(self) -> FleetView:
        """The backends at this moment."""
        return self.fleet_state.view()

    def queue(self) -> tuple[QueuePlace, ...]:
        """Who waits, in the order in which they are served."""
        now_s = self.clock()
        return tuple(
            QueuePlace(
                place,
                one.owner.errand.call.request_id,
                one.request.requested_model,
                name_class(one.rank),
                round(now_s - one.arrived_s, 3),
                None if one.wait_s is None else round(one.wait_s, 3),
                one.planned.backend if one.planned is not None else "",
                None if math.isinf(one.due_s) else round(one.due_s - now_s, 3),
            )
            for place, one in enumerate(self.admission.line(now_s), 1)
        )

    @property
    def last_serial(self) -> int:
        """The number of the latest request."""
        return self._serial

    def take_serial(self) -> int:
        """The next number of a request."""
        self._serial += 1
        return self._serial

    def make_request_id(self) -> str:
        """A process-wide unique id: a random prefix and a counter."""
        return f"{self._prefix}-{next(self._ids):x}"

    def started(self) -> None:
        """The start is over: whoever waited for it is decided anew."""
        self.starting = False
        for job in list(self.running):
            if job.life.state is State.DECIDING and not job.waits:
                job.advance()

    def plan_soon(self) -> None:
        """Somebody may begin now who could not before: a slot is free, or a backend is back."""
        if len(self.admission) and not self._planning:
            self._planning = True
            asyncio.get_running_loop().call_soon(self.plan)

    @property
    def plan_is_due(self) -> bool:
        """Whether somebody who waits may want a slot that is free: else it was left to others."""
        return self._planning and len(self.admission) > 0

    def plan(self) -> None:
        """Let those begin whose turn it is."""
        self._planning = False
        asked = self.admission.wants
        self._plan_once()
        if asked or self.admission.wants:
            # The power set is exchanged for those that wait, and back when they have begun.
            before = self.policy
            self.resteer()
            if self.policy is not before:
                self._plan_once()

    def _plan_once(self) -> None:
        now_s = self.clock()
        made: Mapping[Waiting, Policy] = {}
        if self.preemption:
            made = self.preemption.make_room(self.admission.find_urgent(now_s), self.admission.price, now_s)
        for waiting, verdict in self.admission.plan(now_s, made):
            assert waiting.given is not None
            waiting.owner.settle_verdict(verdict, waiting.given)

    def forgive(self, seconds: float) -> None:
        """We have slept for so long: what was silent meanwhile is not to blame."""
        for job in self.running:
            job.forgive(seconds)

    def sweep(self, now_s: float) -> None:
        """Fail attempts that have been silent for too long; call about once a second."""
        self.fleet_state.move(now_s)
        self.listener.listen([job.current for job in self.running if job.current is not None])
        for job in list(self.running):
            job.check_silence(now_s)
        bound_kept([job.handle for job in self.running if job.handle is not None])
        if len(self.admission):
            self.plan()
