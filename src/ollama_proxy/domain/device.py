"""Backends as the decision sees them: what is configured, what was learned, what is true right now."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import msgspec

from .call import Need


class Health(enum.Enum):
    """State of a backend. `UNKNOWN` is before its first probe; `DEGRADED` still serves."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"

    @property
    def serves(self) -> bool:
        """Whether requests may be sent there."""
        return self is Health.HEALTHY or self is Health.DEGRADED


HARDWARE_WORDS = ("npu", "igpu", "nvidia", "cpu", "cloud")


class BackendSpec(msgspec.Struct, frozen=True):
    """One backend as configured. Watts, latency and speed are priors; 0 means not given."""

    id: str
    kind: str
    name: str
    hardware: str
    power_watts: float = 0.0
    avg_latency_ms: float = 0.0
    max_tokens_per_second: float = 0.0
    priority: int = 0
    slots: int = 1
    #: Requests beyond the slots wait in the proxy; otherwise they are sent on, and wait at the backend.
    held: bool = False
    #: More priors: prompt tokens a second, draw while reading a prompt, seconds to load a model; 0 means not given.
    prefill_tokens_per_second: float = 0.0
    prefill_watts: float = 0.0
    load_seconds: float = 0.0
    #: A device that suspends itself after so long without work, and what waking it costs: seconds, and joules with all
    #: that it draws until it sleeps again. 0 for one that does not.
    suspend_after_seconds: float = 0.0
    wake_seconds: float = 0.0
    wake_joules: float = 0.0
    #: At which it is throttled; 0 where its sensor tells.
    throttle_celsius: float = 0.0
    #: What k requests at once get done, as k to this power, in units of one alone.
    parallel_exponent: float = 0.8
    max_model_size_gb: float = 0.0
    #: Memory for models, that of the pool where it has one; 0 where it is not known.
    memory_gb: float = 0.0
    supported_patterns: tuple[str, ...] = ()
    preferred_models: tuple[str, ...] = ()
    excluded_patterns: tuple[str, ...] = ()
    #: Devices of one pool share a machine's memory and power, so that they slow each other down; "" for none.
    memory_pool: str = ""
    #: Answers for any model name with a model of its own; used only when nobody else can.
    stand_in_model: str = ""
    #: What a model is called there, by its canonical name here: aliases, and servers that spell names in their own way.
    model_names: Mapping[str, str] = {}


class ModelFacts(msgspec.Struct, frozen=True):
    """One installed model, as the backend describes it; 0 and "" where it does not say."""

    name: str
    digest: str = ""
    size_bytes: int = 0
    modified_at: str = ""
    context_length: int = 0
    #: The backend's own list entry, for APIs of the same dialect.
    entry: Mapping[str, object] = {}
    #: What to ask this backend for, where it is not `name`.
    there: str = ""
    #: Whose it is, as OpenAI-compatible servers say.
    owner: str = ""


class Rates(msgspec.Struct, frozen=True, gc=False):
    """Learned speed of one model on one backend, of a request that runs there alone.

    A first token comes `overhead_s` plus prompt tokens / `prefill_tps` after a request gets its turn, the others
    1 / `decode_tps` apart. `ttft_var` and `decode_var` are variances of the logarithms of what the next request will
    show: of not knowing better and of its own noise. `load_s` is None until a load was seen.
    """

    overhead_s: float
    prefill_tps: float
    decode_tps: float
    load_s: float | None = None
    ttft_var: float = 0.0
    decode_var: float = 0.0
    samples: int = 0
    #: How many of the samples told each of the two.
    ttft_samples: int = 0
    decode_samples: int = 0
    #: Joules above idleness of a prompt token, an output token and a request besides, where a meter has shown them.
    prefill_j: float | None = None
    decode_j: float | None = None
    fixed_j: float | None = None
    #: What k requests at once get done, as k to this power, in units of one alone; None until some have run at once.
    #: With its variance, and its covariance with the logarithm of `decode_tps`.
    parallel_exponent: float | None = None
    parallel_var: float = 0.0
    parallel_cov: float = 0.0


class Promise(msgspec.Struct, frozen=True, gc=False):
    """Requests promised to keep a latency limit with about the same chance: the mean chance, the share that kept it."""

    promised: float
    kept: float
    requests: float


class Calibration(msgspec.Struct, frozen=True):
    """How predictions of a backend came true; errors are typical factors less one (0.1: 10 %), None before any."""

    promises: tuple[Promise, ...] = ()
    ttft_error: float | None = None
    e2e_error: float | None = None
    requests: float = 0.0


