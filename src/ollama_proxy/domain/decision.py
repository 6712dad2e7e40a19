"""What was decided and why: the chosen backend, the full ranking, every rejection with its one reason."""

from __future__ import annotations

import enum

import msgspec

from .annotations import Annotations
from .call import Need


class Limit(enum.Enum):
    """The hard limits, in the order they are checked; a backend is dropped by the first that it fails."""

    TRIED = "already tried"
    UNHEALTHY = "unhealthy"
    NOT_TARGET = "not the target"
    MODEL_MISSING = "model not there"
    MODEL_EXCLUDED = "model excluded by pattern"
    MODEL_TOO_LARGE = "model too large"
    CAPABILITY = "capability missing"
    POWER = "over the power limit"
    LATENCY = "over the latency limit"
    STAND_IN = "stand-in not needed"


class RoutingRequest(msgspec.Struct, frozen=True):
    """The facts of a call that the decision reads. `model` is canonical, `requested_model` as the client wrote it."""

    model: str
    requested_model: str
    needs: frozenset[Need]
    annotations: Annotations
    prompt_bytes: int = 0
    max_tokens: int = 0
    embed: bool = False


class Policy(msgspec.Struct, frozen=True):
    """Named settings of the cost. `lambda_watts` is the price of a second of waiting, in joules."""

    name: str = "balanced"
    lambda_watts: float = 10.0
    default_backend: str = ""
    #: Tie-breakers: the lower draw, the sooner first token.
    power_aware: bool = False
    auto_optimize_latency: bool = False


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """Predictions for one backend, the very ones that were scored."""

    wait_s: float
    ttft_s: float
    e2e_s: float
    power_watts: float
    joules: float

    @property
    def latency_ms(self) -> int:
        """Predicted time to the first token, queue included, in milliseconds."""
        return round((self.wait_s + self.ttft_s) * 1000)


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A backend that passed all limits, with its cost in joules (seconds priced at the policy's lambda)."""

    backend: str
    estimate: Estimate
    cost_j: float


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A backend that was dropped, with the limit and a clause for people."""

    backend: str
    limit: Limit
    detail: str


class Decision(msgspec.Struct, frozen=True):
    """The ranking, best first (never empty), and everything that led to it."""

    ranking: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]
    reason: str
    policy: str
    fleet_version: int
    #: The name to ask the chosen backend for; differs from the request only for a stand-in.
    model: str
    stand_in: bool = False

    @property
    def chosen(self) -> Candidate:
        """The winner."""
        return self.ranking[0]

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Ids of the others that could have taken it, best first."""
        return tuple([candidate.backend for candidate in self.ranking[1:]])


class RefusalKind(enum.Enum):
    """Why nobody can take a request."""

    UNKNOWN_TARGET = "unknown target"
    NO_HEALTHY = "no healthy backend"
    MODEL_NOWHERE = "model nowhere"
    LIMITS = "limits exclude all"


class Refusal(msgspec.Struct, frozen=True):
    """No backend is admissible: the kind, one sentence for the client, every rejection."""

    kind: RefusalKind
    message: str
    rejections: tuple[Rejection, ...]
    fleet_version: int
    #: Names of models that resemble the one that is nowhere.
    nearest: tuple[str, ...] = ()
