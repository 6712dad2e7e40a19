"""Named chains of stages, as an API asks for them and is told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from .annotations import NO_ANNOTATIONS, Annotations
from .caller import ANYBODY, Caller


class PipelineWish(msgspec.Struct, frozen=True):
    """One run: which pipeline, its named inputs, for whom. `annotations` hold for every stage; 0 seconds is no limit.

    `preserve_context` hands the texts of earlier stages to later ones; `continue_on_error` goes on behind a stage that
    failed, whose text is empty then.
    """

    pipeline: str
    inputs: Mapping[str, str]
    request_id: str
    caller: Caller = ANYBODY
    annotations: Annotations = NO_ANNOTATIONS
    preserve_context: bool = False
    continue_on_error: bool = False
    stage_timeout_s: float = 0.0


class StageReport(msgspec.Struct, frozen=True):
    """A stage that is over. Joules are those of all its attempts, None where one is not known; `error` is "" if it went
    well. `moved` says why another backend or model than the first answered."""

    stage: str
    output: str
    error: str
    backend: str
    model: str
    began_unix_s: float
    seconds: float
    tokens_in: int
    tokens_out: int
    joules: float | None
    energy_kind: str
    attempts: int
    moved: str = ""


class RunReport(msgspec.Struct, frozen=True):
    """A run that is over: its named outputs, its stages in the order in which they ran, and what all took."""

    pipeline: str
    outputs: Mapping[str, str]
    stages: tuple[StageReport, ...]
    seconds: float
    joules: float | None
    error: str


#: Hears, while a run goes on, of the next piece of a stage's text, or of its end.
Told = Callable[[str, str | StageReport], None]


class Pipelines(Protocol):
    """Runs pipelines."""

    async def run(self, wish: PipelineWish, told: Told) -> RunReport:
        """Run to the end; cancelling the wait ends the stage that runs. A stage that fails is in the report.

        Raises `ProxyError`: `NOT_FOUND` for a pipeline that is not there, `INVALID_REQUEST` for wrong inputs.
        """
