"""Pipelines over emulated devices: every kind of stage, what it takes, and what happens when it goes wrong."""

from __future__ import annotations

import asyncio
import sqlite3
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
import uvloop
import yaml

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.config.schema import Config, Models, Pipelines
from ollama_proxy.domain.call import Generation
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.pipelines import PipelineWish, RunReport, StageReport
from ollama_proxy.lab.device import DEVICES, LARGE, SMALL
from ollama_proxy.lab.faults import read_fault
from ollama_proxy.lab.text import embed_text
from ollama_proxy.net.task import spawn
from tests.support.devices import Stand, devices
from tests.support.http1 import until

SPEED = 50


class Pupils:
    """Answers as models of two sizes might: the small one knows what is easy, the large one everything."""

    async def write(self, model: str, request: Generation) -> tuple[list[str], str]:
        prompt = request.prompt or request.messages[-1].content
        if "easy" in prompt or model.startswith("llama3"):
            return ["It", " is", " the", " answer", " to", " the", f" question, says {model}."], "stop"
        return ["I", " am", " not", " sure", "."], "stop"


def generate(name: str, prompt: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "type": "generate", "model": SMALL, "prompt": prompt, **more}


def sections(tmp_path: Path, *stages: dict[str, Any], **more: Any) -> dict[str, Any]:
    path = tmp_path / "pipelines.yaml"
    path.write_text(yaml.safe_dump({"pipelines": [{"id": "p", "inputs": ["q"], "stages": list(stages), **more}]}))
    return {"pipelines": Pipelines(enabled=True, config_file=str(path)), "models": Models(default=SMALL)}


