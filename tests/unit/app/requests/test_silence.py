"""Silent backends are left for others by what was learned of them, and never while they may be at work."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.answer import Finished, Progress, TextDelta
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation, RawHead, RawRequest
from ollama_proxy.domain.device import KeptOut, ModelFacts
from ollama_proxy.domain.ports import ProbeReport
from ollama_proxy.fleet.rates import Observation
from tests.unit.app.requests.test_dispatch import MODEL, Client, Job, Stage

OFTEN = 40


def teach(stage: Stage, ttft_s: float) -> None:
    """Both backends have shown many times how soon they begin."""
    for name in stage.backends:
        for _ in range(OFTEN):
            stage.fleet.succeeded(name, MODEL, Observation(ttft_s, 10.0), stage.now_s)
            stage.now_s += 1


def submit(stage: Stage, **fields: Any) -> Job:
    call = Call("r", Dialect.OLLAMA, Operation.GENERATE, MODEL, True, stage.now_s, Generation)
    return stage.dispatcher.submit(msgspec.structs.replace(call, **fields), Client())


def run_until_moved(stage: Stage, job: Job, limit_s: float = 200) -> float | None:
    """Seconds until a job leaves its backend; None if it stays."""
    first, began_s = job.life.backend, stage.now_s
    while stage.now_s - began_s < limit_s:
        stage.pass_time(1.0)
        if job.life.backend != first:
            return stage.now_s - began_s
    return None


@pytest.mark.parametrize(("ttft_s", "least_s", "most_s"), [(0.2, 3, 4), (4.0, 8, 30)])
def test_the_limit_follows_what_was_learned(ttft_s: float, least_s: float, most_s: float) -> None:
    stage = Stage("a", "b")
    teach(stage, ttft_s)
    moved_s = run_until_moved(stage, submit(stage))
    assert moved_s is not None
    assert least_s <= moved_s <= most_s


def test_who_became_slow_is_given_more_time_each_time() -> None:
    """Its answers would else all be broken off, and nothing be learned of its new speed."""
    stage = Stage("a", "b")
    teach(stage, 0.2)
    waited_s = []
    for _ in range(3):
        job = submit(stage, annotations=Annotations(target="a"))
        assert job.life.backend == "a"
        waited_s.append(run_until_moved(stage, job))
        job.cancel()
        while stage.view("a").kept_out.get(MODEL, KeptOut(1, "")).most == 0:
            stage.pass_time(1.0)
    assert waited_s[0] is not None
    assert [one is not None and round(one / waited_s[0]) for one in waited_s] == [1, 2, 4]
    stage.fleet.succeeded("a", MODEL, Observation(0.2, 10.0), stage.now_s)
    assert stage.fleet.count_silences("a", MODEL) == 0


def test_what_was_silent_while_we_slept_is_not_to_blame() -> None:
    stage = Stage("a", "b")
    teach(stage, 0.2)
    job = submit(stage)
    stage.now_s += 60
    stage.dispatcher.forgive(60.0)
    stage.pass_time(1.0)
    assert job.life.attempts == 1
    stage.pass_time(4.0)
    assert job.life.attempts == 2


def test_nobody_is_left_for_nobody() -> None:
    stage = Stage("a")
    job = submit(stage)
    assert run_until_moved(stage, job, 110) is None
    assert not stage.backends["a"].attempts[0].aborted


def test_a_model_that_is_being_loaded_is_left_alone() -> None:
    stage = Stage("a", "b")
    for name in stage.backends:
        stage.fleet.probed(name, ProbeReport({MODEL: ModelFacts(MODEL)}), 0)
    assert run_until_moved(stage, submit(stage), 290) is None


def test_a_model_that_may_have_been_unloaded_by_itself_is_left_alone() -> None:
    stage = Stage("a", "b")
    entry = {"model": MODEL, "expires_at": "2020-01-01T00:00:00.123456789Z"}
    for name in stage.backends:
        stage.fleet.probed(
            name, ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset({MODEL}), loaded_entries=(entry,)), 0
        )
    assert run_until_moved(stage, submit(stage), 110) is None


def test_an_option_that_makes_ollama_load_again_is_no_silence() -> None:
    stage = Stage("a", "b")
    raw = RawRequest(RawHead(b"POST", b"/api/generate"), b'{"model":"m:1b","options":{"num_ctx":8192}}')
    assert run_until_moved(stage, submit(stage, raw=raw), 110) is None


def test_pictures_take_as_long_as_they_take() -> None:
    stage = Stage("a", "b")
    for one in stage.backends.values():
        stage.fleet.renew(one.spec, frozenset((Need.GENERATE, Need.IMAGES)))
    assert run_until_moved(stage, submit(stage, needs=frozenset((Need.GENERATE, Need.IMAGES))), 110) is None


def test_behind_others_in_its_own_queue_a_request_waits_while_they_are_served() -> None:
    stage = Stage("a", "b")
    ahead = [submit(stage), submit(stage)]
    behind = submit(stage)
    there = behind.life.backend
    (served,) = (one for one in ahead if one.life.backend == there)
    for _ in range(40):
        stage.backends[there].attempts[0].sink.on_events([TextDelta("x")])
        stage.pass_time(1.0)
    assert served.life.backend == behind.life.backend == there


def test_a_whole_answer_is_left_when_its_backend_does_not_even_say_what_it_is() -> None:
    stage = Stage("a", "b")
    asked = []

    def ask(backend: str) -> None:
        asked.append(backend)
        stage.dispatcher.listener.found_dumb(backend, stage.now_s)

    stage.dispatcher.listener.ask = ask
    job = submit(stage, stream=False)
    first = job.life.backend
    assert run_until_moved(stage, job, 7) is not None
    assert asked == [first]


def test_a_stream_that_stops_goes_on_elsewhere() -> None:
    stage = Stage("a", "b")
    for one in stage.backends.values():
        stage.fleet.renew(one.spec, frozenset((Need.GENERATE, Need.CONTINUATION)))
    teach(stage, 0.2)
    job = submit(stage)
    attempt = stage.attempt
    attempt.progress = Progress([TextDelta("x")], 1)
    attempt.sink.on_events([TextDelta("x")])
    moved_s = run_until_moved(stage, job)
    assert moved_s is not None
    assert 10 <= moved_s <= 25
    stage.attempt.sink.on_events([TextDelta("y")])
    stage.attempt.sink.on_end(Finished())
    assert not stage.dispatcher.running
