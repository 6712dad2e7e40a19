"""Equal requests that come while the answer to the first is being made: one generation, told to all of them live.

Each has its own sink and its own ticket. Whoever leaves is forgotten; when the last has left, the work stops. Whoever
reads too slowly gets the rest when it reads again, and holds up nobody: only when all of them wait, the backend does.
When the work fails, whoever has heard nothing of its answer may go on to another flight, once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.domain.answer import (
    AnswerEvent,
    CacheNote,
    Outcome,
    Route,
    TextDelta,
    ThinkingDelta,
    ToolCall,
)
from ollama_proxy.domain.call import Call
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import AnswerSink, Ticket
from ollama_proxy.domain.typed_sink import TypedSink

#: Of a longer answer nothing is held but what somebody has not heard yet: nobody can join it, and it is not kept.
MOST_CHARS = 4_000_000
_log = logging.getLogger(__name__)

#: What those hear that came while the answer was being made.
_JOINED = CacheNote("hit", 0.0)
#: Errors of the moment: another that asks the same, and came later, may fare better. The rest is of the request itself.
_PASSING = frozenset(
    (
        ErrorKind.NO_HEALTHY_BACKEND,
        ErrorKind.LIMITS_EXCLUDE_ALL,
        ErrorKind.OVERLOADED,
        ErrorKind.RATE_LIMITED,
        ErrorKind.DEADLINE,
        ErrorKind.BACKEND_FAILED,
    )
)


class Follower:
    """One request that asks for an answer, and the flight that tells it: its client's ticket."""

    __slots__ = ("call", "flight", "has_moved", "heard", "is_first", "paused", "sink", "told_route")

    def __init__(self, call: Call, sink: AnswerSink) -> None:
        self.call = call
        self.sink = sink
        #: None for one that was answered without.
        self.flight: Flight | None = None
        #: The answer is made for this one.
        self.is_first = False
        #: The flight that it was on before has failed; if this one fails too, that is its end.
        self.has_moved = False
        #: How many events it has been told.
        self.heard = 0
        self.told_route = False
        self.paused = False

    def cancel(self) -> None:
        """The client has gone."""
        if self.flight is not None:
            self.flight.leave(self)

    def pause(self) -> None:
        """The client reads too slowly."""
        if self.flight is not None:
            self.flight.pause(self)

    def resume(self) -> None:
        """The client reads again."""
        if self.flight is not None:
            self.flight.resume(self)


