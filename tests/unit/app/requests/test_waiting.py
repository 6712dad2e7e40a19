"""Requests that wait in the proxy for a slot of a held backend: who begins when, and what becomes of those that do not.

A backend here opens attempts and does nothing more, so what it was asked is what the proxy sent.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from ollama_proxy.app.requests.dispatch import Job
from ollama_proxy.domain.annotations import Annotations, Priority
from ollama_proxy.domain.answer import Finished, TextDelta, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation
from ollama_proxy.domain.decision import Policy, PowerSet
from ollama_proxy.domain.device import Health, ModelFacts
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.energy.budget import HourlyBudget
from ollama_proxy.lifecycle.life import State
from tests.unit.app.requests.test_dispatch import MODEL, Client, ScriptedAttempt, Stage


def submit(
    stage: Stage,
    client: Client,
    operation: Operation = Operation.GENERATE,
    model: str = MODEL,
    prompt_bytes: int = 5,
    **wishes: Any,
) -> Job:
    call = Call("r", Dialect.OLLAMA, operation, model, True, stage.now_s, Generation, annotations=Annotations(**wishes))
    call.prompt_bytes = prompt_bytes
    if operation is Operation.EMBED:
        call.needs = frozenset((Need.EMBED,))
    return stage.dispatcher.submit(call, client)


def opened(stage: Stage, name: str = "a") -> list[ScriptedAttempt]:
    return stage.backends[name].attempts


async def settle() -> None:
    """Let what was put off to the loop's next turn happen."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        asyncio.run(test(*arguments, **named))

    return run


def end_well(attempt: ScriptedAttempt) -> None:
    attempt.sink.on_events([TextDelta("x")])
    attempt.sink.on_end(Finished("stop", Usage(output_tokens=10)))


@pytest.mark.parametrize("end", ["ends", "answers whole", "fails", "breaks off", "client leaves", "falls silent"])
@on_a_loop
async def test_the_second_waits_here_until_the_first_is_over_however_it_is(end: str) -> None:
    stage = Stage("a", held_slots=1)
    first, second = Client(), Client()
    running = submit(stage, first)
    waiting = submit(stage, second)
    await settle()
    assert len(opened(stage)) == 1
    assert waiting.waits
    assert len(stage.dispatcher.admission) == 1
    assert stage.view("a").in_flight == 1
    (attempt,) = opened(stage)
    match end:
        case "ends":
            end_well(attempt)
        case "answers whole":
            attempt.sink.on_whole(200, b"application/json", b"{}", Finished())
        case "fails":
            attempt.sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
        case "breaks off":
            attempt.sink.on_events([TextDelta("x")])
            attempt.sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
        case "client leaves":
            running.cancel()
        case "falls silent":
            stage.pass_time(200.0)
    await settle()
    assert len(opened(stage)) == 2
    assert not waiting.waits
    assert stage.view("a").in_flight == 1
    end_well(opened(stage)[1])
    assert second.outcome is not None
    assert stage.view("a").in_flight == 0
    assert not stage.dispatcher.running


@on_a_loop
async def test_no_more_are_sent_than_there_are_slots() -> None:
    stage = Stage("a", held_slots=3)
    clients = [Client() for _ in range(8)]
    for client in clients:
        submit(stage, client)
    await settle()
    for done in range(8):
        assert stage.view("a").in_flight == min(3, 8 - done)
        assert len(opened(stage)) == min(8, done + 3)
        end_well(opened(stage)[done])
        await settle()
    assert all(client.outcome is not None for client in clients)


def test_backends_whose_slots_nobody_holds_are_sent_all_at_once() -> None:
    stage = Stage("a")
    for _ in range(3):
        submit(stage, Client())
    assert len(opened(stage)) == 3


@on_a_loop
async def test_the_queue_shows_the_class_in_which_a_request_is_served() -> None:
    stage = Stage("a", held_slots=1)
    for wishes in ({}, {"latency_critical": True}, {"priority": Priority.BEST_EFFORT}, {"priority": Priority.HIGH}):
        submit(stage, Client(), **wishes)
    classes = [place.priority for place in stage.dispatcher.queue()]
    assert classes == ["critical", "high", "best-effort"]