class Heard:
    """What was told while a run went on."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, str]] = []
        self.reports: list[StageReport] = []

    def __call__(self, stage: str, what: str | StageReport) -> None:
        if isinstance(what, str):
            self.pieces.append((stage, what))
        else:
            self.reports.append(what)


async def run(stand: Stand, heard: Heard | None = None, q: str = "easy", **more: Any) -> RunReport:
    wish = PipelineWish("p", {"q": q}, "r1", **more)
    assert stand.proxy.pipelines is not None
    return await stand.proxy.pipelines.run(wish, heard or Heard())


def test_stages_hand_their_texts_on_and_all_is_accounted_for(tmp_path: Path) -> None:
    stages = (
        generate("first", "{{input.q}}", annotations={"target": "nvidia"}),
        generate("second", "About easy: {{first}}", model=LARGE, annotations={"target": "igpu"}),
    )
    outputs = {"both": "1 {{first}} 2 {{second}}", "asked": "{{input.q}}"}

    async def scene() -> None:
        ledger = tmp_path / "ledger.sqlite"
        changes = sections(tmp_path, *stages, outputs=outputs)
        async with devices(ledger, speed=SPEED, changes=changes, text=Pupils()) as stand:
            heard = Heard()
            report = await run(stand, heard)
        assert report.error == ""
        first, second = report.stages
        assert (first.backend, second.backend) == ("nvidia", "igpu")
        assert (first.model, second.model) == (SMALL, LARGE)
        assert report.outputs == {"both": f"1 {first.output} 2 {second.output}", "asked": "easy"}
        assert first.tokens_out == 7
        assert second.tokens_in == len(f"About easy: {first.output}") // 4
        assert heard.reports == [first, second]
        assert "".join(piece for stage, piece in heard.pieces if stage == "second") == second.output
        rows = sqlite3.connect(ledger).execute("select way_in, marginal_j from requests order by id").fetchall()
        assert [way_in for way_in, _ in rows] == ["pipeline p/first", "pipeline p/second"]
        assert [first.joules, second.joules] == pytest.approx([joules for _, joules in rows])
        assert report.joules == pytest.approx(sum(joules for _, joules in rows))
        assert first.energy_kind == "emulated"
        assert report.seconds == pytest.approx(first.seconds + second.seconds, abs=0.05)

    uvloop.run(scene())


def escalate(**more: Any) -> dict[str, Any]:
    steps = [{"model": SMALL, "annotations": {"target": "npu"}}, {"model": LARGE, "annotations": {"target": "nvidia"}}]
    return {
        "id": "answer",
        "type": "escalate",
        "prompt": "{{input.q}}",
        "steps": steps,
        "accept": {"min_words": 3, "lacks": ["not sure"]},
        **more,
    }


def test_the_large_model_is_asked_only_where_the_small_one_fails_and_that_saves_joules(tmp_path: Path) -> None:
    always = generate("answer", "{{input.q}}", model=LARGE, annotations={"target": "nvidia"})
    questions = [f"{'easy' if number % 10 < 7 else 'hard'} question {number}" for number in range(20)]

    async def ask_all(*stages: dict[str, Any]) -> list[RunReport]:
        async with devices(speed=SPEED, changes=sections(tmp_path, *stages), text=Pupils()) as stand:
            return [await run(stand, q=question) for question in questions]

    frugal = uvloop.run(ask_all(escalate()))
    large = uvloop.run(ask_all(always))
    for question, report in zip(questions, frugal, strict=True):
        (stage,) = report.stages
        assert report.error == ""
        assert "not sure" not in stage.output
        if question.startswith("easy"):
            assert (stage.backend, stage.model, stage.attempts, stage.moved) == ("npu", SMALL, 1, "")
        else:
            assert (stage.backend, stage.model, stage.attempts) == ("nvidia", LARGE, 2)
            assert stage.moved == f"{SMALL}: contains 'not sure'"
    spent_j, always_j = (sum(report.joules or 0 for report in reports) for reports in (frugal, large))
    print(f"escalating {spent_j * SPEED:.1f} J, always large {always_j * SPEED:.1f} J for {len(questions)} questions")
    assert spent_j < 0.8 * always_j


def test_where_no_answer_is_accepted_that_is_said_or_the_last_one_is_kept(tmp_path: Path) -> None:
    never = {"min_words": 100}

    async def scene(otherwise: str) -> RunReport:
        stage = escalate(accept=never, otherwise=otherwise)
        async with devices(speed=SPEED, changes=sections(tmp_path, stage), text=Pupils()) as stand:
            return await run(stand)

    failed = uvloop.run(scene("fail"))
    assert f"{SMALL}: has" in failed.error
    assert f"{LARGE}: has" in failed.error
    assert failed.outputs == {}
    assert failed.joules
    assert failed.joules > 0
    kept = uvloop.run(scene("keep"))
    assert kept.error == ""
    assert LARGE in kept.outputs["output"]


def test_branches_skip_and_kept_texts_spare_the_work(tmp_path: Path) -> None:
    stages = (
        {"id": "before", "type": "cache", "key": "{{input.q}}", "keep": "write", "then": "look"},
        generate("write", "{{input.q}}"),
        {"id": "look", "type": "branch", "when": {"of": "write", "contains": ["not sure"]}, "otherwise": "end"},
        generate("again", "easy", model=LARGE),
    )

    async def scene() -> None:
        async with devices(speed=SPEED, changes=sections(tmp_path, *stages), text=Pupils()) as stand:
            report = await run(stand, q="easy")
            assert [stage.stage for stage in report.stages] == ["before", "write", "look"]
            assert report.outputs == {"output": report.stages[1].output}
            again = await run(stand, q="easy")
            assert [stage.stage for stage in again.stages] == ["before", "look"]
            assert again.outputs == report.outputs
            assert again.joules == 0
            hard = await run(stand, q="hard")
            assert [stage.stage for stage in hard.stages] == ["before", "write", "look", "again"]
            assert LARGE in hard.outputs["output"]

    uvloop.run(scene())


@pytest.mark.parametrize(
    "stages",
    [
        (
            {"id": "look", "type": "retrieve", "store": "not there", "query": "{{input.q}}"},
            generate("write", "{{look}} {{input.q}}"),
        ),
        (escalate(id="write", accept={"min_words": 100}, otherwise="keep"),),
    ],
    ids=["a stage before it failed", "it was not accepted"],
)
def test_texts_of_runs_that_did_not_go_well_are_not_kept(tmp_path: Path, stages: tuple[dict[str, Any], ...]) -> None:
    before = {"id": "before", "type": "cache", "key": "{{input.q}}", "keep": "write", "then": "end"}

    async def scene() -> None:
        async with devices(speed=SPEED, changes=sections(tmp_path, before, *stages), text=Pupils()) as stand:
            for _ in range(2):
                report = await run(stand, continue_on_error=True)
                assert [stage.stage for stage in report.stages] == ["before", *(stage["id"] for stage in stages)]
                assert report.stages[-1].output

    uvloop.run(scene())


def test_texts_are_kept_only_for_runs_in_which_the_key_says_all(tmp_path: Path) -> None:
    before = {"id": "before", "type": "cache", "key": "{{input.q}}", "keep": "write", "then": "end"}

    async def scene() -> None:
        stages = sections(tmp_path, before, generate("write", "{{input.q}}"))
        async with devices(speed=SPEED, changes=stages, text=Pupils()) as stand:
            for preserve_context, ran in ((True, 2), (False, 2), (True, 2), (False, 1)):
                report = await run(stand, preserve_context=preserve_context)
                assert len(report.stages) == ran

    uvloop.run(scene())


def test_kept_texts_are_only_for_who_may_do_the_same(tmp_path: Path) -> None:
    before = {"id": "before", "type": "cache", "key": "{{input.q}}", "keep": "write", "then": "end"}
    whole, fewer = Caller("ann"), Caller("ann", frozenset({"infer"}))

    async def scene() -> None:
        stages = sections(tmp_path, before, generate("write", "{{input.q}}"))
        async with devices(speed=SPEED, changes=stages, text=Pupils()) as stand:
            for caller, ran in ((whole, 2), (fewer, 2), (Caller("ann"), 1), (Caller("bob"), 2)):
                assert len((await run(stand, caller=caller)).stages) == ran

    uvloop.run(scene())


def test_a_stage_may_ask_the_response_cache(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = generate("a", "{{input.q}}", annotations={"cache_enabled": True}, options={"temperature": 0})
        async with devices(speed=SPEED, changes=sections(tmp_path, stage), text=Pupils()) as stand:
            first = await run(stand)
            again = await run(stand)
            assert again.outputs == first.outputs
            assert first.joules
            assert again.joules == 0
            assert sum(server.counts["requests"] for server in stand.servers.values()) == 1

    uvloop.run(scene())


def test_a_vector_is_a_text_as_well(tmp_path: Path) -> None:
    async def scene() -> None:
        stage = {"id": "vector", "type": "embed", "model": SMALL, "text": "{{input.q}}"}
        async with devices(speed=SPEED, changes=sections(tmp_path, stage)) as stand:
            report = await run(stand, q="some text")
            assert msgspec.json.decode(report.outputs["output"]) == list(embed_text("some text", 384))
            assert report.stages[0].tokens_in == 2
            empty = await run(stand, q="")
            assert "its text is empty" in empty.error

    uvloop.run(scene())


def test_limits_of_time_and_energy_end_a_stage_and_its_work(tmp_path: Path) -> None:
    long = "easy [[answer tokens: 400]]"

    async def scene(stage: dict[str, Any], **more: Any) -> tuple[RunReport, Stand]:
        async with devices(speed=1, changes=sections(tmp_path, stage)) as stand:
            report = await run(stand, q=long, **more)
            await until(lambda: not any(server.active for server in stand.servers.values()))
            assert not stand.proxy._dispatcher.running
            return report, stand

    fast = {"target": "nvidia"}
    slow, _ = uvloop.run(scene(generate("a", "{{input.q}}", timeout_seconds=0.6, annotations=fast)))
    assert slow.error == "stage a: took longer than 0.6 s"
    assert slow.stages[0].backend == "nvidia"
    hasty, _ = uvloop.run(scene(generate("a", "{{input.q}}", annotations=fast), stage_timeout_s=0.6))
    assert hasty.error == "stage a: took longer than 0.6 s"
    dear, _ = uvloop.run(scene(generate("a", "{{input.q}}", budget={"joules": 50}, annotations=fast)))
    assert "its budget is spent: about " in dear.error
    # Whole it would be some 350 J. How soon it is broken off is up to how soon the loop has its turn.
    assert 50 <= (dear.joules or 0) < 250


def test_what_is_spent_leaves_nothing_for_later(tmp_path: Path) -> None:
    async def scene(*stages: dict[str, Any], **more: Any) -> RunReport:
        async with devices(speed=SPEED, changes=sections(tmp_path, *stages, **more)) as stand:
            return await run(stand)

    # An answer of one token is whole before it could be broken off, whatever it has taken.
    stages = [generate(name, "easy", options={"max_tokens": 1}) for name in "ab"]
    whole = uvloop.run(scene(*stages, budget={"joules": 1e-6}))
    assert [bool(stage.error) for stage in whole.stages] == [False, True]
    assert whole.error.startswith("stage b: its budget is spent: ")
    assert whole.error.endswith(" of 1e-06 J of the run")
    own = uvloop.run(scene(escalate(accept={"min_words": 100}, options={"max_tokens": 1}, budget={"joules": 1e-6})))
    assert f"{LARGE}: its budget is spent: " in own.error
    assert own.stages[0].attempts == 1


def test_a_run_has_its_time(tmp_path: Path) -> None:
    async def scene() -> RunReport:
        stages = (generate("a", "easy", annotations={"target": "npu"}), generate("b", "easy"))
        # The first stage takes 1.5 s of the device's time, and 0.3 s of ours.
        async with devices(speed=5, changes=sections(tmp_path, *stages, timeout_seconds=0.2), text=Pupils()) as stand:
            return await run(stand, continue_on_error=True)

    first, second = uvloop.run(scene()).stages
    assert first.error.startswith("took longer than 0.")
    assert second.error == "the pipeline's 0.2 s are over"


def test_tokens_are_bounded_and_the_whole_run_has_a_budget_too(tmp_path: Path) -> None:
    async def scene() -> None:
        stages = (generate("a", "easy", budget={"tokens": 3}), generate("b", "easy"), generate("c", "easy"))
        changes = sections(tmp_path, *stages, budget={"tokens": 8})
        async with devices(speed=SPEED, changes=changes) as stand:
            report = await run(stand)
            assert [stage.tokens_out for stage in report.stages] == [3, 5, 0]
            assert report.error == "stage c: its budget is spent: 8 of 8 tokens of the run"
            go_on = await run(stand, continue_on_error=True)
            assert go_on.error == ""
            assert go_on.stages[2].error

    uvloop.run(scene())


def test_a_failed_stage_ends_the_run_unless_it_is_to_go_on(tmp_path: Path) -> None:
    stages = (generate("a", "easy", model="nobody-has-it"), generate("b", "easy {{a}}"))

    async def scene() -> None:
        async with devices(speed=SPEED, changes=sections(tmp_path, *stages), text=Pupils()) as stand:
            report = await run(stand)
            assert report.error.startswith("stage a: ")
            assert "nobody-has-it" in report.error
            assert len(report.stages) == 1
            report = await run(stand, continue_on_error=True)
            assert [bool(stage.error) for stage in report.stages] == [True, False]
            for server in stand.servers.values():
                await server.set_fault(read_fault(b'{"fault": "status", "status": 500}'))
            assert (await run(stand, continue_on_error=True)).stages[1].error

    uvloop.run(scene())


def test_earlier_texts_are_handed_on_where_that_is_asked_for(tmp_path: Path) -> None:
    async def scene() -> None:
        stages = (generate("a", "easy one"), generate("b", "easy two"))
        async with devices(speed=SPEED, changes=sections(tmp_path, *stages), text=Pupils()) as stand:
            report = await run(stand, preserve_context=True)
            first, second = report.stages
            assert second.tokens_in == len(f"a:\n{first.output}\n\neasy two") // 4

    uvloop.run(scene())


def test_whoever_leaves_ends_the_stage_that_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        stages = (generate("a", "easy"), generate("b", "easy"))
        async with devices(speed=1, changes=sections(tmp_path, *stages)) as stand:
            asking = spawn(run(stand), "somebody asks")
            await until(lambda: any(server.active for server in stand.servers.values()))
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert not stand.proxy._dispatcher.running

    uvloop.run(scene())


def test_what_is_not_there_is_refused_before_anything_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        async with devices(speed=SPEED, changes=sections(tmp_path, generate("a", "x"))) as stand:
            assert stand.proxy.pipelines is not None
            for wish, kind, told in (
                (PipelineWish("pp", {"q": "x"}, "r"), ErrorKind.NOT_FOUND, "did you mean 'p'?"),
                (PipelineWish("zzz", {"q": "x"}, "r"), ErrorKind.NOT_FOUND, "known are p"),
                (PipelineWish("p", {}, "r"), ErrorKind.INVALID_REQUEST, "input 'q' is missing"),
                (PipelineWish("p", {"q": "", "r": ""}, "r"), ErrorKind.INVALID_REQUEST, "no input 'r'"),
            ):
                with pytest.raises(ProxyError) as caught:
                    await stand.proxy.pipelines.run(wish, Heard())
                assert caught.value.kind is kind
                assert told in caught.value.message
            assert not any(server.counts["requests"] for server in stand.servers.values())

    uvloop.run(scene())


def stream(port: int, document: object) -> list[Any]:
    """The lines of a streamed run."""
    url = f"http://127.0.0.1:{port}/compute/v1/pipelines/execute/stream"
    request = urllib.request.Request(url, msgspec.json.encode(document), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return [msgspec.json.decode(line) for line in answer]


def call_grpc(port: int, request: compute_pb2.ExecutePipelineRequest) -> compute_pb2.ExecutePipelineResponse:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        ask = channel.unary_unary(
            "/compute.v1.ComputeService/ExecutePipeline",
            request_serializer=compute_pb2.ExecutePipelineRequest.SerializeToString,
            response_deserializer=compute_pb2.ExecutePipelineResponse.FromString,
        )
        answer: compute_pb2.ExecutePipelineResponse = ask(request, timeout=20)
    return answer


def test_every_way_in_runs_them(tmp_path: Path) -> None:
    async def scene() -> None:
        changes = sections(tmp_path, generate("a", "{{input.q}}"))
        async with devices(speed=SPEED, changes=changes, text=Pupils()) as stand:
            asked = {"pipelineId": "p", "input": {"q": "easy"}}
            status, _, answer = await stand.ask("/compute/v1/pipelines/execute", asked)
            assert status == 200, answer
            assert answer["success"] is True
            text = answer["finalOutput"]["output"]
            assert text.startswith("It is the answer")
            assert answer["totalEnergyWh"] > 0
            assert answer["stageResults"][0]["metadata"]["tokensOut"] == 7
            path = "/compute.v1.ComputeService/ExecutePipeline"
            status, _, answer = await stand.ask(path, asked, Content_Type="application/json")
            assert status == 200, answer
            assert answer["success"] is True
            status, _, answer = await stand.ask("/compute/v1/pipelines/execute", {"pipelineId": "x"})
            assert status == 404, answer
            lines = await asyncio.to_thread(stream, stand.proxy.http_port, asked)
            assert "".join(line["partialOutput"] for line in lines) == text
            assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
            assert lines[-2]["stageResult"]["output"] == text
            assert lines[-1]["finalResult"]["finalOutput"] == {"output": text}
            request = compute_pb2.ExecutePipelineRequest(pipeline_id="p", input={"q": "easy"})
            request.annotations.target = "igpu"
            found = await asyncio.to_thread(call_grpc, stand.proxy.grpc_port, request)
            assert found.final_output["output"] == text
            assert found.stage_results[0].backend == "igpu"
            with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
                await asyncio.to_thread(
                    call_grpc, stand.proxy.grpc_port, compute_pb2.ExecutePipelineRequest(pipeline_id="x")
                )

    uvloop.run(scene())


def test_without_any_that_is_said() -> None:
    async def scene() -> None:
        async with devices(speed=SPEED, specs={"npu": DEVICES["npu"]}) as stand:
            status, _, answer = await stand.ask("/compute/v1/pipelines/execute", {"pipelineId": "p"})
            assert status == 404
            assert "pipelines.config_file" in answer["message"]
            status, _, answer = await stand.ask("/compute/v1/pipelines/execute", {})
            assert status == 400
            assert "pipeline_id" in answer["message"]
            asked = {"pipelineId": "p", "options": {"stageTimeoutMs": -1}}
            status, _, answer = await stand.ask("/compute/v1/pipelines/execute", asked)
            assert "stage_timeout_ms is -1" in answer["message"]

    assert Config().pipelines.enabled is False
    uvloop.run(scene())
