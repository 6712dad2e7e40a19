"""One request for vectors that is part of something larger: its call, and the sink that tells how it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Outcome, Route
from ollama_proxy.domain.call import Call, Embedding
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.typed_sink import TypedSink

Vector = tuple[float, ...]


class Part(msgspec.Struct, frozen=True):
    """A part's whole answer."""

    vectors: tuple[Vector, ...]
    route: Route
    outcome: Outcome


class PartSink(TypedSink):
    """Takes the answer to a typed request for vectors, and hands it on as a whole."""

    def __init__(self, wanted: int, done: Callable[[Part], None], failed: Callable[[ProxyError], None]) -> None:
        """`wanted` is the number of vectors that have to come."""
        self._wanted = wanted
        self._done = done
        self._failed = failed
        self._route: Route | None = None
        self._vectors: tuple[Vector, ...] = ()

    def routed(self, route: Route) -> None:
        self._route = route

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        for event in events:
            if isinstance(event, Embeddings):
                self._vectors = event.vectors

    def finish(self, outcome: Outcome) -> None:
        route, vectors = self._route, self._vectors
        if route is None or len(vectors) != self._wanted or len({len(one) for one in vectors}) > 1:
            name = route.backend if route is not None else "a backend"
            told = f"{name} was asked for {self._wanted} vectors of one length and gave {len(vectors)} of other kinds"
            if len(vectors) != self._wanted:
                told = f"{name} was asked for {self._wanted} vectors and gave {len(vectors)}"
            self._failed(ProxyError(ErrorKind.BACKEND_FAILED, told, backend=name))
            return
        self._done(Part(vectors, route, outcome))

    def fail(self, error: ProxyError) -> None:
        self._failed(error)

    def continued(self, route: Route) -> None:
        raise AssertionError(f"vectors are not continued ({route.backend})")


def make_part(whole: Call, name: str, embedding: Embedding, caller: Caller) -> Call:
    """The call of a part: as the whole, for these texts, never raw."""
    return Call(
        f"{whole.request_id}.{name}",
        whole.dialect,
        whole.operation,
        whole.model,
        False,
        whole.arrived_s,
        lambda: embedding,
        # The whole is in time, by what is known of vectors; a part is not judged by the reading of prompts again.
        without_limit(whole.annotations),
        whole.needs,
        sum(len(text.encode("utf-8", "replace")) for text in embedding.inputs),
        way_in=whole.way_in,
        caller=caller,
    )


def without_limit(annotations: Annotations) -> Annotations:
    """The same without a limit of latency."""
    return msgspec.structs.replace(annotations, max_latency_ms=0) if annotations.max_latency_ms else annotations


def restrict(caller: Caller, allowed: frozenset[str] | None) -> Caller:
    """The same caller for some backends only, as long as one request lasts."""
    if allowed is None or not caller.is_live:
        return caller
    backends = allowed if caller.backends is None else allowed & caller.backends
    return Caller(caller.name, caller.permissions, caller.models, backends, caller.quota)


def represent(caller: Caller, backend: str) -> Caller:
    """The same caller as far as books and logs go, for a part of a request that was let in as a whole."""
    return Caller(caller.name, caller.permissions, backends=frozenset((backend,)))
