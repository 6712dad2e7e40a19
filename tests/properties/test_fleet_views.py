"""Views of a fleet are put together from what changed; they must be those that looking at everybody gives."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.call import Need
from ollama_proxy.domain.device import BackendSpec, FleetView, ModelFacts
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet import views as fleet_views
from ollama_proxy.fleet.rates import Observation
from ollama_proxy.fleet.running import Running, forecast_wait
from ollama_proxy.fleet.state import Fleet

NAMES = tuple("abcdef")
MODEL = "m:1b"
CAN = frozenset((Need.GENERATE,))
REPORT = ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset((MODEL,)), "1", emulated=False)
ACTS = ("open", "open", "open", "close", "close", "look", "look", "learn", "probe", "fail", "age", "join", "leave")


class Story:
    """A fleet to which things happen, and what is running where."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.there: list[str] = []
        self.running: dict[str, list[Running]] = {}
        self.now_s = 0.0
        for name in NAMES[:3]:
            self.join(name)

    def join(self, name: str) -> None:
        """As a new backend, or with other settings in the place of the one that was there."""
        slots = 1 + NAMES.index(name) % 2
        spec = BackendSpec(name, "ollama", name, "cpu", 20, 500, 10, slots=slots, held=name != "c")
        self.fleet.add(spec, CAN)
        if name not in self.there:
            self.there.append(name)
        self.running[name] = []

    def act(self, what: str, name: str) -> None:
        fleet, running = self.fleet, self.running.setdefault(name, [])
        self.now_s += 0.06
        if what == "open" and name in self.there:
            running.append(Running(self.now_s, 1.0, 0.0, 0.1, 0.0, None, 0))
            fleet.opened(name, running[-1])
        elif what == "close" and running:
            fleet.closed(name, running.pop(0))
        elif what == "learn":
            fleet.succeeded(name, MODEL, Observation(0.5, 10.0 + self.now_s), self.now_s)
        elif what == "probe":
            fleet.probed(name, REPORT, 1)
        elif what == "fail":
            fleet.failed(name, MODEL, Failure(FailureKind.REFUSED, "refused"), 0.0)
        elif what == "age":
            fleet.age(self.now_s)
        elif what == "join" and not running:
            self.join(name)
        elif what == "leave" and name in self.there and not running:
            fleet.remove(name)
            self.there.remove(name)


def assert_true(story: Story, view: FleetView) -> None:
    fleet = story.fleet
    assert [one.spec.id for one in view.backends] == story.there
    assert all(one is fleet.look(one.spec.id) for one in view.backends)
    waits = []
    for one in view.backends:
        running = story.running[one.spec.id]
        assert one.in_flight == len(running)
        waits.append(forecast_wait(running, one.spec.slots, story.now_s) if one.spec.held else None)
    assert view.waits == (tuple(waits) if any(waits) else ())


def assert_told(before: FleetView, now: FleetView) -> None:
    """Whoever reads what moved misses no place, in either direction of time."""
    if before.moves is not now.moves or now.moves is None:
        return
    told = now.moves.between(before.version, now.version)
    assert told == now.moves.between(now.version, before.version)
    pairs = enumerate(zip(before.backends, now.backends, strict=True))
    assert {place for place, (old, new) in pairs if old is not new} <= told


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTS), st.sampled_from(NAMES)), min_size=5, max_size=60))
def test_a_view_is_what_looking_at_everybody_gives(acts: list[tuple[str, str]]) -> None:
    story, most = Story(), fleet_views.MOST_MOVES
    fleet_views.MOST_MOVES = 7
    try:
        views = [story.fleet.view_at(story.now_s)]
        for what, name in acts:
            story.act(what, name)
            if what == "look":
                views.append(story.fleet.view_at(story.now_s))
                assert_true(story, views[-1])
                for before in views[-6:]:
                    assert_told(before, views[-1])
    finally:
        fleet_views.MOST_MOVES = most


def test_what_is_told_of_moves_is_no_longer_than_it_must_be() -> None:
    fleet = Fleet()
    for number in range(100):
        fleet.add(BackendSpec(f"b-{number}", "ollama", "n", "cpu", 20, 500, 10), CAN)
    before = fleet.view()
    fleet.opened("b-7")
    fleet.opened("b-9")
    fleet.closed("b-7")
    now = fleet.view()
    assert now.moves is before.moves
    assert now.moves is not None
    assert now.moves.between(before.version, now.version) == {7, 9}
