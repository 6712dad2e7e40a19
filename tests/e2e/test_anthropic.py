"""The official `anthropic` client against emulated devices, the embedded model and real Ollama servers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from anthropic.types import Message
from backports import zstd
from pydantic import BaseModel

from tests.support.lab import LabProcess
from tests.support.ollama import RealOllama
from tests.support.processes import http_get
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

MODEL = "qwen2.5:0.5b"
#: A PNG of one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PIXEL_BYTES = 70
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "warm": {"type": "boolean"}},
    "required": ["city", "warm"],
    "additionalProperties": False,
}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"name": "get_weather", "description": "Weather of a city", "input_schema": PARAMETERS}
FUNCTION = {"name": "get_weather", "description": "Weather of a city", "parameters": PARAMETERS}
#: The client has no word for it any more, though every server here takes it.
COLD = {"temperature": 0}
HELLO: Any = [{"role": "user", "content": "Say hello."}]


def one_backend(lab: LabProcess, kind: str) -> dict[str, Any]:
    backend = {"id": kind, "type": kind, "hardware": "nvidia", "endpoint": lab.url("nvidia")}
    return {"backends": [backend], "routing": {"default_backend": ""}}


@pytest.fixture(scope="module")
def claude_proxy(lab: LabProcess, work: Path) -> Iterator[ProxyProcess]:
    """A proxy in front of a server of type anthropic."""
    with ProxyProcess(work, endpoints=lab.endpoints, changes=one_backend(lab, "anthropic")) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def chat_proxy(lab: LabProcess, work: Path) -> Iterator[ProxyProcess]:
    """A proxy in front of a server of type openai."""
    with ProxyProcess(work, endpoints=lab.endpoints, changes=one_backend(lab, "openai")) as proxy:
        yield proxy


@dataclass
class Door:
    """A proxy, a model that is behind it, and the official client."""

    proxy: ProxyProcess
    model: str
    client: anthropic.Anthropic
    kind: str

    @property
    def emulated(self) -> bool:
        return self.kind not in ("embedded", "ollama")

    def ask(self, given: Any = "Say hello.", **more: Any) -> Message:
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else given
        asked = {"model": self.model, "messages": messages, "max_tokens": 12, "extra_body": COLD, **more}
        answer: Message = self.client.messages.create(**asked)
        return answer


#: Raw to servers of Ollama's and Anthropic's kind, translated for those of OpenAI's.
DOORS = {
    "lab": ("lab_proxy", MODEL),
    "claude": ("claude_proxy", MODEL),
    "chat": ("chat_proxy", MODEL),
    "embedded": ("embedded_proxy", "smollm2:135m"),
    "ollama": ("ollama_proxy_process", "smollm2:135m"),
}
EMULATED = ["lab", "claude", "chat"]
REAL_OLLAMA = pytest.param("ollama", marks=pytest.mark.ollama)
ALL = [*EMULATED, "embedded", REAL_OLLAMA]
#: The embedded model's template knows no tools.
CALLING = [*EMULATED, REAL_OLLAMA]


@pytest.fixture(params=ALL)
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    with open_door(request, request.param) as opened:
        yield opened


@pytest.fixture(params=EMULATED)
def emulated(request: pytest.FixtureRequest) -> Iterator[Door]:
    """Where models can do what no small real one can."""
    with open_door(request, request.param) as opened:
        yield opened


@contextlib.contextmanager
def open_door(request: pytest.FixtureRequest, kind: str) -> Iterator[Door]:
    fixture, model = DOORS[kind]
    proxy: ProxyProcess = request.getfixturevalue(fixture)
    with anthropic.Anthropic(base_url=proxy.url, api_key="unused", max_retries=0) as client:
        yield Door(proxy, model, client, kind)


def text_of(answer: Message) -> str:
    return "".join(block.text for block in answer.content if block.type == "text")


def test_a_text_is_answered(door: Door) -> None:
    answer = door.ask(metadata={"user_id": "ada"})
    assert answer.id.startswith("msg_")
    assert answer.model == door.model
    assert [block.type for block in answer.content] == ["text"]
    assert text_of(answer)
    assert answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.usage.input_tokens > 0
    assert 0 < answer.usage.output_tokens <= 12
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


def test_a_conversation_of_strings_and_blocks_is_understood(door: Door) -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "My name"}, {"type": "text", "text": " is Ada."}]},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "Say hello."},
    ]
    system = [{"type": "text", "text": "Be very brief.", "cache_control": {"type": "ephemeral"}}]
    longer = door.ask(turns, system=system, max_tokens=3)
    shorter = door.ask(max_tokens=3)
    assert text_of(longer)
    total = [one.usage.input_tokens + (one.usage.cache_read_input_tokens or 0) for one in (longer, shorter)]
    assert total[0] > total[1]


def test_a_stream_has_every_event_in_order(door: Door) -> None:
    with door.client.messages.create(
        model=door.model, messages=HELLO, max_tokens=8, extra_body=COLD, stream=True
    ) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["cache-control"] == "no-cache"
        assert stream.response.headers["x-backend-used"]
        assert stream.response.headers["request-id"].startswith("req_")
        events = list(stream)
    kinds = [event.type for event in events]
    deltas = kinds.count("content_block_delta")
    assert deltas
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_a_stream_adds_up_to_the_whole_answer(door: Door) -> None:
    whole = door.ask()
    with door.client.messages.stream(model=door.model, messages=HELLO, max_tokens=12, extra_body=COLD) as stream:
        told = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert told == text_of(final) == text_of(whole)
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.usage.input_tokens > 0


def test_the_async_client_gets_the_same(claude_proxy: ProxyProcess) -> None:
    async def ask() -> str:
        async with (
            anthropic.AsyncAnthropic(base_url=claude_proxy.url, api_key="unused", max_retries=0) as client,
            client.messages.stream(model=MODEL, messages=HELLO, max_tokens=5) as stream,
        ):
            return await stream.get_final_text()

    assert len(asyncio.run(ask()).split()) == 5


def test_a_stop_sequence_ends_an_answer(emulated: Door) -> None:
    text = text_of(emulated.ask("Tell a story.", max_tokens=30))
    word = text.split()[4]
    stopped = emulated.ask("Tell a story.", max_tokens=30, stop_sequences=[word])
    assert text_of(stopped) == text.split(word)[0]
    assert stopped.stop_reason in ("end_turn", "stop_sequence")


@pytest.mark.parametrize("door", CALLING, indirect=True)
def test_a_tool_is_called_and_its_result_used(door: Door) -> None:
    turns: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]
    answer = door.ask(turns, tools=[TOOL], tool_choice={"type": "any"}, max_tokens=60)
    calls = [block for block in answer.content if block.type == "tool_use"]
    assert [call.name for call in calls] == ["get_weather"]
    assert isinstance(calls[0].input, dict)
    assert calls[0].id
    assert answer.stop_reason == "tool_use"
    turns.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
    result = {"type": "tool_result", "tool_use_id": calls[0].id, "content": [{"type": "text", "text": "4 degrees"}]}
    turns.append({"role": "user", "content": [{"type": "text", "text": "And tomorrow?"}, result]})
    assert text_of(door.ask(turns, tools=[TOOL], tool_choice={"type": "none"}))


@pytest.mark.parametrize("door", CALLING, indirect=True)
def test_a_tool_call_is_streamed(door: Door) -> None:
    with door.client.messages.stream(
        model=door.model,
        messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "get_weather"},
        max_tokens=60,
        extra_body=COLD,
    ) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["tool_use"]
    assert final.content[0].type == "tool_use"
    assert isinstance(final.content[0].input, dict)
    assert final.stop_reason == "tool_use"


def test_thinking_comes_in_a_block_of_its_own(emulated: Door) -> None:
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}
    whole = emulated.ask(thinking=thinking, max_tokens=2000)
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert emulated.ask(thinking={"type": "disabled"}).content[0].type == "text"
    with emulated.client.messages.stream(model=MODEL, messages=HELLO, max_tokens=2000, thinking=thinking) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 2
    assert [block.type for block in final.content] == ["thinking", "text"]
    turns: list[Any] = [*HELLO, {"role": "assistant", "content": [one.to_dict() for one in final.content]}, *HELLO]
    assert text_of(emulated.ask(turns))


@pytest.mark.ollama
def test_a_real_model_thinks(ollama_proxy_process: ProxyProcess) -> None:
    with anthropic.Anthropic(base_url=ollama_proxy_process.url, api_key="unused", max_retries=0) as client:
        asked: Any = {
            "model": "think:135m",
            "messages": [{"role": "user", "content": "Which colour is grass?"}],
            "max_tokens": 40,
            "extra_body": COLD,
        }
        answer = client.messages.create(**asked, thinking={"type": "enabled", "budget_tokens": 1024})
    assert [block.type for block in answer.content] == ["thinking", "text"]


def test_images_are_seen(emulated: Door) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    answer = emulated.ask([{"role": "user", "content": [image, {"type": "text", "text": "What?"}]}])
    assert f"Saw images of {PIXEL_BYTES} bytes" in text_of(answer)


def test_an_answer_has_the_form_that_was_asked_for(emulated: Door) -> None:
    output: Any = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = emulated.ask(output_config=output, max_tokens=100)
    assert set(json.loads(text_of(answer))) == {"city", "warm"}


class Weather(BaseModel):
    city: str
    warm: bool


@pytest.mark.parametrize("kind", ["claude", "chat"])
def test_the_clients_parser_gets_its_object(request: pytest.FixtureRequest, kind: str) -> None:
    with open_door(request, kind) as door:
        parsed = door.client.messages.parse(
            model=door.model, messages=HELLO, max_tokens=200, output_format=Weather, extra_body=COLD
        )
    assert isinstance(parsed.parsed_output, Weather)


def test_text_documents_are_read_and_others_refused(emulated: Door) -> None:
    def ask(source: dict[str, str]) -> Message:
        document = {"type": "document", "title": "T", "source": source}
        return emulated.ask([{"role": "user", "content": [document, {"type": "text", "text": "What?"}]}])

    text = "word " * 100
    assert ask({"type": "text", "media_type": "text/plain", "data": text}).usage.input_tokens > 100
    if emulated.kind != "claude":
        with pytest.raises(anthropic.BadRequestError, match="documents"):
            ask({"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="})


def test_tokens_are_counted_or_estimated(door: Door) -> None:
    few = door.client.messages.count_tokens(model=door.model, messages=HELLO)
    many = door.client.messages.count_tokens(
        model=door.model, messages=[{"role": "user", "content": "Say hello. " * 50}], system="Be brief.", tools=[TOOL]
    )
    assert 0 < few.input_tokens < 20
    assert 100 < many.input_tokens < 400
    raw = door.client.messages.with_raw_response.count_tokens(model=door.model, messages=HELLO)
    # An anthropic server's count is its own.
    assert raw.headers.get("x-token-count-kind") == (None if door.kind == "claude" else "estimated")


def test_models_are_listed_page_by_page(lab_proxy: ProxyProcess) -> None:
    with anthropic.Anthropic(base_url=lab_proxy.url, api_key="unused", max_retries=0) as client:
        every = [model.id for model in client.models.list()]
        assert MODEL in every
        one_by_one = [model.id for model in client.models.list(limit=1)]
        assert one_by_one == every
        before = client.models.list(before_id=every[-1], limit=1)
        assert [model.id for model in before.data] == every[-2:-1]
        model = client.models.retrieve(MODEL)
        assert model.type == "model"
        assert model.id == model.display_name == MODEL
        with pytest.raises(anthropic.NotFoundError, match="model 'nope' not found"):
            client.models.retrieve("nope")
        with pytest.raises(anthropic.BadRequestError, match="limit"):
            client.models.list(limit=0)
        with pytest.raises(anthropic.BadRequestError, match="after_id"):
            client.models.list(after_id="nope")


def test_the_list_is_openais_without_anthropics_header(lab_proxy: ProxyProcess) -> None:
    assert '"object":"list"' in http_get(lab_proxy.url + "/v1/models")[1]
    assert f'"id":"{MODEL}"' in http_get(lab_proxy.url + f"/v1/models/{MODEL}")[1]
    headers = {"anthropic-version": "2023-06-01"}
    assert '"has_more":false' in http_get(lab_proxy.url + "/v1/models", headers)[1]
    assert '"display_name"' in http_get(lab_proxy.url + f"/v1/models/{MODEL}", headers)[1]


# -- errors ------------------------------------------------------------------------


def test_errors_have_anthropics_shape(door: Door) -> None:
    if door.kind != "embedded":
        with pytest.raises(anthropic.NotFoundError) as missing:
            door.ask(model="nope")
        body: Any = missing.value.body
        assert body["type"] == "error"
        assert body["error"] == {"type": "not_found_error", "message": "model 'nope' not found"}
        assert body["request_id"] == missing.value.request_id
    with pytest.raises(anthropic.BadRequestError, match="max_tokens is required and must be positive"):
        door.ask(max_tokens=0)
    with pytest.raises(anthropic.BadRequestError, match="messages is required"):
        door.ask([])
    image = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:9/a.png"}}
    with pytest.raises(anthropic.BadRequestError, match=r"invalid image source type: url|cannot do: images"):
        door.ask([{"role": "user", "content": [image]}])


def test_tools_of_the_servers_own_need_such_a_server(emulated: Door) -> None:
    tool = {"type": "code_execution_20250825", "name": "code_execution"}
    # Who is asked in its own dialect says so itself.
    wanted = "tools of the server's own" if emulated.kind == "chat" else "has no tool"
    with pytest.raises(anthropic.BadRequestError, match=wanted):
        emulated.ask(tools=[tool])


@pytest.mark.parametrize("kind", EMULATED)
def test_a_stream_that_breaks_off_ends_with_an_error_event(
    request: pytest.FixtureRequest, lab: LabProcess, kind: str
) -> None:
    with open_door(request, kind) as door, contextlib.ExitStack() as faults:
        for name in lab.ports:
            faults.enter_context(lab.fault(name, "cut", after_chunks=3))
        kinds: list[str] = []
        stream = door.client.messages.create(model=MODEL, messages=HELLO, max_tokens=30, stream=True)
        with pytest.raises(anthropic.APIStatusError) as broken:
            kinds.extend(event.type for event in stream)
    assert kinds[0] == "message_start"
    assert "message_stop" not in kinds
    body: Any = broken.value.body
    assert body["error"]["type"] == "api_error"


def test_an_overloaded_server_is_told_as_such(lab: LabProcess, claude_proxy: ProxyProcess) -> None:
    with (
        anthropic.Anthropic(base_url=claude_proxy.url, api_key="unused", max_retries=0) as client,
        lab.fault("nvidia", "status", status=529),
        pytest.raises(anthropic.RateLimitError),
    ):
        client.messages.create(model=MODEL, messages=HELLO, max_tokens=5)
    # It is busy, not ill.
    assert "anthropic: healthy" in claude_proxy.health()


def test_a_packed_body_is_unpacked(claude_proxy: ProxyProcess) -> None:
    document = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
    headers = {"Content-Encoding": "zstd", "Content-Type": "application/json"}
    request = urllib.request.Request(
        claude_proxy.url + "/v1/messages?beta=true", zstd.compress(json.dumps(document).encode()), headers
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.loads(answer.read())["type"] == "message"


REFUSED: list[dict[str, Any] | bytes] = [
    *(b"null", b"[]", b"{}", b"", b'{"model"', b'"x"'),
    *({"model": name} for name in (None, "", " ", 5, "a b", "nope:x")),
    *({"max_tokens": limit} for limit in (None, -1, 0, "5", 1.5)),
    *({"messages": turns} for turns in (None, {}, "x", [], [5], [[]], [{}])),
    *({"messages": [{"role": "user", "content": content}]} for content in (5, [5], [{"type": 5}])),
    {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
    {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "!"}}]}]},
    {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "x"}]}]},
    *({"tools": tools} for tools in ({}, [5], [{"name": 5}], [{"name": "f", "input_schema": 5}])),
    *({name: 5} for name in ("metadata", "output_config", "thinking", "stop_sequences")),
    {"tool_choice": "any"},
    {"temperature": "hot"},
    {"top_k": 1.5},
    {"stream": "yes"},
    {"stream": True, "max_tokens": 0},
    {"stream": True, "model": "nope"},
]


@pytest.mark.ollama
def test_bad_bodies_are_refused_as_ollama_does(ollamas: RealOllama, ollama_proxy_process: ProxyProcess) -> None:
    for given in REFUSED:
        body = given
        if not isinstance(body, bytes):
            body = json.dumps({"model": "smollm2:135m", "max_tokens": 3, "messages": HELLO, **body}).encode()
        direct, ours = (refuse(url, body) for url in (ollamas.endpoints[0], ollama_proxy_process.url))
        assert ours == direct, given


def refuse(url: str, body: bytes) -> tuple[int, str, str, str]:
    """Status, content type, caching and text of a refusal, its id left out."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url + "/v1/messages", body), timeout=30)
    with refused.value as answer:
        text = re.sub(r'"req_[^"]*"', '"req"', answer.read().decode())
    return answer.code, answer.headers["Content-Type"], answer.headers.get("Cache-Control", ""), text


