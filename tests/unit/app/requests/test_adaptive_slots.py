"""Servers of which no slots are configured: how many requests they get at once."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from ollama_proxy.domain.answer import Finished, TextDelta, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation
from tests.unit.app.requests.test_dispatch import MODEL, Client, Stage

TOKENS, CAPACITY, TOKEN_S = 20, 4, 0.05


def ask(stage: Stage) -> None:
    call = Call("r", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation, max_tokens=TOKENS)
    stage.dispatcher.submit(call, Client())


async def serve(stage: Stage, seconds: int, demand: int) -> int:
    """A server that ends so many a second; the most that were there at the end of the last ten seconds."""
    backend, most = stage.backends["a"], 0
    for second in range(seconds):
        while len(stage.dispatcher.running) < demand:
            ask(stage)
        stage.pass_time(1.0)
        for attempt in backend.attempts[: int(CAPACITY / TOKENS / TOKEN_S)]:
            attempt.sink.on_events([TextDelta("x")])
            attempt.sink.on_end(Finished(usage=Usage(5, TOKENS)))
            backend.attempts.remove(attempt)
        for _ in range(3):
            await asyncio.sleep(0)
        if second >= seconds - 10:
            most = max(most, stage.view("a").in_flight)
    return most


@pytest.mark.parametrize("adapts", [False, True])
def test_the_rest_waits_here_once_the_server_is_slow(adapts: bool) -> None:
    async def play() -> None:
        stage = Stage("a")
        stage.fleet.adapts = adapts
        await serve(stage, 10, 2)
        assert not stage.view("a").spec.held
        most = await serve(stage, 120, 60)
        assert (most <= 5 * CAPACITY) is adapts
        assert stage.view("a").spec.held is adapts
        assert len(stage.dispatcher.admission) == (len(stage.dispatcher.running) - stage.view("a").in_flight)
        stage.fleet.adapts = False
        stage.pass_time(1.0)
        assert not stage.view("a").spec.held
        await serve(stage, 1, 60)
        assert stage.view("a").in_flight > 5 * CAPACITY
        if adapts:
            stage.fleet.renew(msgspec.structs.replace(stage.view("a").spec, held=False, slots=1), frozenset())
            assert not stage.view("a").spec.held

    asyncio.run(play())