@on_a_loop
async def test_a_client_that_leaves_while_it_waits_is_out_of_the_queue() -> None:
    stage = Stage("a", held_slots=1)
    submit(stage, Client())
    gone, stays = Client(), Client()
    job = submit(stage, gone)
    submit(stage, stays)
    await settle()
    job.cancel()
    job.cancel()
    assert len(stage.dispatcher.admission) == 1
    end_well(opened(stage)[0])
    await settle()
    assert len(opened(stage)) == 2
    end_well(opened(stage)[1])
    assert stays.outcome is not None
    assert (gone.outcome, gone.error) == (None, None)
    assert not stage.dispatcher.running


@on_a_loop
async def test_more_than_may_wait_are_told_when_to_come_back() -> None:
    stage = Stage("a", held_slots=1, most_waiting=2)
    kept = [Client() for _ in range(3)]
    for client in kept:
        submit(stage, client)
    await settle()
    refused = Client()
    job = submit(stage, refused)
    assert refused.error is not None
    assert refused.error.kind is ErrorKind.OVERLOADED
    assert refused.error.retry_after_s is not None
    # Two typical answers at ten tokens a second are before it.
    assert refused.error.retry_after_s > 10
    assert "2 requests wait already" in refused.error.message
    taken = stage.dispatcher.decisions.find(refused.error.decision_id)
    assert taken is not None
    assert taken.outcome is not None
    assert (taken.outcome.result, taken.outcome.error) == ("refused", refused.error.message)
    assert job.life.state is State.OVER
    assert job not in stage.dispatcher.running
    assert [client.error for client in kept] == [None] * 3


@on_a_loop
async def test_whoever_makes_way_for_a_more_urgent_request_is_told() -> None:
    stage = Stage("a", held_slots=1, most_waiting=1)
    submit(stage, Client())
    low, high = Client(), Client()
    displaced = submit(stage, low, priority=Priority.LOW)
    await settle()
    submit(stage, high, priority=Priority.HIGH)
    assert low.error is not None
    assert low.error.kind is ErrorKind.OVERLOADED
    assert low.error.retry_after_s >= 1
    assert "a more urgent request got its place" in low.error.message
    assert displaced not in stage.dispatcher.running
    assert high.error is None
    assert len(stage.dispatcher.admission) == 1


@on_a_loop
async def test_embeddings_take_no_slot_and_wait_for_none() -> None:
    stage = Stage("a", held_slots=1)
    submit(stage, Client())
    submit(stage, Client())
    await settle()
    vector = Client()
    submit(stage, vector, Operation.EMBED)
    assert len(opened(stage)) == 2
    opened(stage)[1].sink.on_whole(200, b"application/json", b"{}", Finished())
    assert vector.text == "{}"
    await settle()
    # Its end frees no slot: the second still waits.
    assert len(opened(stage)) == 2
    assert len(stage.dispatcher.admission) == 1


@on_a_loop
async def test_beside_embeddings_a_slot_is_still_free() -> None:
    stage = Stage("a", held_slots=1)
    submit(stage, Client(), Operation.EMBED)
    submit(stage, Client())
    await settle()
    assert len(opened(stage)) == 2


@on_a_loop
async def test_who_is_more_urgent_begins_first() -> None:
    stage = Stage("a", held_slots=1)
    submit(stage, Client())
    low, high = Client(), Client()
    submit(stage, low, priority=Priority.LOW)
    submit(stage, high, priority=Priority.HIGH)
    await settle()
    end_well(opened(stage)[0])
    await settle()
    end_well(opened(stage)[1])
    assert high.outcome is not None
    assert low.outcome is None


