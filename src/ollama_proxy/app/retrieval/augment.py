"""Requests that name a store (`retrieve`): its passages go in front of the question, their places into the answer's
metadata. The same for every way in, since it is done between the dialects and the dispatcher.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.app.deferred import Deferred
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.answer import AnswerEvent, Outcome, Progress, Route
from ollama_proxy.domain.call import Call, Embedding, Generation, Message, Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import AnswerSink, Ticket
from ollama_proxy.domain.vectors import EmbedWish, Passage, Retriever, Search

_log = logging.getLogger(__name__)
_WRITTEN = frozenset((Operation.GENERATE, Operation.CHAT, Operation.COMPLETE))
_USUAL, _MOST_STORES = 4, 8
_MOST_QUERY_CHARS = 4000
_INTRODUCTION = "These passages may help with what follows; each has its number in front."
_WAY_IN = "retrieve"

Submit = Callable[[Call, AnswerSink], Ticket]


def retrieve_first(call: Call, sink: AnswerSink, retriever: Retriever | None, submit: Submit) -> Ticket:
    """Look up the passages that a request names, and submit it then."""
    return Deferred(_Augmentation(call, sink, retriever, submit).run(), f"retrieve for {call.request_id}")


class _Augmentation:
    """What becomes of a request whose passages are being looked up."""

    def __init__(self, call: Call, sink: AnswerSink, retriever: Retriever | None, submit: Submit) -> None:
        self._call = call
        self._sink = sink
        self._retriever = retriever
        self._submit = submit

    async def run(self) -> Ticket | None:
        """The ticket of the augmented request; None where it has failed, which the client is told."""
        try:
            call, sink = await self._augment()
        except ProxyError as error:
            self._sink.fail(error)
            return None
        except Exception:  # noqa: BLE001  # a task root: the client gets an answer, the log the reason
            _log.exception("retrieving for %s failed", self._call.request_id)
            self._sink.fail(ProxyError(ErrorKind.INTERNAL, "internal error"))
            return None
        return self._submit(call, sink)

    async def _augment(self) -> tuple[Call, AnswerSink]:
        call, retriever = self._call, self._retriever
        if call.operation not in _WRITTEN:
            raise ProxyError(
                ErrorKind.INVALID_REQUEST, f"retrieve is for answers in text, not to {call.operation.value}"
            )
        if retriever is None:
            raise ProxyError(ErrorKind.UNIMPLEMENTED, "retrieve: vector stores are switched off (vectors.enabled)")
        given = call.typed()
        assert not isinstance(given, Embedding)
        passages = await _look_up(retriever, call, find_question(given))
        wishes = msgspec.structs.replace(call.annotations, retrieve="", retrieve_most=0)
        typed = add_passages(given, passages)
        added = sum(len(passage.text) for passage in passages)
        augmented = msgspec.structs.replace(
            call,
            annotations=wishes,
            typed=lambda: typed,
            raw=None,
            prompt_bytes=call.prompt_bytes + added,
        )
        return augmented, _CitingSink(self._sink, name_places(passages))


async def _look_up(retriever: Retriever, call: Call, question: str) -> list[Passage]:
    wishes = call.annotations
    stores = [store.strip() for store in wishes.retrieve.split(",") if store.strip()]
    if not 0 < len(stores) <= _MOST_STORES:
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"retrieve: expected 1 to {_MOST_STORES} stores, joined by comma")
    if not question.strip():
        raise ProxyError(ErrorKind.INVALID_REQUEST, "retrieve: there is no text to look up")
    most = wishes.retrieve_most or _USUAL
    limits = Annotations(priority=wishes.priority, latency_critical=wishes.latency_critical)
    wish = EmbedWish(_WAY_IN, call.caller, limits)
    asked = [Search(store, question[-_MOST_QUERY_CHARS:], most, rerank=True) for store in stores]
    found = await asyncio.gather(*(retriever.retrieve(one, wish) for one in asked))
    passages = [passage for one in found for passage in one.passages]
    return sorted(passages, key=lambda passage: -passage.score)[:most]


def find_question(given: Generation) -> str:
    """What a request is about: its prompt, or the user's latest message."""
    if not given.messages:
        return given.prompt
    return next((one.content for one in reversed(given.messages) if one.role == "user" and one.content), "")


def add_passages(given: Generation, passages: Sequence[Passage]) -> Generation:
    """The request with passages in front of its question."""
    if not passages:
        return given
    told = [f"[{number}] {passage.file_name}\n{passage.text}" for number, passage in enumerate(passages, 1)]
    text = "\n\n".join((_INTRODUCTION, *told))
    if not given.messages:
        return msgspec.structs.replace(given, prompt=f"{text}\n\n{given.prompt}")
    messages = list(given.messages)
    place = max(at for at, one in enumerate(messages) if one.role == "user" and one.content)
    messages.insert(place, Message("system", text))
    return msgspec.structs.replace(given, messages=tuple(messages))


def name_places(passages: Sequence[Passage]) -> str:
    """Where passages stand, in the order of their numbers: `file:start-end`, joined by comma; `none` for none."""
    return ",".join(f"{one.file_id}:{one.start}-{one.end}" for one in passages) or "none"


class _CitingSink:
    """The client's sink, and what was retrieved in the metadata of its answer."""

    def __init__(self, sink: AnswerSink, places: str) -> None:
        self._sink = sink
        self._places = places

    def _cite(self, route: Route) -> Route:
        return msgspec.structs.replace(route, retrieved=self._places)

    def routed(self, route: Route) -> None:
        self._sink.routed(self._cite(route))

    def continued(self, route: Route) -> None:
        self._sink.continued(self._cite(route))

    def start_raw(self, status: int, content_type: bytes, length: int | None) -> None:
        self._sink.start_raw(status, content_type, length)

    def send_raw(self, data: bytes) -> None:
        self._sink.send_raw(data)

    def relay(self) -> Callable[[bytes], None] | None:
        return self._sink.relay()

    def take_over(self, progress: Progress) -> None:
        self._sink.take_over(progress)

    def send_whole(self, status: int, content_type: bytes, body: bytes) -> None:
        self._sink.send_whole(status, content_type, body)

    def send_events(self, events: Sequence[AnswerEvent]) -> None:
        self._sink.send_events(events)

    def finish(self, outcome: Outcome) -> None:
        self._sink.finish(outcome)

    def fail(self, error: ProxyError) -> None:
        self._sink.fail(error)
