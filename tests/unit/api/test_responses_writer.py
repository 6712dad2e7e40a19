"""The events of the Responses API: whatever the model does, in order, whole, and as the official client types them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from ollama_proxy.api.responses.writer import ResponsesWriter
from ollama_proxy.domain.answer import (
    AnswerEvent,
    Finished,
    Outcome,
    Progress,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    Usage,
)
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.lanes.framing import event_data

BODY = json.dumps(
    {
        "model": "m",
        "input": "hi",
        "instructions": "Be brief.",
        "temperature": 0.5,
        "metadata": {"a": "b"},
        "tools": [{"type": "function", "name": "f"}, {"type": "web_search_preview"}],
    }
).encode()
typed_event: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
typed_response = TypeAdapter(Response)

events = st.lists(
    st.one_of(
        st.builds(TextDelta, st.text(min_size=1)),
        st.builds(ThinkingDelta, st.text(min_size=1)),
        st.builds(
            lambda text: ToolCall(0, "", "f", json.dumps({"x": text})),
            st.text(),
        ),
    ),
    max_size=12,
)


def outcome(reason: str = "stop") -> Outcome:
    usage = Usage(prompt_tokens=5, output_tokens=7, cached_tokens=2)
    return Outcome(Finished(reason, usage), 0.1, 0.2, 7, 10.0, None, "none")


def write(parts: list[AnswerEvent], reason: str = "stop", *, stream: bool = True) -> bytes:
    writer = ResponsesWriter(BODY, "m", stream=stream, previous="resp_earlier")
    written = [writer.write_events((part,)) for part in parts]
    return b"".join([*written, writer.write_end(outcome(reason))])


def read(stream: bytes) -> list[dict[str, Any]]:
    found = [json.loads(data) for data in event_data(stream)]
    names = [line.removeprefix(b"event: ").decode() for line in stream.split(b"\n") if line.startswith(b"event: ")]
    assert names == [event["type"] for event in found]
    return found


def check_types(event: dict[str, Any]) -> None:
    """Against the client's models; the newest of their counters is one that only OpenAI has."""
    event = json.loads(json.dumps(event))
    if usage := (event.get("response") or {}).get("usage"):
        usage["input_tokens_details"]["cache_write_tokens"] = 0
    typed_event.validate_python(event)