# -- other clients in front of a server of Anthropic's API ------------------------------


def test_an_ollama_client_talks_to_it(claude_proxy: ProxyProcess) -> None:
    with ollama.Client(host=claude_proxy.url) as client:
        messages: list[Any] = [{"role": "system", "content": "Be brief."}, *HELLO]
        whole = client.chat(MODEL, messages, options={"num_predict": 8})
        assert (whole.done_reason, whole.eval_count) == ("length", 8)
        parts = list(client.chat(MODEL, messages, options={"num_predict": 8}, stream=True))
        assert "".join(part.message.content or "" for part in parts) == whole.message.content
        assert parts[-1].done
        seen = client.chat(MODEL, [{**HELLO[0], "images": [PIXEL]}], options={"num_predict": 8})
        assert f"Saw images of {PIXEL_BYTES} bytes" in (seen.message.content or "")
        generated = client.generate(MODEL, "Say hello.", format=SCHEMA)
        assert set(json.loads(generated.response)) == {"city", "warm"}
        thought = client.chat(MODEL, messages, think=True, options={"num_predict": 20})
        assert thought.message.thinking
        tools: Any = [{"type": "function", "function": FUNCTION}]
        call = client.chat(MODEL, [{"role": "user", "content": "Use get_weather."}], tools=tools)
        assert call.message.tool_calls
        with pytest.raises(ollama.ResponseError, match="cannot do: embed"):
            client.embed(MODEL, "hi")


