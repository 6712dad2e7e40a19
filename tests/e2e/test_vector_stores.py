"""The official `openai` client: files, vector stores and searches, through a proxy in front of emulated devices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.vector_stores import VectorStoreFile
from pytest_httpserver import HTTPServer

from tests.support.lab import LabProcess
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

#: Nobody in the lab has it: the built-in model of that name makes the vectors.
MODEL = "all-minilm:latest"
DISHES = {
    "bread.md": "# Bread\n\nFlour, water and salt. Knead the dough for ten minutes.",
    "soup.txt": "Soup: carrots, onions and a bay leaf. Simmer for an hour.",
    "cake.html": "<h1>Cake</h1><p>Butter, sugar, eggs &amp; flour. Bake until golden.</p>",
    "menu.csv": "dish,price\nBread,2\nSoup,5\nCake,4\n",
    "card.json": '{"dish": "Salad", "parts": ["tomato", "basil"]}',
}


@pytest.fixture(scope="module")
def proxy(lab: LabProcess, work: Path) -> Iterator[ProxyProcess]:
    with ProxyProcess(work, endpoints=lab.endpoints, changes={"vectors": {"embedding_model": MODEL}}) as process:
        yield process


@pytest.fixture(scope="module")
def client(proxy: ProxyProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=proxy.url + "/v1", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture(scope="module")
def kitchen(client: openai.OpenAI) -> str:
    """A store with all dishes in it."""
    store = client.vector_stores.create(name="kitchen", metadata={"of": "dishes"})
    for name, text in DISHES.items():
        file = client.files.create(file=(name, text.encode()), purpose="assistants")
        found = client.vector_stores.files.create_and_poll(
            file.id,
            vector_store_id=store.id,
            attributes={"kind": name.partition(".")[2], "length": len(text), "sweet": name == "cake.html"},
            poll_interval_ms=50,
        )
        assert found.status == "completed", found
    return store.id


def test_what_was_uploaded_is_there_until_it_is_deleted(client: openai.OpenAI) -> None:
    file = client.files.create(file=("a note.txt", b"Remember the milk."), purpose="user_data")
    assert (file.filename, file.bytes, file.purpose) == ("a note.txt", 18, "user_data")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == b"Remember the milk."
    assert file.id in [one.id for one in client.files.list(purpose="user_data")]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_a_store_counts_its_files_and_takes_other_names(client: openai.OpenAI, kitchen: str) -> None:
    store = client.vector_stores.retrieve(kitchen)
    assert (store.name, store.status, store.file_counts.completed) == ("kitchen", "completed", len(DISHES))
    assert store.usage_bytes > 100
    changed = client.vector_stores.update(kitchen, metadata={"of": "food"}, expires_after=_days(3))
    assert changed.metadata == {"of": "food"}
    assert changed.expires_at == (changed.last_active_at or 0) + 3 * 86400
    assert kitchen in [one.id for one in client.vector_stores.list(limit=2)]


def _days(days: int) -> Any:
    return {"anchor": "last_active_at", "days": days}


def test_searches_find_words_and_obey_filters(client: openai.OpenAI, kitchen: str) -> None:
    found = client.vector_stores.search(kitchen, query="carrots and onions").data
    assert found[0].filename == "soup.txt"
    assert "bay leaf" in found[0].content[0].text
    assert [one.score for one in found] == sorted([one.score for one in found], reverse=True)
    sweet = client.vector_stores.search(
        kitchen,
        query=["flour", "butter"],
        filters={"type": "and", "filters": [_is("eq", "sweet", True), _is("gt", "length", 10)]},
        max_num_results=5,
    ).data
    assert [one.filename for one in sweet] == ["cake.html"]
    assert sweet[0].attributes == {"kind": "html", "length": len(DISHES["cake.html"]), "sweet": True}
    short = client.vector_stores.search(kitchen, query="bread", filters=_is("in", "kind", ["csv", "json"])).data
    assert {one.filename for one in short} == {"menu.csv", "card.json"}


def _is(kind: str, key: str, value: Any) -> Any:
    return {"type": kind, "key": key, "value": value}


def test_texts_are_read_of_every_kind(client: openai.OpenAI, kitchen: str) -> None:
    texts = {
        one.id: "".join(part.text or "" for part in client.vector_stores.files.content(one.id, vector_store_id=kitchen))
        for one in client.vector_stores.files.list(kitchen, limit=50)
    }
    names = {one.id: one.filename for one in client.files.list()}
    read = {names[ident]: text for ident, text in texts.items()}
    assert read["cake.html"] == "Cake\n\nButter, sugar, eggs & flour. Bake until golden."
    assert "dish: Soup, price: 5" in read["menu.csv"]
    assert "parts[1]: basil" in read["card.json"]


def test_a_batch_reads_what_it_can_and_tells_the_rest(client: openai.OpenAI) -> None:
    store = client.vector_stores.create(name="mixed")
    texts = {"good.txt": b"A good text.", "empty.txt": b"\n", "not.pdf": b"really not", "zeros.txt": b"a\0b"}
    files = [client.files.create(file=(name, text), purpose="assistants").id for name, text in texts.items()]
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=files, poll_interval_ms=50)
    assert (batch.file_counts.completed, batch.file_counts.failed) == (1, 3)
    listed: list[VectorStoreFile] = list(
        client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed")
    )
    assert {one.last_error.code for one in listed if one.last_error} == {"invalid_file", "unsupported_file"}
    assert [one.filename for one in client.vector_stores.search(store.id, query="text").data] == ["good.txt"]
    client.vector_stores.files.delete(files[0], vector_store_id=store.id)
    assert client.vector_stores.search(store.id, query="text").data == []
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.search(store.id, query="text")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"query": ""}, "query"),
        ({"query": "x", "max_num_results": 51}, "max_num_results"),
        ({"query": "x", "filters": {"type": "is", "key": "a", "value": 1}}, "filters.type"),
        ({"query": "x", "filters": {"type": "gt", "key": "a", "value": True}}, "filters.value"),
    ],
)
def test_bad_searches_are_told_where_they_are_wrong(
    client: openai.OpenAI, kitchen: str, body: dict[str, Any], told: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.post(f"/vector_stores/{kitchen}/search", body=body, cast_to=object)
    assert told in caught.value.message


@pytest.mark.parametrize("path", ["/vector_stores", "/files", "/files/file-1"])
def test_a_method_that_a_path_has_not_is_told_in_the_form_of_the_api(client: openai.OpenAI, path: str) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.put(path, cast_to=object)
    assert caught.value.status_code == 405
    assert caught.value.type == "invalid_request_error"
    assert "GET" in caught.value.response.headers["allow"]


def test_a_file_that_is_too_large_is_not_taken(work: Path, lab: LabProcess) -> None:
    with ProxyProcess(work, endpoints=lab.endpoints, changes={"vectors": {"max_file_mb": 0.01}}) as small:
        with (
            openai.OpenAI(base_url=small.url + "/v1", api_key="none", max_retries=0) as client,
            pytest.raises(openai.APIStatusError) as caught,
        ):
            client.files.create(file=("big.txt", b"x" * 200_000), purpose="assistants")
        assert caught.value.status_code == 413
        assert "10000 bytes are allowed" in caught.value.message


CHAT = "qwen2.5:0.5b"
QUESTION = "For how many minutes is dough kneaded?"


def _tool(store: str, **more: Any) -> Any:
    return {"type": "file_search", "vector_store_ids": [store], "max_num_results": 2, **more}


def test_responses_tell_what_was_found_and_cite_it(client: openai.OpenAI, kitchen: str) -> None:
    plain = client.responses.create(model=CHAT, input=QUESTION, max_output_tokens=8)
    answer = client.responses.create(
        model=CHAT,
        input=QUESTION,
        max_output_tokens=8,
        tools=[_tool(kitchen)],
        include=["file_search_call.results"],
    )
    search, message = answer.output[0], answer.output[1]
    assert search.type == "file_search_call"
    assert (search.status, search.queries) == ("completed", [QUESTION])
    assert next(one.filename for one in search.results or ()) == "bread.md"
    assert "ten minutes" in (search.results or [])[0].text
    assert message.type == "message"
    cited = message.content[0].annotations  # type: ignore[union-attr]
    assert {one.filename for one in cited} == {one.filename for one in search.results or ()}  # type: ignore[union-attr]
    assert answer.tools[0].type == "file_search"
    # The passages were read by the model, too.
    assert answer.usage
    assert plain.usage
    assert answer.usage.input_tokens > plain.usage.input_tokens + 40


def test_a_stream_has_the_events_of_the_search_and_goes_on_later(client: openai.OpenAI, kitchen: str) -> None:
    with client.responses.stream(
        model=CHAT, input=QUESTION, max_output_tokens=8, tools=[_tool(kitchen)], store=True
    ) as stream:
        events = list(stream)
    kinds, final = [event.type for event in events], events[-1].response  # type: ignore[union-attr]
    searched = [kind for kind in kinds if "file_search" in kind]
    assert searched == [f"response.file_search_call.{word}" for word in ("in_progress", "searching", "completed")]
    assert kinds.index("response.file_search_call.completed") < kinds.index("response.output_text.delta")
    assert "response.output_text.annotation.added" in kinds
    assert final.output[0].type == "file_search_call"
    assert final.output[0].results is None
    second = client.responses.create(
        model=CHAT, input="And cake?", previous_response_id=final.id, max_output_tokens=8, tools=[_tool(kitchen)]
    )
    assert second.output[0].type == "file_search_call"
    assert second.output[0].queries == ["And cake?"]
    third = client.responses.create(model=CHAT, input="Thanks.", previous_response_id=second.id, max_output_tokens=8)
    assert third.output_text


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_with_its_search_and_citations_is_read_again(
    client: openai.OpenAI, kitchen: str, stream: bool
) -> None:
    asked: Any = {"model": CHAT, "input": QUESTION, "max_output_tokens": 8, "tools": [_tool(kitchen)]}
    if stream:
        with client.responses.create(**asked, stream=True) as events:
            answer = list(events)[-1].response  # type: ignore[union-attr]
    else:
        answer = client.responses.create(**asked)
    kept = client.responses.retrieve(answer.id)
    assert [item.type for item in kept.output] == ["file_search_call", "message"]
    assert [item.model_dump() for item in kept.output] == [item.model_dump() for item in answer.output]
    assert kept.output[1].content[0].annotations  # type: ignore[union-attr]
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_a_search_in_a_store_that_is_not_there_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="vs_none"):
        client.responses.create(model=CHAT, input=QUESTION, tools=[_tool("vs_none")])
    with pytest.raises(openai.BadRequestError, match="vector_store_ids"):
        client.responses.create(model=CHAT, input=QUESTION, tools=[{"type": "file_search"}])  # type: ignore[list-item, typeddict-item]


def test_a_store_that_is_not_here_may_be_with_a_server_of_this_api(
    work: Path, lab: LabProcess, httpserver: HTTPServer
) -> None:
    whole = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": "cloud",
        "output": [],
    }
    httpserver.expect_request("/v1/models").respond_with_json({"data": [{"id": "cloud", "object": "model"}]})
    httpserver.expect_request("/v1/responses").respond_with_json(whole)
    cloud = {"id": "cloud", "type": "openai", "endpoint": httpserver.url_for(""), "apis": ["responses"]}
    changes = {"backends": [cloud], "routing": {"default_backend": ""}}
    with (
        ProxyProcess(work, endpoints=lab.endpoints, changes=changes) as proxy,
        openai.OpenAI(base_url=proxy.url + "/v1", api_key="none", max_retries=0) as client,
    ):
        assert client.responses.create(model="cloud", input=QUESTION, tools=[_tool("vs_theirs")]).id == "resp_1"
    [(sent, _)] = [one for one in httpserver.log if one[0].path == "/v1/responses"]
    assert sent.get_json()["tools"][0]["vector_store_ids"] == ["vs_theirs"]
