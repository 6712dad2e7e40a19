"""`retrieve`: passages of a store in front of the question, on every way in, and their places in the metadata."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest

from ollama_proxy.api.gen.compute.v1 import compute_pb2
from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

CHAT, MODEL = "qwen2.5:0.5b", "qwen2.5:0.5b"
QUESTION = "What did the river do in spring?"
PLACES = re.compile(r"file-[0-9a-f]+:\d+-\d+(,file-[0-9a-f]+:\d+-\d+)*")


@pytest.fixture(scope="module")
def proxy(lab: LabProcess, work: Path) -> Iterator[ProxyProcess]:
    with ProxyProcess(work, endpoints=lab.endpoints, changes={"vectors": {"embedding_model": MODEL}}) as process:
        with openai.OpenAI(base_url=process.url + "/v1", api_key="none") as client:
            fill(client)
        yield process


def fill(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="notes").id
    for name, text in (("river.txt", "The river rose in spring. " * 9), ("piano.txt", "A piano in a room.")):
        file = client.files.create(file=(name, text.encode()), purpose="assistants")
        client.vector_stores.files.create_and_poll(file.id, vector_store_id=store, poll_interval_ms=50)


def post(proxy: ProxyProcess, path: str, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, str, str]:
    """Status, `X-Retrieved` and body."""
    sent = {"content-type": "application/json", "anthropic-version": "2023-06-01", **headers}
    request = urllib.request.Request(proxy.url + path, json.dumps(body).encode(), sent)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers.get("x-retrieved", ""), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("x-retrieved", ""), error.read().decode()


USER = [{"role": "user", "content": QUESTION}]
WAYS: dict[str, tuple[str, dict[str, Any], Callable[[dict[str, Any]], int]]] = {
    "chat": ("/api/chat", {"messages": USER, "stream": False}, lambda got: got["prompt_eval_count"]),
    "generate": ("/api/generate", {"prompt": QUESTION, "stream": False}, lambda got: got["prompt_eval_count"]),
    "openai": ("/v1/chat/completions", {"messages": USER}, lambda got: got["usage"]["prompt_tokens"]),
    "completions": ("/v1/completions", {"prompt": QUESTION}, lambda got: got["usage"]["prompt_tokens"]),
    "responses": ("/v1/responses", {"input": QUESTION}, lambda got: got["usage"]["input_tokens"]),
    "anthropic": ("/v1/messages", {"messages": USER, "max_tokens": 8}, lambda got: got["usage"]["input_tokens"]),
    "gateway": ("/compute/v1/generate", {"prompt": QUESTION}, lambda got: 0),
}


@pytest.mark.parametrize("way", WAYS)
def test_passages_are_read_by_the_model_and_named_in_the_metadata(proxy: ProxyProcess, way: str) -> None:
    path, body, count = WAYS[way]
    body = {"model": CHAT, **body}
    status, places, plain = post(proxy, path, body, {})
    assert (status, places) == (200, ""), plain
    status, places, text = post(proxy, path, body, {"X-Retrieve": "notes", "X-Retrieve-Most": "1"})
    assert status == 200, text
    assert PLACES.fullmatch(places)
    assert "," not in places
    if way != "gateway":
        assert count(json.loads(text)) > count(json.loads(plain)) + 20
    status, places, text = post(proxy, path, body, {"X-Retrieve": "elsewhere"})
    assert (status, places) == (404, "")
    assert "elsewhere" in text


def test_streams_and_bodies_take_it_too(proxy: ProxyProcess) -> None:
    with (
        openai.OpenAI(base_url=proxy.url + "/v1", api_key="none") as client,
        client.chat.completions.with_streaming_response.create(
            model=CHAT,
            messages=USER,  # type: ignore[arg-type]
            stream=True,
            max_tokens=8,
            extra_body={"routing": {"retrieve": "notes"}},
        ) as answer,
    ):
        assert len(answer.headers["x-retrieved"].split(",")) > 1
        assert "data: [DONE]" in list(answer.iter_lines())


def test_grpc_has_it_as_an_annotation(proxy: ProxyProcess) -> None:
    asked = compute_pb2.GenerateRequest(
        model=CHAT,
        prompt=QUESTION,
        annotations=compute_pb2.JobAnnotations(custom={"retrieve": "notes", "retrieve_most": "2"}),
    )
    with grpc.insecure_channel(proxy.grpc) as channel:
        call = channel.unary_unary(
            "/compute.v1.ComputeService/Generate",
            request_serializer=compute_pb2.GenerateRequest.SerializeToString,
            response_deserializer=compute_pb2.GenerateResponse.FromString,
        )
        answer, state = call.with_call(asked, timeout=30)
        assert answer.response
        told = dict((*state.initial_metadata(), *state.trailing_metadata()))
        assert PLACES.fullmatch(told["x-retrieved"])
        asked.annotations.custom["retrieve"] = "elsewhere"
        with pytest.raises(grpc.RpcError) as caught:
            call(asked, timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]


def test_what_cannot_be_done_is_said(proxy: ProxyProcess) -> None:
    headers = {"X-Retrieve": "notes"}
    assert post(proxy, "/api/generate", {"model": CHAT, "prompt": " "}, headers)[0] == 400
    assert post(proxy, "/api/chat", {"model": CHAT, "messages": USER}, {**headers, "X-Retrieve-Most": "0"})[0] == 400
    many = ",".join(f"s{one}" for one in range(9))
    assert post(proxy, "/api/chat", {"model": CHAT, "messages": USER}, {"X-Retrieve": many})[0] == 400
