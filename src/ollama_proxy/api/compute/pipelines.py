"""`ExecutePipeline` and its stream: the messages of `compute.v1` for runs of pipelines."""

from __future__ import annotations

import asyncio
import math

from ollama_proxy.api.compute.answers import as_int32, fail_call
from ollama_proxy.api.compute.metadata import encode_request_id
from ollama_proxy.api.compute.requests import HeadFacts, read_annotations
from ollama_proxy.api.gen.compute.v1 import compute_pb2
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.pipelines import Pipelines, PipelineWish, RunReport, StageReport
from ollama_proxy.net.grpc.call import GrpcCall
from ollama_proxy.net.task import spawn

_J_PER_WH = 3600.0


def read_wish(
    request: compute_pb2.ExecutePipelineRequest, facts: HeadFacts, request_id: str, caller: Caller
) -> PipelineWish:
    """A run as it is asked for. Raises `ProxyError`."""
    options = request.options
    if not request.pipeline_id:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "pipeline_id must not be empty")
    if options.stage_timeout_ms < 0:
        told = f"options.stage_timeout_ms is {options.stage_timeout_ms}; expected 0 or more"
        raise ProxyError(ErrorKind.INVALID_REQUEST, told)
    wishes = request.annotations if request.HasField("annotations") else None
    return PipelineWish(
        request.pipeline_id,
        dict(request.input),
        request_id,
        caller,
        read_annotations(wishes, facts),
        options.preserve_context,
        options.continue_on_error,
        options.stage_timeout_ms / 1000,
    )


class PipelineAnswer:
    """One run and the call that waits for it; in a stream each stage is told as it goes."""

    def __init__(self, call: GrpcCall, request_id: str, *, stream: bool) -> None:
        self._call = call
        self._request_id = request_id
        self._stream = stream
        self._begun = False

    def start(self, pipelines: Pipelines, wish: PipelineWish) -> None:
        """Begin; who leaves ends it."""
        run = spawn(self._run(pipelines, wish), f"pipeline {wish.pipeline[:64]}")

        def leave() -> None:
            run.cancel()

        self._call.on_cancel = leave

    async def _run(self, pipelines: Pipelines, wish: PipelineWish) -> None:
        call = self._call
        try:
            report = await pipelines.run(wish, self._tell)
        except ProxyError as error:
            fail_call(call, error, self._request_id)
            return
        except asyncio.CancelledError:
            raise
        except BaseException:
            fail_call(call, ProxyError(ErrorKind.INTERNAL, "internal error"), self._request_id)
            raise
        answer, metadata = write_run(report), encode_request_id(self._request_id)
        if self._stream:
            self._send(compute_pb2.PipelineStreamResponse(done=True, final_result=answer))
            call.finish(trailers=metadata)
        else:
            call.respond(answer.SerializeToString(), metadata, metadata)

    def _tell(self, stage: str, what: str | StageReport) -> None:
        if not self._stream or self._call.finished or self._call.cancelled:
            return
        message = compute_pb2.PipelineStreamResponse(stage_id=stage)
        if isinstance(what, StageReport):
            message.stage_result.CopyFrom(write_stage(what))
        else:
            message.partial_output = what
        self._send(message)

    def _send(self, message: compute_pb2.PipelineStreamResponse) -> None:
        if not self._begun:
            self._begun = True
            self._call.send_initial_metadata(encode_request_id(self._request_id))
        self._call.send_message(message.SerializeToString())


def write_run(report: RunReport) -> compute_pb2.ExecutePipelineResponse:
    """A run that is over; energy is left at zero, proto3's "absent", when it is not known."""
    return compute_pb2.ExecutePipelineResponse(
        pipeline_id=report.pipeline,
        success=not report.error,
        final_output=report.outputs,
        stage_results=[write_stage(stage) for stage in report.stages],
        total_time_ms=as_int32(report.seconds * 1000),
        total_energy_wh=(report.joules or 0.0) / _J_PER_WH,
        error=report.error,
    )


def write_stage(stage: StageReport) -> compute_pb2.StageResult:
    """A stage that is over."""
    metadata = compute_pb2.StageMetadata(
        start_time_unix=math.floor(stage.began_unix_s),
        end_time_unix=math.floor(stage.began_unix_s + stage.seconds),
        duration_ms=round(stage.seconds * 1000),
        model=stage.model,
        tokens_in=as_int32(stage.tokens_in),
        tokens_out=as_int32(stage.tokens_out),
        forwarded=bool(stage.moved),
        forward_reason=stage.moved,
        attempt_count=as_int32(stage.attempts),
    )
    return compute_pb2.StageResult(
        stage_id=stage.stage,
        backend=stage.backend,
        success=not stage.error,
        output=stage.output,
        metadata=metadata,
        error=stage.error,
    )
