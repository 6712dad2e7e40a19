"""Requests of the Responses API: what routing learns, what backends get, and what is refused in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_proxy.api.responses.errors import BadRequest, NotStored, missing_model, write_error
from ollama_proxy.api.responses.items import output_items
from ollama_proxy.api.responses.listing import list_items
from ollama_proxy.api.responses.requests import make_call, read_asked
from ollama_proxy.api.responses.store import StoredResponse
from ollama_proxy.domain.call import Call, Generation, Message, Need, ToolUse
from ollama_proxy.domain.errors import ErrorKind, ProxyError

PIXEL = "iVBORw0KGgo="


class FakeExchange:
    """As much of an exchange as reading a request takes."""

    method = b"POST"
    target = path = b"/v1/responses"
    headers = ((b"content-type", b"application/json"),)

    def __init__(self) -> None:
        self.notes: dict[object, Any] = {}


def call_of(earlier: StoredResponse | None = None, **members: Any) -> Call:
    asked = read_asked(json.dumps({"model": "m", "input": "hi", **members}).encode())
    if earlier is not None:
        asked.follow(earlier)
    return make_call(asked, FakeExchange(), "r1", 1.0)  # type: ignore[arg-type]


def typed(**members: Any) -> Generation:
    found = call_of(**members).typed()
    assert isinstance(found, Generation)
    return found


def raw_of(call: Call) -> bytes:
    assert call.raw is not None
    return call.raw.body


# -- what routing learns --------------------------------------------------------------


def test_bytes_go_up_as_they_came() -> None:
    body = b'{"unknown": [1,  2], "model":"m","input": "hi"}'
    call = make_call(read_asked(body), FakeExchange(), "r1", 1.0)  # type: ignore[arg-type]
    assert raw_of(call) is body
    assert not call.raw_needs_native


def test_our_own_member_stays_here() -> None:
    call = call_of(routing={"target": "cpu", "max_power_watts": 9})
    assert call.annotations.target == "cpu"
    assert call.annotations.max_power_watts == 9
    assert "routing" not in json.loads(raw_of(call))


def test_metadata_is_the_clients_but_for_our_words() -> None:
    call = call_of(metadata={"target": "cpu", "team": "x"})
    assert call.annotations.target == "cpu"
    assert call.annotations.custom == {}
    assert json.loads(raw_of(call))["metadata"] == {"target": "cpu", "team": "x"}


@pytest.mark.parametrize(
    ("members", "needs", "wants"),
    [
        ({}, set(), set()),
        ({"tools": [{"type": "function", "name": "f"}]}, {Need.TOOLS}, set()),
        ({"tools": [{"type": "web_search_preview"}]}, set(), {Need.BUILT_IN_TOOLS}),
        ({"tools": [{"type": "custom", "name": "c"}]}, set(), {Need.BUILT_IN_TOOLS}),
        ({"tools": [{}, {"type": [1]}, 5]}, set(), set()),
        ({"tool_choice": "required"}, set(), {Need.TOOL_CHOICE}),
        ({"tool_choice": {"type": "function", "name": "f"}}, set(), {Need.TOOL_CHOICE}),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": []}}, set(), set()),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, {Need.FORMAT}, set()),
        ({"text": {"format": {"type": "text"}}}, set(), set()),
        ({"reasoning": {"effort": "low"}}, set(), {Need.THINKING}),
        ({"reasoning": {"effort": "none"}}, set(), set()),
        ({"include": ["message.output_text.logprobs"]}, {Need.LOGPROBS}, set()),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, {Need.IMAGES}, set()),
    ],
)
def test_needs_and_wants(members: dict[str, Any], needs: set[Need], wants: set[Need]) -> None:
    call = call_of(**members)
    assert call.needs == {Need.GENERATE} | needs
    assert call.wants == wants


@pytest.mark.parametrize(
    "members",
    [
        {"text": {"format": {"type": "json_object"}}},
        {"top_logprobs": 2},
        {"tool_choice": "none"},
    ],
)
def test_what_ollamas_layer_would_drop_is_asked_for_natively(members: dict[str, Any]) -> None:
    assert call_of(**members).raw_needs_native


# -- going on ---------------------------------------------------------------------------


EARLIER = StoredResponse(
    "resp_1",
    b"{}",
    (b'{"type":"message","role":"user","content":"My name is Ada."}',),
    (b'{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Hello."}]}',),
)


def test_history_stands_in_front_of_the_new_input() -> None:
    call = call_of(EARLIER, previous_response_id="resp_1", input="And now?")
    assert call.raw_needs_native
    sent = json.loads(raw_of(call))
    assert "previous_response_id" not in sent
    assert [item["role"] for item in sent["input"]] == ["user", "assistant", "user"]
    found = call.typed()
    assert isinstance(found, Generation)
    assert [message.content for message in found.messages] == ["My name is Ada.", "Hello.", "And now?"]
    assert call.prompt_bytes > len("And now?") + len(EARLIER.history[0])


def test_images_of_earlier_turns_count() -> None:
    image = b'{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,x"}]}'
    call = call_of(StoredResponse("resp_1", b"{}", (image,)), previous_response_id="resp_1")
    assert Need.IMAGES in call.needs


# -- what backends get --------------------------------------------------------------------


def test_a_whole_conversation_is_read() -> None:
    found = typed(
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Use metric units."},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is "},
                    {"type": "input_text", "text": "this?"},
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
                ],
            },
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "A pixel."},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"x":1}'},
            {"type": "function_call", "call_id": "c2", "name": "zoom", "arguments": ""},
            {"type": "function_call_output", "call_id": "c1", "output": "grey"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "no"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Grey it is."}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "A grey pixel."}]},
        ],
    )
    assert found.messages == (
        Message("system", "Be brief."),
        Message("system", "Use metric units."),
        Message("user", "What is this?", images=(PIXEL,)),
        Message(
            "assistant",
            thinking="A pixel.",
            tool_uses=(ToolUse("look", '{"x":1}', "c1"), ToolUse("zoom", "{}", "c2")),
        ),
        Message("tool", "grey", tool_call_id="c1", tool_name="look"),
        Message("tool", "no", tool_call_id="c2", tool_name="zoom"),
        Message("assistant", "A grey pixel.", thinking="Grey it is."),
    )


def test_sampling_form_and_tools_are_read() -> None:
    found = typed(
        max_output_tokens=9,
        temperature=0.1,
        parallel_tool_calls=False,
        reasoning={"effort": "minimal"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        tools=[
            {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True},
            {"type": "web_search_preview"},
        ],
        tool_choice={"type": "function", "name": "f"},
        top_logprobs=2,
    )
    assert (found.sampling.num_predict, found.sampling.temperature, found.sampling.top_p) == (9, 0.1, 1.0)
    assert found.format == {"type": "object"}
    assert found.think == "low"
    assert found.parallel_tools is False
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    assert found.tools == ({"type": "function", "function": function},)
    assert found.tool_choice == {"type": "function", "function": {"name": "f"}}
    assert (found.logprobs, found.top_logprobs) == (True, 2)


def test_only_allowed_tools_are_offered() -> None:
    tools = [{"type": "function", "name": name} for name in "abc"]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "b"}]}
    found = typed(tools=tools, tool_choice=choice)
    assert [tool["function"]["name"] for tool in found.tools] == ["b"]
    assert found.tool_choice == "required"


# -- what is refused -----------------------------------------------------------------------


GO = "json: cannot unmarshal number into Go value"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"input": 5}, f"input must be a string or array: {GO} of type []json.RawMessage"),
        ({"input": {}}, "input must be a string or array: json: cannot unmarshal object"),
        ({"background": True}, "background responses are not supported"),
        ({"conversation": "conv_1"}, "conversations are not kept here"),
        ({"previous_response_id": 5}, "previous_response_id must be a string"),
        ({"routing": "cpu"}, "routing must be an object"),
        ({"input": []}, "input is required"),
        ({"input": None}, "input is required"),
        ({"input": [5]}, f'input[0]: {GO} of type struct {{ Type string "json:\\"type\\""'),
        ({"input": [{}]}, "input[0]: input item missing required 'type' field"),
        ({"input": [{"type": "zzz"}]}, 'input[0]: unknown input item type: "zzz"'),
        ({"input": [{"type": ["x"]}]}, "input[0]: unknown input item type"),
        ({"input": [{"role": "user", "content": 5}]}, f"input[0]: content must be a string or array: {GO}"),
        ({"input": [{"role": "user", "content": [5]}]}, f"input[0]: content[0]: {GO}"),
        (
            {"input": [{"role": 5, "content": "x"}]},
            "input[0]: json: cannot unmarshal number into Go struct field .role",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "zzz"}]}]},
            "input[0]: content[0]: unknown content type: zzz",
        ),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "file inputs are not currently supported"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x/y.png"}]}]},
            "image URLs are not currently supported, please use base64 encoded data instead",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,z!"}]}
                ]
            },
            "invalid image input",
        ),
        (
            {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "zz"}]},
            "failed to parse function call arguments",
        ),
        ({"input": [{"type": "function_call", "arguments": "[]"}]}, "failed to parse function call arguments"),
        ({"reasoning": {"effort": "lots"}}, 'invalid reasoning value: "lots" (must be "high", "medium", "low", "max"'),
        ({"temperature": "x"}, "temperature"),
        ({"tools": [{"type": "function"}]}, "a function among the tools has no name"),
        ({"tools": [{"type": "custom", "name": "c"}]}, 'the chosen backend has no tools of type "custom"'),
        ({"tool_choice": {"type": "custom", "name": "c"}}, "no backend has the tool 'custom'"),
        ({"tool_choice": {"type": "function", "name": "g"}}, "there is no function 'g' among the tools"),
        ({"tool_choice": {"type": "web_search_preview"}}, "no backend has the tool 'web_search_preview'"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "schema": {}, "name": 5}}}, "text.format.name of type string"),
        ({"text": {"format": {"type": "json_schema", "schema": {}, "strict": "x"}}}, "text.format.strict of type bool"),
        ({"prompt": {"id": "p"}}, "prompt templates are not supported"),
    ],
)
def test_what_makes_no_sense_is_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        typed(**members)
    assert message in caught.value.message
    status, content_type, body = write_error(caught.value)
    assert (status, content_type) == (400, b"application/json; charset=utf-8")
    error = json.loads(body)["error"]
    assert error["type"] == "invalid_request_error"
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'{"input": ' + b"[" * 100_000, b"5"])
def test_bodies_that_cannot_be_read_are_refused(body: bytes) -> None:
    with pytest.raises(ProxyError) as caught:
        read_asked(body)
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


def typed_of_bytes(body: bytes) -> Generation:
    found = make_call(read_asked(body), FakeExchange(), "r1", 1.0).typed()  # type: ignore[arg-type]
    assert isinstance(found, Generation)
    return found


@pytest.mark.parametrize("number", [b"1e400", b"9" * 400, b"9" * 1_000_000])
def test_numbers_without_end_are_refused_in_gos_words(number: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        typed_of_bytes(b'{"model":"m","input":"x","temperature":%b}' % number)
    message = caught.value.message
    assert message.startswith(f"json: cannot unmarshal number {number[:300].decode()}")
    assert message.endswith("into Go struct field ResponsesRequest.temperature of type float64")
    assert len(message) < 1000


@pytest.mark.parametrize("given", [b'"a\xc0b"', rb'"a\ud800b"', b'[{"role":"user","content":"a\xc0b"}]'])
def test_what_is_no_text_becomes_a_replacement_character(given: bytes) -> None:
    found = typed_of_bytes(b'{"model":"m","input":%b}' % given)
    assert [message.content for message in found.messages] == ["a\N{REPLACEMENT CHARACTER}b"]


@pytest.mark.parametrize("given", [b'"%b"', b'[{"role":"user","content":"%b"}]'])
def test_what_is_no_text_at_all_is_refused(given: bytes) -> None:
    with pytest.raises(BadRequest, match="too much that is no text"):
        typed_of_bytes(b'{"model":"m","input":%b}' % (given % (b"\xc0" * 1_000_000)))


@pytest.mark.parametrize("given", [b"1e400", b"-1", b"true", b"{" * 50 + b"}"])
def test_inputs_of_another_kind_are_refused(given: bytes) -> None:
    with pytest.raises(ProxyError) as caught:
        read_asked(b'{"model":"m","input":%b}' % given)
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


def test_our_own_member_goes_and_the_rest_is_not_read() -> None:
    body = b'{"model":"m","input":"hi","routing":{"target":"cpu"},"x":[1e400,"\xc0"]}'
    call = make_call(read_asked(body), FakeExchange(), "r1", 1.0)  # type: ignore[arg-type]
    assert raw_of(call) == b'{"model":"m","input":"hi","x":[1e400,"\xc0"]}'


def test_a_backends_own_words_are_kept() -> None:
    error = ProxyError(
        ErrorKind.BACKEND_REFUSED, "x", status=422, body=b'{"error":{"message":"mine"}}', content_type=b"text/x"
    )
    assert write_error(error) == (422, b"text/x", b'{"error":{"message":"mine"}}')
    status, _, body = write_error(ProxyError(ErrorKind.BACKEND_REFUSED, "HTTP 400: no", status=400, body=b"no"))
    assert (status, json.loads(body)["error"]["message"]) == (400, "no")


def test_a_response_that_is_not_kept_is_not_found() -> None:
    status, _, body = write_error(NotStored("resp_1"))
    assert status == 404
    assert json.loads(body)["error"]["message"] == "Response with id 'resp_1' not found."


# -- what was kept --------------------------------------------------------------------------


HISTORY = tuple(json.dumps({"role": "user", "content": f"turn {number}"}).encode() for number in range(5))
KEPT = StoredResponse("resp_1", b"{}", HISTORY)


def test_pages_meet_without_a_gap() -> None:
    seen: list[str] = []
    after = ""
    for _ in range(4):
        page = list_items(KEPT, b"limit=2&order=asc" + (f"&after={after}".encode() if after else b""))
        seen += [item["content"][0]["text"] for item in page["data"]]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == [f"turn {number}" for number in range(5)]


def test_the_newest_come_first() -> None:
    page = list_items(KEPT, b"")
    assert [item["content"][0]["text"] for item in page["data"]] == [f"turn {number}" for number in (4, 3, 2, 1, 0)]
    assert page["first_id"] == page["data"][0]["id"]
    assert page == list_items(KEPT, b"order=desc&limit=100"), "an item has the same id every time"


@pytest.mark.parametrize("query", [b"limit=0", b"limit=101", b"limit=x", b"order=up", b"after=nobody"])
def test_pages_that_cannot_be_are_refused(query: bytes) -> None:
    with pytest.raises(BadRequest):
        list_items(KEPT, query)


def test_output_is_cut_into_items() -> None:
    document = b'{"id":"resp_1","output":[{"type":"message","x":1},  {"type":"function_call"}]}'
    assert output_items(document) == (b'{"type":"message","x":1}', b'{"type":"function_call"}')


@pytest.mark.parametrize(
    ("name", "status"),
    [("m", 404), (" m ", 404), ("h/n/m:t", 404), ("a:b:c", 400), ("x y", 400), ("a:cloud:local", 400)],
)
def test_models_that_are_not_there_and_names_that_are_none(name: str, status: int) -> None:
    assert write_error(missing_model(name))[:2] == (status, b"application/json")
