"""Requests that make way for more urgent ones, with scripted backends: who does, what is kept, and when they go on."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ollama_proxy.app.requests.job import Job
from ollama_proxy.domain.annotations import Annotations, Priority
from ollama_proxy.domain.answer import Finished, Progress, TextDelta, Usage
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation, RawHead, RawRequest, Sampling
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.device import ModelFacts
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import ProbeReport
from tests.unit.app.requests.test_dispatch import MODEL, Client, ScriptedAttempt, ScriptedBackend, Stage
from tests.unit.app.requests.test_waiting import on_a_loop, opened, settle

ABLE = frozenset((Need.GENERATE, Need.CONTINUATION))
URGENT = {"latency_critical": True}
LATER = {"priority": Priority.BEST_EFFORT}


def make_stage(*names: str, slots: int = 1, emulated: bool = True, most_waiting: float = 512) -> Stage:
    """Backends with slots of which the proxy keeps count, and that go on with what another has begun."""
    stage = Stage(*names, held_slots=slots, most_waiting=most_waiting)
    for one in stage.backends.values():
        stage.fleet.renew(one.spec, ABLE)
        report = ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset((MODEL,)), emulated=emulated)
        stage.fleet.probed(one.spec.id, report, 0)
    return stage


def submit(stage: Stage, client: Client, *, stream: bool = True, limit: int = 0, needs: Any = (), **wishes: Any) -> Job:
    call = Call(
        "r",
        Dialect.OLLAMA,
        Operation.CHAT,
        MODEL,
        stream,
        stage.now_s,
        lambda: Generation(prompt="hi", sampling=Sampling(num_predict=limit or None)),
        annotations=Annotations(**wishes),
        max_tokens=limit,
        needs=frozenset(needs),
    )
    return stage.dispatcher.submit(call, client)


def write(attempt: ScriptedAttempt, text: str, finished: Finished | None = None) -> None:
    before = attempt.progress.events if attempt.progress is not None else ()
    tokens = attempt.progress.tokens if attempt.progress is not None else 0
    attempt.progress = Progress([*before, TextDelta(text)], tokens + len(text.split()), False, finished=finished)
    attempt.sink.on_events([TextDelta(text)])


def end(attempt: ScriptedAttempt, tokens: int = 1) -> None:
    attempt.sink.on_end(Finished("stop", Usage(5, tokens)))


@on_a_loop
async def test_a_stream_makes_way_and_goes_on_where_it_was_broken_off() -> None:
    stage = make_stage("a")
    patient, urgent = Client(), Client()
    job = submit(stage, patient, limit=10, **LATER)
    first = opened(stage)[0]
    write(first, "one two three")
    submit(stage, urgent, **URGENT)
    await settle()
    assert first.aborted
    assert job.waits
    write(opened(stage)[1], "now")
    end(opened(stage)[1])
    assert urgent.text == "now"
    await settle()
    continued = job.errand.call.continued
    assert continued is not None
    assert (continued.text, continued.tokens, job.errand.call.max_tokens) == ("one two three", 3, 7)
    write(opened(stage)[2], " four")
    end(opened(stage)[2])
    assert patient.text == "one two three four"
    assert patient.error is None
    assert patient.outcome is not None
    assert patient.outcome.finished.usage.output_tokens == 4
    assert not stage.dispatcher.running
    assert not stage.dispatcher.preemption
    assert stage.view("a").in_flight == 0


@on_a_loop
async def test_what_has_said_nothing_yet_begins_anew() -> None:
    stage = make_stage("a")
    patient = Client()
    job = submit(stage, patient, stream=False, **LATER)
    submit(stage, Client(), **URGENT)
    await settle()
    assert opened(stage)[0].aborted
    end(opened(stage)[1])
    await settle()
    assert not job.waits
    write(opened(stage)[2], "all")
    end(opened(stage)[2])
    assert patient.text == "all"
    assert patient.outcome is not None


@pytest.mark.parametrize(
    "wishes",
    [
        {},
        {"priority": Priority.LOW},
        {**LATER, **URGENT},
        {**LATER, "continuation": "never"},
        {**LATER, "max_latency_ms": 60_000},
    ],
)
@on_a_loop
async def test_who_did_not_ask_to_be_last_or_cannot_go_on_is_left_alone(wishes: dict[str, Any]) -> None:
    stage = make_stage("a")
    submit(stage, Client(), **wishes)
    write(opened(stage)[0], "one")
    submit(stage, Client(), **URGENT)
    await settle()
    assert not opened(stage)[0].aborted
    assert len(opened(stage)) == 1


@pytest.mark.parametrize("wishes", [{}, {"priority": Priority.HIGH}, {"max_latency_ms": 100}])
@on_a_loop
async def test_nobody_makes_way_for_what_is_not_urgent(wishes: dict[str, Any]) -> None:
    stage = make_stage("a")
    submit(stage, Client(), **LATER)
    submit(stage, Client(), **wishes)
    await settle()
    assert not opened(stage)[0].aborted


@on_a_loop
async def test_nobody_makes_way_where_another_is_as_good_and_free() -> None:
    stage = make_stage("a", "b")
    submit(stage, Client(), **LATER)
    (taken,) = [name for name in ("a", "b") if opened(stage, name)]
    submit(stage, Client(), **URGENT)
    await settle()
    assert not opened(stage, taken)[0].aborted
    assert len(opened(stage, {"a": "b", "b": "a"}[taken])) == 1


@on_a_loop
async def test_off_is_off() -> None:
    stage = make_stage("a")
    stage.dispatcher.preemption = None
    submit(stage, Client(), **LATER)
    submit(stage, Client(), **URGENT)
    await settle()
    assert not opened(stage)[0].aborted


@on_a_loop
async def test_whoever_made_way_three_times_is_left_alone() -> None:
    stage = make_stage("a")
    patient = Client()
    submit(stage, patient, **LATER)
    for turn in range(4):
        write(opened(stage)[-1], f"{turn} ")
        mine = opened(stage)[-1]
        submit(stage, Client(), **URGENT)
        await settle()
        assert mine.aborted is (turn < 3)
        if mine.aborted:
            end(opened(stage)[-1])
            await settle()
    end(mine)
    await settle()
    assert patient.text == "0 1 2 3 "
    assert patient.outcome is not None


@on_a_loop
async def test_of_several_the_latest_makes_way() -> None:
    stage = make_stage("a", slots=2)
    for _ in range(2):
        submit(stage, Client(), **LATER)
        stage.now_s += 1
    submit(stage, Client(), **URGENT)
    await settle()
    assert [one.aborted for one in opened(stage)] == [False, True, False]


@on_a_loop
async def test_what_has_run_long_and_cannot_be_kept_is_left_alone() -> None:
    stage = make_stage("a")
    submit(stage, Client(), stream=False, **LATER)
    stage.now_s += 6
    submit(stage, Client(), **URGENT)
    await settle()
    assert not opened(stage)[0].aborted


@on_a_loop
async def test_a_server_that_reads_on_is_not_left_while_it_reads() -> None:
    stage = make_stage("a", emulated=False)
    submit(stage, Client(), **LATER)
    submit(stage, Client(), **URGENT)
    await settle()
    assert not opened(stage)[0].aborted
    write(opened(stage)[0], "one")
    stage.pass_time(0.1)
    assert opened(stage)[0].aborted


@on_a_loop
async def test_a_tool_may_be_half_called() -> None:
    stage = make_stage("a")
    stage.fleet.renew(stage.backends["a"].spec, ABLE | {Need.TOOLS})
    submit(stage, Client(), needs=(Need.TOOLS,), **LATER)
    write(opened(stage)[0], "one")
    submit(stage, Client(), **URGENT)
    await settle()
    assert not opened(stage)[0].aborted


@on_a_loop
async def test_what_was_all_there_ends_instead() -> None:
    stage = make_stage("a")
    patient = Client()
    submit(stage, patient, **LATER)
    write(opened(stage)[0], "all", Finished("stop", Usage(5, 1)))
    submit(stage, Client(), **URGENT)
    await settle()
    assert patient.outcome is not None
    assert patient.outcome.finished.usage.output_tokens == 1
    assert len(opened(stage)) == 2


@on_a_loop
async def test_a_stream_whose_words_are_not_known_runs_on() -> None:
    stage = make_stage("a")
    patient = Client()
    submit(stage, patient, **LATER)
    write(opened(stage)[0], "one")
    opened(stage)[0].progress = None
    submit(stage, Client(), **URGENT)
    await settle()
    assert not opened(stage)[0].aborted
    end(opened(stage)[0])
    await settle()
    assert patient.outcome is not None
    assert len(opened(stage)) == 2


@on_a_loop
async def test_a_full_queue_turns_nobody_away_who_made_way() -> None:
    stage = make_stage("a", most_waiting=1)
    patient, other = Client(), Client()
    submit(stage, patient, **LATER)
    write(opened(stage)[0], "one")
    submit(stage, Client(), **URGENT)
    submit(stage, other, priority=Priority.HIGH)
    await settle()
    assert opened(stage)[0].aborted
    assert patient.error is None
    while stage.dispatcher.running:
        write(opened(stage)[-1], " two")
        end(opened(stage)[-1])
        await settle()
    assert patient.text == "one two"
    assert patient.outcome is not None


@on_a_loop
async def test_who_leaves_while_it_waits_for_its_rest_is_forgotten() -> None:
    stage = make_stage("a")
    job = submit(stage, Client(), **LATER)
    write(opened(stage)[0], "one")
    submit(stage, Client(), **URGENT)
    await settle()
    job.cancel()
    end(opened(stage)[1])
    await settle()
    assert len(opened(stage)) == 2
    assert not stage.dispatcher.running
    assert not len(stage.dispatcher.admission)


@on_a_loop
async def test_why_it_was_broken_off_is_on_record() -> None:
    stage = make_stage("a")
    job = submit(stage, Client(), **LATER)
    write(opened(stage)[0], "one")
    submit(stage, Client(), **URGENT)
    await settle()
    end(opened(stage)[1])
    await settle()
    assert job.current is not None
    assert "1 tokens (3 characters) from a, which was wanted for a more urgent request" in job.current.decision.reason
    write(opened(stage)[2], " two")
    assert job.life.tried == frozenset("a")
    page = stage.metrics.render()[0].decode()
    assert 'ollama_proxy_preemptions_total{backend="a"} 1.0' in page
    # Nobody failed: how long it waited is no gap that a failure has made.
    assert "continuation_gap_seconds_count" not in page
    assert job.life.failures == ()


@on_a_loop
async def test_a_request_that_takes_long_to_read_whole_is_left_alone() -> None:
    stage = make_stage("a")
    call = Call("r", Dialect.OLLAMA, Operation.CHAT, MODEL, True, stage.now_s, Generation)
    call.annotations, call.prompt_bytes = Annotations(priority=Priority.BEST_EFFORT), 1_000_000
    stage.dispatcher.submit(call, Client())
    submit(stage, Client(), **URGENT)
    await settle()
    assert not opened(stage)[0].aborted


class Choosy(ScriptedBackend):
    """Knows that it cannot go on with what it has written."""

    def may_go_on(self, model: str) -> bool:
        return False


@on_a_loop
async def test_what_the_same_backend_could_not_go_on_with_is_left_alone() -> None:
    stage = make_stage("a")
    choosy = Choosy("a", 1)
    stage.backends["a"] = choosy
    stage.dispatcher.backends = {"a": choosy}
    submit(stage, Client(), **LATER)
    write(opened(stage)[0], "one")
    submit(stage, Client(), **URGENT)
    await settle()
    assert not opened(stage)[0].aborted
    assert not stage.dispatcher.preemption


@on_a_loop
async def test_what_other_weights_would_go_on_with_is_left_alone() -> None:
    stage = make_stage("a")
    before, since = ({MODEL: ModelFacts(MODEL, digest=digest)} for digest in ("x", "y"))
    stage.fleet.probed("a", ProbeReport(before, frozenset((MODEL,)), emulated=True), 0)
    submit(stage, Client(), **LATER)
    write(opened(stage)[0], "one")
    stage.fleet.probed("a", ProbeReport(since, frozenset((MODEL,)), emulated=True), 0)
    submit(stage, Client(), **URGENT)
    await settle()
    assert not opened(stage)[0].aborted


@on_a_loop
async def test_what_is_left_of_a_backend_that_was_removed_is_in_nobodys_way() -> None:
    stage = make_stage("a", "b")
    submit(stage, Client(), **LATER)
    (gone,) = [name for name in ("a", "b") if opened(stage, name)]
    stays = {"a": "b", "b": "a"}[gone]
    write(opened(stage, gone)[0], "one")
    stage.fleet.remove(gone)
    submit(stage, Client(), **LATER)
    urgent = Client()
    submit(stage, urgent, **URGENT)
    await settle()
    assert not opened(stage, gone)[0].aborted
    end(opened(stage, stays)[-1])
    assert urgent.outcome is not None


@on_a_loop
async def test_what_runs_at_the_server_before_is_not_in_the_way_of_the_one_that_has_its_id_now() -> None:
    stage = make_stage("a")
    submit(stage, Client(), **LATER)
    before = opened(stage)[0]
    write(before, "one")
    stage.fleet.remove("a")
    stage.fleet.add(stage.backends["a"].spec, ABLE)
    stage.fleet.probed("a", ProbeReport({MODEL: ModelFacts(MODEL)}, frozenset((MODEL,)), emulated=True), 0)
    submit(stage, Client())
    submit(stage, Client(), **URGENT)
    await settle()
    assert not before.aborted
    assert len(opened(stage)) == 2
    end(opened(stage)[1])
    submit(stage, Client(), **LATER)
    await settle()
    end(opened(stage)[2])
    await settle()
    write(opened(stage)[3], "two")
    submit(stage, Client(), **URGENT)
    await settle()
    assert [one.aborted for one in opened(stage)] == [False, False, False, True, False]


@on_a_loop
async def test_nobody_is_broken_off_where_that_frees_no_slot() -> None:
    stage = make_stage("a", slots=3)
    for _ in range(3):
        submit(stage, Client(), **LATER)
        stage.now_s += 1
    stage.fleet.renew(msgspec.structs.replace(stage.backends["a"].spec, slots=1), ABLE)
    submit(stage, Client(), **URGENT)
    await settle()
    assert [one.aborted for one in opened(stage)] == [False, False, False]
    end(opened(stage)[0])
    await settle()
    assert [one.aborted for one in opened(stage)] == [False, False, False]
    end(opened(stage)[1])
    await settle()
    assert [one.aborted for one in opened(stage)] == [False, False, True, False]


@on_a_loop
async def test_the_urgent_gets_the_slot_however_long_others_have_waited() -> None:
    stage = make_stage("a")
    submit(stage, Client(), **LATER)
    for _ in range(5):
        submit(stage, Client(), **LATER)
    await settle()
    stage.now_s += 600
    write(opened(stage)[0], "one")
    urgent = Client()
    submit(stage, urgent, **URGENT)
    await settle()
    assert [one.aborted for one in opened(stage)] == [True, False]
    end(opened(stage)[1])
    assert urgent.outcome is not None


@on_a_loop
async def test_making_way_is_neither_a_failure_nor_a_retry() -> None:
    stage = make_stage("a")
    patient = Client()
    job = submit(stage, patient, **LATER)
    for _ in range(3):
        # The connection was closed as it was sent, which may happen at any time.
        assert opened(stage)[-1].sink.may_resend()
        write(opened(stage)[-1], "x ")
        submit(stage, Client(), **URGENT)
        await settle()
        end(opened(stage)[-1])
        await settle()
    assert opened(stage)[-1].sink.may_resend()
    assert job.life.may_try
    end(opened(stage)[-1])
    assert patient.outcome is not None


@on_a_loop
async def test_many_that_make_way_take_no_retries_from_others() -> None:
    stage = make_stage("a")
    for _ in range(40):
        submit(stage, Client(), **LATER)
        submit(stage, Client(), **URGENT)
        await settle()
        while stage.dispatcher.running:
            end(opened(stage)[-1])
            await settle()
    assert stage.dispatcher.retries.allows(stage.now_s)


@pytest.mark.parametrize(
    ("member", "goes_on"),
    [
        ('"temperature":1', True),
        ('"grammar":"x"', False),
        ('"response_format":{"type":"json_object"}', False),
        ('"logprobs":true', False),
    ],
)
@on_a_loop
async def test_what_began_again_is_judged_by_what_was_written_since(member: str, goes_on: bool) -> None:
    stage = make_stage("a", "b", "c")
    body = b'{"messages":[],%b}' % member.encode()
    asked = Generation(prompt="hi", format="json" if "format" in member else None, logprobs="logprobs" in member)
    raw = RawRequest(RawHead(b"POST", b"/v1/chat/completions"), body)
    call = Call("r", Dialect.OPENAI, Operation.CHAT, MODEL, True, stage.now_s, lambda: asked, raw=raw)
    call.annotations = Annotations(**LATER)
    job = stage.dispatcher.submit(call, Client())
    first = opened(stage, job.life.backend)[0]
    first.progress = Progress((), 0, first=b"role")
    first.sink.on_events(())
    first.sink.on_failure(Failure(FailureKind.CUT, "cut"))
    again = job.life.backend
    second = opened(stage, again)[0]
    write(second, "one")
    assert job.current is not None
    assert job.errand.could_another(job.current, stage.now_s) is goes_on
    submit(stage, Client(), target=again, **URGENT)
    await settle()
    assert second.aborted is goes_on


@on_a_loop
async def test_who_makes_way_does_not_change_what_the_urgent_is_decided_by() -> None:
    stage = make_stage("a", "b")
    for name, watts, tps in (("a", 10.0, 10.0), ("b", 100.0, 50.0)):
        spec = stage.backends[name].spec
        spec = msgspec.structs.replace(spec, power_watts=watts, max_tokens_per_second=tps)
        stage.fleet.renew(spec, ABLE)
    submit(stage, Client(), target="a", **LATER)
    write(opened(stage, "a")[0], "one")
    submit(stage, Client(), target="b")
    # It waits; with whoever makes way there are then two of one caller, so that another one's seconds would be dearer.
    submit(stage, Client())
    await settle()
    call = Call("u", Dialect.OLLAMA, Operation.CHAT, MODEL, True, stage.now_s, lambda: Generation(prompt="hi"))
    call.annotations, call.caller = Annotations(priority=Priority.CRITICAL), Caller("u")
    urgent = stage.dispatcher.submit(call, Client())
    await settle()
    assert opened(stage, "a")[0].aborted
    assert not urgent.waits
    assert urgent.life.backend == "a"
