"""A proxy that is killed while it reads files into a store, again and again: nothing is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import openai
import pytest

from ollama_proxy.vectors.stores.embedded import EmbeddedIndex
from tests.support.lab import LabProcess
from tests.support.processes import wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

MODEL = "qwen2.5:0.5b"
FILES, PARAGRAPHS = 3, 24


def write(file: int) -> str:
    paragraphs = [f"Paragraph mark{file}x{one} of file {file} says something." for one in range(PARAGRAPHS)]
    return "\n\n".join(paragraphs)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
def test_nothing_is_lost_and_nothing_doubled(lab: LabProcess, work: Path, tmp_path: Path, kills: int) -> None:
    settings = {
        "embedding_model": MODEL,
        "folder": str(tmp_path / "vectors"),
        "chunk_tokens": 16,
        "chunk_overlap_tokens": 4,
        "ingest": {"batch": 4},
    }
    proxy = ProxyProcess(work, endpoints=lab.endpoints, changes={"vectors": settings})
    client = openai.OpenAI(base_url=proxy.url + "/v1", api_key="none", max_retries=5)
    dice = random.Random(1)
    proxy.start()
    try:
        store = client.vector_stores.create().id
        names = [f"{file}.txt" for file in range(FILES)]
        files = [
            client.files.create(file=(name, write(place).encode()), purpose="assistants").id
            for place, name in enumerate(names)
        ]
        client.vector_stores.file_batches.create(store, file_ids=files)
        for kill in range(kills):
            wanted = FILES * PARAGRAPHS * (kill + dice.random()) / (kills + 1)
            wait_until(lambda: embedded(client, store) >= wanted, "some progress")  # noqa: B023  # it is over at once
            proxy.child.kill_group()
            proxy.start()
            # What is found now is all of a file or nothing of it.
            found = client.vector_stores.search(store, query="paragraph says something", max_num_results=50).data
            done = client.vector_stores.files.list(store, filter="completed").data
            assert {one.file_id for one in found} <= {one.id for one in done}
        wait_until(lambda: client.vector_stores.retrieve(store).file_counts.completed == FILES, "the end")
        passages = 0
        for place, file in enumerate(files):
            progress = client.vector_stores.files.retrieve(file, vector_store_id=store).to_dict()["progress"]
            assert progress["passages"] == progress["embedded"]  # type: ignore[index]
            passages += progress["passages"]  # type: ignore[index]
            text = "".join(part.text or "" for part in client.vector_stores.files.content(file, vector_store_id=store))
            assert text.split() == write(place).split()
        marks = [f"mark{dice.randrange(FILES)}x{dice.randrange(PARAGRAPHS)}" for _ in range(10)]
        for mark in marks:
            words = {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}
            found = client.vector_stores.search(store, query=mark, ranking_options=words).data  # type: ignore[arg-type]
            texts = [one.content[0].text for one in found]
            assert texts
            assert len(texts) == len(set(texts))
    finally:
        client.close()
        assert proxy.stop() == 0
    assert asyncio.run(count(tmp_path / "vectors" / "vectors.sqlite", store)) == passages


def embedded(client: openai.OpenAI, store: str) -> int:
    """How many passages have their vectors by now."""
    with contextlib.suppress(openai.APIConnectionError):
        files = client.vector_stores.files.list(store).data
        return sum(int(one.to_dict()["progress"]["embedded"]) for one in files)  # type: ignore[index, call-overload, misc]
    return 0


async def count(path: Path, store: str) -> int:
    index = EmbeddedIndex(path, 0)
    found = await index.count(store)
    await index.close()
    return found
