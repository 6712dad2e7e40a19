"""Requests of Anthropic's API: what they need of a backend, what they are in full, and what is said of bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from ollama_proxy.api.anthropic.errors import BadRequest
from ollama_proxy.api.anthropic.requests import Asked, make_call, read_asked
from ollama_proxy.api.anthropic.typed import read_typed
from ollama_proxy.domain.call import Call, Dialect, Generation, Message, Need, Operation, ToolUse
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.http1.exchange import Exchange, ExchangeOwner
from ollama_proxy.net.http1.head import RequestHead

USER: Any = {"role": "user", "content": "hi"}
TOOL: Any = {"name": "f", "input_schema": {"type": "object"}}
PIXEL = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}


def exchange_of(body: bytes) -> Exchange:
    """A request as handlers get it, on no connection."""
    path = b"/v1/messages"
    head = RequestHead((b"POST", path + b"?beta=true", path, b"beta=true", False), (), {})
    exchange = Exchange(cast(ExchangeOwner, None), head, "")
    exchange.body = body
    return exchange


def encode(**members: Any) -> bytes:
    return json.dumps({"model": "m", "max_tokens": 5, "messages": [USER], **members}).encode()


def call_of(**members: Any) -> Call:
    exchange = exchange_of(encode(**members))
    return make_call(read_asked(exchange), exchange, "r", 0.0)


def typed_of(**members: Any) -> Generation:
    return read_typed(encode(**members))


def says(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def test_the_facts_of_a_plain_request() -> None:
    call = call_of(stream=True)
    assert (call.dialect, call.operation, call.model) == (Dialect.ANTHROPIC, Operation.CHAT, "m")
    assert (call.stream, call.max_tokens, call.needs, call.wants) == (True, 5, {Need.GENERATE}, frozenset())
    assert call.raw is not None
    assert call.raw.head.path == b"/v1/messages?beta=true"
    assert not call.raw_needs_native
    assert not call.second_hand


FORMAT = {"format": {"type": "json_schema", "schema": {}}}
URL = {"type": "url", "url": "http://a/b.png"}


@pytest.mark.parametrize(
    ("members", "needs", "wants"),
    [
        ({"tools": [TOOL]}, {Need.TOOLS}, set()),
        ({"tools": [TOOL], "tool_choice": {"type": "none"}}, set(), set()),
        ({"tools": [TOOL], "tool_choice": {"type": "auto"}}, {Need.TOOLS}, set()),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}}, {Need.TOOLS}, {Need.TOOL_CHOICE}),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}}, {Need.TOOLS}, {Need.TOOL_CHOICE}),
        ({"tools": []}, set(), set()),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, {Need.TOOLS}, {Need.WEB_SEARCH}),
        ({"tools": [{"type": "bash_20250124", "name": "b"}]}, {Need.TOOLS, Need.SERVER_TOOLS}, set()),
        ({"tools": [{**TOOL, "description": "of _2024"}]}, {Need.TOOLS}, set()),
        ({"output_config": FORMAT}, {Need.FORMAT}, set()),
        ({"output_config": {"effort": "low"}}, set(), set()),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, set(), {Need.THINKING}),
        ({"thinking": {"type": "adaptive"}}, set(), set()),
        (says({"type": "image", "source": PIXEL}), {Need.IMAGES}, set()),
        (says({"type": "image", "source": URL}), {Need.IMAGES}, {Need.REMOTE_IMAGES}),
        (says({"type": "document", "source": PDF}), {Need.DOCUMENTS}, set()),
        (says({"type": "document", "source": {"type": "text", "data": "x"}}), set(), set()),
        (says({"type": "text", "text": 'the "image" and the "document"'}), set(), set()),
        (
            says({"type": "tool_result", "tool_use_id": "i", "content": [{"type": "image", "source": PIXEL}]}),
            {Need.IMAGES},
            set(),
        ),
        # A word of a tool's schema is no block.
        (
            {"tools": [{"name": "f", "input_schema": {"properties": {"image": {}, "document": {}}}}]},
            {Need.TOOLS},
            set(),
        ),
    ],
)
def test_what_a_backend_must_be_able_to_do(members: dict[str, Any], needs: set[Need], wants: set[Need]) -> None:
    call = call_of(**members)
    assert call.needs == {Need.GENERATE, *needs}
    assert call.wants == wants


def test_what_ollamas_own_layer_would_drop_is_said_otherwise() -> None:
    assert call_of(output_config=FORMAT).raw_needs_native
    assert call_of(**says({"type": "document", "source": {"type": "text", "data": "x"}})).raw_needs_native
    assert call_of(tools=[TOOL], tool_choice={"type": "none"}).second_hand == b'"tools":null'


def test_our_own_words_stay_here() -> None:
    call = call_of(routing={"target": "npu"}, metadata={"user_id": "ada", "max_power_watts": 5})
    assert call.annotations.target == "npu"
    assert call.annotations.max_power_watts == 5
    assert call.raw is not None
    assert b"routing" not in call.raw.body
    assert b"user_id" in call.raw.body


# -- in full -------------------------------------------------------------------------


def test_a_conversation_in_full() -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image", "source": PIXEL}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "b"},
                {"type": "tool_use", "id": "i", "name": "f", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "c"},
                {"type": "tool_result", "tool_use_id": "i", "content": "4", "is_error": True},
            ],
        },
    ]
    system = [{"type": "text", "text": "S"}, {"type": "text", "text": "T"}]
    assert typed_of(messages=turns, system=system).messages == (
        Message("system", "ST"),
        Message("user", "a", images=("iVBORw0KGgo=",)),
        Message("assistant", "b", "hm", tool_uses=(ToolUse("f", '{"x": 1}', "i"),)),
        # The result answers the turn before, whatever is said besides.
        Message("tool", "Error: 4", tool_call_id="i", tool_name="f"),
        Message("user", "c"),
    )


def test_results_may_be_blocks_with_pictures() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "image", "source": PIXEL}, {"type": "text", "text": "b"}]
    (result,) = typed_of(**says({"type": "tool_result", "tool_use_id": "i", "content": content})).messages
    assert result == Message("tool", "ab", images=("iVBORw0KGgo=",), tool_call_id="i")
    (empty,) = typed_of(**says({"type": "tool_result", "tool_use_id": "i"})).messages
    assert empty.content == ""


def test_plain_documents_are_text() -> None:
    document = {"type": "document", "title": "T", "context": "C", "source": {"type": "text", "data": "D"}}
    found = {"type": "search_result", "title": "T", "source": "http://a", "content": [{"type": "text", "text": "E"}]}
    inner = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "F"}]}}
    (message,) = typed_of(**says(document, found, inner)).messages
    assert message.content == "T\nC\nD\nT http://a\nE\nF\n"


def test_sampling_is_as_given_and_nothing_more() -> None:
    plain = typed_of().sampling
    assert (plain.num_predict, plain.temperature, plain.top_p, plain.top_k, plain.stop) == (5, None, None, None, None)
    full = typed_of(temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["x"]).sampling
    assert (full.temperature, full.top_p, full.top_k, full.stop) == (0.5, 0.9, 3, ("x",))


@pytest.mark.parametrize(
    ("members", "think"),
    [
        ({}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"thinking": {"type": "adaptive"}}, None),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, "high"),
        ({"output_config": {"effort": " XHIGH "}}, "max"),
        ({"output_config": {"effort": "odd"}}, None),
    ],
)
def test_thinking(members: dict[str, Any], think: Any) -> None:
    assert typed_of(**members).think == think


@pytest.mark.parametrize(
    ("choice", "wanted", "parallel"),
    [
        ({"type": "auto"}, "auto", None),
        ({"type": "any", "disable_parallel_tool_use": True}, "required", False),
        ({"type": "none"}, "none", None),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}, None),
    ],
)
def test_tools_and_the_choice_among_them(choice: Any, wanted: Any, parallel: bool | None) -> None:
    typed = typed_of(tools=[{**TOOL, "description": "D", "type": "custom"}], tool_choice=choice)
    function = {"name": "f", "description": "D", "parameters": {"type": "object"}}
    assert typed.tools == ({"type": "function", "function": function},)
    assert (typed.tool_choice, typed.parallel_tools) == (wanted, parallel)


def test_a_form() -> None:
    schema = {"type": "object"}
    assert typed_of(output_config={"format": {"type": "json_schema", "schema": schema}}).format == schema


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (says({"type": "image", "source": URL}), "invalid image source type: url. Only base64 images are supported."),
        (says({"type": "image"}), "invalid image source"),
        (says({"type": "image", "source": {"type": "base64", "data": "!"}}), "invalid base64 image data"),
        (says({"type": "document", "source": PDF}), "only those of plain text"),
        (says({"type": "tool_use", "name": "f"}), "tool_use block missing required 'id' field"),
        (says({"type": "tool_use", "id": "i"}), "tool_use block missing required 'name' field"),
        (says({"type": "tool_use", "id": "i", "name": "f", "input": 5}), "input must be an object"),
        ({"tools": [{"type": "bash_20250124", "name": "b"}]}, "has no tool 'bash_20250124'"),
        ({"tools": [{"name": ""}]}, "a tool has no name"),
        ({"output_config": {"format": {"type": "grammar"}}}, "expected json_schema"),
        ({"temperature": "hot"}, "cannot unmarshal string into Go struct field MessagesRequest.temperature"),
        ({"stop_sequences": "x"}, "cannot unmarshal string into Go struct field MessagesRequest.stop_sequences"),
    ],
)
def test_what_no_other_dialect_can_say_is_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        typed_of(**members)
    assert message in refused.value.message


# -- bad bodies ----------------------------------------------------------------------


def read_raw(body: bytes) -> Asked:
    return read_asked(exchange_of(body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "EOF"),
        (b'{"model"', "unexpected EOF"),
        (b"[1]", "json: cannot unmarshal array into Go value of type anthropic.MessagesRequest"),
        (encode(model=5), "json: cannot unmarshal number into Go struct field MessagesRequest.model of type string"),
        (encode(stream=1), "json: cannot unmarshal number into Go struct field MessagesRequest.stream of type bool"),
        (
            encode(max_tokens="5"),
            "json: cannot unmarshal string into Go struct field MessagesRequest.max_tokens of type int",
        ),
        (
            encode(messages="hi"),
            "json: cannot unmarshal string into Go struct field MessagesRequest.messages"
            " of type []anthropic.MessageParam",
        ),
        (
            encode(thinking=[]),
            "json: cannot unmarshal array into Go struct field MessagesRequest.thinking"
            " of type anthropic.ThinkingConfig",
        ),
        (encode(routing=5), "routing must be an object"),
    ],
)
def test_bodies_that_are_refused_at_once(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read_raw(body)
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (
            [{"role": "user", "content": 5}],
            "json: cannot unmarshal number into Go struct field MessagesRequest.messages"
            " of type []anthropic.ContentBlock",
        ),
        (
            [{"role": "user", "content": [{"type": 5}]}],
            "json: cannot unmarshal number into Go struct field MessagesRequest.messages.type of type string",
        ),
        ([{"role": "user"}], "unexpected end of JSON input"),
    ],
)
def test_turns_that_cannot_be_read(messages: Any, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        typed_of(messages=messages)
    assert refused.value.message == message


@pytest.mark.parametrize("member", ["temperature", "top_p"])
@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"9" * 1_000_000])
def test_numbers_without_end_are_refused_in_gos_words(member: str, number: bytes) -> None:
    body = b'{"model":"m","max_tokens":1,"messages":[],"%b":%b}' % (member.encode(), number)
    with pytest.raises(BadRequest) as refused:
        read_typed(body)
    message = refused.value.message
    assert message.startswith(f"json: cannot unmarshal number {number[:300].decode()}")
    assert message.endswith(f"into Go struct field MessagesRequest.{member} of type float64")


def test_our_own_member_goes_and_the_rest_is_not_read() -> None:
    exchange = exchange_of(b'{"model":"m","routing":{},"messages":[],"x":[1e400,"\xc0"]}')
    raw = make_call(read_asked(exchange), exchange, "r1", 1.0).raw
    assert raw is not None
    assert raw.body == b'{"model":"m","messages":[],"x":[1e400,"\xc0"]}'


@pytest.mark.parametrize("read", [read_raw, read_typed])
def test_a_body_of_no_end_is_refused_and_not_more(read: Callable[[bytes], object]) -> None:
    deep = b'{"model":"m","max_tokens":1,"messages":' + b"[" * 100_000
    with pytest.raises(ProxyError):
        read(deep)