class Flight(TypedSink):
    """One answer in the making, and the sink that it is told to."""

    def __init__(self, ended: Callable[[Flight], None], over: Callable[[Flight, Follower], None]) -> None:
        """`ended` hears once that nothing more will come, of an error before anybody is told it; `over` of each request
        just before its last word, and of each that has left."""
        self._ended = ended
        self._over = over
        self._followers: dict[Follower, None] = {}
        self._ticket: Ticket | None = None
        self._paused = False
        #: How many of them read too slowly.
        self._slow = 0
        self._chars = 0
        self.events: list[AnswerEvent] = []
        self.route: Route | None = None
        self.outcome: Outcome | None = None
        self.error: ProxyError | None = None
        #: The work was begun for the first that asked, whose books are the work's.
        self.has_begun = False
        #: More than one backend wrote it: it is a good answer, and not one to keep.
        self.was_continued = False
        self._call: Call | None = None

    # -- who listens ------------------------------------------------------------------

    def join(self, one: Follower) -> None:
        """One more request is told the answer, from its beginning."""
        one.flight = self
        one.is_first = self._call is None
        self._call = self._call or one.call
        self._followers[one] = None
        self._slow += one.paused
        self._catch_up(one)
        self._look_at_pace()

    def release(self) -> tuple[Follower, ...]:
        """There is no need of it: whoever listens is told by somebody else, and nobody hears of an end."""
        found = tuple(self._followers)
        self._followers.clear()
        self.error = ProxyError(ErrorKind.INTERNAL, "it was answered otherwise")
        return found

    def release_unheard(self) -> tuple[Follower, ...]:
        """Whom an error of the moment has left without a word of the answer: they are told nothing more here, and may
        go on to another flight, once. Not the first: the error is of its own work."""
        if self.error is None or self.error.kind not in _PASSING:
            return ()
        found = tuple(one for one in self._followers if not (one.is_first or one.told_route or one.has_moved))
        for one in found:
            self._let_go(one)
            one.has_moved = True
        return found

    def set_ticket(self, ticket: Ticket) -> None:
        """The work has begun; everybody may have left already."""
        if self.is_over:
            ticket.cancel()
            return
        self._ticket = ticket
        if self._followers:
            self._look_at_pace()
        else:
            self._stop()

    @property
    def is_too_long(self) -> bool:
        """Whether its beginning is not held any more."""
        return self._chars > MOST_CHARS

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self.outcome is not None or self.error is not None

    def leave(self, one: Follower) -> None:
        """One client has gone."""
        if not self._let_go(one):
            return
        self._over(self, one)
        self._look_who_is_left()

    def _look_who_is_left(self) -> None:
        if self._followers:
            self._look_at_pace()
        elif not self.is_over:
            self._stop()

    def _let_go(self, one: Follower) -> bool:
        """Tell a request nothing more; whether it was being told something."""
        if self._followers.pop(one, self) is self:
            return False
        self._slow -= one.paused
        return True

    def pause(self, one: Follower) -> None:
        """One client reads too slowly."""
        if not one.paused and one in self._followers:
            one.paused = True
            self._slow += 1
            self._look_at_pace()

    def resume(self, one: Follower) -> None:
        """One client reads again."""
        if one.paused and one in self._followers:
            one.paused = False
            self._slow -= 1
            self._look_at_pace()
            self._catch_up(one)

    def _stop(self) -> None:
        """Nobody listens any more."""
        ticket, self._ticket = self._ticket, None
        self.error = ProxyError(ErrorKind.INTERNAL, "everybody has left")
        self._ended(self)
        if ticket is not None:
            ticket.cancel()

    def _look_at_pace(self) -> None:
        """The backend waits when all do."""
        if self.is_over or self._ticket is None or not self._followers:
            return
        paused = self._slow == len(self._followers)
        if paused is not self._paused:
            self._paused = paused
            if paused:
                self._ticket.pause()
            else:
                self._ticket.resume()

    # -- telling them -----------------------------------------------------------------

    def _catch_up(self, one: Follower) -> None:
        """Tell a request what it has not heard yet, its end included."""
        if one.paused or one not in self._followers:
            return
        try:
            self._tell(one)
        except Exception:  # noqa: BLE001  # one that cannot be written to is no reason to let down the others
            _log.exception("the answer of %s could not be written", one.call.request_id)
            if self._let_go(one):
                self._fail(one, ProxyError(ErrorKind.INTERNAL, "internal error"))
                self._look_who_is_left()

    def _tell(self, one: Follower) -> None:
        if self.error is not None:
            self._let_go(one)
            self._fail(one, self.error)
            return
        if self.route is None:
            return
        if not one.told_route:
            one.told_route = True
            one.sink.routed(self._route_for(one))
        if one.heard < len(self.events):
            news = self.events[one.heard :]
            one.heard = len(self.events)
            one.sink.send_events(news)
        if self.outcome is not None and self._let_go(one):
            self._over(self, one)
            one.sink.finish(self.outcome if one.is_first else without_energy(self.outcome))

    def _fail(self, one: Follower, error: ProxyError) -> None:
        self._over(self, one)
        try:
            one.sink.fail(_tell_in(one.call, self._call, error))
        except Exception:  # noqa: BLE001  # as above
            _log.exception("the end of %s could not be written", one.call.request_id)

    def _route_for(self, one: Follower) -> Route:
        assert self.route is not None
        return self.route if one.is_first else msgspec.structs.replace(self.route, cache=_JOINED)

    def _tell_all(self) -> None:
        for one in tuple(self._followers):
            self._catch_up(one)

    # -- the sink of the work -----------------------------------------------------------

    def routed(self, route: Route) -> None:
        self.route = route
        self._tell_all()

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        self.events += events
        self._chars += sum(map(_count_chars, events))
        self._tell_all()
        if self.is_too_long and not self._slow:
            # Everybody has heard all of it.
            self.events.clear()
            for one in self._followers:
                one.heard = 0

    def continued(self, route: Route) -> None:
        self.was_continued = True
        self.route = route
        for one in tuple(self._followers):
            one.sink.continued(self._route_for(one))

    def finish(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self._ticket = None
        self._tell_all()
        self._ended(self)

    def fail(self, error: ProxyError) -> None:
        self.error = error
        self._ticket = None
        self._ended(self)
        self._tell_all()


def _count_chars(event: AnswerEvent) -> int:
    match event:
        case TextDelta(text) | ThinkingDelta(text):
            return len(text)
        case ToolCall(_, _, _, arguments):
            return len(arguments)
        case _:
            return 0


def without_energy(outcome: Outcome) -> Outcome:
    """The same for a request that took none: it is another's, and must not be counted twice."""
    return msgspec.structs.replace(
        outcome, joules=0.0, energy_marginal_j=0.0, energy_full_j=0.0, plus_minus_j=0.0, tokens_per_second=0.0
    )


def _tell_in(call: Call, first: Call | None, error: ProxyError) -> ProxyError:
    """The error for one request: a body that the server wrote is of the dialect that the first one spoke."""
    if first is None or call.dialect is first.dialect or not error.body:
        return error
    found = ProxyError(
        error.kind, error.message, backend=error.backend, retry_after_s=error.retry_after_s, quotes=error.quotes
    )
    found.decision_id = error.decision_id
    return found
