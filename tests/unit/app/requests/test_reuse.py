"""Conversations on their way: where their turns go, and what answers with a held prompt teach."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from ollama_proxy.app.requests.dispatch import Job
from ollama_proxy.domain.answer import Finished, TextDelta, Usage
from ollama_proxy.domain.call import Call
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.fleet.prefixes import PrefixBook
from ollama_proxy.routing.account import tell
from ollama_proxy.routing.record import replay
from ollama_proxy.routing.record_lines import read_record, write_record
from tests.unit.app.requests.test_dispatch import MODEL, Client, Stage
from tests.unit.fleet.test_prefixes import TURN, chat


def stage_of(*names: str, held_slots: int = 1) -> Stage:
    stage = Stage(*names, held_slots=held_slots)
    stage.dispatcher.prefixes = PrefixBook()
    return stage


def submit(stage: Stage, *turns: str) -> Job:
    call: Call = chat(*turns, stream=True, arrived_s=stage.now_s)
    assert call.raw is not None
    call.prompt_bytes = len(call.raw.body)
    return stage.dispatcher.submit(call, Client())


def answer(stage: Stage, job: Job, usage: Usage | None = None, took_s: float = 2.0) -> None:
    (attempt,) = stage.backends[job.life.backend].attempts[-1:]
    stage.now_s += took_s
    attempt.sink.on_events([TextDelta("x")])
    stage.now_s += 1.0
    attempt.sink.on_end(Finished("stop", usage or Usage(prompt_tokens=1000, output_tokens=10, prompt_ns=10**9)))


def test_the_next_turn_goes_where_the_last_one_was_though_another_would_do_as_well() -> None:
    for first in ("a", "b"):
        stage = stage_of("a", "b")
        other = "b" if first == "a" else "a"
        # Whoever is busy does not get the first turn.
        stage.fleet.opened(other)
        job = submit(stage, TURN)
        assert job.life.backend == first
        answer(stage, job)
        stage.fleet.closed(other)
        follow_up = submit(stage, TURN, "And the second.")
        assert follow_up.life.backend == first
        taken = stage.dispatcher.decisions.find(f"d-{follow_up.errand.call.request_id}-1")
        assert taken is not None
        shown = taken.make_record()
        assert set(shown.request.held) == {first}
        written = write_record(shown)
        assert write_record(replay(read_record(written))) == written
        assert f"Tokens of the prompt held from before: {shown.request.held[first]:.0f} at {first}\n" in tell(shown)
        # Nor is it billed for reading what was held.
        assert follow_up.current is not None
        assert follow_up.current.bill is not None
        assert follow_up.current.bill.prompt_tokens == round(shown.request.prompt_tokens - shown.request.held[first])
        assert "tokens of its prompt are held there" in shown.verdict.reason


def test_a_held_prompt_teaches_no_speed_of_reading_and_no_tokens_a_byte() -> None:
    stage = stage_of("a", "b")
    job = submit(stage, TURN)
    answer(stage, job)
    name = job.life.backend
    before, ratio = stage.view(name).rates[MODEL], stage.dispatcher.prompts.save()
    assert before.ttft_samples == 1
    follow_up = submit(stage, TURN, "And the second.")
    # It comes at once, since nothing has to be read.
    answer(stage, follow_up, Usage(prompt_tokens=50, output_tokens=10, prompt_ns=10**6), took_s=0.01)
    assert follow_up.life.backend == name
    stage.fleet.age(stage.now_s + 1)
    after = stage.view(name).rates[MODEL]
    assert (after.ttft_samples, after.prefill_tps) == (1, before.prefill_tps)
    assert after.decode_samples == 2
    assert stage.dispatcher.prompts.save() == ratio


@pytest.mark.parametrize(
    ("usage", "believed"),
    [
        # Of 1000 tokens all were read, in the time that all take; or none to speak of.
        (lambda s_per_token: Usage(1000, 10, prompt_ns=int(1000 * s_per_token * 1e9)), False),
        (lambda s_per_token: Usage(1000, 10, prompt_ns=10**5), True),
        # The server's own word goes before.
        (lambda s_per_token: Usage(1000, 10, prompt_ns=int(1000 * s_per_token * 1e9), cached_tokens=1000), True),
        (lambda s_per_token: Usage(1000, 10, prompt_ns=10**5, cached_tokens=0), False),
    ],
)
def test_who_reads_it_all_again_is_not_taken_to_hold_it(usage: Callable[[float], Usage], believed: bool) -> None:
    stage = stage_of("a", "b")
    answer(stage, submit(stage, TURN))
    turns = [TURN]
    tokens = []
    for number in range(3):
        turns.append(f"Turn {number}.")
        job = submit(stage, *turns)
        tokens.append(job.errand.request.held[job.life.backend])
        s_per_token = 1 / stage.view(job.life.backend).rates[MODEL].prefill_tps
        answer(stage, job, usage(s_per_token))
    assert (tokens[-1] >= tokens[0]) is believed


def test_a_failed_attempt_leaves_nothing_to_count_on() -> None:
    stage = stage_of("a", "b")
    job = submit(stage, TURN)
    first = job.life.backend
    stage.backends[first].attempts[0].sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
    answer(stage, job)
    second = submit(stage, TURN, "More.")
    assert set(second.errand.request.held) == {job.life.backend} != {first}


def test_who_waits_is_looked_at_again_when_its_turn_comes() -> None:
    async def play() -> None:
        stage = stage_of("a", "b")
        running = [submit(stage, TURN), submit(stage, "Another. " * 400)]
        waiting = submit(stage, TURN, "And the second.")
        assert waiting.waits
        assert not waiting.errand.request.held
        for job in running:
            answer(stage, job)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.life.backend == running[0].life.backend
        assert waiting.errand.reuse is not None
        assert waiting.errand.reuse.held_tokens > 0

    asyncio.run(play())


def test_nothing_is_looked_at_where_there_is_no_choice_or_no_long_prompt() -> None:
    assert submit(stage_of("a"), TURN).errand.reuse is None
    assert submit(stage_of("a", "b"), "Short.").errand.reuse is None
    off = Stage("a", "b")
    assert submit(off, TURN).errand.reuse is None
