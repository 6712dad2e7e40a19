"""The latest decisions, and what became of them; by wish all of them in a file.

On a request's way only references are kept: what a decision read is immutable, so that its record can be made when
somebody asks for it, or when it is written. Of one that has ended not even the verdict is kept, which holds all that
was reckoned of every candidate: the same inputs give it again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from ollama_proxy.domain.answer import Outcome
from ollama_proxy.domain.decision import Decision, Refusal
from ollama_proxy.routing.record import AttemptOutcome, Inputs, Record, decide_again, make_record

MOST_KEPT = 1000


class Taken:
    """A decision as it was taken; `ending` is what is known of its end, empty while it runs.

    `key` is the name of the key that asked, which is beside the record and not in it.
    """

    __slots__ = ("attempt", "ending", "given", "key", "request_id", "unix_s", "verdict")

    def __init__(
        self, request_id: str, attempt: int, unix_s: float, given: Inputs, verdict: Decision | Refusal, key: str = ""
    ) -> None:
        self.request_id = request_id
        self.key = key
        self.attempt = attempt
        self.unix_s = unix_s
        self.given = given
        #: None once it has ended.
        self.verdict: Decision | Refusal | None = verdict
        self.ending: tuple[Any, ...] = ()

    @property
    def id(self) -> str:
        """As in `X-Decision-ID`."""
        return f"d-{self.request_id}-{self.attempt}"

    @property
    def outcome(self) -> AttemptOutcome | None:
        """What became of it; None while it runs."""
        ending = self.ending
        if not ending:
            return None
        return _sum_up_answer(*ending[1:]) if ending[0] == "ok" else AttemptOutcome(*ending)

    def make_record(self) -> Record:
        """All of it as a value."""
        return make_record(
            self.id, round(self.unix_s, 3), self.given, self.decide(), attempt=self.attempt, outcome=self.outcome
        )

    def decide(self) -> Decision | Refusal:
        """The verdict, taken once more where it is not kept."""
        return self.verdict or decide_again(self.given)


class Served(msgspec.Struct, frozen=True):
    """A request that was answered from the cache, so that nothing was decided. `made_by` is the decision that the
    answer was made by, `age_s` how long before; `saved_joules` what it took then, None where nobody knows."""

    id: str
    unix_s: float
    model: str
    backend: str
    age_s: float
    made_by: str
    saved_joules: float | None
    joules_kind: str
    similarity: float | None = None
    key: str = ""


class Decisions:
    """A ring of the latest decisions. The three that are called on a request's way do next to nothing."""

    def __init__(
        self,
        write: Callable[[Taken], None] | None = None,
        *,
        most: int = MOST_KEPT,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        """`write` gets each decision once it has ended; `unix_clock` gives seconds since 1970."""
        self._write = write
        self.unix_clock = unix_clock
        self._taken: deque[Taken] = deque(maxlen=most)
        #: Requests of late that needed no decision.
        self.served: deque[Served] = deque(maxlen=most)

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, request_id: str, attempt: int, given: Inputs, verdict: Decision | Refusal, key: str = "") -> Taken:
        """An attempt begins on a decision, or there is none because of it; `key` names the one that asked."""
        taken = Taken(request_id, attempt, self.unix_clock(), given, verdict, key)
        self._taken.append(taken)
        return taken

    def answered(self, taken: Taken, outcome: Outcome, waited_s: float, streamed: bool) -> None:
        """The attempt ended well, begun `waited_s` after the request arrived."""
        taken.ending = ("ok", outcome, waited_s, streamed)
        taken.verdict = None
        if self._write is not None:
            self._write(taken)

    def ended(self, taken: Taken, result: str, error: str, waited_s: float, lasted_s: float | None) -> None:
        """It ended otherwise: `failed`, `cancelled` or `refused`."""
        taken.ending = (result, waited_s, None, lasted_s, None, None, None, None, "", error)
        taken.verdict = None
        if self._write is not None:
            self._write(taken)

    # -- when somebody looks ---------------------------------------------------------

    def find(self, ident: str, key: str | None = None) -> Taken | None:
        """The latest decision of an id, if it is still there: among those of a key, None for all."""
        return next((one for one in reversed(self._taken) if one.id == ident and key in (None, one.key)), None)

    def find_served(self, ident: str, key: str | None = None) -> Served | None:
        """The same of a request that was answered from the cache."""
        return next((one for one in reversed(self.served) if one.id == ident and key in (None, one.key)), None)

    def latest(self, most: int) -> list[Taken]:
        """The newest first."""
        return [one for one, _ in zip(reversed(self._taken), range(most), strict=False)]


def _sum_up_answer(outcome: Outcome, waited_s: float, streamed: bool) -> AttemptOutcome:
    """An answer's figures, counted from the beginning of its attempt as the predictions are."""
    usage = outcome.finished.usage
    # Of a whole answer nobody saw the first token, unless the server tells how long it wrote.
    seen = streamed or usage.decode_ns is not None
    return AttemptOutcome(
        "ok",
        round(waited_s, 6),
        round(max(0.0, outcome.ttft_s - waited_s), 6) if seen else None,
        round(outcome.total_s - waited_s, 6),
        None if usage.load_ns is None else usage.load_ns / 1e9,
        usage.prompt_tokens,
        usage.output_tokens,
        None if outcome.joules is None else round(outcome.joules, 4),
        outcome.energy_kind if outcome.joules is not None else "",
    )
