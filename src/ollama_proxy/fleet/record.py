"""One backend as the fleet knows it: the mutable side, and the immutable view that readers get of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec, BackendView, Heat, KeptOut, ModelFacts, PromptLimit, Rates
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.calibration import Judge
from ollama_proxy.fleet.company import Occupancy
from ollama_proxy.fleet.concurrency import AdaptiveLimit
from ollama_proxy.fleet.forecast import Forecast
from ollama_proxy.fleet.health import WELL, HealthRecord
from ollama_proxy.fleet.minute import LastMinute
from ollama_proxy.fleet.naming import read_sizes, with_names
from ollama_proxy.fleet.rates import Learner
from ollama_proxy.fleet.refusals import PromptRefusals
from ollama_proxy.fleet.running import Running

FROM_NOTHING: Mapping[str, KeptOut] = {}


class Record:
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
        self.kept_out: Mapping[str, KeptOut] = FROM_NOTHING
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

    def take(self, report: ProbeReport, now_unix_s: int) -> None:
        """A probe answered."""
        self.health = WELL
        self.checked_unix_s = now_unix_s
        self.models = None if report.models is None else with_names(report.models, self.spec.model_names)
        self.loaded = report.loaded
        self.loaded_entries = report.loaded_entries
        self.resident_bytes = read_sizes(report.loaded_entries)
        self.version = report.version
        self.emulated = report.emulated
        if report.capabilities is not None:
            self.capabilities = report.capabilities

    def refresh(self) -> None:
        """More than its load has changed: what was shown holds no more, and what was learned is to be shown."""
        if self.unshown:
            self.rates = {**self.rates, **{name: one.rates() for name, one in self.unshown.items()}}
            self.unshown.clear()
        for view in self.seen.values():
            # Decisions on record keep views; what those remember is only for decisions to come.
            view.__dict__.clear()
        self.seen = {}
        self.now = None
        self.taught = False

    def names_there(self) -> Iterable[str]:
        """What it calls its models; those that were asked for, where it has no list."""
        if self.models is None:
            return self.learners
        return [canonical_model(facts.there) if facts.there else name for name, facts in self.models.items()]

    def lacks(self, model: str) -> bool:
        """Its list was wrong: believe that it does not have a model until the next probe; whether that is news."""
        models = self.models
        if models is None:
            return False
        left = {name: facts for name, facts in models.items() if canonical_model(facts.there or name) != model}
        if len(left) == len(models):
            return False
        self.models = left
        return True

    def falls_asleep(self, now_s: float) -> bool:
        """Whether it has been without work for so long that its device suspends itself now."""
        limit_s = self.spec.suspend_after_seconds
        if not limit_s or self.asleep or self.in_flight:
            return False
        if self.idle_since_s is None:
            self.idle_since_s = now_s
        elif now_s - self.idle_since_s >= limit_s:
            self.asleep = True
        return self.asleep


def share_memory(records: Iterable[Record], pool: str) -> list[Record]:
    """Tell each device of a memory `pool` ("" for none) what the others take of it; those for which that is news."""
    if not pool:
        return []
    sharing = [one for one in records if one.spec.memory_pool == pool]
    taken = sum(sum(one.resident_bytes.values()) for one in sharing)
    changed: list[Record] = []
    for one in sharing:
        beside = taken - sum(one.resident_bytes.values())
        if one.spec.memory_gb and one.beside_bytes != beside:
            one.beside_bytes = beside
            changed.append(one)
    return changed
