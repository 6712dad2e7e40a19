"""OpenAI's API through its official client: all it offers for chats, against emulated, embedded and real servers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import openai
import pydantic
import pytest
from openai.lib.streaming.chat import ContentDeltaEvent

from tests.support.processes import http_get
from tests.support.proxy import ProxyProcess

pytestmark = pytest.mark.e2e

MESSAGES = [{"role": "user", "content": "Say hello."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Colour(pydantic.BaseModel):
    """What the structured answers are parsed to."""

    colour: str


@dataclass
class Door:
    """The client of a proxy, and a model that is behind it."""

    client: openai.OpenAI
    model: str
    kind: str
    proxy: ProxyProcess


@pytest.fixture(params=["lab", "embedded", pytest.param("ollama", marks=pytest.mark.ollama)])
def door(request: pytest.FixtureRequest) -> Iterator[Door]:
    fixture, model = {
        "lab": ("lab_proxy", "qwen2.5:0.5b"),
        "embedded": ("embedded_proxy", "smollm2:135m"),
        "ollama": ("ollama_proxy_process", "qwen2.5:0.5b"),
    }[request.param]
    proxy: ProxyProcess = request.getfixturevalue(fixture)
    with contextlib.ExitStack() as opened:
        client = opened.enter_context(openai.OpenAI(base_url=proxy.url + "/v1", api_key="unused", max_retries=0))
        yield Door(client, model, request.param, proxy)


def test_stream_helper_gathers_the_whole_answer(door: Door) -> None:
    with door.client.chat.completions.stream(
        model=door.model, messages=MESSAGES, temperature=0, stop=["."], extra_body={"max_tokens": 200}
    ) as stream:
        pieces = [event.delta for event in stream if isinstance(event, ContentDeltaEvent)]
        final = stream.get_final_completion()
    assert pieces
    assert final.choices[0].message.content == "".join(pieces)
    assert final.choices[0].finish_reason == "stop"
    assert final.model == door.model


def test_parse_gives_an_object_of_the_schema(door: Door) -> None:
    if door.kind == "lab":
        pytest.skip("emulated models have their own test for schemas")
    answer = door.client.chat.completions.parse(
        model=door.model,
        messages=[{"role": "user", "content": "Which colour is grass?"}],
        response_format=Colour,
        temperature=0,
        max_tokens=100,
    )
    assert isinstance(answer.choices[0].message.parsed, Colour)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_are_taken(door: Door, stream: bool) -> None:
    """A tiny model may call or not; what it calls must be whole."""
    _need_tools(door)
    answer = door.client.chat.completions.create(
        model=door.model,
        messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
        tools=[WEATHER],
        max_tokens=40,
        temperature=0,
        stream=stream,
    )
    parts = [chunk.choices[0].delta for chunk in answer] if stream else [answer.choices[0].message]
    for call in [call for part in parts for call in part.tool_calls or ()]:
        assert call.id
        assert call.function.name == "get_weather"
        assert isinstance(json.loads(call.function.arguments), dict)


def _need_tools(door: Door) -> None:
    if door.kind == "embedded":
        with pytest.raises(openai.BadRequestError, match="embedded: cannot do: tools"):
            door.client.chat.completions.create(
                model=door.model, messages=[{"role": "user", "content": "Hi"}], tools=[WEATHER]
            )
        pytest.skip("the template of the embedded model takes no tools, and the request was refused for it")


def test_a_conversation_with_a_tool_result_goes_on(door: Door) -> None:
    _need_tools(door)
    use = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'}}
    answer = door.client.chat.completions.create(
        model=door.model,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [{"type": "text", "text": "What is the weather "}, {"type": "text", "text": "in Oslo?"}],
            },
            {"role": "assistant", "content": None, "tool_calls": [use]},
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        ],
        tools=[WEATHER],
        max_tokens=8,
    )
    assert answer.usage.completion_tokens <= 8


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities(door: Door, stream: bool) -> None:
    if door.kind == "lab":
        pytest.skip("emulated models have none")
    answer = door.client.chat.completions.create(
        model=door.model, messages=MESSAGES, max_tokens=3, temperature=0, logprobs=True, top_logprobs=2, stream=stream
    )
    choices = [chunk.choices[0] for chunk in answer if chunk.choices] if stream else [answer.choices[0]]
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    assert len(tokens) == 3
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens)


def test_streams_end_with_usage_only_on_demand(door: Door) -> None:
    chunks = list(door.client.chat.completions.create(model=door.model, messages=MESSAGES, max_tokens=4, stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_embeddings_in_both_encodings_are_the_same(door: Door) -> None:
    packed = door.client.embeddings.create(model=door.model, input="one").data[0].embedding
    plain = door.client.embeddings.create(model=door.model, input="one", encoding_format="float").data[0].embedding
    assert packed == pytest.approx(plain, abs=1e-3)


def test_legacy_completions_stream(door: Door) -> None:
    chunks = list(door.client.completions.create(model=door.model, prompt="Say hello.", max_tokens=5, stream=True))
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    assert {chunk.object for chunk in chunks} == {"text_completion"}


def test_models_are_listed_newest_first_and_found(door: Door) -> None:
    listed = door.client.models.list().data
    assert [model.created for model in listed] == sorted((model.created for model in listed), reverse=True)
    assert door.client.models.retrieve(door.model) == next(one for one in listed if one.id == door.model)
    with pytest.raises(openai.NotFoundError, match="model 'org/nope' not found"):
        door.client.models.retrieve("org/nope")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"messages": []}, "[] is too short - 'messages'"),
        ({"messages": MESSAGES}, "model is required"),
        ({"messages": MESSAGES, "model": "no spaces!"}, "invalid model name"),
        ({"messages": MESSAGES, "model": 5}, "json: cannot unmarshal number into Go struct field"),
    ],
)
def test_refusals_read_as_ollamas(lab_proxy: ProxyProcess, body: dict[str, object], text: str) -> None:
    with (
        openai.OpenAI(base_url=lab_proxy.url + "/v1", api_key="unused", max_retries=0) as client,
        pytest.raises(openai.BadRequestError) as refused,
    ):
        client.post("/chat/completions", body=body, cast_to=object)
    assert text in refused.value.body["message"]
    assert refused.value.body["type"] == "invalid_request_error"
    assert refused.value.code is None


def test_an_unknown_route_is_ollamas_404(lab_proxy: ProxyProcess) -> None:
    assert http_get(lab_proxy.url + "/v1/nope") == (404, "404 page not found")
