"""A prompt that a server reads to its end although the client has gone keeps its slot for as long."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from ollama_proxy.domain.answer import TextDelta
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import ProbeReport
from tests.unit.app.requests.test_dispatch import MODEL, Client, Job, Stage

#: At 150 prompt tokens a second, and a token in some four bytes: near a minute.
LONG_BYTES = 36_000


def submit(stage: Stage, prompt_bytes: int = LONG_BYTES) -> Job:
    call = Call(
        "r", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation, prompt_bytes=prompt_bytes
    )
    return stage.dispatcher.submit(call, Client())


@pytest.mark.parametrize("held_slots", [0, 1])
def test_the_load_stays_until_the_prompt_is_read(held_slots: int) -> None:
    stage = Stage("a", held_slots=held_slots)
    job = submit(stage)
    stage.pass_time(10.0)
    job.cancel()
    assert stage.backends["a"].attempts[0].aborted
    assert stage.view("a").in_flight == 1
    seconds = 0
    while stage.view("a").in_flight:
        stage.pass_time(1.0)
        seconds += 1
    assert 30 < seconds < 80


def test_the_next_waits_until_then() -> None:
    async def play() -> None:
        stage = Stage("a", held_slots=1)
        job = submit(stage)
        job.cancel()
        second = submit(stage, 40)
        assert second.waits
        stage.pass_time(10.0)
        await asyncio.sleep(0)
        assert second.waits
        (slot,) = stage.fleet.slots_at(stage.now_s)[0]
        assert 20 < slot[0] < 80
        stage.pass_time(80.0)
        assert not second.waits
        assert stage.view("a").in_flight == 1

    asyncio.run(play())


def test_a_short_prompt_or_one_that_was_read_leaves_nothing() -> None:
    stage = Stage("a")
    submit(stage, 40).cancel()
    assert stage.view("a").in_flight == 0
    job = submit(stage)
    stage.attempt.sink.on_events([TextDelta("x")])
    job.cancel()
    assert stage.view("a").in_flight == 0


def test_servers_that_stop_have_no_load_left() -> None:
    stage = Stage("a")
    report = ProbeReport(stage.view("a").models, frozenset({MODEL}), emulated=True)
    stage.fleet.probed("a", report, 0)
    submit(stage).cancel()
    assert stage.view("a").in_flight == 0
    stage = Stage("b")
    stage.fleet.renew(
        msgspec.structs.replace(stage.backends["b"].spec, kind="openai"), frozenset(stage.view("b").capabilities)
    )
    submit(stage).cancel()
    assert stage.view("b").in_flight == 0


def test_a_backend_that_leaves_takes_its_load_along() -> None:
    stage = Stage("a")
    submit(stage).cancel()
    spec = stage.backends["a"].spec
    stage.fleet.remove("a")
    stage.fleet.add(spec, frozenset())
    stage.pass_time(200.0)
    stage.fleet.opened("a")
    assert stage.view("a").in_flight == 1
    stage.fleet.closed("a")
    assert stage.view("a").in_flight == 0


def test_what_could_not_be_sent_is_not_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("a")

    def refuse(*_: object) -> None:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "the request cannot be translated")

    monkeypatch.setattr(stage.backends["a"], "open", refuse)
    submit(stage)
    assert stage.view("a").in_flight == 0
    assert not stage.dispatcher.running
