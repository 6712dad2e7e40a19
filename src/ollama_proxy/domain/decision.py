"""What was decided and why: the chosen backend, the full ranking, every rejection with its one reason."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from .annotations import Annotations
from .call import Need
from .lengths import Lengths


class Limit(enum.Enum):
    """The hard limits, in the order they are checked; a backend is dropped by the first that it fails."""

    TRIED = "already tried"
    UNHEALTHY = "unhealthy"
    KEPT_OUT = "kept out after failures"
    NOT_TARGET = "not the target"
    MODEL_MISSING = "model not there"
    MODEL_EXCLUDED = "model excluded by pattern"
    MODEL_TOO_LARGE = "model too large"
    MEMORY = "does not fit into the memory"
    CAPABILITY = "capability missing"
    PROMPT_LENGTH = "prompt too long"
    POWER = "over the power limit"
    POWER_NOW = "over the power limit while others run"
    SYSTEM_POWER = "not among those that may run now"
    MEMORY_NOW = "no room in the memory beside what others hold"
    LATENCY = "over the latency limit"
    STAND_IN = "stand-in not needed"


class RoutingRequest(msgspec.Struct, frozen=True):
    """The facts of a call that the decision reads. `model` is canonical, `requested_model` as the client wrote it.

    `lengths` is how long answers of this kind are; what is usual when it is None. `spent_s` has gone by since the
    request came. `serial` numbers requests, for policies that take turns. `held` are tokens at the beginning of the
    prompt that backends, by id, hold from before. `allowed` are the ids of the backends that are there for the caller;
    None for all.
    """

    model: str
    requested_model: str
    needs: frozenset[Need]
    annotations: Annotations
    prompt_tokens: float = 0.0
    max_tokens: int = 0
    embed: bool = False
    lengths: Lengths | None = None
    spent_s: float = 0.0
    serial: int = 0
    held: Mapping[str, float] = {}
    allowed: frozenset[str] | None = None


class PowerSet(msgspec.Struct, frozen=True):
    """Those that may run under the system's power cap, and those of them that may read only short prompts.

    The latter draw more while they read, and may exceed the cap only for a moment. `cap_watts` and, in mode Quiet,
    what each may draw by itself (`quiet_watts`) are told to clients; 0 is without. `base_watts` of the cap are drawn by
    whatever else there is. `before` is the set that this one replaced: its members may have been running together.
    """

    active: frozenset[str]
    brief: frozenset[str] = frozenset()
    cap_watts: float = 0.0
    quiet_watts: float = 0.0
    base_watts: float = 0.0
    before: frozenset[str] = frozenset()


class Policy(msgspec.Struct, frozen=True):
    """Named settings of the decision.

    `rule` is how candidates are compared (`routing.rules`); `lambda_watts` the price of a second of waiting, in joules.
    """

    name: str = "balanced"
    lambda_watts: float = 10.0
    default_backend: str = ""
    #: Tie-breakers: the lower draw, the sooner first token.
    power_aware: bool = False
    auto_optimize_latency: bool = False
    rule: str = "predictive"
    #: The price of a second for the two wishes.
    critical_watts: float = 100.0
    efficient_watts: float = 1.0
    #: How many times the soonest end a request waits at most that wishes power efficiency.
    efficient_patience: float = 10.0
    #: A latency limit, where the request says nothing else: how surely it is kept, of what, and what if it cannot be.
    probability: float = 0.95
    metric: str = "e2e"
    on_infeasible: str = "best_effort"
    #: The price of a second for a request with a latency limit, which wants to be in time and no more.
    deadline_watts: float = 1.0
    #: Those that may run under the system's power cap; None without one.
    power_set: PowerSet | None = None


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """Predictions for one backend, the very ones that were scored.

    `joules` are marginal: what the device spends more for having this request. `chance` is the probability to keep the
    latency limit, None without one.
    """

    wait_s: float
    load_s: float
    prefill_s: float
    decode_s: float
    power_watts: float
    joules: float
    chance: float | None = None
    #: What those that run beside it lose: their joules and their seconds, at the prices that they set.
    neighbours_j: float = 0.0

    @property
    def ttft_s(self) -> float:
        """From the request's turn to its first token."""
        return self.load_s + self.prefill_s

    @property
    def e2e_s(self) -> float:
        """From the decision to the last token."""
        return self.wait_s + self.load_s + self.prefill_s + self.decode_s

    @property
    def latency_ms(self) -> int:
        """Predicted time to the first token, queue included, in milliseconds."""
        return round((self.wait_s + self.load_s + self.prefill_s) * 1000)


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A backend that passed all limits, with its cost in joules (seconds priced at the policy's lambda)."""

    backend: str
    estimate: Estimate
    cost_j: float


#: As candidates are compared: cost in joules (rounded to the millionth only where that makes it equal to another), the
#: prospect (`routing.prospect`), wait, prefill and decode seconds, marginal joules, chance to keep
#: the latency limit. A plain tuple, because one is made for every backend in every decision.
Scored = tuple[float, Any, float, float, float, float, float | None]


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A backend that was dropped, with the limit and a clause for people."""

    backend: str
    limit: Limit
    detail: str


#: Alternatives are shown with every answer, and nobody reads more.
MOST_ALTERNATIVES = 16


class Decision:
    """The ranking, best first (never empty), and everything that led to it.

    `scored` are the candidates as they were compared; what is shown of them is made when somebody looks, and so are
    `rejections` that come as a function.
    """

    __slots__ = (
        "_ranking",
        "_rejections",
        "fleet_version",
        "model",
        "policy",
        "reason",
        "scored",
        "short_of_power",
        "stand_in",
    )

    def __init__(
        self,
        scored: Sequence[Scored],
        rejections: tuple[Rejection, ...] | Callable[[], tuple[Rejection, ...]],
        reason: str,
        policy: str,
        fleet_version: int,
        model: str,
        stand_in: bool = False,
        short_of_power: bool = False,
    ) -> None:
        self.scored = scored
        self._rejections = rejections
        self.reason = reason
        self.policy = policy
        self.fleet_version = fleet_version
        #: The name to ask the chosen backend for; differs from the request only for a stand-in.
        self.model = model
        self.stand_in = stand_in
        #: It may not begin there yet: first others have to end, or another power set be chosen.
        self.short_of_power = short_of_power
        self._ranking: tuple[Candidate, ...] | None = None

    @property
    def backend(self) -> str:
        """The winner's id."""
        backend: str = self.scored[0][1].backend
        return backend

    @property
    def wait_s(self) -> float:
        """How long the winner is predicted to let it wait."""
        return self.scored[0][2]

    @property
    def rejections(self) -> tuple[Rejection, ...]:
        """The backends that were dropped, by name."""
        if callable(self._rejections):
            self._rejections = self._rejections()
        return self._rejections

    @property
    def ranking(self) -> tuple[Candidate, ...]:
        """All that could take it, best first."""
        if self._ranking is None:
            self._ranking = tuple([_show(one) for one in self.scored])
        return self._ranking

    @property
    def chosen(self) -> Candidate:
        """The winner."""
        return self.ranking[0] if self._ranking is not None else _show(self.scored[0])

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Ids of the others that could have taken it, best first, `MOST_ALTERNATIVES` at most."""
        return tuple([one[1].backend for one in self.scored[1 : MOST_ALTERNATIVES + 1]])

    def restated(self, reason: str, *, stand_in: bool) -> Decision:
        """The same with another reason."""
        facts = self.policy, self.fleet_version, self.model, stand_in, self.short_of_power
        return Decision(self.scored, self._rejections, reason, *facts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decision) and self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(self._facts())

    def __repr__(self) -> str:
        return f"Decision({self.ranking}, {self.rejections}, {self.reason!r})"

    def _facts(self) -> tuple[object, ...]:
        return (
            self.ranking,
            self.rejections,
            self.reason,
            self.policy,
            self.fleet_version,
            self.model,
            self.stand_in,
            self.short_of_power,
        )


def _show(scored: Scored) -> Candidate:
    cost_j, device, wait_s, prefill_s, decode_s, joules, chance = scored
    estimate = Estimate(wait_s, device.load_s, prefill_s, decode_s, device.watts, joules, chance, device.burden_j)
    return Candidate(device.backend, estimate, round(cost_j, 6))


class RefusalKind(enum.Enum):
    """Why nobody can take a request."""

    UNKNOWN_TARGET = "unknown target"
    NO_HEALTHY = "no healthy backend"
    MODEL_NOWHERE = "model nowhere"
    LIMITS = "limits exclude all"
    BUSY = "too late because of the queue"


class Refusal(msgspec.Struct, frozen=True):
    """No backend is admissible: the kind, one sentence for the client, every rejection."""

    kind: RefusalKind
    message: str
    rejections: tuple[Rejection, ...]
    fleet_version: int
    #: Names of models that resemble the one that is nowhere.
    nearest: tuple[str, ...] = ()
    #: When to ask again, where that helps.
    retry_after_s: float = 0.0
