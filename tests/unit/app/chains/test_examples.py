"""The shipped examples of pipelines, run over emulated devices."""

from __future__ import annotations

from typing import Any

import uvloop

from ollama_proxy.config.schema import Pipelines
from ollama_proxy.domain.pipelines import PipelineWish, RunReport
from ollama_proxy.lab.device import LARGE, SMALL
from tests.support.devices import Stand, devices
from tests.support.processes import ROOT
from tests.unit.app.chains.test_pipelines import Heard, Pupils

FOLDER = ROOT / "examples" / "pipelines"


def sections(name: str) -> dict[str, Any]:
    return {"pipelines": Pipelines(enabled=True, config_file=str(FOLDER / f"{name}.yaml"))}


async def run(stand: Stand, pipeline: str, **inputs: str) -> RunReport:
    assert stand.proxy.pipelines is not None
    return await stand.proxy.pipelines.run(PipelineWish(pipeline, inputs, "r1"), Heard())


def test_frugal() -> None:
    async def scene() -> None:
        async with devices(speed=50, changes=sections("frugal"), text=Pupils()) as stand:
            easy = await run(stand, "frugal-answer", question="an easy one")
            hard = await run(stand, "frugal-answer", question="a hard one")
            large = await run(stand, "always-large", question="a hard one")
            assert [report.error for report in (easy, hard, large)] == [""] * 3
            assert [report.stages[0].model for report in (easy, hard, large)] == [SMALL, LARGE, LARGE]
            assert easy.stages[0].backend == "npu"

    uvloop.run(scene())


def test_digest() -> None:
    async def scene() -> None:
        async with devices(speed=50, changes=sections("digest"), text=Pupils()) as stand:
            report = await run(stand, "digest", text="An easy text.")
            assert report.error == ""
            assert [stage.stage for stage in report.stages] == ["before", "summary", "long"]
            assert report.outputs == {"summary": report.stages[1].output, "title": ""}
            again = await run(stand, "digest", text="An easy text.")
            assert again.outputs == report.outputs
            assert again.joules == 0

    uvloop.run(scene())