@on_a_loop
async def test_nobody_overtakes_who_waits() -> None:
    """A slot is free for one turn of the loop; who comes in that turn goes behind those that wait."""
    stage = Stage("a", held_slots=1)
    submit(stage, Client())
    waits, late = Client(), Client()
    submit(stage, waits)
    await settle()
    end_well(opened(stage)[0])
    submit(stage, late)
    await settle()
    end_well(opened(stage)[1])
    assert waits.outcome is not None
    assert late.outcome is None


@on_a_loop
async def test_one_that_waits_for_a_backend_that_dies_goes_to_another() -> None:
    stage = Stage("a", "b", held_slots=1)
    clients = [Client() for _ in range(3)]
    first = submit(stage, clients[0])
    submit(stage, clients[1])
    submit(stage, clients[2])
    await settle()
    dead = first.life.backend
    other = "b" if dead == "a" else "a"
    assert len(opened(stage, dead)) == len(opened(stage, other)) == 1
    opened(stage, dead)[0].sink.on_failure(Failure(FailureKind.REFUSED, "connection refused"))
    await settle()
    assert stage.view(dead).health is Health.UNHEALTHY
    for place in range(3):
        assert len(opened(stage, dead)) == 1
        end_well(opened(stage, other)[place])
        await settle()
    assert all(client.outcome is not None for client in clients)
    assert clients[0].route is not None
    assert clients[0].route.attempts == 2


@on_a_loop
async def test_one_that_waits_is_refused_when_nobody_is_left() -> None:
    stage = Stage("a", held_slots=1)
    submit(stage, Client())
    waits = Client()
    submit(stage, waits)
    await settle()
    stage.fleet.probe_failed("a", "connection refused", 0, hard=True)
    stage.pass_time(1.0)
    assert waits.error is not None
    assert waits.error.kind is ErrorKind.NO_HEALTHY_BACKEND
    assert len(stage.dispatcher.admission) == 0


@on_a_loop
async def test_waiting_for_a_slot_is_no_silence() -> None:
    stage = Stage("a", held_slots=1)
    submit(stage, Client())
    waits = Client()
    submit(stage, waits)
    await settle()
    opened(stage)[0].sink.on_events([TextDelta("x")])
    for _ in range(20):
        opened(stage)[0].sink.on_events([TextDelta("x")])
        stage.pass_time(100.0)
    assert waits.error is None
    assert stage.view("a").health is Health.HEALTHY


@on_a_loop
async def test_time_in_the_queue_is_not_taken_for_the_backends() -> None:
    stage = Stage("a", held_slots=1)
    submit(stage, Client())
    waits = Client()
    submit(stage, waits)
    await settle()
    stage.now_s += 50.0
    end_well(opened(stage)[0])
    await settle()
    stage.now_s += 0.1
    sink = opened(stage)[1].sink
    sink.on_events([TextDelta("x")])
    stage.now_s += 1.0
    sink.on_end(Finished("stop", Usage(output_tokens=10)))
    assert waits.outcome is not None
    assert waits.outcome.ttft_s == pytest.approx(50.1)
    stage.fleet.age(stage.now_s)
    rates = stage.view("a").rates[MODEL]
    assert rates.ttft_samples == 1
    assert rates.overhead_s == pytest.approx(0.1)
    assert rates.decode_tps == pytest.approx(10.0, rel=0.01)


@on_a_loop
async def test_a_substitute_waits_for_its_slot_too() -> None:
    stage = Stage("a", held_slots=1)
    stage.dispatcher.substitutes = {"gone:1b": (MODEL,)}
    submit(stage, Client())
    submit(stage, Client(), model="gone:1b")
    await settle()
    await settle()
    assert stage.view("a").in_flight == 1


@on_a_loop
async def test_a_substitute_that_finds_a_free_slot_begins() -> None:
    stage = Stage("a", held_slots=1)
    stage.fleet.probed("a", ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL})), 0)
    stage.dispatcher.substitutes = {"gone:1b": (MODEL,)}
    client = Client()
    submit(stage, client, model="gone:1b")
    end_well(opened(stage)[0])
    assert client.route is not None
    assert client.route.stand_in


# -- the energy budget ------------------------------------------------------------


