"""The official `openai` client on a real Postgres with pgvector behind the proxy."""

from __future__ import annotations

import json
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.lab import LabProcess
from tests.support.postgres import RealPostgres
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

MODEL = "qwen2.5:0.5b"


@pytest.fixture(scope="module")
def postgres() -> Iterator[RealPostgres]:
    with tempfile.TemporaryDirectory(prefix="pg") as folder, RealPostgres(Path(folder) / "d") as server:
        yield server


@pytest.fixture(scope="module")
def proxy(lab: LabProcess, work: Path, postgres: RealPostgres) -> Iterator[ProxyProcess]:
    backends = [
        {"id": "gpu", "type": "ollama", "hardware": "nvidia", "endpoint": lab.url("nvidia")},
        {"id": "pg", "type": "vectordb", "name": "Passages", "endpoint": postgres.address},
    ]
    changes = {"backends": backends, "routing": {"default_backend": ""}, "vectors": {"embedding_model": MODEL}}
    with ProxyProcess(work, endpoints=lab.endpoints, changes=changes) as process:
        yield process


@pytest.fixture
def client(proxy: ProxyProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=proxy.url + "/v1", api_key="none", max_retries=0) as opened:
        yield opened


def test_the_client_works_unchanged(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="notes")
    assert store.to_dict()["backend"] == "pg"
    texts = {
        "river.txt": "The river rose in spring.",
        "piano.txt": "A piano in a room.",
        "clock.md": "# Clock\n\nTick.",
    }
    files = [client.files.create(file=(name, text.encode()), purpose="assistants") for name, text in texts.items()]
    batch = client.vector_stores.file_batches.create_and_poll(
        store.id,
        files=[{"file_id": one.id, "attributes": {"name": one.filename}} for one in files],
        poll_interval_ms=50,
    )
    assert batch.file_counts.completed == 3
    found = client.vector_stores.search(store.id, query="spring river").data
    assert next(one.filename for one in found) == "river.txt"
    assert len(found) == 3
    rest = client.vector_stores.search(
        store.id, query="spring river", filters={"type": "ne", "key": "name", "value": "river.txt"}
    ).data
    assert {one.filename for one in rest} == {"piano.txt", "clock.md"}
    client.vector_stores.files.delete(files[0].id, vector_store_id=store.id)
    assert {one.filename for one in client.vector_stores.search(store.id, query="river").data} == {
        "piano.txt",
        "clock.md",
    }
    assert client.vector_stores.delete(store.id).deleted


def test_it_is_listed_with_its_type_and_asked_for_no_answer(proxy: ProxyProcess, client: openai.OpenAI) -> None:
    with urllib.request.urlopen(proxy.url + "/compute/v1/backends?typeFilter=vectordb", timeout=30) as answer:
        [listed] = json.load(answer)["backends"]
    assert (listed["id"], listed["type"]) == ("pg", "vectordb")
    assert "pg: healthy" in proxy.health()
    answer = client.chat.completions.with_raw_response.create(
        model="qwen2.5:0.5b", messages=[{"role": "user", "content": "hi"}], max_tokens=4
    )
    assert answer.headers["x-backend-used"] == "gpu"
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(
            model="qwen2.5:0.5b",
            messages=[{"role": "user", "content": "hi"}],
            extra_headers={"X-Target-Backend": "pg"},
        )
    assert caught.value.status_code == 400
