"""Runs of pipelines as `compute.v1` tells them: whole, stage by stage, failed, refused, and left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from ollama_proxy.api.compute.methods import SERVICE, ComputeApi
from ollama_proxy.api.gen.compute.v1 import compute_pb2 as pb
from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.pipelines import PipelineWish, RunReport, StageReport, Told
from tests.support.http1 import until
from tests.unit.api.test_compute_methods import Desk, RecordedCall

STAGE = StageReport("a", "out", "", "npu", "m:1", 1000.9, 1.5, 3, 4, 7.2, "measured", 2, "a reason")
FAILED = StageReport("b", "", "took too long", "", "", 1002.4, 0.5, 0, 0, 0.0, "unknown", 0)


class Scripted:
    """Pipelines whose run is the test's to write."""

    def __init__(self, run: Callable[[Told], RunReport] | None) -> None:
        self._run = run
        self.wish: PipelineWish | None = None
        self.left = False

    async def run(self, wish: PipelineWish, told: Told) -> RunReport:
        self.wish = wish
        if self._run is not None:
            return self._run(told)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.left = True
            raise
        raise AssertionError


async def send(pipelines: Scripted, method: str, request: pb.ExecutePipelineRequest) -> RecordedCall:
    call = RecordedCall([("x-request-id", "r1"), ("x-power-efficient", "yes")])
    ComputeApi(Desk(), pipelines).methods()[f"/{SERVICE}/{method}"].handler(call, request.SerializeToString())  # type: ignore[arg-type]
    return call


def succeed(told: Told) -> RunReport:
    told("a", "ou")
    told("a", "t")
    told("a", STAGE)
    return RunReport("p", {"output": "out"}, (STAGE,), 1.6, 7.2, "")


def request(**fields: object) -> pb.ExecutePipelineRequest:
    return pb.ExecutePipelineRequest(pipeline_id="p", input={"q": "x"}, **fields)  # type: ignore[arg-type]


def test_a_whole_run() -> None:
    async def scene() -> None:
        pipelines = Scripted(succeed)
        options = pb.PipelineOptions(preserve_context=True, continue_on_error=True, stage_timeout_ms=1500)
        asked = request(options=options, annotations=pb.JobAnnotations(target="npu"))
        call = await send(pipelines, "ExecutePipeline", asked)
        await until(lambda: call.finished)
        (message,) = call.messages
        answer = pb.ExecutePipelineResponse.FromString(message)
        assert answer.success
        assert dict(answer.final_output) == {"output": "out"}
        assert (answer.total_time_ms, answer.error) == (1600, "")
        assert answer.total_energy_wh == pytest.approx(0.002)
        (stage,) = answer.stage_results
        assert (stage.stage_id, stage.backend, stage.output, stage.success) == ("a", "npu", "out", True)
        told = stage.metadata
        assert (told.start_time_unix, told.end_time_unix, told.duration_ms) == (1000, 1002, 1500)
        assert (told.model, told.tokens_in, told.tokens_out, told.attempt_count) == ("m:1", 3, 4, 2)
        assert (told.forwarded, told.forward_reason) == (True, "a reason")
        assert call.trailers["x-request-id"] == "r1"
        wish = pipelines.wish
        assert wish is not None
        assert wish.annotations == Annotations(target="npu", prefer_power_efficiency=True)
        assert (wish.preserve_context, wish.continue_on_error, wish.stage_timeout_s) == (True, True, 1.5)
        assert (dict(wish.inputs), wish.request_id) == ({"q": "x"}, "r1")

    uvloop.run(scene())


def test_a_stream_tells_pieces_stages_and_the_end() -> None:
    async def scene() -> None:
        call = await send(Scripted(succeed), "ExecutePipelineStream", request())
        await until(lambda: call.finished)
        messages = [pb.PipelineStreamResponse.FromString(one) for one in call.messages]
        assert [one.partial_output for one in messages] == ["ou", "t", "", ""]
        assert [one.done for one in messages] == [False, False, False, True]
        assert messages[2].stage_result.output == "out"
        assert messages[3].final_result.success
        assert (call.code, call.initial["x-request-id"]) == (0, "r1")

    uvloop.run(scene())


def test_a_run_that_failed_is_an_answer_and_unknown_energy_is_absent() -> None:
    def fail(told: Told) -> RunReport:
        return RunReport("p", {}, (STAGE, FAILED), 2.0, None, "stage b: took too long")

    async def scene() -> None:
        call = await send(Scripted(fail), "ExecutePipeline", request())
        await until(lambda: call.finished)
        answer = pb.ExecutePipelineResponse.FromString(call.messages[0])
        assert not answer.success
        assert answer.error == "stage b: took too long"
        assert answer.total_energy_wh == 0
        assert [one.success for one in answer.stage_results] == [True, False]

    uvloop.run(scene())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProxyError(ErrorKind.NOT_FOUND, "there is no pipeline"), 5),
        (ProxyError(ErrorKind.INVALID_REQUEST, "input"), 3),
        (RuntimeError("a fault of ours"), 13),
    ],
)
def test_what_is_refused_ends_with_its_code(error: Exception, code: int) -> None:
    def refuse(told: Told) -> RunReport:
        raise error

    async def scene() -> None:
        call = await send(Scripted(refuse), "ExecutePipeline", request())
        await until(lambda: call.finished)
        assert call.code == code
        assert "fault of ours" not in call.text

    uvloop.run(scene())


@pytest.mark.parametrize("method", ["ExecutePipeline", "ExecutePipelineStream"])
def test_a_client_that_leaves_ends_the_run(method: str) -> None:
    async def scene() -> None:
        pipelines = Scripted(None)
        call = await send(pipelines, method, request())
        await until(lambda: pipelines.wish is not None)
        call.cancelled = True
        assert call.on_cancel is not None
        call.on_cancel()
        await until(lambda: pipelines.left)
        assert not call.messages

    uvloop.run(scene())
