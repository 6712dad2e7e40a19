"""However requests come, leave, stop reading and read again: each hears all of the answer, in order, and one end."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.cache.single_flight import Flight, Follower
from ollama_proxy.domain.answer import AnswerEvent, Finished, Outcome, Route, TextDelta
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError

ROUTE = Route("d", "b", "why", 0.0, 0, (), 1, "modelled", "m")
OUTCOME = Outcome(Finished(), 1.0, 2.0, 3, 4.0, 5.0, "modelled")


class Sink:
    """Keeps the order of what it was told; raises when it is told to."""

    def __init__(self, *, breaks: bool) -> None:
        self.breaks = breaks
        self.heard: list[str] = []
        self.states: list[str] = []
        self.ends: list[str] = []

    def routed(self, route: Route) -> None:
        assert not self.heard
        self.states.append(route.cache.state if route.cache else "")

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        assert self.states
        assert not self.ends
        assert events
        if self.breaks:
            raise RuntimeError("no room")
        self.heard += [event.text for event in events if isinstance(event, TextDelta)]

    def continued(self, route: Route) -> None:
        assert not self.ends

    def finish(self, outcome: Outcome) -> None:
        self.ends.append("finished")

    def fail(self, error: ProxyError) -> None:
        self.ends.append("failed")


class Work:
    """The ticket of the work."""

    def __init__(self) -> None:
        self.cancelled = False
        self.paused = False

    def cancel(self) -> None:
        assert not self.cancelled
        self.cancelled = True

    def pause(self) -> None:
        assert not self.paused
        self.paused = True

    def resume(self) -> None:
        assert self.paused
        self.paused = False


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["join", "join", "join broken"]), st.just(0)),
        st.tuples(st.sampled_from(["leave", "pause", "pause", "resume", "resume"]), st.integers(0, 5)),
        st.tuples(st.sampled_from(["event", "event", "event", "event", "route"]), st.just(0)),
    ),
    max_size=30,
)


class Stage:
    """A flight, its work, and all that ask for it."""

    def __init__(self) -> None:
        self.ended: list[Flight] = []
        self.over: list[Follower] = []
        self.flight = Flight(self.end_flight, lambda _, one: self.over.append(one))
        #: For those that have heard nothing when the flight fails.
        self.second = Flight(lambda _: None, lambda _, one: self.over.append(one))
        self.moved: tuple[Follower, ...] = ()
        self.work = Work()
        self.has_begun = False
        self.told = 0
        self.sinks: list[Sink] = []
        self.tickets: list[Follower] = []
        self.left: set[int] = set()
        self.join()

    def join(self, *, breaks: bool = False) -> None:
        call = Call(f"r{len(self.sinks)}", Dialect.COMPUTE, Operation.CHAT, "m", True, 0.0, Generation)
        self.sinks.append(Sink(breaks=breaks))
        self.tickets.append(Follower(call, self.sinks[-1]))  # type: ignore[arg-type]
        self.flight.join(self.tickets[-1])

    def end_flight(self, flight: Flight) -> None:
        self.ended.append(flight)
        self.moved = flight.release_unheard()
        for one in self.moved:
            self.second.join(one)

    def begin(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            self.flight.set_ticket(self.work)

    def step(self, step: str, which: int) -> None:
        place = which % len(self.tickets)
        if step.startswith("join"):
            self.join(breaks=step == "join broken")
        elif step == "leave":
            self.tickets[place].cancel()
            self.left.add(place)
        elif step in ("pause", "resume"):
            getattr(self.tickets[place], step)()
        elif self.flight.route is None:
            self.flight.routed(ROUTE)
        elif step == "event":
            # Counted first: the last that listens may break while it is told.
            self.told += 1
            self.flight.send_events([TextDelta(str(self.told - 1))])

    def end(self, end: str) -> str:
        flight = self.flight
        if flight.is_over:
            return "cancelled"
        if end == "fail":
            flight.fail(ProxyError(ErrorKind.BACKEND_FAILED, "gone"))
            return end
        if flight.route is None:
            flight.routed(ROUTE)
        flight.finish(OUTCOME)
        return end

    def answer_the_moved(self) -> None:
        if self.moved:
            work = Work()
            self.second.set_ticket(work)
            assert work.paused is all(one.paused for one in self.moved)
            self.second.routed(ROUTE)
            self.second.send_events([TextDelta(str(number)) for number in range(self.told)] or [TextDelta("")])
            self.second.finish(OUTCOME)


@given(steps=STEPS, begins_at=st.integers(0, 4), end=st.sampled_from(["finish", "fail"]))
def test_each_hears_all_of_it_once(steps: list[tuple[str, int]], begins_at: int, end: str) -> None:
    stage = Stage()
    for number, (step, which) in enumerate(steps):
        if number == begins_at:
            stage.begin()
        if stage.flight.is_over:
            break
        # Before the work has begun it tells nothing.
        if number >= begins_at or step not in ("event", "route"):
            stage.step(step, which)
        _check_pace(stage)
    stage.begin()
    how = stage.end(end)
    stage.answer_the_moved()
    for ticket in stage.tickets:
        ticket.resume()
        ticket.cancel()
    _check_ends(stage, how)
    assert stage.work.cancelled is (how == "cancelled")
    assert len(stage.over) == len(set(stage.over)) == len(stage.sinks), "each is over once"
    assert stage.ended == [stage.flight]


def _check_pace(stage: Stage) -> None:
    if stage.flight.is_over or not stage.has_begun:
        return
    here = [one for place, one in enumerate(stage.tickets) if place not in stage.left and not stage.sinks[place].ends]
    assert stage.work.paused is all(one.paused for one in here), "the backend waits when all do"


def _check_ends(stage: Stage, end: str) -> None:
    everything = [str(number) for number in range(stage.told)] or ([""] if stage.moved else [])
    for place, (sink, ticket) in enumerate(zip(stage.sinks, stage.tickets, strict=True)):
        assert sink.heard == everything[: len(sink.heard)]
        if sink.breaks and sink.ends:
            continue
        moved = ticket in stage.moved
        if place in stage.left or end == "cancelled":
            assert not sink.ends
        else:
            assert sink.ends == ["finished" if moved or end == "finish" else "failed"]
        assert not moved or place, "the error is of the first one's work"
        assert end != "fail" or sink.ends != ["failed"] or not place or sink.states, "it had heard something"
        if sink.ends == ["finished"] and not sink.breaks:
            assert sink.heard == everything
        assert len(sink.states) <= 1
        if place and sink.states:
            assert sink.states == ["" if moved and ticket is stage.moved[0] else "hit"]
