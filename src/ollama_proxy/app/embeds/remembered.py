"""A request for vectors of which some may be known: only the others are asked for, each once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from ollama_proxy.app.embeds.part import Part, PartSink, Vector
from ollama_proxy.app.embeds.vector_store import VectorStore
from ollama_proxy.domain.answer import CacheNote, Embeddings, Finished, Outcome, Route, Usage
from ollama_proxy.domain.call import Call, Embedding
from ollama_proxy.domain.ports import AnswerSink, Ticket

_BACKEND = "cache"


class Remembered:
    """What is known of one request's vectors, and what is to be learned; the ticket of its client."""

    def __init__(self, call: Call, embedding: Embedding, keys: Sequence[bytes], store: VectorStore) -> None:
        self._call = call
        self._embedding = embedding
        self._keys = keys
        self._store = store
        self._ticket: Ticket | None = None
        self._has_left = False
        self._found: dict[bytes, Vector] = {}
        #: Texts that nobody knows, by key.
        self._missing: dict[bytes, str] = {}
        for key, text in zip(keys, embedding.inputs, strict=True):
            vector = store.find(key)
            if vector is not None:
                self._found[key] = vector
            else:
                self._missing[key] = text

    @property
    def found(self) -> int:
        """Of how many texts the vector is known."""
        return sum(key in self._found for key in self._keys)

    @property
    def is_whole(self) -> bool:
        """Whether nothing has to be asked for."""
        return not self._missing

    def answer(self, sink: AnswerSink, now_s: float) -> Outcome:
        """Give what is known, which is all. Nobody counts its tokens again."""
        took_s = now_s - self._call.arrived_s
        outcome = Outcome(Finished("stop", Usage(output_tokens=0)), took_s, took_s, 0, 0.0, 0.0, "unknown")
        told = f"from the cache: {len(self._keys)} vectors"
        route = Route(
            f"d-{self._call.request_id}-0",
            _BACKEND,
            told,
            0.0,
            0,
            (),
            0,
            "unknown",
            self._call.model,
            cache=CacheNote("hit"),
        )
        self._write(sink, route, outcome)
        return outcome

    def ask(
        self,
        submit: Callable[[Call, AnswerSink], Ticket],
        sink: AnswerSink,
        confirm: Callable[[Collection[str], Callable[[frozenset[str]], None]], None],
        again: Callable[[], Ticket],
    ) -> None:
        """Ask for the rest, and give all of it when that is there.

        It is kept, and put beside what was kept, when `confirm` says that nobody who had a part in it has been given
        other weights; else a whole answer is given and not kept, and for a part the request begins `again`.
        """
        call, embedding = self._call, msgspec.structs.replace(self._embedding, inputs=tuple(self._missing.values()))
        size = sum(len(text.encode("utf-8", "replace")) for text in embedding.inputs)
        rest = msgspec.structs.replace(
            call, raw=None, typed=lambda: embedding, prompt_bytes=size, cache=CacheNote("miss")
        )

        def done(part: Part) -> None:
            if part.route.stand_in:
                give(part)
            else:
                confirm(part.route.backend.split(","), lambda changed: take(part, changed))

        def take(part: Part, changed: frozenset[str]) -> None:
            if self._has_left:
                return
            if not changed:
                for key, vector in zip(self._missing, part.vectors, strict=True):
                    self._store.keep(key, vector)
            elif self._found:
                self._ticket = again()
                return
            give(part)

        def give(part: Part) -> None:
            self._found |= dict(zip(self._missing, part.vectors, strict=True))
            self._write(sink, msgspec.structs.replace(part.route, cache=CacheNote("miss")), part.outcome)

        self._ticket = submit(rest, PartSink(len(self._missing), done, sink.fail))

    def cancel(self) -> None:
        """The client has gone."""
        self._has_left = True
        if self._ticket is not None:
            self._ticket.cancel()

    def pause(self) -> None:
        """The answer comes in one piece."""

    def resume(self) -> None:
        """As `pause`."""

    def _write(self, sink: AnswerSink, route: Route, outcome: Outcome) -> None:
        sink.routed(route)
        sink.send_events((Embeddings(tuple([self._found[key] for key in self._keys])),))
        sink.finish(outcome)