def test_an_openai_client_talks_to_it(claude_proxy: ProxyProcess) -> None:
    with openai.OpenAI(base_url=claude_proxy.url + "/v1", api_key="unused", max_retries=0) as client:
        asked: Any = {"model": MODEL, "messages": HELLO, "max_tokens": 8}
        whole = client.chat.completions.create(**asked)
        assert whole.choices[0].finish_reason == "length"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 8
        with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
            told = "".join(event.delta for event in stream if event.type == "content.delta")
        assert told == whole.choices[0].message.content
        tools: Any = [{"type": "function", "function": FUNCTION}]
        turns: list[Any] = [{"role": "user", "content": "Use get_weather."}]
        called = client.chat.completions.create(
            model=MODEL, messages=turns, tools=tools, tool_choice="required", parallel_tool_calls=False
        )
        assert called.choices[0].finish_reason == "tool_calls"
        assert called.choices[0].message.tool_calls
        turns.append(called.choices[0].message)
        turns.append({"role": "tool", "tool_call_id": called.choices[0].message.tool_calls[0].id, "content": "4"})
        answer = client.chat.completions.create(model=MODEL, messages=turns, tools=tools, max_tokens=10)
        assert answer.choices[0].message.content
        wanted: Any = {"type": "json_schema", "json_schema": {"name": "w", "schema": SCHEMA, "strict": True}}
        # A form and tools at once: the model answers, or calls one.
        formed = client.chat.completions.create(model=MODEL, messages=HELLO, response_format=wanted, tools=tools)
        assert set(json.loads(formed.choices[0].message.content or "")) == {"city", "warm"}
        with pytest.raises(openai.BadRequestError, match="log probabilities"):
            client.chat.completions.create(**asked, logprobs=True)
