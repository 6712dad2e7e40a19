"""Results in the order of a model that reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

MODEL = "qwen2.5:0.5b"


def rank(request: Request) -> Response:
    """By how often a text says "bread", as values in front of the logistic function."""
    asked = json.loads(request.get_data())
    results = [
        {"index": place, "relevance_score": 4.0 * text.count("bread") - 6.0}
        for place, text in enumerate(asked["documents"])
    ]
    return Response(json.dumps({"results": results[::-1]}), content_type="application/json")


@pytest.fixture
def client(lab: LabProcess, work: Path, httpserver: HTTPServer) -> Iterator[openai.OpenAI]:
    httpserver.expect_request("/v1/models").respond_with_json({"data": [{"id": "ranker", "object": "model"}]})
    httpserver.expect_request("/v1/rerank").respond_with_handler(rank)
    backends = [
        {"id": "gpu", "type": "ollama", "endpoint": lab.url("nvidia")},
        {"id": "ranker", "type": "openai", "endpoint": httpserver.url_for(""), "capabilities": ["rerank"]},
    ]
    vectors = {"embedding_model": MODEL, "rerank_model": "ranker"}
    changes = {"backends": backends, "routing": {"default_backend": ""}, "vectors": vectors}
    with (
        ProxyProcess(work, endpoints=lab.endpoints, changes=changes) as proxy,
        openai.OpenAI(base_url=proxy.url + "/v1", api_key="none", max_retries=0) as opened,
    ):
        yield opened


def test_a_model_puts_results_in_order_unless_it_is_away(client: openai.OpenAI, httpserver: HTTPServer) -> None:
    store = client.vector_stores.create().id
    texts = {"one.txt": "wine and bread", "two.txt": "bread bread bread", "none.txt": "wine wine wine"}
    for name, text in texts.items():
        file = client.files.create(file=(name, text.encode()), purpose="assistants")
        client.vector_stores.files.create_and_poll(file.id, vector_store_id=store, poll_interval_ms=50)
    found = client.vector_stores.search(store, query="wine").data
    assert [one.filename for one in found] == ["two.txt", "one.txt", "none.txt"]
    assert found[0].score > 0.99
    sure = client.vector_stores.search(store, query="wine", ranking_options={"score_threshold": 0.5}).data
    assert [one.filename for one in sure] == ["two.txt"]
    plain = client.vector_stores.search(store, query="wine", ranking_options={"ranker": "none"}).data
    assert plain[-1].filename == "two.txt"
    httpserver.clear()
    httpserver.expect_request("/v1/rerank").respond_with_data("no", status=500)
    away = client.vector_stores.search(store, query="wine").data
    assert [one.filename for one in away] == [one.filename for one in plain]
