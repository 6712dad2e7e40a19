"""Requests at once through the dispatcher: what they teach is the speed of one alone, and how company slows."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from ollama_proxy.domain.answer import Finished, TextDelta, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Operation
from ollama_proxy.domain.decision import Decision
from ollama_proxy.fleet.running import predict_running
from ollama_proxy.routing.record import replay
from ollama_proxy.routing.record_lines import read_record, write_record
from tests.unit.app.requests.test_dispatch import MODEL, Client, Stage

TPS, EXPONENT, TOKENS = 10.0, 0.4, 20


def answer_together(stage: Stage, together: int, *, leaves: bool = False) -> None:
    """So many answers that begin and end at once; `leaves`: one client more is there for half of the time."""
    begun = len(stage.backends["a"].attempts)
    for number in range(together + leaves):
        call = Call(f"r{number}", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation)
        job = stage.dispatcher.submit(call, Client())
    attempts = stage.backends["a"].attempts[begun:]
    stage.now_s += 0.5
    for attempt in attempts:
        attempt.sink.on_events([TextDelta("x")])
    if leaves:
        # Half of the tokens are written beside one more.
        stage.now_s += TOKENS / 2 / TPS * (together + 1) ** (1 - EXPONENT)
        job.cancel()
        stage.now_s += TOKENS / 2 / TPS * together ** (1 - EXPONENT)
    else:
        stage.now_s += TOKENS / TPS * together ** (1 - EXPONENT)
    for attempt in attempts[:together]:
        attempt.sink.on_end(Finished("stop", Usage(10, TOKENS)))
    stage.now_s += 5.0


def learn(stage: Stage, rounds: int) -> None:
    for number, together in zip(range(rounds), itertools.cycle((1, 4, 2, 3, 1)), strict=False):
        answer_together(stage, together, leaves=number % 3 == 0 and together < 4)
    stage.fleet.age(stage.now_s)


def test_the_speed_alone_and_what_company_costs_are_learned_apart() -> None:
    async def play() -> None:
        stage = Stage("a", held_slots=4)
        learn(stage, 40)
        rates = stage.view("a").rates[MODEL]
        assert rates.decode_tps == pytest.approx(TPS, rel=0.03)
        assert rates.parallel_exponent == pytest.approx(EXPONENT, abs=0.03)
        assert rates.ttft_samples < rates.decode_samples / 2

    asyncio.run(play())


def test_what_was_learned_is_what_decisions_forecasts_and_bills_reckon_with() -> None:
    async def play() -> None:
        stage = Stage("a", held_slots=4)
        learn(stage, 40)
        for number in range(3):
            call = Call(f"s{number}", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation)
            job = stage.dispatcher.submit(call, Client())
        taken = stage.dispatcher.decisions.find(f"d-{job.errand.call.request_id}-1")
        assert taken is not None
        record = taken.make_record()
        written = write_record(record)
        assert b'"parallel_exponent":0.' in written
        assert write_record(replay(read_record(written))) == written
        verdict = taken.verdict
        assert isinstance(verdict, Decision)
        one = verdict.scored[0][1]
        # Two were there.
        s_per_token = 3 ** (1 - EXPONENT) / TPS
        assert one.s_per_output_token * one.crowding == pytest.approx(s_per_token, rel=0.05)
        assert one.busy_share == pytest.approx(3**-EXPONENT * 1.06, rel=0.05)
        running = predict_running(record.request, verdict, stage.now_s, record.policy)
        assert running.s_per_token == pytest.approx(s_per_token, rel=0.05)
        assert job.current is not None
        bill = job.current.bill
        assert bill is not None
        bill.ended_s, bill.own_s = bill.begun_s + 3.0, 1.0
        assert bill.busy_share == pytest.approx(3**-EXPONENT * 1.06, rel=0.05)

    asyncio.run(play())
