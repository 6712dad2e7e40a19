"""The live state of all backends. One writer, the event loop; readers get immutable views.

Only the view of a backend that changed is made anew, and only when somebody looks; nothing is done for each backend of
a large fleet but copying a tuple. Clock values are handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import (
    BackendSpec,
    BackendView,
    Calibration,
    FleetView,
    Health,
    Heat,
    KeptOut,
    ModelFacts,
    Moves,
    PromptLimit,
    Rates,
    Wait,
)
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.breakers import Breakers, Holder
from ollama_proxy.fleet.calibration import Judge
from ollama_proxy.fleet.company import ALONE, Company, Occupancy
from ollama_proxy.fleet.concurrency import AdaptiveLimit
from ollama_proxy.fleet.forecast import Forecast
from ollama_proxy.fleet.health import WELL, HealthRecord, after_failure
from ollama_proxy.fleet.minute import LastMinute
from ollama_proxy.fleet.naming import read_sizes, with_names
from ollama_proxy.fleet.pools import Pools, SavedCouplings, Surroundings
from ollama_proxy.fleet.rates import MAX_MODELS, Learner, Observation, SavedRates
from ollama_proxy.fleet.refusals import PromptRefusals, SavedRefusal
from ollama_proxy.fleet.running import Running, Slot, forecast_slots, forecast_wait
from ollama_proxy.routing.room import make_room
from ollama_proxy.routing.speeds import guess_load

#: What traffic teaches is shown this often: a decision a moment later is no worse for it, and most views then last.
_TEACH_S = 0.1
#: So many answers of a backend teach in that time; more of the same would say the same and cost every request.
_MOST_LESSONS = 16
#: Beyond so many requests at a backend, nobody works out when each will end.
_MOST_COUNTED = 32
#: Servers that read a prompt to its end, and load a model, although whoever asked has gone.
READ_ON_KINDS = ("ollama",)
#: Who has less left to read is done when it is looked at next.
_LEAST_LINGER_S = 1.0
#: In larger fleets, what was forecast of a backend is kept for a while.
_MOST_FORECAST_ANEW = 64
#: Changes written down before the list is begun anew, and readers have to look through all backends once.
_MOST_MOVES = 4096
#: A first token for which company lost less (as a logarithm) came as if alone.
_LEAST_CROWDED = 0.05
#: Share of a new request in the error rate and the mean latency.
_SHARE = 0.1
#: Share of a new load in how much longer than guessed loads take; and how far the guess may be off, either way.
_LOAD_SHARE, _MOST_LOAD_FACTOR = 0.3, 50.0
_FROM_NOTHING: Mapping[str, KeptOut] = {}


class _Record:
    """One backend's mutable side. Its view is made when somebody looks, so that changes in between cost no copy."""

    __slots__ = (
        "asleep",
        "avg_latency_ms",
        "beside_bytes",
        "capabilities",
        "checked_unix_s",
        "emulated",
        "ended",
        "error_rate",
        "forecast",
        "health",
        "heard_s",
        "heat",
        "idle_since_s",
        "in_flight",
        "judge",
        "kept_out",
        "learners",
        "lessons",
        "limit",
        "lingering",
        "load_factor",
        "loaded",
        "loaded_entries",
        "memory",
        "models",
        "now",
        "occupancy",
        "place",
        "prompt_limits",
        "rates",
        "refusals",
        "resident_bytes",
        "running",
        "seen",
        "silences",
        "spec",
        "taught",
        "taught_s",
        "told",
        "unshown",
        "version",
    )

    def __init__(self, spec: BackendSpec, capabilities: frozenset[Need]) -> None:
        self.spec = self.told = spec
        #: How many requests at once it does well with, where the configuration does not say.
        self.limit: AdaptiveLimit | None = None
        #: In the order of the configuration.
        self.place = 0
        self.capabilities = capabilities
        self.health = HealthRecord()
        self.checked_unix_s = 0
        self.models: Mapping[str, ModelFacts] | None = None
        self.loaded: frozenset[str] = frozenset()
        self.loaded_entries: tuple[Mapping[str, object], ...] = ()
        self.in_flight = 0
        self.rates: Mapping[str, Rates] = {}
        self.learners: dict[str, Learner] = {}
        self.judge = Judge()
        #: Those in flight whose end was predicted, in the order in which they were sent.
        self.running: dict[Running, None] = {}
        #: When its slots will be free, as reckoned last.
        self.forecast = Forecast()
        #: How many ran at once and when, where several can.
        self.occupancy = Occupancy() if spec.slots > 1 else None
        #: Prompts that were too long for its models.
        self.refusals = PromptRefusals()
        self.heat: Heat | None = None
        self.load_factor = 1.0
        self.prompt_limits: Mapping[str, tuple[PromptLimit, ...]] = {}
        #: Prompts that are read on although nobody waits for the answer, and until when.
        self.lingering: list[tuple[float, Running | None]] = []
        self.emulated = False
        self.error_rate = 0.0
        self.avg_latency_ms = 0.0
        self.version = ""
        self.memory: dict[Any, Any] = {}
        self.ended = LastMinute()
        #: When an answer ended well last, and how often in a row each model fell silent since.
        self.heard_s = 0.0
        #: From which models breakers keep it.
        self.kept_out: Mapping[str, KeptOut] = _FROM_NOTHING
        self.silences: dict[str, int] = {}
        #: Since when it was seen without work, by `Fleet.age`; what suspends itself sleeps at the start.
        self.idle_since_s: float | None = None
        self.asleep = spec.suspend_after_seconds > 0
        #: What models take in memory, and what other devices take of a memory that it shares with them.
        self.resident_bytes: Mapping[str, int] = {}
        self.beside_bytes = 0
        #: Views since the last change of anything but load, by load: what comes back to a load comes back to its view.
        self.seen: dict[int, BackendView] = {}
        #: The one of them that holds now, if it is made.
        self.now: BackendView | None = None
        #: When what traffic teaches was shown last, and whether there is more since.
        self.taught_s = 0.0
        self.taught = False
        #: Answers that have taught since then, and the models whose rates are to be shown.
        self.lessons = 0
        self.unshown: dict[str, Learner] = {}

    def look(self) -> BackendView:
        """The backend at this moment."""
        view = self.now = self.now or self.seen.get(self.in_flight)
        if view is None:
            health = self.health
            view = self.now = self.seen[self.in_flight] = BackendView(
                self.spec,
                health.state,
                health.message,
                self.checked_unix_s,
                self.models,
                self.loaded,
                self.loaded_entries,
                self.in_flight,
                self.rates,
                self.capabilities,
                self.emulated,
                self.error_rate,
                self.avg_latency_ms,
                self.ended.total,
                self.version,
                self.memory,
                self.asleep,
                self.resident_bytes,
                self.beside_bytes,
                self.kept_out,
                self.prompt_limits,
                self.heat,
                self.load_factor,
            )
        return view


