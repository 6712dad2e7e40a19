"""What the engine of pipelines needs done, as requests of the proxy: decided, limited and billed like any other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from ollama_proxy.app.chains.sinks import BodySink, TextSink, wait_for
from ollama_proxy.domain.answer import Outcome, Route
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation, RawHead, RawRequest, Sampling
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import Service
from ollama_proxy.domain.vectors import Embedder, EmbedWish, Passage, Retriever, Search
from ollama_proxy.energy.model import model_figure
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.pipelines.account import Work
from ollama_proxy.pipelines.stages import Options
from ollama_proxy.pipelines.workers import Errand, Writing

T = TypeVar("T")
_GENERATE = frozenset((Need.GENERATE,))
_RERANK = frozenset((Need.RERANK,))
_RERANK_HEAD = RawHead(b"POST", b"/v1/rerank", ((b"content-type", b"application/json"),))
_MOST_BYTES = 4 * 1024 * 1024


class _Ranked(msgspec.Struct):
    index: int
    relevance_score: float = 0.0


class _Ranking(msgspec.Struct):
    results: list[_Ranked]


_rankings = msgspec.json.Decoder(_Ranking)


class ServiceWorkers:
    """Over the service that the APIs use, and the ports for vectors."""

    def __init__(self, service: Service, embedder: Embedder, find_retriever: Callable[[], Retriever | None]) -> None:
        """`find_retriever` gives who finds passages, None where nobody does."""
        self._service = service
        self._embedder = embedder
        self._find_retriever = find_retriever
        self._loop = asyncio.get_running_loop()

    async def write(self, errand: Errand, writing: Writing, told: Callable[[str], None]) -> str:
        call = self._make_call(errand, writing)
        sink = TextSink(told, lambda one: self._judge(one, writing))
        try:
            await wait_for(sink.done, self._service.submit(call, sink))
        except BaseException:
            if sink.route is not None:
                errand.account.add(self._estimate(sink, sink.route))
            raise
        errand.account.add(_settle(sink.route, sink.done.result(), call))
        return "".join(sink.text)

    def _make_call(self, errand: Errand, writing: Writing) -> Call:
        sampling = _read_options(writing.options, writing.most_tokens)
        generation = Generation(writing.prompt, system=writing.system, sampling=sampling, format=writing.options.format)
        call = self._call(errand, Operation.GENERATE, writing.model, _GENERATE)
        call.stream = True
        call.typed = lambda: generation
        call.prompt_bytes = len(writing.prompt.encode("utf-8", "replace")) + len(writing.system.encode())
        call.max_tokens = sampling.num_predict or 0
        if writing.options.format is not None:
            call.wants = frozenset((Need.FORMAT,))
        if not call.model and not self._service.name_default(call):
            raise ProxyError(ErrorKind.INVALID_REQUEST, "names no model, and there is no default; set models.default")
        return call

    def _call(self, errand: Errand, operation: Operation, model: str, needs: frozenset[Need]) -> Call:
        """The call of an errand, for others to fill."""
        wish = errand.wish
        return Call(
            f"{wish.request_id}.{errand.stage.rpartition('/')[2]}",
            Dialect.COMPUTE,
            operation,
            model,
            False,
            self._service.now_s(),
            Generation,
            errand.annotations,
            needs,
            way_in=f"pipeline {errand.stage}",
            caller=wish.caller,
        )

    def _judge(self, sink: TextSink, writing: Writing) -> ProxyError | None:
        """Whether a text has taken more than it may, as far as that can be told while it is written."""
        route, most_j = sink.route, writing.most_joules
        if not most_j or route is None or not route.power_watts:
            return None
        joules = self._reckon(sink, route)
        if joules is None or joules <= most_j:
            return None
        told = f"its budget is spent: about {joules:.4g} of {most_j:g} J, after {sink.tokens} tokens"
        return ProxyError(ErrorKind.OVERLOADED, told)

    def _reckon(self, sink: TextSink, route: Route) -> float | None:
        """Joules since the first token, by the draw that was predicted."""
        return route.power_watts * (self._loop.time() - sink.began_s) if route.power_watts else None

    def _estimate(self, sink: TextSink, route: Route) -> Work:
        """The work that was broken off."""
        joules = self._reckon(sink, route)
        kind = route.energy_kind if joules is not None else "unknown"
        return Work(route.backend, route.model, 0, sink.tokens, joules, kind, route.attempts)

    async def embed(self, errand: Errand, text: str, model: str) -> tuple[float, ...]:
        found = await self._embedder.embed((text,), model, _wish(errand))
        backend = ",".join(found.backends)
        errand.account.add(Work(backend, found.space.model, found.tokens or 0, 0, found.joules, found.energy_kind))
        return found.vectors[0]

    async def retrieve(self, errand: Errand, search: Search) -> tuple[Passage, ...]:
        retriever = self._find_retriever()
        if retriever is None:
            raise ProxyError(ErrorKind.UNIMPLEMENTED, "there are no vector stores here to retrieve from")
        found = await retriever.retrieve(search, _wish(errand))
        errand.account.add(Work(f"store {search.store}", "", 0, 0, found.joules, found.energy_kind))
        return found.passages

    async def rerank(self, errand: Errand, query: str, texts: Sequence[str], model: str, most: int) -> tuple[int, ...]:
        call = self._call(errand, Operation.PASS, model, _RERANK)
        call.dialect = Dialect.OPENAI
        body = {"model": model, "query": query, "documents": list(texts), "top_n": min(most, len(texts))}
        call.raw = RawRequest(_RERANK_HEAD, msgspec.json.encode(body))
        call.prompt_bytes = len(call.raw.body)
        sink = BodySink(_MOST_BYTES)
        began_s = self.now_s()
        await wait_for(sink.done, self._service.submit(call, sink))
        route = sink.route
        if route is not None:
            # Nobody measures requests that are passed on as they came: it is the draw that is known, for as long.
            emulated = route.energy_kind == "emulated"
            figure = model_figure(route.power_watts, self.now_s() - began_s, emulated=emulated)
            errand.account.add(Work(route.backend, route.model, 0, 0, figure.joules, figure.kind, route.attempts))
        return _read_ranking(sink.done.result(), len(texts), most)

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        if not seconds:
            return await work
        async with asyncio.timeout(seconds):
            return await work

    def now_s(self) -> float:
        return self._loop.time()

    def unix_s(self) -> float:
        return time.time()


def _wish(errand: Errand) -> EmbedWish:
    return EmbedWish(f"pipeline {errand.stage}", errand.wish.caller, errand.annotations)


def _read_options(options: Options, most_tokens: int) -> Sampling:
    limits = [one for one in (options.max_tokens, most_tokens) if one]
    return Sampling(
        num_predict=min(limits, default=None),
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        seed=options.seed,
        stop=options.stop or None,
    )


def _settle(route: Route | None, outcome: Outcome, call: Call) -> Work:
    usage = outcome.finished.usage
    return Work(
        route.backend if route is not None else "",
        route.model if route is not None else call.model,
        usage.prompt_tokens or 0,
        outcome.output_tokens,
        outcome.joules,
        outcome.energy_kind,
        route.attempts if route is not None else 1,
        f"{route.attempts - 1} backends failed before" if route is not None and route.attempts > 1 else "",
    )


def _read_ranking(body: bytes, count: int, most: int) -> tuple[int, ...]:
    """The places of the best texts. Raises `ProxyError` for an answer that is none."""
    try:
        results = _rankings.decode(body).results
    except UNREADABLE as error:
        raise ProxyError(ErrorKind.BACKEND_FAILED, f"the ranking cannot be read: {error}") from None
    if any(not 0 <= one.index < count for one in results):
        raise ProxyError(ErrorKind.BACKEND_FAILED, f"the ranking names texts that are not among the {count}")
    ordered = sorted(results, key=lambda one: -one.relevance_score)
    return tuple(dict.fromkeys(one.index for one in ordered[:most]))
