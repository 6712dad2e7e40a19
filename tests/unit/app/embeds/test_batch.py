"""A batch and its pieces, driven by hand: what is handed out, what comes back wrong, who is asked instead."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pytest

from ollama_proxy.app.embeds.batch import Batch
from ollama_proxy.app.embeds.join import join_outcomes
from ollama_proxy.app.embeds.part import Part, PartSink
from ollama_proxy.domain.answer import Embeddings, Finished, Outcome, Route, Usage
from ollama_proxy.domain.call import Call, Dialect, Embedding, Need, Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import AnswerSink
from ollama_proxy.routing.spread import Lane
from tests.unit.app.requests.test_dispatch import Client

TEXTS = tuple(f"{number:03} " + "x" * 196 for number in range(40))
WHOLE = Outcome(Finished("stop", Usage(prompt_tokens=10)), 1, 1, 0, 0, 2.0, "modelled")


class Opened:
    """A part under way, as the owner sees it."""

    def __init__(self, call: Call, sink: AnswerSink) -> None:
        self.call = call
        self.sink = sink
        self.cancelled = False
        embedding = call.typed()
        assert isinstance(embedding, Embedding)
        self.texts = embedding.inputs
        (self.backend,) = call.caller.backends or ()

    def cancel(self) -> None:
        self.cancelled = True

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def answer(self, vectors: Sequence[tuple[float, ...]] | None = None, outcome: Outcome = WHOLE) -> None:
        self.sink.routed(Route("d", self.backend, "why", 10.0, 5, ("a", "b", "z"), 1, "modelled", "m"))
        if vectors is None:
            vectors = [(float(text[:3]), 0.0) for text in self.texts]
        self.sink.send_events((Embeddings(tuple(vectors)),))
        self.sink.finish(outcome)


class Owner:
    """Lanes of two equal backends, and a clock that stands."""

    def __init__(self, *names: str) -> None:
        self.lanes = {name: Lane(name, 0, 0, 0.001) for name in names}
        self.opened: list[Opened] = []
        self.refuses: set[str] = set()
        self.ended: list[Outcome | None] = []
        self.known = True
        self.learned: list[tuple[str, float]] = []
        self.changed: set[str] = set()

    def open_part(self, call: Call, sink: AnswerSink) -> Opened:
        one = Opened(call, sink)
        self.opened.append(one)
        if one.backend in self.refuses:
            sink.fail(ProxyError(ErrorKind.NO_HEALTHY_BACKEND, f"{one.backend} is down"))
        return one

    def confirm(self, model: str, digest: str, names: Collection[str], told: Callable[[frozenset[str]], None]) -> None:
        assert (model, digest) == ("m", "w")
        told(frozenset(self.changed.intersection(names)))

    def find_lanes(self, call: Call, names: frozenset[str]) -> dict[str, Lane]:
        return {name: lane for name, lane in self.lanes.items() if name in names}

    def is_known(self, backend: str, model: str) -> bool:
        return self.known

    def is_idle(self, backend: str) -> bool:
        return True

    def learn(self, backend: str, model: str, units: float, seconds: float) -> None:
        self.learned.append((backend, units))

    def now_s(self) -> float:
        return 100.0

    def batch_ended(self, call: Call, outcome: Outcome | None) -> None:
        self.ended.append(outcome)


class Vectors(Client):
    """Keeps the vectors that it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors: tuple[tuple[float, ...], ...] = ()

    def send_events(self, events: object) -> None:
        (event,) = events  # type: ignore[misc]
        self.vectors = event.vectors


def begin(owner: Owner) -> tuple[Batch, Vectors]:
    embedding = Embedding(TEXTS)
    need = frozenset((Need.EMBED,))
    call = Call("r", Dialect.OLLAMA, Operation.EMBED, "m", False, 99.0, lambda: embedding, needs=need)
    client = Vectors()
    batch = Batch(owner, call, embedding, [200.0] * len(TEXTS), frozenset(owner.lanes), 10.0, client, "w")
    batch.start()
    return batch, client


def test_equals_share_equally_and_the_answer_is_joined_in_order() -> None:
    owner = Owner("a", "b")
    _, client = begin(owner)
    assert [len(one.texts) for one in owner.opened] == [20, 20]
    second, first = owner.opened[1], owner.opened[0]
    second.answer()
    assert client.outcome is None
    first.answer()
    assert [vector[0] for vector in client.vectors] == list(range(40))
    assert client.route is not None
    assert client.route.backend == "b,a"
    assert client.route.power_watts == 20.0
    assert client.route.alternatives == ("z",)
    assert client.outcome is not None
    assert client.outcome.joules == 4.0
    assert client.outcome.finished.usage.prompt_tokens == 20
    assert owner.ended == [client.outcome]