class Wait(msgspec.Struct, frozen=True, gc=False):
    """How long a new request would wait for a free slot: mean in seconds, variance in seconds squared."""

    mean_s: float
    var_s2: float = 0.0


class Neighbour(msgspec.Struct, frozen=True, gc=False):
    """What another device of a backend's pool is doing, and how much the two slow each other down.

    It writes tokens from `from_s` to `until_s` (seconds from now, both 0 when it is idle), and for `busy_share` of the
    time after that, as far as the last minutes tell. While both write, the backend takes e^`slows` times as long as
    alone, and the neighbour e^`slowed` times. `watts` is what the neighbour draws, `price_watts` what a second of the
    requests that run there is worth.
    """

    backend: str
    from_s: float
    until_s: float
    busy_share: float
    slows: float
    slowed: float
    watts: float
    price_watts: float = 0.0


class Heat(msgspec.Struct, frozen=True, gc=False):
    """A device that is throttled in so many seconds if it goes on as it does (0: it is), so that its work takes
    `slowdown` times as long."""

    throttles_in_s: float
    slowdown: float


class PromptLimit(msgspec.Struct, frozen=True, gc=False):
    """Prompts of so many tokens and more were refused for their length, where an answer might take `max_tokens` or more
    (0 for any)."""

    prompt_tokens: float
    max_tokens: int = 0


class KeptOut(msgspec.Struct, frozen=True, gc=False):
    """A model's requests are kept from a backend that failed them of late, beyond so many at once in all."""

    most: int
    #: A clause for people.
    why: str
    #: Until one more may be tried there.
    wait_s: float = 0.0


class BackendView(msgspec.Struct, frozen=True, dict=True):
    """A backend at one moment. `models` is keyed by canonical name and None while the list is not known.

    What follows from it alone may be remembered in its `__dict__`, which is no part of the value and not copied; what
    outlasts changes of load and speed, in `memory`, which successive views of a backend share.
    """

    spec: BackendSpec
    health: Health = Health.UNKNOWN
    message: str = ""
    checked_unix_s: int = 0
    models: Mapping[str, ModelFacts] | None = None
    loaded: frozenset[str] = frozenset()
    loaded_entries: tuple[Mapping[str, object], ...] = ()
    in_flight: int = 0
    rates: Mapping[str, Rates] = {}
    capabilities: frozenset[Need] = frozenset((Need.GENERATE, Need.EMBED))
    emulated: bool = False
    error_rate: float = 0.0
    avg_latency_ms: float = 0.0
    requests_per_minute: int = 0
    version: str = ""
    memory: dict[Any, Any] = {}
    #: It has had no work for so long that it has probably suspended itself.
    asleep: bool = False
    #: What models take in memory, by canonical name, as the server tells; and what other devices take of a shared one.
    resident_bytes: Mapping[str, int] = {}
    beside_bytes: int = 0
    #: By the model's canonical name there. Empty nearly always.
    kept_out: Mapping[str, KeptOut] = {}
    #: What each model, by canonical name, has refused of late for being too long.
    prompt_limits: Mapping[str, tuple[PromptLimit, ...]] = {}
    #: None where no sensor tells, or it is not near.
    heat: Heat | None = None
    #: How many times as long as is guessed by their size models take to load here, by those that were seen to.
    load_factor: float = 1.0

    @property
    def id(self) -> str:
        """The configured id."""
        return self.spec.id

    @property
    def watts_kind(self) -> str:
        """Where the watts of this backend come from."""
        return "emulated" if self.emulated else "configured"


class Moves:
    """Which places of one fleet changed, in order: one for each version after `since`. It only grows."""

    __slots__ = ("places", "since")

    def __init__(self, since: int) -> None:
        self.since = since
        self.places: list[int] = []

    def between(self, version: int, other: int) -> set[int]:
        """Places that may differ between two versions, whichever is the later; neither is before `since`."""
        first, last = (version, other) if version < other else (other, version)
        return set(self.places[first - self.since : last - self.since])


class FleetView(msgspec.Struct, frozen=True):
    """All backends at one moment, in the order of the configuration; `version` grows with every change."""

    version: int
    backends: tuple[BackendView, ...]
    #: For each backend, in the same order, the wait for a slot; None where one is free. Empty when nobody keeps count.
    waits: tuple[Wait | None, ...] = ()
    #: What tells two views of the same fleet apart without looking through them; None where nobody wrote it down.
    moves: Moves | None = None
    #: For each backend, in the same order, those of its pool. Empty while nobody is known to slow another down.
    beside: tuple[tuple[Neighbour, ...], ...] = ()
