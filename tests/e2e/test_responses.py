"""The official `openai` client's Responses API against emulated devices, the embedded model and real Ollama servers."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from backports import zstd
from openai.types.responses import Response
from pydantic import BaseModel
from pytest_httpserver import HTTPServer

from tests.support.lab import LabProcess
from tests.support.ollama import RealOllama
from tests.support.processes import wait_until
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

TOOL: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


@dataclass
class Door:
    """A proxy, a model that is behind it, and the official client."""

    proxy: ProxyProcess
    model: str
    client: openai.OpenAI
    kind: str

    def ask(self, given: Any = "Say hello.", **more: Any) -> Response:
        return self.client.responses.create(
            **{"model": self.model, "input": given, "max_output_tokens": 12, "temperature": 0, **more}
        )


@pytest.fixture(scope="module")
def chat_proxy(lab: LabProcess, work: Path) -> Iterator[ProxyProcess]:
    """A proxy in front of a server of type openai that has chat completions only."""
    backend = {"id": "chat", "type": "openai", "hardware": "nvidia", "endpoint": lab.url("nvidia")}
    changes = {"backends": [backend], "routing": {"default_backend": ""}}
    with ProxyProcess(work, endpoints=lab.endpoints, changes=changes) as proxy:
        yield proxy


DOORS = {
    "lab": ("lab_proxy", "qwen2.5:0.5b"),
    "chat": ("chat_proxy", "qwen2.5:0.5b"),
    "embedded": ("embedded_proxy", "smollm2:135m"),
    "ollama": ("ollama_proxy_process", "qwen2.5:0.5b"),
}


@pytest.fixture(params=["lab", "chat", "embedded", pytest.param("ollama", marks=pytest.mark.ollama)])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    fixture, model = DOORS[request.param]
    with open_door(request.getfixturevalue(fixture), model, request.param) as opened:
        yield opened


@contextlib.contextmanager
def open_door(proxy: ProxyProcess, model: str, kind: str) -> Iterator[Door]:
    with openai.OpenAI(base_url=proxy.url + "/v1", api_key="unused", max_retries=0) as client:
        yield Door(proxy, model, client, kind)


def test_a_text_is_answered(door: Door) -> None:
    answer = door.ask(metadata={"a": "b"})
    assert answer.id.startswith("resp_")
    assert answer.object == "response"
    assert answer.model == door.model
    assert answer.output_text
    assert [item.type for item in answer.output] == ["message"]
    assert answer.usage is not None
    assert answer.usage.input_tokens > 0
    assert 0 < answer.usage.output_tokens <= 12
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.status in ("completed", "incomplete")
    if answer.status == "incomplete":
        assert answer.incomplete_details is not None
        assert answer.incomplete_details.reason == "max_output_tokens"


def test_items_and_instructions_are_understood(door: Door) -> None:
    items = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "My name is Ada."}]},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "Say hello."},
    ]
    longer = door.ask(items, instructions="Be brief.", max_output_tokens=3)
    shorter = door.ask("Say hello.", max_output_tokens=3)
    assert longer.instructions == "Be brief."
    assert longer.output_text
    assert longer.usage is not None
    assert shorter.usage is not None
    assert longer.usage.input_tokens > shorter.usage.input_tokens


def test_a_stream_has_every_event_in_order(door: Door) -> None:
    with door.client.responses.create(
        model=door.model, input="Say hello.", max_output_tokens=8, temperature=0, stream=True
    ) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-cache"
        assert stream.response.headers["x-backend-used"]
        events = list(stream)
    kinds = [event.type for event in events]
    text = kinds.count("response.output_text.delta")
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * text,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        kinds[-1],
    ]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert text > 3
    assert [event.sequence_number for event in events] == list(range(len(events)))
    whole: Any = events[-1]
    joined = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert whole.response.output_text == joined
    assert whole.response.output[0].id == events[2].item.id
    assert whole.response.usage.output_tokens > 0
    assert joined == door.ask(max_output_tokens=8).output_text


def test_the_stream_helper_follows(door: Door) -> None:
    with door.client.responses.stream(model=door.model, input="Say hello.", max_output_tokens=8) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
    assert snapshots
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(snapshots))


def test_a_chain_of_answers_carries_its_history(door: Door) -> None:
    first = door.ask("My name is Ada.", instructions="Be brief.", max_output_tokens=3)
    second = door.ask("What is my name?", previous_response_id=first.id, max_output_tokens=3)
    assert second.previous_response_id == first.id
    assert second.instructions is None
    assert second.usage is not None
    alone = door.ask("What is my name?", max_output_tokens=3)
    assert alone.usage is not None
    assert second.usage.input_tokens > alone.usage.input_tokens
    with door.client.responses.create(
        model=door.model, input="Again.", max_output_tokens=4, previous_response_id=second.id, stream=True
    ) as stream:
        last: Any = list(stream)[-1]
    assert last.response.previous_response_id == second.id
    items = door.client.responses.input_items.list(last.response.id, order="asc").data
    assert [getattr(item, "role", item.type) for item in items] == ["user", "assistant", "user", "assistant", "user"]
    assert items[-1].content[0].text == "Again."


def test_answers_are_kept_read_and_deleted(door: Door) -> None:
    answer = door.ask()
    kept = door.client.responses.retrieve(answer.id)
    assert kept.output_text == answer.output_text
    assert kept.id == answer.id
    newest = door.client.responses.input_items.list(answer.id, limit=1)
    assert newest.data[0].content[0].text == "Say hello."
    with pytest.raises(openai.BadRequestError, match="Cannot cancel a synchronous response"):
        door.client.responses.cancel(answer.id)
    door.client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError, match="not found"):
        door.client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError) as caught:
        door.ask(previous_response_id=answer.id)
    assert caught.value.code == "previous_response_not_found"
    assert caught.value.param == "previous_response_id"


def test_what_is_not_to_be_stored_is_not(door: Door) -> None:
    answer = door.ask(store=False)
    with pytest.raises(openai.NotFoundError):
        door.client.responses.retrieve(answer.id)


def test_a_streamed_answer_is_kept_too(door: Door) -> None:
    with door.client.responses.create(
        model=door.model, input="Say hello.", max_output_tokens=6, stream=True, temperature=0
    ) as stream:
        last: Any = list(stream)[-1]
    assert door.client.responses.retrieve(last.response.id).output_text == last.response.output_text


def test_bad_requests_are_refused_in_openais_shape(door: Door) -> None:
    with pytest.raises(openai.BadRequestError, match="background responses are not supported"):
        door.ask(background=True)
    with pytest.raises(openai.NotFoundError) as caught:
        door.ask(model="no-such:1b") if door.kind != "embedded" else door.client.responses.retrieve("resp_none")
    assert caught.value.type in ("not_found_error", "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="input must be a string or array"):
        door.ask(5)
    with pytest.raises(openai.BadRequestError, match=r"input\[0\]: unknown input item type"):
        door.ask([{"type": "zzz"}])
    with pytest.raises(openai.BadRequestError, match="file inputs are not currently supported"):
        door.ask([{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}])
    with pytest.raises(openai.BadRequestError, match="max_latency_ms"):
        door.ask(extra_body={"routing": {"max_latency_ms": "soon"}})


def test_annotations_count_wherever_they_stand(door: Door) -> None:
    wanted = {"lab": "ollama-cpu", "ollama": "ollama-cpu", "chat": "chat", "embedded": "embedded"}[door.kind]
    for more in (
        {"extra_headers": {"X-Target-Backend": wanted}},
        {"extra_body": {"routing": {"target": wanted}}},
        {"metadata": {"target": wanted}},
    ):
        raw = door.client.responses.with_raw_response.create(model=door.model, input="hi", max_output_tokens=2, **more)
        assert raw.headers["x-backend-used"] == wanted
        assert raw.parse().output_text


# -- tools, form, reasoning -------------------------------------------------------------


@pytest.fixture(params=["lab", "chat"])
def tool_door(request: pytest.FixtureRequest) -> Iterator[Door]:
    """Bytes as they came, and translated; the suite's real models call no tools."""
    fixture, model = DOORS[request.param]
    with open_door(request.getfixturevalue(fixture), model, request.param) as opened:
        yield opened