@on_a_loop
async def test_when_the_hours_energy_is_spent_a_request_is_told_when_to_come_back() -> None:
    stage = Stage("a")
    budget = stage.dispatcher.budget = HourlyBudget(1)
    budget.spend(3600, stage.now_s)
    poor, looker, unloader = Client(), Client(), Client()
    submit(stage, unloader, prompt_bytes=0)
    assert unloader.error is None
    end_well(opened(stage)[0])
    submit(stage, poor)
    assert poor.error is not None
    assert poor.error.kind is ErrorKind.OVERLOADED
    assert poor.error.retry_after_s == pytest.approx(3660, abs=1)
    assert "1 Wh an hour is spent" in poor.error.message
    assert stage.view("a").in_flight == 0
    assert not stage.dispatcher.running
    stage.now_s += 3661
    submit(stage, looker)
    assert stage.view("a").in_flight == 1


@on_a_loop
async def test_under_a_cap_a_failure_lets_others_run() -> None:
    stage = Stage("a", "b")

    def steer() -> None:
        serving = frozenset(one.id for one in stage.fleet.view().backends if one.health.serves)
        stage.dispatcher.policy = Policy(power_set=PowerSet(serving, cap_watts=10))

    stage.dispatcher.policy = Policy(power_set=PowerSet(frozenset(("a",)), cap_watts=10))
    stage.dispatcher.resteer = steer
    client = Client()
    submit(stage, client)
    opened(stage, "a")[0].sink.on_failure(Failure(FailureKind.REFUSED, "connection refused"))
    assert client.error is None
    assert stage.view("b").in_flight == 1


@on_a_loop
async def test_where_nobody_may_wait_the_urgent_still_takes_a_free_slot() -> None:
    stage = Stage("a", held_slots=2, most_waiting=0)
    submit(stage, Client(), priority=Priority.BEST_EFFORT)
    urgent, late = Client(), Client()
    submit(stage, urgent, latency_critical=True)
    assert urgent.error is None
    assert len(opened(stage)) == 2
    submit(stage, late, latency_critical=True)
    assert late.error is not None
    assert late.error.kind is ErrorKind.OVERLOADED


@on_a_loop
async def test_a_full_queue_turns_nobody_away_whom_a_slot_waits_for_that_nobody_in_it_wants() -> None:
    stage = Stage("a", "b", held_slots=1, most_waiting=1)
    other = {"other:1b": ModelFacts("other:1b")}
    stage.fleet.probed("b", ProbeReport(other, frozenset(other)), 0)
    for _ in range(2):
        submit(stage, Client())  # one runs, one waits for its slot
    await settle()
    client = Client()
    submit(stage, client, model="other:1b")
    assert client.error is None
    assert len(opened(stage, "b")) == 1


@on_a_loop
async def test_a_slot_that_has_just_come_free_is_for_those_who_wait() -> None:
    stage = Stage("a", held_slots=1, most_waiting=1)
    for _ in range(2):
        submit(stage, Client())
    await settle()
    end_well(opened(stage)[0])
    client = Client()
    submit(stage, client)
    assert client.error is not None
    await settle()
    assert len(opened(stage)) == 2


@on_a_loop
async def test_who_was_put_into_the_queue_meanwhile_is_not_put_there_again() -> None:
    stage, looked = Stage("a", held_slots=1), asyncio.Event()

    async def refresh() -> None:
        await looked.wait()

    stage.dispatcher.refresh, stage.dispatcher.starting = refresh, True
    submit(stage, Client())
    job = submit(stage, Client(), model="late:1b")  # nowhere: looks again
    await settle()
    both = {name: ModelFacts(name) for name in (MODEL, "late:1b")}
    stage.fleet.probed("a", ProbeReport(both, frozenset(both)), 0)
    stage.dispatcher.started()
    assert job.waits
    looked.set()
    await settle()
    await settle()
    assert job.waits
    for running in range(2):
        assert len(opened(stage)) == running + 1
        end_well(opened(stage)[running])
        await settle()
    assert len(opened(stage)) == 2
    assert not len(stage.dispatcher.admission)