class SavedBackend(msgspec.Struct, frozen=True):
    """What was learned of a backend, by model. An emulated device teaches nothing of the real one behind its name."""

    emulated: bool
    models: dict[str, SavedRates]
    #: How much neighbours slow it.
    slowed: SavedCouplings = {}
    #: Prompts that were too long.
    refused: dict[str, list[SavedRefusal]] = {}
    load_factor: float = 1.0


class Fleet:
    """All backends, in the order of the configuration."""

    def __init__(self, unhealthy_threshold: int = 3) -> None:
        self._threshold = unhealthy_threshold
        self._breakers = Breakers(unhealthy_threshold)
        #: Whether servers of which no slots are configured are sent only as much as they do well with.
        self.adapts = False
        #: Those that are, at the moment.
        self._limited: set[str] = set()
        self._records: dict[str, _Record] = {}
        self._version = 0
        self._pools = Pools()
        #: The same once it is told of the backends as they are now.
        self._pools_now: Pools | None = None
        #: Attempts that still run on backends that left; one of the same id that joins must not be billed for them.
        self._ghosts: dict[str, int] = {}
        self._view: FleetView | None = None
        #: By place: the backends, and their views as they were when somebody looked last, which was at this version.
        self._placed: list[_Record] = []
        self._shown: list[BackendView] = []
        self._shown_at = 0
        self._moves = Moves(0)
        #: Backends that have no slot left for another request.
        self._full: set[_Record] = set()

    def add(self, spec: BackendSpec, capabilities: frozenset[Need]) -> None:
        """A backend joins."""
        before = self._records.get(spec.id)
        if before is not None:
            self._full.discard(before)
        self._records[spec.id] = _Record(spec, capabilities)
        self._breakers.forget(spec.id)
        self._begin_anew()

    def remove(self, backend: str) -> None:
        """A backend leaves; what still runs there ends without being booked."""
        gone = self._records.pop(backend, None)
        if gone is None:
            return
        left = gone.in_flight - len(gone.lingering)
        if left:
            self._ghosts[backend] = self._ghosts.get(backend, 0) + left
        self._full.discard(gone)
        self._breakers.forget(backend)
        self._begin_anew()

    def renew(self, spec: BackendSpec, capabilities: frozenset[Need]) -> None:
        """A backend is described in another way; its health, its load and what was learned of it stay."""
        record = self._records[spec.id]
        record.told, record.capabilities = spec, capabilities
        record.limit = None
        self._describe(record, spec)

    def _describe(self, record: _Record, spec: BackendSpec) -> None:
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
        view = self._view
        if view is None:
            shown, placed = self._shown, self._placed
            if not shown:
                shown = self._show_all()
            for place in self._moves.places[self._shown_at - self._moves.since :]:
                record = placed[place]
                shown[place] = record.now or record.look()
            if len(self._moves.places) > _MOST_MOVES:
                self._moves = Moves(self._version)
            self._shown_at = self._version
            view = self._view = FleetView(self._version, tuple(shown), (), self._moves)
        return view

    def _show_all(self) -> list[BackendView]:
        """Give out the places, and look at everybody."""
        self._placed = list(self._records.values())
        for place, record in enumerate(self._placed):
            record.place = place
        self._shown = [record.now or record.look() for record in self._placed]
        self._shown_at = self._version
        return self._shown

    def view_at(self, now_s: float) -> FleetView:
        """The backends, who writes beside them, and how long a new request would wait at those that are full."""
        view = self._view or self.view()
        around = self.look_around(now_s)
        if around is not None:
            view = FleetView(view.version, view.backends, (), view.moves, around.look())
        if not self._full:
            return view
        waits: list[Wait | None] = [None] * len(self._placed)
        for record in self._full:
            waits[record.place] = self._wait_at(record, now_s)
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
        return [self._slots_of(one, now_s) if one.spec.held else [] for one in self._records.values()]

    def _slots_of(self, record: _Record, now_s: float) -> list[Slot]:
        if len(self._records) > _MOST_FORECAST_ANEW:
            return record.forecast.look(record.running, record.spec.slots, now_s)
        return forecast_slots(list(record.running), record.spec.slots, now_s)

    def _wait_at(self, record: _Record, now_s: float) -> Wait | None:
        if not record.spec.held or len(record.running) > _MOST_COUNTED:
            return None
        if len(self._records) <= _MOST_FORECAST_ANEW:
            return forecast_wait(list(record.running), record.spec.slots, now_s)
        return Wait(*self._slots_of(record, now_s)[0]) if len(record.running) >= record.spec.slots else None

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
            self._move(record)

    def tried(self, backend: str, model: str, now_s: float) -> None:
        """An attempt has begun at a backend that something is kept from: it may be the one that shows how it does."""
        self._breakers.tried(backend, canonical_model(model), now_s)
        self._keep_out(now_s)

    def closed(self, backend: str, running: Running | None = None, now_s: float = 0.0) -> None:
        """An attempt is over, however it ended."""
        record = self._records.get(backend)
        if self._ghosts and backend in self._ghosts and not (record and running in record.running):
            self._lay_ghost(backend)
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
            self._move(record)

    def abandoned(self, backend: str, running: Running | None, until_s: float, now_s: float) -> None:
        """An attempt was broken off before its first token, which was expected at `until_s`.

        A server that reads the prompt to its end nevertheless has that load until then.
        """
        record = self._records.get(backend)
        is_read_on = record is not None and record.spec.kind in READ_ON_KINDS and not record.emulated
        if record is None or not is_read_on or until_s - now_s < _LEAST_LINGER_S:
            self.closed(backend, running, now_s)
            return
        if running is not None:
            running.abandon(until_s)
            record.forecast.forget()
        record.lingering.append((until_s, running))

    def _end_lingering(self, now_s: float) -> None:
        for name, record in self._records.items():
            if record.lingering:
                over = [one for one in record.lingering if one[0] <= now_s]
                record.lingering = [one for one in record.lingering if one[0] > now_s]
                for _, running in over:
                    self.closed(name, running, now_s)

    def _lay_ghost(self, backend: str) -> None:
        self._ghosts[backend] -= 1
        if not self._ghosts[backend]:
            del self._ghosts[backend]

    def succeeded(self, backend: str, model: str, seen: Observation, now_s: float) -> None:
        """An answer ended well: learn its speeds. `model` is the name as asked."""
        record = self._records.get(backend)
        if record is None:
            return
        name = canonical_model(model)
        news = record.health is not WELL or name not in record.loaded
        if news:
            record.health = WELL
            record.loaded = (record.loaded - _find_evicted(record, name)) | {name}
        record.ended.count(now_s)
        record.heard_s = now_s
        if record.silences:
            record.silences.pop(name, None)
        if self._breakers and backend in self._breakers:
            self._breakers.succeeded(backend, name, now_s)
            self._keep_out(now_s)
        record.lessons += 1
        company = ALONE
        if record.occupancy is not None:
            seen, company = _find_company(record.occupancy, seen, now_s)
        if seen.ttft_s is not None or seen.decode_tps is not None or seen.load_s is not None:
            learner = _touch_learner(record, name, now_s)
            pools = self._pools_now or self._arrange_pools()
            beside = pools.meet(backend, seen.decode_s, now_s) if pools.is_shared else ()
            learner.learn(seen, now_s, beside, company)
            record.unshown[name] = learner
            if seen.load_s is not None:
                _learn_load_factor(record, name, seen.load_s)
        if record.error_rate:
            record.error_rate *= 1 - _SHARE
        if seen.ttft_s is not None:
            record.avg_latency_ms = _decayed(record.avg_latency_ms, seen.ttft_s)
        if news or not 0 <= now_s - record.taught_s < _TEACH_S:
            record.taught_s = now_s
            record.lessons = 0
            self._touch(record)
        else:
            record.taught = True

    def wants_lessons(self, backend: str, now_s: float) -> bool:
        """Whether an answer of a backend still has something to teach, or enough have in the last moment."""
        record = self._records.get(backend)
        return record is None or record.lessons < _MOST_LESSONS or not 0 <= now_s - record.taught_s < _TEACH_S

    def teach_energy(
        self, backend: str, model: str, fixed_j: float, prefill_j: float, decode_j: float, now_s: float
    ) -> None:
        """A meter has shown what requests cost: joules of one, and of each token of its prompt and of its answer."""
        record = self._records.get(backend)
        if record is None:
            return
        name = canonical_model(model)
        learner = _touch_learner(record, name, now_s)
        learner.learn_energy(fixed_j, prefill_j, decode_j)
        record.rates = {**record.rates, name: learner.rates()}
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
        if failure.kind is FailureKind.MODEL_MISSING:
            self._drop_model(record, canonical_model(model))
        if not failure.kind.blames_backend:
            return
        if failure.kind is FailureKind.REFUSED or not record.health.state.serves:
            record.health = after_failure(record.health, failure.message, self._threshold, hard=True)
        else:
            record.health = HealthRecord(Health.DEGRADED, record.health.failures + 1, failure.message)
        record.error_rate = record.error_rate * (1 - _SHARE) + _SHARE
        self._breakers.failed(backend, canonical_model(model), failure, now_s)
        self._touch(record)
        self._keep_out(now_s)

    def move(self, now_s: float) -> None:
        """Time has passed: who was kept out may be tried again, prompts were read; call once a second."""
        self._end_lingering(now_s)
        if self.adapts or self._limited:
            self._adapt(now_s)
        if self._breakers:
            self._breakers.move(now_s)
            self._keep_out(now_s)

    def measured(self, backend: str, s_per_token: float) -> None:
        """An answer took so long for each of its tokens, from when it was sent to its end."""
        record = self._records.get(backend)
        if record is not None and not record.told.held:
            record.limit = record.limit or AdaptiveLimit()
            record.limit.ended(s_per_token, record.in_flight)

    def _adapt(self, now_s: float) -> None:
        for name, record in self._records.items():
            if not self.adapts:
                record.limit = None
            most = None
            if record.limit is not None:
                record.limit.move(now_s, record.in_flight)
                most = record.limit.limit
            if most is None and name in self._limited:
                self._limited.discard(name)
                self._describe(record, record.told)
            elif most is not None and (not record.spec.held or record.spec.slots != most):
                self._limited.add(name)
                self._describe(record, msgspec.structs.replace(record.told, slots=most, held=True))

    def _keep_out(self, now_s: float) -> None:
        """Show who is kept out of what."""
        holders = [
            Holder(name, frozenset(_names_there(one)), one.health.state.serves) for name, one in self._records.items()
        ]
        found = self._breakers.keep_out(holders, now_s)
        for name, record in self._records.items():
            kept_out = found.get(name, _FROM_NOTHING)
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
            for learner in record.learners.values():
                learner.unsettle()
            record.rates = {name: one.rates() for name, one in record.learners.items()}
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

    def _show_limits(self, record: _Record) -> None:
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

    def _drop_model(self, record: _Record, model: str) -> None:
        """The list was wrong; believe the 404 until the next probe."""
        models = record.models
        if models is None:
            return
        left = {name: facts for name, facts in models.items() if canonical_model(facts.there or name) != model}
        if len(left) != len(models):
            record.models = left
            self._touch(record)

    # -- what outlasts a restart --------------------------------------------------

    def save_rates(self, now_s: float) -> dict[str, SavedBackend]:
        """What was learned, by backend."""
        return {
            name: SavedBackend(
                record.emulated,
                {model: one.save() for model, one in record.learners.items()},
                self._pools.save(name),
                record.refusals.save(now_s),
                record.load_factor,
            )
            for name, record in self._records.items()
            if record.learners or record.refusals
        }

    def restore_rates(self, saved: Mapping[str, SavedBackend], age_s: float, now_s: float) -> None:
        """Take up what was learned `age_s` ago, of backends that are still there and not known to be others now."""
        for name, before in saved.items():
            record = self._records.get(name)
            if record is None or (record.health is WELL and record.emulated is not before.emulated):
                continue
            for model, one in list(before.models.items())[-MAX_MODELS:]:
                learner = _touch_learner(record, model, now_s)
                learner.restore(one, age_s)
                record.rates = {**record.rates, model: learner.rates()}
            (self._pools_now or self._arrange_pools()).restore(name, before.slowed, age_s, now_s)
            record.refusals.restore(before.refused, age_s, now_s)
            record.load_factor = min(max(before.load_factor, 1 / _MOST_LOAD_FACTOR), _MOST_LOAD_FACTOR)
            self._show_limits(record)

    # -- probes --------------------------------------------------------------

    def probed(self, backend: str, report: ProbeReport, now_unix_s: int) -> None:
        """A probe answered."""
        record = self._records.get(backend)
        if record is None:
            return
        record.health = WELL
        record.checked_unix_s = now_unix_s
        record.models = None if report.models is None else with_names(report.models, record.spec.model_names)
        record.loaded = report.loaded
        record.loaded_entries = report.loaded_entries
        record.resident_bytes = read_sizes(report.loaded_entries)
        record.version = report.version
        record.emulated = report.emulated
        if report.capabilities is not None:
            record.capabilities = report.capabilities
        self._touch(record)
        if record.spec.memory_pool:
            self._share_memory(record.spec.memory_pool)

    def _share_memory(self, pool: str) -> None:
        """Tell each device of a shared memory what the others take of it."""
        sharing = [one for one in self._records.values() if one.spec.memory_pool == pool]
        taken = sum(sum(one.resident_bytes.values()) for one in sharing)
        for one in sharing:
            beside = taken - sum(one.resident_bytes.values())
            if one.spec.memory_gb and one.beside_bytes != beside:
                one.beside_bytes = beside
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
            self._let_sleep(record, now_s)
            if record.refusals and record.refusals.forget(now_s):
                self._show_limits(record)
            before = record.ended.total
            record.ended.move(now_s)
            if record.taught or record.ended.total != before:
                self._touch(record)

    def _let_sleep(self, record: _Record, now_s: float) -> None:
        limit_s = record.spec.suspend_after_seconds
        if not limit_s or record.asleep or record.in_flight:
            return
        if record.idle_since_s is None:
            record.idle_since_s = now_s
        elif now_s - record.idle_since_s >= limit_s:
            record.asleep = True
            self._touch(record)

    def _touch(self, record: _Record) -> None:
        """More than a backend's load has changed."""
        if record.unshown:
            record.rates = {**record.rates, **{name: one.rates() for name, one in record.unshown.items()}}
            record.unshown.clear()
        for view in record.seen.values():
            # Decisions on record keep views; what those remember is only for decisions to come.
            view.__dict__.clear()
        record.seen = {}
        record.now = None
        record.taught = False
        self._move(record)

    def _move(self, record: _Record) -> None:
        """A backend is not what it was."""
        self._view = None
        self._version += 1
        self._moves.places.append(record.place)

    def _begin_anew(self) -> None:
        """Not the same backends as before: the places mean others now, and are given when somebody looks."""
        self._view = None
        self._version += 1
        self._moves = Moves(self._version)
        self._shown = []
        self._pools_now = None


