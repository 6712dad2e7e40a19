"""Anthropic's events: whatever the model does, in order, whole, and as the official client adds them up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ollama_proxy.api.anthropic.writer import AnthropicWriter
from ollama_proxy.backends.anthropic.answers import BodyDecoder, StreamDecoder
from ollama_proxy.domain.answer import AnswerEvent, Finished, Outcome, Route, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.lanes.framing import event_data

typed_event: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
typed_message = TypeAdapter(Message)

calls = st.builds(lambda text: ToolCall(0, "", "f", json.dumps({"x": text})), st.text())
events = st.lists(
    st.one_of(
        st.builds(TextDelta, st.text(min_size=1)),
        st.builds(ThinkingDelta, st.text(min_size=1), st.sampled_from(("", "c2ln"))),
        calls,
    ),
    max_size=12,
)


def outcome(reason: str = "stop", sequence: str = "") -> Outcome:
    usage = Usage(prompt_tokens=5, output_tokens=7, cached_tokens=2)
    return Outcome(Finished(reason, usage, sequence), 0.1, 0.2, 7, 10.0, None, "none")


def write(parts: list[AnswerEvent], reason: str = "stop", sequence: str = "", *, stream: bool = True) -> bytes:
    writer = AnthropicWriter("m", "req_1", stream=stream, prompt_tokens=3)
    written = [writer.write_events((part,)) for part in parts]
    return b"".join([*written, writer.write_end(outcome(reason, sequence))])


def read(stream: bytes) -> list[dict[str, Any]]:
    found = [json.loads(data) for data in event_data(stream)]
    names = [line.removeprefix(b"event: ").decode() for line in stream.split(b"\n") if line.startswith(b"event: ")]
    assert names == [event["type"] for event in found]
    return found


def add_up(stream: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The blocks of a stream; each has to begin, grow and end in its turn."""
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in stream[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(blocks)
                blocks.append({**event["content_block"], "json": ""})
                is_open = True
            case "content_block_delta":
                assert is_open
                assert event["index"] == len(blocks) - 1
                delta = dict(event["delta"])
                kind = delta.pop("type")
                assert kind in ("text_delta", "thinking_delta", "signature_delta", "input_json_delta")
                ((name, value),) = delta.items()
                name = "json" if name == "partial_json" else name
                blocks[-1][name] += value
            case "content_block_stop":
                assert is_open
                assert event["index"] == len(blocks) - 1
                is_open = False
            case other:
                pytest.fail(other)
    assert not is_open
    for block in blocks:
        told = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(told)
            block["id"] = ""
    return blocks


@given(events)
def test_a_stream_is_typed_and_in_order(parts: list[AnswerEvent]) -> None:
    stream = read(write(parts))
    for event in stream:
        typed_event.validate_python(event)
    assert stream[0]["type"] == "message_start"
    assert [event["type"] for event in stream[-2:]] == ["message_delta", "message_stop"]
    add_up(stream)


@given(events)
def test_a_stream_adds_up_to_the_whole_message(parts: list[AnswerEvent]) -> None:
    stream = read(write(parts))
    whole = json.loads(write(parts, stream=False))
    typed_message.validate_python(whole)
    for block in whole["content"]:
        if block["type"] == "tool_use":
            assert block["id"]
            block["id"] = ""
    assert add_up(stream) == whole["content"]
    assert stream[-2]["delta"] == {"stop_reason": whole["stop_reason"], "stop_sequence": whole["stop_sequence"]}
    assert stream[-2]["usage"] == whole["usage"]


def merge(parts: list[AnswerEvent]) -> list[AnswerEvent]:
    """Neighbouring pieces as one, and calls without what the writer makes up."""
    found: list[AnswerEvent] = []
    calls = 0
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, TextDelta) and isinstance(last, TextDelta):
            found[-1] = TextDelta(last.text + part.text)
        elif isinstance(part, ThinkingDelta) and isinstance(last, ThinkingDelta):
            found[-1] = ThinkingDelta(last.text + part.text, last.signature + part.signature)
        elif isinstance(part, ToolCall):
            found.append(ToolCall(calls, "", part.name, json.dumps(json.loads(part.arguments))))
            calls += 1
        else:
            found.append(part)
    return found


@given(events, st.data())
def test_what_is_written_is_read_again_however_it_is_cut(parts: list[AnswerEvent], data: st.DataObject) -> None:
    stream = write(parts, "stop", "END")
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = StreamDecoder()
    found: list[AnswerEvent] = []
    for begin, end in zip([0, *places], [*places, len(stream)], strict=True):
        found += decoder.feed(stream[begin:end])
    more, finished = decoder.end()
    assert merge([*found, *more]) == merge(parts)
    called = any(isinstance(part, ToolCall) for part in parts)
    assert finished == Finished("tool_calls" if called else "stop", outcome().finished.usage, "END")
    whole = BodyDecoder()
    whole.feed(write(parts, "stop", "END", stream=False))
    again, finished = whole.end()
    assert merge(list(again)) == merge(parts)
    assert finished is not None


