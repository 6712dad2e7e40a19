"""The live state of all backends. One writer, the event loop; readers get immutable views (`views`).

A backend is a `Record`; what its requests teach is in `learning`. Clock values are handed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec, BackendView, Calibration, FleetView, Heat, PromptLimit, Wait
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.adaptive_slots import AdaptiveSlots
from ollama_proxy.fleet.breakers import Breakers, Holder
from ollama_proxy.fleet.calibration import Judge
from ollama_proxy.fleet.company import Occupancy
from ollama_proxy.fleet.health import after_failure
from ollama_proxy.fleet.learning import MOST_LESSONS, TEACH_S, learn, learn_energy, learn_failure, unsettle
from ollama_proxy.fleet.lingering import Ghosts, read_on, take_read
from ollama_proxy.fleet.pools import Pools, Surroundings
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.record import FROM_NOTHING, Record, share_memory
from ollama_proxy.fleet.running import Running, Slot
from ollama_proxy.fleet.saved import SavedBackend, restore_backend, save_backend
from ollama_proxy.fleet.views import Views
from ollama_proxy.fleet.waits import find_slots, find_wait


class Fleet:
    """All backends, in the order of the configuration."""

    def __init__(self, unhealthy_threshold: int = 3) -> None:
        self._threshold = unhealthy_threshold
        self._breakers = Breakers(unhealthy_threshold)
        #: Whether servers of which no slots are configured are sent only as much as they do well with.
        self.adapts = False
        self._adaptive = AdaptiveSlots()
        self._records: dict[str, Record] = {}
        self._views = Views(self._records.values())
        self._pools = Pools()
        #: The same once it is told of the backends as they are now.
        self._pools_now: Pools | None = None
        self._ghosts = Ghosts()
        #: Backends that have no slot left for another request.
        self._full: set[Record] = set()

    def add(self, spec: BackendSpec, capabilities: frozenset[Need]) -> None:
        """A backend joins."""
        before = self._records.get(spec.id)
        if before is not None:
            self._full.discard(before)
        self._records[spec.id] = Record(spec, capabilities)
        self._breakers.forget(spec.id)
        self._begin_anew()

    def remove(self, backend: str) -> None:
        """A backend leaves; what still runs there ends without being booked."""
        gone = self._records.pop(backend, None)
        if gone is None:
            return
        self._ghosts.leave(gone)
        self._full.discard(gone)
        self._breakers.forget(backend)
        self._begin_anew()

    def renew(self, spec: BackendSpec, capabilities: frozenset[Need]) -> None:
        """A backend is described in another way; its health, its load and what was learned of it stay."""
        record = self._records[spec.id]
        record.told, record.capabilities = spec, capabilities
        record.limit = None
        self._describe(record, spec)

    def _describe(self, record: Record, spec: BackendSpec) -> None:
        record.spec = spec
        record.occupancy = (record.occupancy or Occupancy()) if spec.slots > 1 else None
        # What decisions have worked out was worked out for the old description.
        record.memory = {}
        record.forecast.forget()
        self._pools_now = None
        if not spec.suspend_after_seconds:
            record.asleep, record.idle_since_s = False, None
        self._full.discard(record)
        if spec.held and record.in_flight >= spec.slots:
            self._full.add(record)
        self._touch(record)

    def arrange(self, order: Iterable[str], unhealthy_threshold: int) -> None:
        """Put the backends in an order, those that it does not name last; failures are counted by another threshold."""
        self._threshold = self._breakers.threshold = unhealthy_threshold
        known = [name for name in order if name in self._records]
        self._records = {name: self._records[name] for name in dict.fromkeys((*known, *self._records))}
        self._begin_anew()

    def view(self) -> FleetView:
        """The backends at this moment."""
        return self._views.look()

    def view_at(self, now_s: float) -> FleetView:
        """The backends, who writes beside them, and how long a new request would wait at those that are full."""
        view = self._views.look()
        around = self.look_around(now_s)
        if around is not None:
            view = FleetView(view.version, view.backends, (), view.moves, around.look())
        if not self._full:
            return view
        waits: list[Wait | None] = [None] * len(view.backends)
        for record in self._full:
            waits[record.place] = find_wait(record, len(waits), now_s)
        return FleetView(view.version, view.backends, tuple(waits), view.moves, view.beside)

    def look_around(self, now_s: float) -> Surroundings | None:
        """Who writes beside whom from now on; None while nobody is known to slow another down."""
        pools = self._pools_now or self._arrange_pools()
        return pools.look(now_s) if pools.is_shared else None

    def _arrange_pools(self) -> Pools:
        self._pools.arrange(self._records.values())
        self._pools_now = self._pools
        return self._pools

    def slots_at(self, now_s: float) -> list[list[Slot]]:
        """When each slot of each backend will be free, in the order of the view: heaps to plan with.

        A backend whose slots are not held takes whatever is sent.
        """
        return [find_slots(one, len(self._records), now_s) for one in self._records.values()]

    def count_slots(self) -> int:
        """Slots that are counted, of all backends."""
        return sum([one.spec.slots for one in self._records.values() if one.spec.held])

    def find_slot_holders(self, backend: str) -> Collection[Running]:
        """Those that run there, where one fewer would free a slot: nobody where more run than it has slots now."""
        record = self._records.get(backend)
        return record.running if record is not None and len(record.running) <= record.spec.slots else ()

    def look(self, backend: str) -> BackendView:
        """One backend that is there. Raises `KeyError`."""
        return self._records[backend].look()

    def find(self, backend: str) -> BackendView | None:
        """One backend, if it is there."""
        record = self._records.get(backend)
        return record.look() if record else None

    # -- traffic -------------------------------------------------------------

    def opened(self, backend: str, running: Running | None = None, now_s: float = 0.0) -> None:
        """An attempt has begun; `running` is what was predicted of it."""
        record = self._records.get(backend)
        if record is not None:
            record.in_flight += 1
            if record.spec.held and record.in_flight >= record.spec.slots:
                self._full.add(record)
            if record.occupancy is not None:
                record.occupancy.change(min(record.in_flight, record.spec.slots), now_s)
            record.idle_since_s = None
            if running is not None:
                record.running[running] = None
                record.forecast.forget()
            if record.asleep:
                record.asleep = False
                self._touch(record)
            record.now = record.seen.get(record.in_flight)
            self._views.move(record)

    def tried(self, backend: str, model: str, now_s: float) -> None:
        """An attempt has begun at a backend that something is kept from: it may be the one that shows how it does."""
        self._breakers.tried(backend, canonical_model(model), now_s)
        self._keep_out(now_s)

    def closed(self, backend: str, running: Running | None = None, now_s: float = 0.0) -> None:
        """An attempt is over, however it ended."""
        record = self._records.get(backend)
        if self._ghosts and self._ghosts.lay(backend, record, running):
            return
        if record is not None and record.in_flight:
            record.in_flight -= 1
            if record.in_flight < record.spec.slots:
                self._full.discard(record)
            if record.occupancy is not None:
                record.occupancy.change(min(record.in_flight, record.spec.slots), now_s)
            if running is not None:
                record.running.pop(running, None)
                record.forecast.forget()
            record.now = record.seen.get(record.in_flight)
            self._views.move(record)

    def abandoned(self, backend: str, running: Running | None, until_s: float, now_s: float) -> None:
        """An attempt was broken off before its first token, which was expected at `until_s`.

        A server that reads the prompt to its end nevertheless has that load until then.
        """
        record = self._records.get(backend)
        if record is None or not read_on(record, running, until_s, now_s):
            self.closed(backend, running, now_s)

    def succeeded(self, backend: str, model: str, seen: Observation, now_s: float) -> None:
        """An answer ended well: learn its speeds. `model` is the name as asked."""
        record = self._records.get(backend)
        if record is None:
            return
        name = canonical_model(model)
        is_news = learn(record, name, seen, self._pools_now or self._arrange_pools(), now_s)
        if self._breakers and backend in self._breakers:
            self._breakers.succeeded(backend, name, now_s)
            self._keep_out(now_s)
        if is_news:
            self._touch(record)

    def wants_lessons(self, backend: str, now_s: float) -> bool:
        """Whether an answer of a backend still has something to teach, or enough have in the last moment."""
        record = self._records.get(backend)
        return record is None or record.lessons < MOST_LESSONS or not 0 <= now_s - record.taught_s < TEACH_S

    def teach_energy(
        self, backend: str, model: str, fixed_j: float, prefill_j: float, decode_j: float, now_s: float
    ) -> None:
        """A meter has shown what requests cost: joules of one, and of each token of its prompt and of its answer."""
        record = self._records.get(backend)
        if record is None:
            return
        learn_energy(record, canonical_model(model), (fixed_j, prefill_j, decode_j), now_s)
        self._touch(record)

    def judge(self, backend: str) -> Judge | None:
        """Who keeps the record of a backend's predictions."""
        record = self._records.get(backend)
        return record.judge if record is not None else None

    def calibrations(self) -> dict[str, Calibration]:
        """How predictions came true, by backend."""
        return {name: record.judge.look() for name, record in self._records.items()}

    def failed(self, backend: str, model: str, failure: Failure, now_s: float) -> None:
        """An attempt failed: traffic tells sooner than probes.

        Who is not there is unhealthy at once; who answers badly is kept out by its breaker, and serves otherwise.
        """
        record = self._records.get(backend)
        if record is None:
            return
        if failure.kind is FailureKind.MODEL_MISSING and record.lacks(canonical_model(model)):
            self._touch(record)
        if not failure.kind.blames_backend:
            return
        learn_failure(record, failure, self._threshold)
        self._breakers.failed(backend, canonical_model(model), failure, now_s)
        self._touch(record)
        self._keep_out(now_s)

    def move(self, now_s: float) -> None:
        """Time has passed: who was kept out may be tried again, prompts were read; call once a second."""
        for name, record in self._records.items():
            for running in take_read(record, now_s) if record.lingering else ():
                self.closed(name, running, now_s)
        if self.adapts or self._adaptive:
            for record, spec in self._adaptive.move(self._records, now_s, adapts=self.adapts):
                self._describe(record, spec)
        if self._breakers:
            self._breakers.move(now_s)
            self._keep_out(now_s)

    def measured(self, backend: str, s_per_token: float) -> None:
        """An answer took so long for each of its tokens, from when it was sent to its end."""
        record = self._records.get(backend)
        if record is not None:
            self._adaptive.measured(record, s_per_token)

    def _keep_out(self, now_s: float) -> None:
        """Show who is kept out of what."""
        holders = [
            Holder(name, frozenset(one.names_there()), one.health.state.serves) for name, one in self._records.items()
        ]
        found = self._breakers.keep_out(holders, now_s)
        for name, record in self._records.items():
            kept_out = found.get(name, FROM_NOTHING)
            if kept_out != record.kept_out:
                record.kept_out = kept_out
                self._touch(record)

    def set_heat(self, backend: str, heat: Heat | None) -> None:
        """Whether its device is or soon will be throttled."""
        record = self._records.get(backend)
        if record is not None and record.heat != heat:
            record.heat = heat
            self._touch(record)

    def unsettle(self, backend: str) -> None:
        """Its device is throttled, or no more, or has another power profile: its speeds are to be learned anew."""
        record = self._records.get(backend)
        if record is not None and record.learners:
            unsettle(record)
            self._touch(record)

    def refused_prompt(self, backend: str, model: str, limit: PromptLimit, now_s: float) -> None:
        """A prompt of so many tokens was too long there; `model` is the name as asked."""
        record = self._records.get(backend)
        if record is not None and record.refusals.learn(canonical_model(model), limit, now_s):
            self._show_limits(record)

    def took_prompt(self, backend: str, model: str, prompt_tokens: float, max_tokens: int) -> None:
        """A prompt of so many tokens was answered there."""
        record = self._records.get(backend)
        if (
            record is not None
            and record.refusals
            and record.refusals.took(canonical_model(model), prompt_tokens, max_tokens)
        ):
            self._show_limits(record)

    def _show_limits(self, record: Record) -> None:
        record.prompt_limits = record.refusals.look()
        self._touch(record)

    def fell_silent(self, backend: str, model: str) -> None:
        """A request was taken away since it got no answer in the time that is usual there; more is allowed the next."""
        record = self._records.get(backend)
        if record is not None:
            name = canonical_model(model)
            record.silences[name] = record.silences.get(name, 0) + 1

    def count_silences(self, backend: str, model: str) -> int:
        """How often in a row; `model` is a canonical name."""
        record = self._records.get(backend)
        return record.silences.get(model, 0) if record is not None else 0

    def heard_at(self, backend: str) -> float:
        """When an answer ended well there last, in monotonic seconds; 0.0 before any did."""
        record = self._records.get(backend)
        return record.heard_s if record is not None else 0.0

    # -- what outlasts a restart --------------------------------------------------

    def save_rates(self, now_s: float) -> dict[str, SavedBackend]:
        """What was learned, by backend."""
        return {
            name: save_backend(record, self._pools, now_s)
            for name, record in self._records.items()
            if record.learners or record.refusals
        }

    def restore_rates(self, saved: Mapping[str, SavedBackend], age_s: float, now_s: float) -> None:
        """Take up what was learned `age_s` ago, of backends that are still there and not known to be others now."""
        for name, before in saved.items():
            record = self._records.get(name)
            pools = self._pools_now or self._arrange_pools()
            if record is not None and restore_backend(record, before, pools, age_s, now_s):
                self._show_limits(record)

    # -- probes --------------------------------------------------------------

    def probed(self, backend: str, report: ProbeReport, now_unix_s: int) -> None:
        """A probe answered."""
        record = self._records.get(backend)
        if record is None:
            return
        record.take(report, now_unix_s)
        self._touch(record)
        for one in share_memory(self._records.values(), record.spec.memory_pool):
            self._touch(one)

    def probe_failed(self, backend: str, message: str, now_unix_s: int, *, hard: bool) -> None:
        """A probe failed."""
        record = self._records.get(backend)
        if record is None:
            return
        record.health = after_failure(record.health, message, self._threshold, hard=hard)
        record.checked_unix_s = now_unix_s
        self._touch(record)

    def age(self, now_s: float) -> None:
        """Let the counts of the last minute run out and idle devices fall asleep; call now and then."""
        for record in self._records.values():
            if record.falls_asleep(now_s):
                self._touch(record)
            if record.refusals and record.refusals.forget(now_s):
                self._show_limits(record)
            before = record.ended.total
            record.ended.move(now_s)
            if record.taught or record.ended.total != before:
                self._touch(record)

    def _touch(self, record: Record) -> None:
        """More than a backend's load has changed."""
        self._views.touch(record)

    def _begin_anew(self) -> None:
        """Not the same backends as before."""
        self._views.begin_anew(self._records.values())
        self._pools_now = None