def _names_there(record: _Record) -> Iterable[str]:
    """What a backend calls its models; those that were asked for, where it has no list."""
    if record.models is None:
        return record.learners
    return [canonical_model(facts.there) if facts.there else name for name, facts in record.models.items()]


def _learn_load_factor(record: _Record, name: str, load_s: float) -> None:
    """A load was seen; the first says more than a guess, the others move it a little."""
    facts = (record.models or {}).get(name)
    guess_s = guess_load(facts.size_bytes) if facts is not None else 0.0
    if guess_s:
        seen = min(max(load_s / guess_s, 1 / _MOST_LOAD_FACTOR), _MOST_LOAD_FACTOR)
        known = record.load_factor
        record.load_factor = seen if known == 1.0 else known ** (1 - _LOAD_SHARE) * seen**_LOAD_SHARE


def _find_evicted(record: _Record, name: str) -> frozenset[str]:
    """Those that have probably made room for a model that was loaded since the last probe."""
    facts = (record.models or {}).get(name)
    if not record.spec.memory_gb or facts is None or name in record.loaded:
        return frozenset()
    return frozenset(make_room(record.look(), name, facts.size_bytes).evicted)


def _find_company(occupancy: Occupancy, seen: Observation, now_s: float) -> tuple[Observation, Company]:
    """What a request that has just ended showed, and beside how many; its first token only if it came as if alone."""
    first_s = now_s - (seen.decode_s or 0.0)
    if seen.ttft_s is not None and occupancy.between(first_s - seen.ttft_s, first_s)[1] > _LEAST_CROWDED:
        seen = msgspec.structs.replace(seen, ttft_s=None)
    return seen, occupancy.between(first_s, now_s)


def _touch_learner(record: _Record, model: str, now_s: float) -> Learner:
    """That of a model, made when it is new and put last; the longest untouched falls out when there are too many."""
    learners = record.learners
    learner = learners.pop(model, None) or Learner(record.spec, now_s)
    learners[model] = learner
    if len(learners) > MAX_MODELS:
        oldest = next(iter(learners))
        del learners[oldest]
        record.unshown.pop(oldest, None)
        record.rates = {name: rates for name, rates in record.rates.items() if name != oldest}
    return learner


def _decayed(mean_ms: float, ttft_s: float) -> float:
    return ttft_s * 1000 if not mean_ms else mean_ms * (1 - _SHARE) + ttft_s * 1000 * _SHARE
