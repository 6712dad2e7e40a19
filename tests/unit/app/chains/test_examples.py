"""The shipped examples of pipelines, run over emulated devices."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import uvloop
import yaml

from ollama_proxy.config.schema import Backend, Characteristics, Pipelines
from ollama_proxy.config.sections.vectors import VectorStores
from ollama_proxy.domain.caller import ANYBODY
from ollama_proxy.domain.library import Page, Wanted
from ollama_proxy.domain.pipelines import PipelineWish, RunReport
from ollama_proxy.lab.device import LARGE, SMALL
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.server import HttpServer
from tests.support.devices import Stand, devices
from tests.support.http1 import refuse
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


TEXTS = {
    "holidays.txt": "Every employee has thirty days of holiday a year.",
    "cars.txt": "The company's cars are washed on Fridays.",
    "coffee.txt": "Coffee is free; the machine is cleaned daily.",
}


async def fill_handbook(stand: Stand) -> None:
    """A store of three files, read to the end."""
    library = stand.proxy.vectors.library
    assert library is not None
    store = await library.add_store(ANYBODY, {"name": "handbook"})
    for name, text in TEXTS.items():
        file = await library.add_file(ANYBODY, name, "assistants", text.encode(), None)
        await library.attach(ANYBODY, store.id, [Wanted(file.id)], batch=False)
    async with asyncio.timeout(20):
        while True:
            found, _ = await library.attachments(ANYBODY, store.id, "", "", Page())
            assert not any(one.status == "failed" for one in found), found
            if len(found) == 3 and all(one.status == "completed" for one in found):
                return
            await asyncio.sleep(0.01)


def test_handbook(tmp_path: Path) -> None:
    async def scene() -> None:
        kept = {"vectors": VectorStores(folder=str(tmp_path), embedding_model=SMALL)}
        async with devices(speed=50, changes=sections("handbook") | kept, text=Pupils()) as stand:
            await fill_handbook(stand)
            report = await run(stand, "ask-the-handbook", question="How many days of holiday are there, easy?")
            assert report.error == ""
            assert report.outputs["sources"].startswith("[1] ")
            assert TEXTS["holidays.txt"] in report.outputs["sources"]
            assert report.outputs["answer"].startswith("It is the answer")
            assert [stage.stage for stage in report.stages] == ["passages", "found", "answer"]
            assert report.joules
            # What is asked of the model has the passages in it.
            assert report.stages[2].tokens_in > sum(map(len, TEXTS.values())) // 4

    uvloop.run(scene())


def rank(exchange: Exchange) -> None:
    """A server that reranks: the passage with most letters `h` is the best."""
    if exchange.method == b"GET":
        exchange.respond(200, b"application/json", b'{"data": [{"id": "ranker"}]}')
        return
    asked = msgspec.json.decode(exchange.body)
    scores = [text.count("h") for text in asked["documents"]]
    results = [{"index": place, "relevance_score": score} for place, score in enumerate(scores)]
    answer = msgspec.json.encode({"results": results})
    # Not at once: the loop's clock counts milliseconds, and what takes none takes no joules.
    asyncio.get_running_loop().call_later(0.02, exchange.respond, 200, b"application/json", answer)


def test_passages_are_reranked_by_a_server_that_can(tmp_path: Path) -> None:
    stages = [
        {"id": "found", "type": "retrieve", "store": "handbook", "query": "{{input.q}}", "most": 3},
        {"id": "best", "type": "rerank", "of": "found", "query": "{{input.q}}", "model": "ranker", "most": 1},
    ]
    path = tmp_path / "rerank.yaml"
    path.write_text(yaml.safe_dump({"pipelines": [{"id": "p", "inputs": ["q"], "stages": stages}]}))

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(HttpServer(rank, refuse).protocol_factory, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ranker = Backend(
            id="ranker",
            type="openai",
            endpoint=f"http://127.0.0.1:{port}",
            capabilities=("rerank",),
            characteristics=Characteristics(power_watts=5),
        )
        changes = {
            "pipelines": Pipelines(enabled=True, config_file=str(path)),
            "vectors": VectorStores(folder=str(tmp_path / "kept"), embedding_model=SMALL),
        }
        try:
            async with devices(speed=50, changes=changes, more=(ranker,)) as stand:
                await fill_handbook(stand)
                report = await run(stand, "p", q="the company's machine")
                assert report.error == ""
                best = max(TEXTS.values(), key=lambda text: text.count("h"))
                assert report.outputs["output"].endswith(best)
                assert report.stages[1].backend == "ranker"
                # Nobody measures what is passed on as it came: watts and seconds are known.
                stage = report.stages[1]
                assert stage.joules is not None
                assert 0 < stage.joules <= 5 * stage.seconds
                assert report.joules is not None
                assert report.joules >= stage.joules
                nothing = await run(stand, "p", q="")
                assert "empty" in nothing.error
        finally:
            server.close()

    uvloop.run(scene())