def test_a_tool_is_called_and_its_result_used(tool_door: Door) -> None:
    door = tool_door
    items: list[Any] = [{"role": "user", "content": "Call get_weather for the city of Oslo."}]
    answer = door.ask(items, tools=[TOOL], tool_choice="required", max_output_tokens=60)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert len(calls) == 1
    assert calls[0].name == "get_weather"
    assert isinstance(json.loads(calls[0].arguments), dict)
    assert answer.tools[0].name == "get_weather"
    items += [item.to_dict() for item in answer.output]
    items.append({"type": "function_call_output", "call_id": calls[0].call_id, "output": "4 degrees"})
    assert door.ask(items, tools=[TOOL], tool_choice="none").output_text
    chained = door.ask(
        [{"type": "function_call_output", "call_id": calls[0].call_id, "output": "4 degrees"}],
        previous_response_id=answer.id,
    )
    assert chained.output_text


def test_a_tool_call_is_streamed_item_by_item(tool_door: Door) -> None:
    with tool_door.client.responses.stream(
        model=tool_door.model,
        input="Call get_weather for the city of Oslo.",
        tools=[TOOL],
        tool_choice="required",
        max_output_tokens=60,
        temperature=0,
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[2:] == [
        "response.output_item.added",
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert final.output[0].type == "function_call"
    assert final.output[0].status == "completed"


class Colour(BaseModel):
    """What the schema asks for; every value is from a short list, so that a small model comes to an end."""

    colour: Literal["red", "green", "blue"]
    warm: bool


@pytest.mark.parametrize("kind", ["embedded", pytest.param("ollama", marks=pytest.mark.ollama)])
def test_structured_output_is_parsed(request: pytest.FixtureRequest, kind: str) -> None:
    with open_door(request.getfixturevalue(DOORS[kind][0]), "smollm2:135m", kind) as door:
        answer = door.client.responses.parse(
            model=door.model, input="Name a colour.", text_format=Colour, max_output_tokens=80, temperature=0
        )
        assert isinstance(answer.output_parsed, Colour)
        plain = door.ask("Answer with a JSON object.", text={"format": {"type": "json_object"}}, max_output_tokens=6)
        assert plain.output_text.lstrip().startswith("{")


@pytest.mark.parametrize("kind", ["lab", "chat"])
def test_reasoning_is_an_item_of_its_own(request: pytest.FixtureRequest, kind: str) -> None:
    with open_door(request.getfixturevalue(DOORS[kind][0]), "qwen2.5:0.5b", kind) as door:
        answer = door.ask(reasoning={"effort": "low"}, max_output_tokens=20)
        assert [item.type for item in answer.output] == ["reasoning", "message"]
        reasoning: Any = answer.output[0]
        assert reasoning.summary[0].text == "Let me think."
        assert door.ask("Go on.", previous_response_id=answer.id).output_text
        with door.client.responses.create(
            model=door.model, input="hi", reasoning={"effort": "low"}, max_output_tokens=8, stream=True
        ) as stream:
            kinds = [event.type for event in stream]
    assert kinds[2:12] == [
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        *["response.reasoning_summary_text.delta"] * 4,
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
    ]


@pytest.mark.ollama
def test_a_real_ollamas_tools(ollama_proxy_process: ProxyProcess) -> None:
    """Bytes as they came from the one server that speaks this API itself, its stream included."""
    with open_door(ollama_proxy_process, "smollm2:135m", "ollama") as door:
        items = [
            {"role": "user", "content": "What is the weather in Oslo?"},
            {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"city":"Oslo"}'},
            {"type": "function_call_output", "call_id": "call_1", "output": "4 degrees, rain"},
        ]
        answer = door.ask(items, tools=[TOOL])
        assert answer.output
        assert answer.tools[0].name == "get_weather"
        chained = door.ask("Again.", previous_response_id=answer.id, tools=[TOOL])
        assert chained.usage is not None
        assert answer.usage is not None
        assert chained.usage.input_tokens > answer.usage.input_tokens


@pytest.mark.ollama
def test_a_real_ollamas_log_probabilities_come_through(ollama_proxy_process: ProxyProcess) -> None:
    """Its own layer for this API has none; its native API has."""
    with open_door(ollama_proxy_process, "qwen2.5:0.5b", "ollama") as door:
        part: Any = door.ask(top_logprobs=2, max_output_tokens=3).output[0].content[0]
    assert len(part.logprobs) == 3
    assert "".join(entry.token for entry in part.logprobs) == part.text
    assert all(len(entry.top_logprobs) == 2 and entry.logprob <= 0 for entry in part.logprobs)


@pytest.mark.ollama
@pytest.mark.parametrize("stream", [False, True])
def test_bytes_are_a_real_ollamas_own(ollamas: RealOllama, ollama_proxy_process: ProxyProcess, stream: bool) -> None:
    document = {
        "model": "qwen2.5:0.5b",
        "input": "Say hello.",
        "temperature": 0,
        "max_output_tokens": 6,
        "stream": stream,
        "unknown": {"field": 1},
    }
    through = post(ollama_proxy_process.url + "/v1/responses", document, {"X-Target-Backend": "ollama-nvidia"})
    direct = post(ollamas.url("ollama-nvidia") + "/v1/responses", document)
    assert mask(through) == mask(direct)


def post(url: str, document: dict[str, Any], headers: dict[str, str] | None = None) -> bytes:
    request = urllib.request.Request(
        url, json.dumps(document).encode(), {"Content-Type": "application/json", **(headers or {})}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: bytes = answer.read()
    return found


def mask(body: bytes) -> list[str]:
    """Lines of an answer without its ids and times."""
    text = re.sub(r'"(id|item_id)":"[^"]*"', r'"\1":"*"', body.decode())
    return re.sub(r'"(created_at|completed_at)":\d+', r'"\1":0', text).splitlines()


@pytest.mark.parametrize("door", ["lab", "chat"], indirect=True)
def test_packed_requests_are_unpacked(door: Door) -> None:
    """Codex sends them so."""
    document = {"model": door.model, "input": "Say hello.", "max_output_tokens": 4}
    request = urllib.request.Request(
        door.proxy.url + "/v1/responses",
        zstd.compress(json.dumps(document).encode()),
        {"Content-Type": "application/json", "Content-Encoding": "zstd"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["output"]


# -- failures ----------------------------------------------------------------------------


def test_a_stream_that_breaks_off_says_so(lab: LabProcess, lab_proxy: ProxyProcess) -> None:
    with open_door(lab_proxy, "qwen2.5:0.5b", "lab") as door, lab.fault("npu", "cut", after_chunks=6):
        for more in ({}, {"previous_response_id": door.ask(extra_headers={"X-Target-Backend": "cpu"}).id}):
            wait_until(lambda: not lab_proxy.keeps_out(), "the breaker to try the device again")
            with door.client.responses.create(
                model=door.model,
                input="Tell a long story.",
                max_output_tokens=60,
                stream=True,
                # Nobody else draws so little, so nobody can go on.
                extra_headers={"X-Max-Power-Watts": "5"},
                **more,
            ) as stream:
                events: list[Any] = list(stream)
            assert [event.type for event in events[-2:]] == ["error", "response.failed"]
            assert [event.sequence_number for event in events] == list(range(len(events)))
            assert events[-1].response.status == "failed"
            assert events[-1].response.id == events[0].response.id
            assert events[-1].response.error.code == "server_error"
            assert events[-2].message
            with pytest.raises(openai.NotFoundError):
                door.client.responses.retrieve(events[0].response.id)


def native_events(*documents: dict[str, Any]) -> bytes:
    """A stream as a server writes it that speaks this API."""
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in documents)


@pytest.fixture
def native(httpserver: HTTPServer, work: Path) -> Iterator[tuple[HTTPServer, Door]]:
    """A server of type openai that says what a test wants it to say."""
    httpserver.expect_request("/v1/models").respond_with_json({"object": "list", "data": [{"id": "m"}]})
    backend = {"id": "native", "type": "openai", "endpoint": httpserver.url_for(""), "apis": ["responses"]}
    changes = {"backends": [backend], "routing": {"default_backend": ""}}
    ends = ["http://127.0.0.1:1"] * 4
    with ProxyProcess(work, endpoints=ends, changes=changes) as proxy, open_door(proxy, "m", "native") as door:
        yield httpserver, door


def test_a_backends_own_failure_is_told_once(native: tuple[HTTPServer, Door]) -> None:
    server, door = native
    begun = {"id": "resp_1", "object": "response", "status": "in_progress", "output": []}
    failed = {**begun, "status": "failed", "error": {"code": "server_error", "message": "out of memory"}}
    said = native_events(
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.failed", "sequence_number": 1, "response": failed},
    )
    server.expect_request("/v1/responses").respond_with_data(said, content_type="text/event-stream")
    assert post(door.proxy.url + "/v1/responses", {"model": "m", "input": "hi", "stream": True}) == said
    wait_until(lambda: door.proxy.log_lines("out of memory"), "the failure in the log")
    with pytest.raises(openai.NotFoundError):
        door.client.responses.retrieve("resp_1")


def test_an_error_instead_of_an_answer_is_no_stream(native: tuple[HTTPServer, Door]) -> None:
    server, door = native
    said = native_events({"type": "error", "code": "x", "message": "no such thing", "sequence_number": 0})
    server.expect_request("/v1/responses").respond_with_data(said, content_type="text/event-stream")
    with pytest.raises(openai.InternalServerError, match="no such thing"):
        door.client.responses.create(model="m", input="hi", stream=True)


def test_an_id_that_came_twice_stands_for_neither(native: tuple[HTTPServer, Door]) -> None:
    server, door = native
    said = {"id": "resp_7", "object": "response", "status": "completed", "output": []}
    server.expect_request("/v1/responses").respond_with_json(said)
    assert door.ask().id == "resp_7"
    assert door.client.responses.retrieve("resp_7").id == "resp_7"
    assert door.ask("Something else.").id == "resp_7"
    with pytest.raises(openai.BadRequestError) as caught:
        door.ask(previous_response_id="resp_7")
    assert caught.value.code == "previous_response_not_found"


def test_the_store_is_as_large_as_it_is_told(lab: LabProcess, work: Path) -> None:
    changes = {"responses": {"store_max_entries": 2}}
    with (
        ProxyProcess(work, endpoints=lab.endpoints, speed=lab.speed, changes=changes) as proxy,
        open_door(proxy, "qwen2.5:0.5b", "lab") as door,
    ):
        ids = [door.ask(max_output_tokens=2).id for _ in range(3)]
        with pytest.raises(openai.NotFoundError):
            door.client.responses.retrieve(ids[0])
        assert [door.client.responses.retrieve(ident).id for ident in ids[1:]] == ids[1:]


def test_a_server_of_type_openai_is_sent_what_it_says_it_speaks(lab: LabProcess, work: Path) -> None:
    backend = {"id": "native", "type": "openai", "hardware": "nvidia", "endpoint": lab.url("nvidia")}
    changes = {"backends": [{**backend, "apis": ["responses"]}], "routing": {"default_backend": ""}}
    with (
        ProxyProcess(work, endpoints=lab.endpoints, changes=changes) as proxy,
        open_door(proxy, "qwen2.5:0.5b", "lab") as door,
    ):
        first = door.ask()
        # The emulated server keeps nothing of its own, so the history came with the request.
        second = door.ask("And now?", previous_response_id=first.id)
        assert second.usage is not None
        assert first.usage is not None
        assert second.usage.input_tokens > first.usage.input_tokens
        assert door.client.responses.retrieve(second.id).previous_response_id == first.id
