"""The books of a request: what its end teaches the fleet, costs in joules, and leaves in metrics and log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from ollama_proxy.domain.answer import Finished, Outcome, Route
from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.domain.decision import Decision
from ollama_proxy.domain.errors import Failure, ProxyError
from ollama_proxy.energy.model import Figure, energy_kind
from ollama_proxy.fleet.rates import NOTHING_SEEN, Observation
from ollama_proxy.fleet.state import Fleet
from ollama_proxy.lifecycle.life import Life
from ollama_proxy.observability.logs import RequestLog
from ollama_proxy.observability.metrics import Metrics

if TYPE_CHECKING:
    from ollama_proxy.app.requests.attempt import OpenAttempt

_SHOW = Operation.SHOW
#: Fewer tokens tell more of the server's buffering than of its speed.
_LEAST_TOKENS = 8
#: Nor do tokens that all come within this time.
_LEAST_GAP_S = 0.02
#: What Ollama calls loading takes some milliseconds for a model that is in memory.
_LEAST_LOAD_S = 0.5
_MAX_MODEL_CHARS = 200
#: No answer has more tokens than a thousand million, and none takes much more than a year. Rows of ones: see `believe`.
_MOST_TOKENS = 2**30 - 1
_MOST_NS = 2**55 - 1
_MOST = dict.fromkeys(("prompt_tokens", "output_tokens", "cached_tokens"), _MOST_TOKENS) | dict.fromkeys(
    ("total_ns", "load_ns", "prompt_ns", "decode_ns"), _MOST_NS
)


class Timing(msgspec.Struct, frozen=True, gc=False):
    """Monotonic seconds of one request's last attempt.

    `alone` when nothing else ran there as it began; `streamed` when the answer came piece by piece.
    """

    arrived_s: float
    opened_s: float
    first_s: float
    ended_s: float
    alone: bool
    streamed: bool = True
    #: Tokens of the prompt that the backend probably held from before: its speed of reading cannot be told then.
    held_tokens: float = 0.0


def describe_route(call: Call, life: Life, attempt: OpenAttempt) -> Route:
    """Where the answer comes from, for its headers: `attempt` is what answers."""
    decision = attempt.decision
    estimate = decision.chosen.estimate
    return Route(
        attempt.taken.id,
        life.backend,
        decision.reason,
        estimate.power_watts,
        estimate.latency_ms,
        decision.alternatives,
        life.attempts,
        energy_kind(estimate.power_watts, emulated=attempt.view.emulated),
        decision.model,
        decision.stand_in,
        call.cache,
    )


def believe(finished: Finished) -> Finished:
    """The same without counts and times that no answer has: a server's mistake must not reach sums and filters."""
    usage = finished.usage
    # Of numbers that are joined bit by bit, none is beyond a row of ones if the whole is not; nor negative.
    tokens = (usage.prompt_tokens or 0) | (usage.output_tokens or 0) | (usage.cached_tokens or 0)
    spans_ns = (usage.total_ns or 0) | (usage.load_ns or 0) | (usage.prompt_ns or 0) | (usage.decode_ns or 0)
    if 0 <= tokens <= _MOST_TOKENS and 0 <= spans_ns <= _MOST_NS:
        return finished
    absurd = {name: None for name, limit in _MOST.items() if not 0 <= (getattr(usage, name) or 0) <= limit}
    return msgspec.structs.replace(finished, usage=msgspec.structs.replace(usage, **absurd))


def sum_up(finished: Finished, timing: Timing, figure: Figure) -> Outcome:
    """Seconds, speed and joules of an answer that ended well; `figure` is what is known of its energy so far.

    A whole answer shows its first token only at the end; there the backend's own decode time tells when it was.
    """
    usage = finished.usage
    tokens = usage.output_tokens or 0
    ended_s = timing.ended_s
    total_s = ended_s - timing.arrived_s
    ttft_s = timing.first_s - timing.arrived_s
    if usage.decode_ns:
        decode_s = usage.decode_ns / 1e9
        if ended_s - timing.first_s < 0.5 * decode_s:
            ttft_s = max(0.0, total_s - decode_s)
    else:
        decode_s = total_s - ttft_s
    return Outcome(
        finished,
        ttft_s,
        total_s,
        tokens,
        tokens / decode_s if decode_s > 0 and tokens else 0.0,
        figure.joules,
        figure.kind,
        figure.joules,
        figure.full_j,
        figure.plus_minus_j,
    )


