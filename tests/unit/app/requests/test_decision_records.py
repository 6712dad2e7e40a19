"""Each attempt leaves a decision on record, whatever becomes of it; with scripted backends and a clock."""

from __future__ import annotations

import asyncio

import msgspec

from ollama_proxy.domain.answer import Finished, TextDelta, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation
from ollama_proxy.domain.device import ModelFacts
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.observability.decisions import Taken
from ollama_proxy.routing.record import replay
from ollama_proxy.routing.record_lines import read_record, write_record
from tests.unit.app.requests.test_dispatch import CAN, MODEL, Stage


def records(stage: Stage) -> list[Taken]:
    """The oldest first; each replays to the same bytes."""
    found = stage.dispatcher.decisions.latest(100)[::-1]
    for taken in found:
        written = write_record(taken.make_record())
        assert write_record(replay(read_record(written))) == written
    return found


def outcome(taken: Taken) -> tuple[str, float | None, float | None, float | None]:
    found = taken.outcome
    assert found is not None
    return found.result, found.waited_s, found.ttft_s, found.e2e_s


def test_an_answer_closes_the_decision_that_its_headers_name() -> None:
    stage = Stage("a", "b")
    stage.submit()
    (taken,) = records(stage)
    assert taken.outcome is None
    stage.now_s += 2
    stage.attempt.sink.on_events([TextDelta("x")])
    stage.now_s += 3
    stage.attempt.sink.on_end(Finished(usage=Usage(output_tokens=9)))
    assert stage.client.route is not None
    assert stage.dispatcher.decisions.find(stage.client.route.decision_id) is taken
    assert outcome(taken) == ("ok", 0.0, 2.0, 5.0)


def test_each_attempt_has_its_own_decision_and_end() -> None:
    stage = Stage("a", "b")
    job = stage.submit()
    first = job.life.backend
    stage.now_s += 1
    stage.backends[first].attempts[0].sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
    second = job.life.backend
    stage.now_s += 2
    stage.backends[second].attempts[0].sink.on_end(Finished())
    failed, answered = records(stage)
    assert (failed.id, answered.id) == ("d-r1-1", "d-r1-2")
    assert outcome(failed) == ("failed", 0.0, None, 1.0)
    assert failed.outcome is not None
    assert failed.outcome.error == "connection reset"
    assert outcome(answered)[:2] == ("ok", 1.0)
    assert answered.make_record().tried == {first}


def test_the_end_of_all_attempts_is_a_refusal_on_record() -> None:
    stage = Stage("a")
    stage.submit()
    stage.attempt.sink.on_failure(Failure(FailureKind.RESET, "connection reset"))
    failed, refused = records(stage)
    assert failed.id == "d-r1-1"
    assert refused.id == "d-r1-2"
    assert outcome(refused)[0] == "refused"
    assert refused.make_record().verdict.backend == ""
    assert stage.client.error is not None
    assert stage.client.error.decision_id == refused.id


def test_an_error_names_the_last_attempt_where_nobody_decided_behind_it() -> None:
    stage = Stage("a")
    stage.submit()
    stage.attempt.sink.on_failure(Failure(FailureKind.REJECTED, "it is no JSON", 400, b"{}"))
    (taken,) = records(stage)
    assert stage.client.error is not None
    assert stage.client.error.decision_id == taken.id == "d-r1-1"


def test_a_client_that_leaves_closes_its_decision() -> None:
    stage = Stage("a")
    job = stage.submit()
    stage.now_s += 4
    job.cancel()
    (taken,) = records(stage)
    assert outcome(taken) == ("cancelled", 0.0, None, 4.0)


def test_what_was_given_up_is_on_record() -> None:
    stage = Stage("a")
    call = Call("r1", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation)
    call.wants = frozenset((Need.THINKING,))
    stage.dispatcher.submit(call, stage.client)
    (taken,) = records(stage)
    record = taken.make_record()
    assert record.given_up == "nobody can do all of: thinking"
    assert record.verdict.reason.endswith("; nobody can do all of: thinking")


def test_one_that_waited_is_on_record_as_it_was_decided_when_its_turn_came() -> None:
    async def run() -> None:
        stage = Stage("a")
        backend = stage.backends["a"]
        stage.fleet.remove("a")
        backend.spec = msgspec.structs.replace(backend.spec, held=True)
        stage.fleet.add(backend.spec, CAN)
        stage.fleet.probed("a", ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL})), 0)
        stage.submit()
        stage.submit()
        await asyncio.sleep(0)
        assert len(records(stage)) == len(backend.attempts) == 1
        stage.now_s += 5
        backend.attempts[0].sink.on_end(Finished())
        await asyncio.sleep(0)
        _, second = records(stage)
        backend.attempts[1].sink.on_end(Finished())
        assert outcome(second)[:2] == ("ok", 5.0)

    asyncio.run(run())
