"""Passages put in order by a model of a backend: a request like any other, decided, limited and billed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.app.chains.sinks import BodySink, wait_for
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation, RawHead, RawRequest
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.bodies.unreadable import UNREADABLE

_HEAD = RawHead(b"POST", b"/v1/rerank", ((b"content-type", b"application/json"),))
_NEEDS = frozenset((Need.RERANK,))
_MOST_BYTES = 4 * 1024 * 1024


class _Ranked(msgspec.Struct):
    index: int
    relevance_score: float


class _Ranking(msgspec.Struct):
    results: list[_Ranked]


_rankings = msgspec.json.Decoder(_Ranking)


class ServiceReranker:
    """Over the service that the APIs use."""

    def __init__(self, service: Service, model: Callable[[], str]) -> None:
        """`model` says which; "" while there is none."""
        self._service = service
        self._model = model

    @property
    def is_there(self) -> bool:
        """Whether a model is configured."""
        return bool(self._model())

    async def score(self, query: str, texts: Sequence[str], caller: Caller) -> Sequence[float]:
        """How well each text answers the query, from 0 to 1. Raises `ProxyError`."""
        model = self._model()
        body = msgspec.json.encode({"model": model, "query": query, "documents": list(texts), "top_n": len(texts)})
        call = Call(
            self._service.make_request_id(),
            Dialect.OPENAI,
            Operation.PASS,
            model,
            stream=False,
            arrived_s=self._service.now_s(),
            typed=_never_typed,
            needs=_NEEDS,
            prompt_bytes=len(body),
            raw=RawRequest(_HEAD, body),
            way_in="vector store rerank",
        )
        call.caller = caller
        sink = BodySink(_MOST_BYTES)
        await wait_for(sink.done, self._service.submit(call, sink))
        return read_scores(sink.done.result(), len(texts))


def read_scores(body: bytes, count: int) -> list[float]:
    """The score of each text, 0 for those that are not named. Raises `ProxyError` for an answer that is none.

    Some servers tell probabilities and some what stands in front of the logistic function.
    """
    try:
        results = _rankings.decode(body).results
    except UNREADABLE as error:
        raise ProxyError(ErrorKind.BACKEND_FAILED, f"the ranking cannot be read: {error}") from None
    if any(not 0 <= one.index < count for one in results):
        raise ProxyError(ErrorKind.BACKEND_FAILED, f"the ranking names texts that are not among the {count}")
    told = [one.relevance_score for one in results]
    raw = bool(told) and not (min(told) >= 0 and max(told) <= 1)
    scores = [0.0] * count
    for one in results:
        scores[one.index] = _logistic(one.relevance_score) if raw else one.relevance_score
    return scores


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, value))))


def _never_typed() -> Generation:
    raise ProxyError(ErrorKind.UNIMPLEMENTED, "a ranking can only be asked for as it is")
