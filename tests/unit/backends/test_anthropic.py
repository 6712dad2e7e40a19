"""Servers of Anthropic's API: what they are sent of typed requests, and what is read of their answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from pydantic import TypeAdapter

from ollama_proxy.backends.anthropic.answer_tool import AnswerTool, make_answer_tool
from ollama_proxy.backends.anthropic.answers import BodyDecoder, StreamDecoder
from ollama_proxy.backends.anthropic.probe import read_models
from ollama_proxy.backends.anthropic.requests import encode_request
from ollama_proxy.domain.answer import AnswerEvent, Finished, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.domain.call import Generation, Message, Sampling, ToolUse
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import ProbeError
from ollama_proxy.net.lanes.upstream import DecodeError, UpstreamError

PNG = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "D", "parameters": {"type": "object"}}}
#: As the official client has them.
typed_request: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)


def sent(typed: Generation, *, stream: bool = False) -> dict[str, Any]:
    body, _ = encode_request(typed, "m", stream=stream, max_tokens=4096)
    document: dict[str, Any] = json.loads(body)
    typed_request.validate_python({**document, "stream": False})
    return document


def chat(*messages: Message, **more: Any) -> dict[str, Any]:
    return sent(Generation(messages=messages or (Message("user", "hi"),), **more))


# -- requests ------------------------------------------------------------------------


def test_a_prompt_is_one_turn() -> None:
    document = sent(Generation(prompt="hi", system="S", images=(PNG,)), stream=True)
    image = {"type": "base64", "media_type": "image/png", "data": PNG}
    content = [{"type": "image", "source": image}, {"type": "text", "text": "hi"}]
    assert document == {
        "model": "m",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": content}],
        "system": "S",
        "stream": True,
    }


def test_turns_alternate_and_what_is_said_to_the_model_stands_apart() -> None:
    document = chat(
        Message("system", "S"),
        Message("user", "a"),
        Message("developer", "T"),
        Message("user", "b"),
        Message("assistant", "", thinking="hm", tool_uses=(ToolUse("f", '{"x":1}', "i.1"), ToolUse("g", ""))),
        Message("tool", "4", tool_call_id="i.1"),
        Message("tool", "", images=(PNG,)),
        Message("user", "c"),
        Message("assistant", "d \n"),
    )
    assert document["system"] == "S\n\nT"
    assert [turn["role"] for turn in document["messages"]] == ["user", "assistant", "user", "assistant"]
    first, calls, results, last = (turn["content"] for turn in document["messages"])
    assert [block["text"] for block in first] == ["a", "b"]
    # Ids are made where there are none, and of letters that Anthropic takes.
    assert [(use["id"], use["name"], use["input"]) for use in calls] == [("i_1", "f", {"x": 1}), ("call_2", "g", {})]
    assert [block.get("tool_use_id") for block in results] == ["i_1", "call_2", None]
    assert results[0]["content"] == [{"type": "text", "text": "4"}]
    assert results[1]["content"][0]["type"] == "image"
    assert last == [{"type": "text", "text": "d"}]


def test_what_the_model_is_told_is_answered_when_nobody_says_anything() -> None:
    document = chat(Message("system", "S"), Message("developer", "T"))
    assert document["messages"] == [{"role": "user", "content": [{"type": "text", "text": "S\n\nT"}]}]
    assert "system" not in document


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ((Message("user", "a"), Message("assistant", "b"), Message("user", "")), "the last message is empty"),
        ((Message("system", "S"), Message("user", " \n")), "the last message is empty"),
        ((Message("system", ""),), "there is no text to answer"),
        ((Message("assistant", ""),), "there is no text to answer"),
    ],
)
def test_a_conversation_with_nothing_to_answer_is_refused(messages: tuple[Message, ...], text: str) -> None:
    with pytest.raises(ProxyError) as caught:
        encode_request(Generation(messages=messages), "m", stream=False, max_tokens=9)
    assert (caught.value.kind, caught.value.message) == (ErrorKind.INVALID_REQUEST, f"messages: {text}")


def test_sampling_has_its_words_here_or_none() -> None:
    full = Sampling(num_predict=7, temperature=1.7, top_p=0.5, top_k=3, seed=1, min_p=0.1, stop=("x", "\n"))
    document = chat(sampling=full)
    assert (document["max_tokens"], document["temperature"], document["top_k"]) == (7, 1.0, 3)
    assert document["stop_sequences"] == ["x"]
    # Newer models take one of the two.
    assert not {"top_p", "seed", "min_p"} & document.keys()
    assert chat(sampling=Sampling(temperature=1.0, top_p=0.5))["top_p"] == 0.5
    assert not {"temperature", "top_p"} & chat(sampling=Sampling(temperature=1.0, top_p=1.0)).keys()
    assert chat(sampling=Sampling(num_predict=-1))["max_tokens"] == 4096


@pytest.mark.parametrize(
    ("choice", "parallel", "told"),
    [
        (None, None, None),
        ("auto", None, None),
        ("auto", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", None, {"type": "any"}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
        ("none", False, {"type": "none"}),
        ({"type": "function", "function": {"name": "f"}}, None, {"type": "tool", "name": "f"}),
    ],
)
def test_tools_and_the_choice_among_them(choice: Any, parallel: bool | None, told: Any) -> None:
    document = chat(tools=(FUNCTION,), tool_choice=choice, parallel_tools=parallel)
    assert document["tools"] == [{"name": "f", "description": "D", "input_schema": {"type": "object"}}]
    assert document.get("tool_choice") == told


@pytest.mark.parametrize(
    ("think", "limit", "budget", "most"),
    [
        (True, None, 4095, 4096),
        (True, 9000, 4096, 9000),
        ("low", 9000, 1024, 9000),
        ("high", 9000, 8999, 9000),
        ("max", 100_000, 32768, 100_000),
        # A small limit is meant for the answer.
        (True, 50, 1024, 1074),
    ],
)
def test_thinking_has_room(think: Any, limit: int | None, budget: int, most: int) -> None:
    document = chat(think=think, sampling=Sampling(num_predict=limit, temperature=0.2, top_k=4))
    assert document["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert document["max_tokens"] == most
    assert not {"temperature", "top_k"} & document.keys()


def test_thinking_gives_way_where_it_is_refused() -> None:
    assert chat(think=False)["thinking"] == {"type": "disabled"}
    assert "thinking" not in chat(think=True, tools=(FUNCTION,), tool_choice="required")
    assert "thinking" not in chat(think=True, format="json")
    turns = (
        Message("user", "a"),
        Message("assistant", tool_uses=(ToolUse("f", "{}", "i"),)),
        Message("tool", "4", tool_call_id="i"),
    )
    assert "thinking" not in chat(*turns, think=True, tools=(FUNCTION,))


def test_a_form_is_a_tool_that_must_be_called() -> None:
    document = chat(format=SCHEMA)
    assert document["tool_choice"] == {"type": "tool", "name": "json_answer"}
    assert document["tools"][0]["input_schema"] == SCHEMA
    # Beside other tools the model has the choice.
    document = chat(format=SCHEMA, tools=(FUNCTION,))
    assert [tool["name"] for tool in document["tools"]] == ["f", "json_answer"]
    assert document["tool_choice"] == {"type": "any"}
    none = chat(format=SCHEMA, tools=(FUNCTION,), tool_choice="none")
    assert none["tool_choice"] == {"type": "tool", "name": "json_answer"}
    named = chat(format=SCHEMA, tools=(FUNCTION,), tool_choice={"type": "function", "function": {"name": "f"}})
    assert [tool["name"] for tool in named["tools"]] == ["f"]


def test_a_form_that_is_no_object_is_put_in_one() -> None:
    tool = make_answer_tool({"type": "array", "items": {"$ref": "#/$defs/A"}, "$defs": {"A": {}}}, {"json_answer"})
    assert tool.name == "json_answer_"
    assert tool.schema["properties"]["answer"] == {"type": "array", "items": {"$ref": "#/$defs/A"}}
    assert tool.schema["$defs"] == {"A": {}}
    assert tool.read('{"answer": [1, 2]}') == "[1,2]"
    assert tool.read('{"answer": [1,') == '{"answer": [1,'
    assert make_answer_tool("json", ()).schema == {"type": "object"}
    assert not make_answer_tool({"properties": {}}, ()).wrapped


# -- answers -------------------------------------------------------------------------


def stream_of(*documents: dict[str, Any]) -> bytes:
    return b"".join(b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode()) for one in documents)


START = {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}
STOP = {"type": "message_stop"}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def ended(reason: str, **usage: int) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 9, **usage}}


def input_of(*pieces: str) -> list[dict[str, Any]]:
    return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def decode(data: bytes, tool: AnswerTool | None = None) -> tuple[list[AnswerEvent], Finished | None]:
    decoder = StreamDecoder(tool)
    found = list(decoder.feed(data))
    more, finished = decoder.end()
    return [*found, *more], finished


def test_a_stream_of_everything() -> None:
    data = stream_of(
        START,
        {"type": "ping"},
        *block(
            0,
            {"type": "thinking", "thinking": "", "signature": ""},
            {"type": "thinking_delta", "thinking": "hm"},
            {"type": "signature_delta", "signature": "s"},
        ),
        *block(1, {"type": "redacted_thinking", "data": "x"}),
        *block(2, {"type": "text", "text": ""}, {"type": "text_delta", "text": "a"}, {"type": "citations_delta"}),
        *block(3, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}, *input_of('{"q":1}')),
        *block(4, {"type": "tool_use", "id": "i", "name": "f", "input": {}}, *input_of("", '{"x":', "1}")),
        *block(5, {"type": "tool_use", "id": "j", "name": "g", "input": {}}),
        {"type": "something_new", "delta": {"text": "no"}},
        ended("tool_use", cache_read_input_tokens=2, cache_creation_input_tokens=1),
        STOP,
    )
    events, finished = decode(data)
    assert events == [
        ThinkingDelta("hm"),
        ThinkingDelta("", "s"),
        TextDelta("a"),
        ToolCall(0, "i", "f", '{"x":1}'),
        ToolCall(1, "j", "g", "{}"),
    ]
    # What the prompt read from the cache, and wrote into it, belongs to it.
    assert finished == Finished("tool_calls", Usage(6, 9, cached_tokens=2))


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
    ],
)
def test_why_it_ended(reason: str, told: str) -> None:
    _, finished = decode(stream_of(START, ended(reason), STOP))
    assert finished == Finished(told, Usage(3, 9))


def test_without_its_marker_a_stream_has_no_end() -> None:
    assert decode(stream_of(START, ended("end_turn")))[1] is None
    assert decode(b"")[1] is None
    assert decode(stream_of(START, ended("end_turn"), STOP).removesuffix(b"\n\n"))[1] is not None


def test_an_error_in_a_stream_is_one() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(UpstreamError, match="Overloaded"):
        decode(stream_of(START, error))
    with pytest.raises(DecodeError):
        decode(b"data: {\n\n")
    with pytest.raises(DecodeError):
        decode(b'data: {"type":5}\n\n')


def test_a_call_that_was_cut_off_is_none() -> None:
    call = block(0, {"type": "tool_use", "id": "i", "name": "f"}, *input_of('{"x":'))
    events, finished = decode(stream_of(START, *call, ended("max_tokens"), STOP))
    assert events == []
    assert finished is not None
    assert finished.reason == "length"


@pytest.mark.parametrize("arguments", ['{"x":', "[1]", "null!", '{"x":NaN}'])
def test_a_call_that_is_none_is_no_reason_to_end(arguments: str) -> None:
    call = block(0, {"type": "tool_use", "id": "i", "name": "f"}, *input_of(arguments))
    events, finished = decode(stream_of(START, *call, ended("tool_use"), STOP))
    assert events == []
    assert finished is not None
    assert finished.reason == "stop"


def test_a_message_without_a_reason_has_not_ended() -> None:
    text = block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "a"})
    with pytest.raises(UpstreamError, match="without a reason"):
        decode(stream_of(START, *text, STOP))
    # Usage may come after the reason.
    late = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 9}}
    finished = decode(stream_of(START, *text, ended("max_tokens"), late, STOP))[1]
    assert finished == Finished("length", Usage(3, 9))


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"type":"message"}',
        b'{"type":"message","content":[{"type":"text","text":"a"}],"stop_reason":null}',
        b'{"error":{"message":"no"}}',
    ],
)
def test_a_body_without_an_answer_is_none(body: bytes) -> None:
    decoder = BodyDecoder()
    decoder.feed(body)
    with pytest.raises(UpstreamError):
        decoder.end()


def test_an_answer_through_a_tool_is_text_piece_by_piece() -> None:
    tool = make_answer_tool(SCHEMA, ())
    says = block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "Well:"})
    call = block(1, {"type": "tool_use", "id": "i", "name": tool.name, "input": {}}, *input_of('{"a"', ":1}"))
    again = block(2, {"type": "tool_use", "id": "j", "name": tool.name, "input": {}}, *input_of('{"a":2}'))
    events, finished = decode(stream_of(START, *says, *call, *again, ended("tool_use"), STOP), tool)
    assert events == [TextDelta('{"a"'), TextDelta(":1}")]
    assert finished is not None
    assert finished.reason == "stop"
    # A server that does not make the model call it has still answered.
    events, finished = decode(stream_of(START, *says, ended("end_turn"), STOP), tool)
    assert events == [TextDelta("Well:")]
    # A call of the client's own tool is one.
    own = block(1, {"type": "tool_use", "id": "i", "name": "f", "input": {}})
    events, finished = decode(stream_of(START, *own, ended("tool_use"), STOP), tool)
    assert [type(event) for event in events] == [ToolCall]
    assert finished is not None
    assert finished.reason == "tool_calls"


@pytest.mark.parametrize("stream", [True, False])
def test_a_wrapped_answer_comes_out_whole(*, stream: bool) -> None:
    tool = make_answer_tool({"type": "array"}, ())
    content = {"type": "tool_use", "id": "i", "name": tool.name}
    if stream:
        call = block(0, {**content, "input": {}}, *input_of('{"answer"', ": [1]}"))
        events, _ = decode(stream_of(START, *call, ended("tool_use"), STOP), tool)
    else:
        decoder = BodyDecoder(tool)
        message = {"type": "message", "content": [{**content, "input": {"answer": [1]}}], "stop_reason": "tool_use"}
        decoder.feed(json.dumps(message).encode())
        events = list(decoder.end()[0])
    assert events == [TextDelta("[1]")]


def test_a_whole_message() -> None:
    message = {
        "type": "message",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "a"},
            {"type": "tool_use", "id": "i", "name": "f", "input": {"x": 1}},
        ],
        "stop_reason": "stop_sequence",
        "stop_sequence": "END",
        "usage": {"input_tokens": 3, "output_tokens": 9},
    }
    decoder = BodyDecoder()
    body = json.dumps(message).encode()
    decoder.feed(body[:40])
    decoder.feed(body[40:])
    events, finished = decoder.end()
    assert list(events) == [ThinkingDelta("hm", "s"), TextDelta("a"), ToolCall(0, "i", "f", '{"x": 1}')]
    assert finished == Finished("stop", Usage(3, 9), "END")


def test_a_whole_error_and_a_half_message() -> None:
    decoder = BodyDecoder()
    decoder.feed(b'{"type":"error","error":{"message":"no"}}')
    with pytest.raises(UpstreamError, match="no"):
        decoder.end()
    decoder = BodyDecoder()
    decoder.feed(b'{"type":"message"')
    with pytest.raises(DecodeError):
        decoder.end()


# -- probes --------------------------------------------------------------------------


def test_lists_of_either_form_are_read() -> None:
    listed = {"type": "model", "id": "claude-x", "created_at": "2026-01-01T00:00:00Z", "max_input_tokens": 5}
    (facts,) = read_models(json.dumps({"data": [listed], "has_more": False}).encode()).values()
    assert (facts.name, facts.modified_at, facts.context_length) == ("claude-x", "2026-01-01T00:00:00Z", 5)
    assert "m:latest" in read_models(b'{"object":"list","data":[{"id":"m","owned_by":"x","created":5}]}')
    assert read_models(b'{"data":null}') == {}
    with pytest.raises(ProbeError):
        read_models(b"<html>")