@given(parts=events, reason=st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
def test_every_stream_is_well_formed(parts: list[AnswerEvent], reason: str) -> None:
    stream = read(write(parts, reason))
    for event in stream:
        check_types(event)
    assert [event["sequence_number"] for event in stream] == list(range(len(stream)))
    assert [event["type"] for event in stream[:2]] == ["response.created", "response.in_progress"]
    final = stream[-1]["response"]
    status = {"length": "incomplete", "content_filter": "incomplete"}.get(reason, "completed")
    assert (stream[-1]["type"], final["status"]) == (f"response.{status}", status)
    items = check_items(stream)
    assert final["output"] == items
    text = "".join(part.text for part in parts if isinstance(part, TextDelta))
    assert "".join(item["content"][0]["text"] for item in items if item["type"] == "message") == text
    calls = [part for part in parts if isinstance(part, ToolCall)]
    assert [item["arguments"] for item in items if item["type"] == "function_call"] == [one.arguments for one in calls]
    assert any(item["type"] != "reasoning" for item in items)


def check_items(stream: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One item at a time, each from its beginning to its end, its deltas making up its whole."""
    done: list[dict[str, Any]] = []
    open_id = None
    gathered = ""
    for event in stream[2:-1]:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert open_id is None
            open_id, gathered = event["item"]["id"], ""
            assert event["item"].get("status", "in_progress") == "in_progress"
        elif kind == "response.output_item.done":
            item = event["item"]
            assert item["id"] == open_id
            done.append(item)
            open_id = None
        else:
            assert event["item_id"] == open_id
            gathered += event.get("delta", "")
            if kind.endswith(".done"):
                assert event.get("text", event.get("arguments", gathered)) == gathered
        assert event["output_index"] == len(done) - (kind == "response.output_item.done")
    assert open_id is None
    return done


@given(parts=events)
def test_the_whole_object_is_what_the_stream_ends_with(parts: list[AnswerEvent]) -> None:
    whole = json.loads(write(parts, stream=False))
    streamed = read(write(parts))[-1]["response"]
    assert without_ids(whole) == without_ids(streamed)
    check_types({"type": "response.completed", "sequence_number": 0, "response": whole})


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        drop = ("id", "call_id", "created_at", "completed_at")
        return {key: without_ids(inner) for key, inner in value.items() if key not in drop}
    return [without_ids(inner) for inner in value] if isinstance(value, list) else value


def test_the_object_echoes_what_was_asked_for() -> None:
    whole = json.loads(write([TextDelta("hi")], stream=False))
    assert whole["instructions"] == "Be brief."
    assert whole["temperature"] == 0.5
    assert whole["top_p"] == 1
    assert whole["metadata"] == {"a": "b"}
    assert whole["previous_response_id"] == "resp_earlier"
    assert whole["store"] is True
    # What was not offered to the model is not in its answer.
    assert [tool["name"] for tool in whole["tools"]] == ["f"]
    assert whole["usage"] == {
        "input_tokens": 5,
        "output_tokens": 7,
        "total_tokens": 12,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def test_ids_cannot_be_guessed() -> None:
    ids = {json.loads(write([], stream=False))["id"] for _ in range(50)}
    assert len(ids) == 50
    assert all(len(ident) == len("resp_") + 48 for ident in ids)


def test_log_probabilities_are_in_the_delta_and_in_the_part() -> None:
    entry = {"token": "hi", "logprob": -0.1, "bytes": [104, 105], "top_logprobs": []}
    given_entry = {key: value for key, value in entry.items() if key != "top_logprobs"}
    stream = read(write([TextDelta("hi", (given_entry,))]))
    delta = next(event for event in stream if event["type"] == "response.output_text.delta")
    assert delta["logprobs"] == [entry]
    assert stream[-1]["response"]["output"][0]["content"][0]["logprobs"] == [entry]


@pytest.mark.parametrize("parts", [[], [TextDelta("half a")], [ThinkingDelta("hm")], [ToolCall(0, "c", "f", "{}")]])
def test_a_stream_that_breaks_off_is_never_complete(parts: list[AnswerEvent]) -> None:
    writer = ResponsesWriter(BODY, "m", stream=True)
    written = b"".join(writer.write_events((part,)) for part in parts)
    stream = read(written + writer.write_error_event(ProxyError(ErrorKind.BACKEND_FAILED, "it is gone")))
    for event in stream:
        check_types(event)
    assert [event["sequence_number"] for event in stream] == list(range(len(stream)))
    assert [event["type"] for event in stream[-2:]] == ["error", "response.failed"]
    assert stream[-2]["message"] == "it is gone"
    failed = stream[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert len(failed["output"]) == len(parts)


@pytest.mark.parametrize("framed", [False, True])
def test_a_backends_own_stream_is_ended_in_its_own_count(framed: bool) -> None:
    written = write([TextDelta("one"), TextDelta("two")])
    blocks = [block + b"\n\n" for block in written.split(b"\n\n") if block]
    if framed:
        blocks = [b"%x\r\n%b\r\n" % (len(block), block) for block in blocks]
    writer = ResponsesWriter(BODY, "m", stream=True)
    writer.take_over(Progress((), 0, first=blocks[0], last=blocks[5]))
    ended = read(writer.write_error_event(ProxyError(ErrorKind.RATE_LIMITED, "too many")))
    assert [event["sequence_number"] for event in ended] == [6, 7]
    assert ended[-1]["response"]["id"] == json.loads(event_data(written)[0])["response"]["id"]
    assert ended[-1]["response"]["error"] == {"code": "rate_limit_exceeded", "message": "too many"}


def test_what_cannot_be_taken_over_is_ended_all_the_same() -> None:
    writer = ResponsesWriter(BODY, "m", stream=True)
    writer.take_over(Progress((), 0, first=b"data: nonsense\n\n"))
    kinds = [event["type"] for event in read(writer.write_error_event(ProxyError(ErrorKind.INTERNAL, "oh")))]
    assert kinds == ["error", "response.failed"]