def observe(outcome: Outcome, timing: Timing) -> Observation:
    """What an outcome teaches of the backend's speed; time spent on earlier attempts and on loading is not its own."""
    usage = outcome.finished.usage
    if usage.decode_ns is None and (not timing.streamed or timing.ended_s - timing.first_s < _LEAST_GAP_S):
        # A whole answer without the server's own times shows neither when it began nor how fast it came.
        return NOTHING_SEEN
    load_s = (usage.load_ns or 0) / 1e9
    ttft_s = outcome.ttft_s - (timing.opened_s - timing.arrived_s) - load_s
    enough = outcome.output_tokens >= _LEAST_TOKENS and outcome.tokens_per_second > 0
    return Observation(
        ttft_s if timing.alone and ttft_s > 0 and not timing.held_tokens else None,
        outcome.tokens_per_second if enough else None,
        (usage.prompt_tokens or 0) - (usage.cached_tokens or 0),
        load_s if load_s >= _LEAST_LOAD_S else None,
        outcome.output_tokens / outcome.tokens_per_second if enough else None,
    )


class Books:
    """Fleet, metrics and request log, kept in step."""

    def __init__(self, fleet: Fleet, metrics: Metrics, log: RequestLog) -> None:
        self._fleet = fleet
        self._metrics = metrics
        self._log = log

    def succeeded(
        self, call: Call, life: Life, decision: Decision, last: Outcome, outcome: Outcome, timing: Timing, teaches: bool
    ) -> None:
        """An answer ended well; whether it has anything to teach.

        `outcome` is that of all of it, `last` that of the attempt that ended it: the same if no other wrote any.
        """
        if call.operation is not _SHOW:
            seen = observe(last, timing) if teaches else NOTHING_SEEN
            self._fleet.succeeded(life.backend, decision.model, seen, timing.ended_s)
        self._metrics.succeeded(call.way_in, life.backend, outcome)
        usage, joules = outcome.finished.usage, outcome.joules
        self._log.write(
            time.time(),
            call.request_id,
            call.way_in,
            call.model[:_MAX_MODEL_CHARS],
            "ok",
            life.backend,
            life.attempts,
            round(outcome.ttft_s * 1000, 1),
            round(outcome.total_s * 1000, 1),
            usage.prompt_tokens,
            outcome.output_tokens,
            usage.counted_events,
            None if joules is None else round(joules, 4),
            outcome.energy_kind,
            decision.reason,
            "",
            decision.stand_in,
            call.caller.name,
        )

    def served(self, call: Call, backend: str, outcome: Outcome, reason: str) -> None:
        """An answer was given that nobody had to make for this request; `backend` names what gave it."""
        self._metrics.succeeded(call.way_in, backend, outcome)
        usage = outcome.finished.usage
        self._log.write(
            time.time(),
            call.request_id,
            call.way_in,
            call.model[:_MAX_MODEL_CHARS],
            "ok",
            backend,
            0,
            round(outcome.ttft_s * 1000, 1),
            round(outcome.total_s * 1000, 1),
            usage.prompt_tokens,
            outcome.output_tokens,
            usage.counted_events,
            outcome.joules,
            outcome.energy_kind,
            reason,
            "",
            False,
            call.caller.name,
        )

    def blame(self, backend: str, model: str, failure: Failure, now_s: float) -> None:
        """A failure, asking for `model`, was the backend's."""
        self._fleet.failed(backend, model, failure, now_s)

    def attempt_failed(self, backend: str, failure: Failure) -> None:
        """One attempt failed; the request may go on."""
        self._metrics.attempt_failed(backend, failure.kind.value)

    def continued(self, backend: str, gap_s: float) -> None:
        """Another backend has gone on with a stream that broke off."""
        self._metrics.continued(backend, gap_s)

    def preempted(self, backend: str) -> None:
        """An attempt there was broken off for a more urgent request."""
        self._metrics.preempted(backend)

    def failed(self, call: Call, life: Life, error: ProxyError) -> None:
        """A request ended in an error."""
        self._metrics.failed(call.way_in, life.backend, error.kind.value)
        self._write(call, life, "failed", f"{error.kind.value}: {error.public}")

    def cancelled(self, call: Call, life: Life) -> None:
        """A client left before the end: nobody's fault."""
        self._metrics.failed(call.way_in, life.backend, "cancelled")
        self._write(call, life, "left", "the client left")

    def _write(self, call: Call, life: Life, result: str, error: str) -> None:
        nothing = (None,) * 4
        self._log.write(
            time.time(),
            call.request_id,
            call.way_in,
            call.model[:_MAX_MODEL_CHARS],
            result,
            life.backend,
            life.attempts,
            *nothing,
            False,
            None,
            "",
            "",
            error,
            False,
            call.caller.name,
        )