@pytest.mark.parametrize(
    ("parts", "reason", "sequence", "told"),
    [
        ([TextDelta("a")], "stop", "", "end_turn"),
        ([TextDelta("a")], "stop", "END", "stop_sequence"),
        ([TextDelta("a")], "length", "", "max_tokens"),
        ([TextDelta("a")], "content_filter", "", "refusal"),
        ([ToolCall(0, "i", "f", "{}")], "stop", "", "tool_use"),
        ([ToolCall(0, "i", "f", "{}")], "tool_calls", "", "tool_use"),
        ([ToolCall(0, "i", "f", "{}")], "length", "", "max_tokens"),
        ([], "stop", "", "end_turn"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_why_it_ended(parts: list[AnswerEvent], reason: str, sequence: str, told: str, *, stream: bool) -> None:
    written = write(parts, reason, sequence, stream=stream)
    document = read(written)[-2]["delta"] if stream else json.loads(written)
    assert document["stop_reason"] == told
    assert document["stop_sequence"] == (sequence or None)


def test_cached_tokens_are_counted_apart() -> None:
    usage = json.loads(write([TextDelta("a")], stream=False))["usage"]
    assert usage == {"input_tokens": 3, "output_tokens": 7, "cache_read_input_tokens": 2}


def test_nothing_is_no_block() -> None:
    assert json.loads(write([TextDelta(""), ThinkingDelta("")], stream=False))["content"] == []
    assert [event["type"] for event in read(write([]))] == ["message_start", "message_delta", "message_stop"]


def test_arguments_stay_as_the_model_wrote_them() -> None:
    whole = write([ToolCall(0, "i", "f", '{"a":1.10}')], stream=False)
    assert b'"input":{"a":1.10}' in whole


@pytest.mark.parametrize("stream", [True, False])
def test_no_call_is_no_use_of_a_tool(*, stream: bool) -> None:
    assert b'"stop_reason":"end_turn"' in write([TextDelta("a")], "tool_calls", stream=stream)


def test_a_stand_in_is_told_by_its_own_name() -> None:
    writer = AnthropicWriter("m", "req_1", stream=False)
    writer.routed(Route("d", "b", "r", 0.0, 0, (), 1, "none", "small", stand_in=True))
    assert json.loads(writer.write_end(outcome()))["model"] == "small"


@pytest.mark.parametrize(
    ("kind", "status", "name"),
    [
        (ErrorKind.INVALID_REQUEST, 400, "invalid_request_error"),
        (ErrorKind.UNAUTHENTICATED, 401, "authentication_error"),
        (ErrorKind.PERMISSION_DENIED, 403, "permission_error"),
        (ErrorKind.NOT_FOUND, 404, "not_found_error"),
        (ErrorKind.TOO_LARGE, 413, "request_too_large"),
        (ErrorKind.RATE_LIMITED, 429, "rate_limit_error"),
        (ErrorKind.OVERLOADED, 529, "overloaded_error"),
        (ErrorKind.BACKEND_FAILED, 502, "api_error"),
        (ErrorKind.NO_HEALTHY_BACKEND, 503, "overloaded_error"),
        (ErrorKind.DEADLINE, 504, "timeout_error"),
        (ErrorKind.INTERNAL, 500, "api_error"),
    ],
)
def test_errors_by_their_kind(kind: ErrorKind, status: int, name: str) -> None:
    writer = AnthropicWriter("m", "req_1", stream=True)
    told, content_type, body = writer.write_error(ProxyError(kind, "why"))
    assert (told, content_type) == (status, b"application/json")
    assert json.loads(body) == {"type": "error", "error": {"type": name, "message": "why"}, "request_id": "req_1"}
    (event,) = read(writer.write_error_event(ProxyError(kind, "why")))
    assert event["error"] == {"type": name, "message": "why"}


def test_a_refusal_keeps_the_backends_words_in_this_shape() -> None:
    writer = AnthropicWriter("m", "req_1", stream=False)
    ours = b'{"type":"error","error":{"type":"x","message":"y"}}'
    refused = ProxyError(ErrorKind.BACKEND_REFUSED, "y", status=418, body=ours, content_type=b"application/json")
    assert writer.write_error(refused) == (418, b"application/json", ours)
    theirs = ProxyError(ErrorKind.BACKEND_REFUSED, "y", status=418, body=b'{"error":"y"}')
    assert json.loads(writer.write_error(theirs)[2])["error"]["message"] == "y"


@pytest.mark.parametrize(("name", "status"), [("m", 404), (" m ", 404), ("h/n/m:t", 404), ("a:b:c", 400), ("x y", 400)])
def test_models_that_are_not_there_and_names_that_are_none(name: str, status: int) -> None:
    error = ProxyError(ErrorKind.MODEL_NOT_FOUND, "as routing says it")
    told, content_type, body = AnthropicWriter(name, "req_1", stream=False).write_error(error)
    assert (told, content_type) == (status, b"application/json")
    message = f"model '{name}' not found" if status == 404 else "invalid model name"
    assert json.loads(body)["error"]["message"] == message
