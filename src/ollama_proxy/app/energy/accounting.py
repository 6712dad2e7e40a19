"""What each attempt costs: a first figure at its end, the settled one in the ledger a moment later.

On a request's way stand two calls, `open` and `close`, which do little more than note the time. The rest is done by
`settle`, a few times a second: it asks the meters, divides their joules, learns from them, and writes the ledger.
Attempts that failed or were broken off are billed like others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ollama_proxy.app.energy.bill import Bill, compare_with_static, model, tell_begin, tell_end
from ollama_proxy.app.energy.learned import LearnedJoules, SavedJoules
from ollama_proxy.app.energy.metered import ASKED_FROM_S, Device, Meter
from ollama_proxy.app.energy.plan import Plan, describe_here, plan_meters
from ollama_proxy.config.schema import Backend
from ollama_proxy.domain.answer import Usage
from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.domain.decision import Decision, RoutingRequest
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.metering import MeterStatus, Source
from ollama_proxy.energy.activity import RequestEnergy
from ollama_proxy.energy.attribution import PATIENCE_S
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.energy.meters.sampler import Sampler
from ollama_proxy.energy.model import UNKNOWN, Figure
from ollama_proxy.fleet.state import Fleet

_log = logging.getLogger(__name__)

#: How often the books are brought up to date while somebody works or waits for a figure, and otherwise.
_BUSY_S, _IDLE_S = 0.25, 1.0
#: Attempts that are settled before others get their turn on the event loop.
_MOST_AT_ONCE = 256
#: A meter that saw less than this of an attempt has not measured it.
_COVERED = 0.9
_NO_USAGE = Usage()
_UNBILLED = frozenset((Operation.SHOW, Operation.COUNT))


class Accounting:
    """The books of all backends. Without meters and ledger it models, and keeps nothing."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        sampler: Sampler | None = None,
        entries: Mapping[str, Backend] | None = None,
        record: Callable[[LedgerRow], None] | None = None,
        count: Callable[[str, str, float], None] | None = None,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        """`entries` are the configured backends by id, for who is measured by what; `record` takes rows of the ledger;
        `count` a backend, a kind and joules, for the metrics."""
        self._fleet = fleet
        self._sampler = sampler
        self.entries = entries or {}
        self._record = record
        self._count = count
        self._unix_clock = unix_clock
        self._devices: dict[str, Device] = {}
        self._meters: tuple[Meter, ...] = ()
        self._matched: tuple[Any, ...] = ()
        self._served: set[str] = set()
        self._learned = LearnedJoules(fleet)
        self._settles = sampler is not None or record is not None or count is not None
        self._names = 0
        self._open = 0
        #: Attempts on metered devices: those that `settle` has not seen yet, and those that run.
        self._opened: list[Bill] = []
        self._running: dict[str, Bill] = {}
        self._closed: deque[Bill] = deque()
        #: Attempts that ended, until the meter has covered them; in the order in which they ended.
        self._unsettled: dict[str, Bill] = {}

    # -- on a request's way ------------------------------------------------------

    def open(
        self, view: BackendView, call: Call, decision: Decision, request: RoutingRequest, now_s: float
    ) -> Bill | None:
        """An attempt is sent to a backend; None for what is no work."""
        if call.operation in _UNBILLED:
            return None
        device = self._devices.get(view.spec.id)
        if device is None:
            device = self._devices[view.spec.id] = Device(view)
        elif device.emulated is not view.emulated:
            device.look(view)
        if not self._open and self._sampler is not None:
            self._sampler.set_active(True)
        self._open += 1
        bill = Bill(call, decision, request, device, now_s, device.time.begin(now_s))
        if device.meter is not None:
            bill.meter = device.meter
            self._opened.append(bill)
        return bill

    def close(
        self, bill: Bill | None, result: str, now_s: float, first_s: float | None = None, usage: Usage = _NO_USAGE
    ) -> Figure:
        """It is over (`result` is ok, failed or cancelled): what it took as far as that is known at once."""
        if bill is None or bill.result:
            return UNKNOWN
        bill.result = result
        bill.ended_s = now_s
        bill.usage = usage
        if first_s is not None:
            bill.first_s = first_s
        bill.own_s = bill.device.time.end(bill.mark_s, now_s)
        self._open -= 1
        if self._settles:
            self._closed.append(bill)
        if result != "ok":
            return UNKNOWN
        bill.figure = figure = self._estimate(bill)
        return figure

    def _estimate(self, bill: Bill) -> Figure:
        """The best figure that can be had without waiting."""
        meter, device = bill.meter, bill.device
        if meter is None:
            return model(bill)
        if bill.ended_s - bill.begun_s >= ASKED_FROM_S and bill.had_it_alone:
            measured = meter.measure(bill.decision.backend, bill.begun_s, bill.ended_s)
            if measured is not None:
                return measured
        learned = device.learned.get(bill.request.model)
        if learned is None or bill.usage.output_tokens is None:
            return model(bill)
        kind = "emulated" if device.emulated or meter.plan.emulated else "modelled"
        joules = bill.expect(learned)
        return Figure(joules, kind, meter.add_floor(bill.decision.backend, joules, bill.own_s))

    # -- a few times a second ----------------------------------------------------

    async def run(self, clock: Callable[[], float]) -> None:
        """Settle for ever."""
        more = False
        while True:
            busy = self._open or self._closed or self._unsettled
            # A lot at once goes in pieces, between which others get their turn on the event loop.
            await asyncio.sleep(0 if more else _BUSY_S if busy else _IDLE_S)
            try:
                more = self.settle(clock())
            except Exception:  # noqa: BLE001  # a task root: a fault in one round must not end the books
                more = False
                _log.exception("the energy of requests could not be settled")

    def settle(self, now_s: float) -> bool:
        """One round; whether there is more to do at once."""
        if self._sampler is not None:
            self._sampler.set_active(self._open > 0)
            self._match(self._sampler.sources())
        more = self._tell_attempts()
        if more:
            return True
        for meter in self._meters:
            meter.settle(now_s)
            for books in meter.books.values():
                for name, energy in books.drain(now_s):
                    self._finish(self._unsettled.pop(name, None), energy)
        self._give_up(now_s)
        return False

    def finish(self, now_s: float) -> None:
        """The end: whatever is still waiting for a meter gets the figure that there is."""
        while self.settle(now_s):
            pass
        self._give_up(float("inf"))

    def rearrange(self, entries: Mapping[str, Backend], joined: Collection[str]) -> None:
        """Other backends are configured; of those that `joined` nothing is known, whoever had their ids before."""
        self.entries = entries
        for name in joined:
            self._devices.pop(name, None)
            self._served.discard(name)
            self._learned.forget(name)
        self._matched = ()

    @property
    def is_active(self) -> bool:
        """Whether anybody waits for an answer."""
        return self._open > 0

    def meters(self) -> tuple[MeterStatus, ...]:
        """Every source that is used, and by whom."""
        if self._sampler is None:
            return ()
        return tuple(
            MeterStatus(
                source.id,
                tuple(member.backend for member in meter.plan.members),
                meter.kind_of(source),
                self._sampler.watts(source.id),
                stale=not meter.trust.trusted,
            )
            for meter in self._meters
            for source in meter.plan.used
        )

    def save_joules(self) -> dict[str, SavedJoules]:
        """What requests were found to cost, by backend."""
        return self._learned.save(self._devices)

    def restore_joules(self, saved: Mapping[str, SavedJoules], age_s: float, now_s: float) -> None:
        """Take up what was found `age_s` ago."""
        self._learned.restore(self._devices, saved, age_s, now_s)

    def _tell_attempts(self) -> bool:
        """Tell the books what attempts have done since; whether some are left for another round."""
        for bill in self._opened:
            self._names += 1
            bill.name = f"{self._names:x}"
            self._running[bill.name] = bill
        self._opened.clear()
        for bill in self._running.values():
            if bill.meter is not None:
                tell_begin(bill.meter.books[bill.decision.backend], bill)
        for _ in range(min(len(self._closed), _MOST_AT_ONCE)):
            bill = self._closed.popleft()
            if bill.meter is None:
                self._finish(bill, None)
                continue
            self._running.pop(bill.name, None)
            if bill.meter not in self._meters:
                self._finish(bill, None)  # its meter is measuring others by now
                continue
            tell_end(bill.meter.books[bill.decision.backend], bill)
            self._unsettled[bill.name] = bill
        return bool(self._closed)

    def _give_up(self, now_s: float) -> None:
        """Those whose meter will not tell any more, or is not believed, are modelled."""
        believed = {meter for meter in self._meters if meter.trust.trusted}
        lost = [
            name
            for name, bill in self._unsettled.items()
            if bill.meter not in believed or bill.ended_s + 2 * PATIENCE_S < now_s
        ]
        for name in lost:
            self._finish(self._unsettled.pop(name), None)

    def _finish(self, bill: Bill | None, energy: RequestEnergy | None) -> None:
        """The last figure of an attempt."""
        if bill is None:
            return
        if energy is not None and energy.covered >= _COVERED:
            figure = Figure(energy.marginal_j, energy.kind, energy.full_j, energy.plus_minus_j)
            self._learned.learn(bill, energy)
        else:
            figure = self._learned.model_settled(bill)
        if self._count is not None and figure.joules is not None:
            self._count(bill.decision.backend, figure.kind, figure.joules)
        quota = bill.caller.quota
        if quota is not None and figure.joules is not None:
            quota.spend(figure.joules, bill.ended_s)
        if self._record is not None:
            unix_s = self._unix_clock()
            self._record(bill.make_row(figure, unix_s, compare_with_static(bill, figure)))

    # -- who is measured by what ---------------------------------------------------

    def _match(self, sources: tuple[Source, ...]) -> None:
        # Whoever has never answered shares no meter: a file may name servers that this machine does not have.
        self._served |= {one.id for one in self._fleet.view().backends if one.health.serves}
        views = [one for one in self._fleet.view().backends if one.id in self._served]
        state = (sources, [(one.spec, one.emulated) for one in views])
        if state == self._matched:
            return
        self._matched = state
        known = {meter.plan: meter for meter in self._meters}
        entries = {one.id: self.entries.get(one.id) or describe_here(one) for one in views}
        for one in views:
            device = self._devices.get(one.id)
            if device is None:
                self._devices[one.id] = Device(one)
            else:
                device.look(one)
        plans = plan_meters(views, entries, sources)
        self._meters = tuple([known.get(plan) or self._begin(plan) for plan in plans])
        for device in self._devices.values():
            device.meter = None
        for meter in self._meters:
            for member in meter.plan.members:
                self._devices[member.backend].meter = meter

    def _begin(self, plan: Plan) -> Meter:
        assert self._sampler is not None
        told = ", ".join(source.id for source in plan.sources)
        _log.info("%s measured by %s", " and ".join(member.backend for member in plan.members), told)
        return Meter(plan, {name: device.time for name, device in self._devices.items()}, self._sampler)