def test_who_was_given_other_weights_meanwhile_is_not_joined() -> None:
    owner = Owner("a", "b")
    _, client = begin(owner)
    owner.changed = {"b"}
    for one in tuple(owner.opened):
        one.answer()
    assert client.outcome is None
    assert [one.backend for one in owner.opened] == ["a", "b", "a"]
    assert owner.opened[2].texts == owner.opened[1].texts
    owner.opened[2].answer()
    assert [vector[0] for vector in client.vectors] == list(range(40))
    assert client.route is not None
    assert client.route.backend == "a"
    owner = Owner("a", "b")
    _, client = begin(owner)
    owner.changed = {"a", "b"}
    for one in tuple(owner.opened):
        one.answer()
    assert client.error is not None
    assert "was given other weights" in client.error.message


def test_who_fails_at_once_is_left_out_and_the_others_do_it_all() -> None:
    owner = Owner("a", "b", "c")
    owner.refuses = {"a", "b"}
    _, client = begin(owner)
    while client.outcome is None:
        owner.opened[-1].answer() if not owner.opened[-1].cancelled else None
    assert {one.backend for one in owner.opened if one.backend == "c"} == {"c"}
    assert [vector[0] for vector in client.vectors] == list(range(40))
    owner = Owner("a", "b")
    owner.refuses = {"a", "b"}
    _, client = begin(owner)
    assert client.error is not None
    assert "is down" in client.error.message
    assert owner.ended == [None]


def test_the_requests_own_fault_ends_it_and_drops_the_rest() -> None:
    owner = Owner("a", "b")
    _, client = begin(owner)
    owner.opened[0].sink.fail(ProxyError(ErrorKind.BACKEND_REFUSED, "too long", status=400, body=b"{}"))
    assert client.error is not None
    assert client.error.status == 400
    assert owner.opened[1].cancelled
    # What comes too late is nobody's.
    owner.opened[1].answer()
    assert client.outcome is None


@pytest.mark.parametrize("vectors", [[(0.0, 0.0)] * 3, [(0.0,)] + [(0.0, 0.0)] * 19])
def test_an_answer_that_does_not_fit_is_somebody_elses_to_give(vectors: list[tuple[float, ...]]) -> None:
    owner = Owner("a", "b")
    _, client = begin(owner)
    owner.opened[0].answer(vectors)
    owner.opened[1].answer()
    owner.opened[2].answer()
    assert [one.backend for one in owner.opened] == ["a", "b", "b"]
    assert [vector[0] for vector in client.vectors] == list(range(40))


def test_vectors_of_two_lengths_are_refused() -> None:
    owner = Owner("a", "b")
    _, client = begin(owner)
    owner.opened[0].answer()
    owner.opened[1].answer([(1.0, 2.0, 3.0)] * 20)
    assert client.error is not None
    assert "3 dimensions" in client.error.message


def test_who_is_not_known_gets_little_at_first_and_then_the_rest() -> None:
    owner = Owner("a", "b")
    owner.known = False
    _, client = begin(owner)
    assert [len(one.texts) for one in owner.opened] == [3, 3]
    owner.known = True
    for place in range(10):
        if client.outcome is None:
            owner.opened[place].answer()
    assert [vector[0] for vector in client.vectors] == list(range(40))
    assert len(owner.opened) < 8
    assert {name for name, _ in owner.learned} == {"a", "b"}


def test_a_client_that_leaves_cancels_every_piece() -> None:
    owner = Owner("a", "b")
    batch, client = begin(owner)
    batch.cancel()
    batch.cancel()
    assert all(one.cancelled for one in owner.opened)
    assert owner.ended == [None]
    assert (client.outcome, client.error) == (None, None)


def test_what_is_not_known_of_one_part_is_not_known_of_the_whole() -> None:
    route = Route("d", "a", "why", 0.0, 5, (), 1, "unknown", "m")
    unknown = Outcome(Finished("stop", Usage()), 1, 1, 0, 0, None, "unknown")
    joined = join_outcomes([Part((), route, WHOLE), Part((), route, unknown)], 2.0)
    assert (joined.joules, joined.energy_kind, joined.finished.usage.prompt_tokens) == (None, "unknown", None)


def test_a_part_is_never_raw() -> None:
    sink = PartSink(1, lambda part: None, lambda error: None)
    with pytest.raises(AssertionError):
        sink.send_whole(200, b"application/json", b"{}")
