"""Messages of `/v1/stream/ws` as calls, and answers of every kind as messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_proxy.api.websocket.answers import Answer
from ollama_proxy.api.websocket.requests import read_request
from ollama_proxy.domain.annotations import Priority
from ollama_proxy.domain.answer import Finished, Outcome, Route, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.domain.call import Call, Generation, Message, Need, Operation, Sampling, ToolUse
from ollama_proxy.domain.errors import ErrorKind, ProxyError

ROUTE = Route("d-1", "gpu", "nearest", 0.0, 7, ("cpu",), 1, "modelled", "m:1b")
OUTCOME = Outcome(Finished("tool_calls", Usage(prompt_tokens=3)), 0.01, 0.05, 4, 100.0, None, "unknown")


def read(document: dict[str, Any], *defaults: tuple[str, object]) -> Call:
    return read_request(json.dumps(document), "r", 1.5, defaults)


def test_a_prompt_is_a_generation_with_its_options() -> None:
    options = {"max_tokens": 9, "temperature": 0, "stop": "x", "num_ctx": 64, "mirostat": 2}
    call = read({"model": "m", "prompt": "pr\u00f6mpt", "system": "s", "images": ["aGk="], "options": options})
    assert (call.operation, call.stream, call.arrived_s, call.prompt_bytes) == (Operation.GENERATE, False, 1.5, 7)
    assert call.needs == {Need.GENERATE, Need.IMAGES}
    assert call.max_tokens == 9
    assert call.raw is None
    sampling = Sampling(num_predict=9, temperature=0, stop=("x",), num_ctx=64, extra={"mirostat": 2})
    assert call.typed() == Generation("pr\u00f6mpt", system="s", images=("aGk=",), sampling=sampling)


def test_messages_are_a_chat_with_tools_and_thoughts() -> None:
    use = {"id": "u", "function": {"name": "f", "arguments": {"a": 1}}}
    turns = [
        {"role": "User", "content": "hi", "images": ["aGk="]},
        {"role": "assistant", "content": None, "thinking": "hm", "tool_calls": [use]},
        {"role": "tool", "content": "2", "tool_name": "f", "tool_call_id": "u"},
    ]
    tool = {"type": "function", "function": {"name": "f"}}
    call = read({"messages": turns, "system": "s", "tools": [tool], "think": "low", "format": "json", "stream": True})
    assert (call.operation, call.stream) == (Operation.CHAT, True)
    assert call.needs == {Need.GENERATE, Need.IMAGES, Need.TOOLS, Need.FORMAT}
    assert call.wants == {Need.THINKING}
    typed = call.typed()
    assert isinstance(typed, Generation)
    assert typed.messages == (
        Message("system", "s"),
        Message("user", "hi", images=("aGk=",)),
        Message("assistant", thinking="hm", tool_uses=(ToolUse("f", '{"a":1}', "u"),)),
        Message("tool", "2", tool_name="f", tool_call_id="u"),
    )
    assert (typed.tools, typed.think, typed.format, typed.system) == ((tool,), "low", "json", "")


def test_annotations_by_how_near_they_are() -> None:
    defaults = (("target", "a"), ("priority", "low"), ("custom.team", "red"))
    asked = {"target": "b", "priority": "high", "custom": {"job": "x"}, "prefer_power_efficiency": True}
    found = read(
        {"prompt": "x", "annotations": asked, "priority": "critical", "max_latency_ms": 250}, *defaults
    ).annotations
    assert (found.target, found.priority, found.max_latency_ms) == ("b", Priority.CRITICAL, 250)
    assert found.prefer_power_efficiency
    assert found.custom == {"team": "red", "job": "x"}


@pytest.mark.parametrize(
    "document",
    [
        {"prompt": 7},
        {"prompt": "x", "options": []},
        {"prompt": "x", "options": {"temperature": 3}},
        {"prompt": "x", "options": {"top_k": -1}},
        {"prompt": "x", "options": {"seed": 1.5}},
        {"prompt": "x", "stream": "yes"},
        {"prompt": "x", "max_latency_ms": "soon"},
        {"prompt": "x", "max_latency_ms": True},
        {"prompt": "x", "annotations": "fast"},
        {"messages": []},
        {"messages": ["hi"]},
        {"messages": [{"content": "hi"}]},
        {"messages": [{"role": "user", "content": ["hi"]}]},
        {"prompt": "x", "tools": [7]},
    ],
)
def test_wrong_types_and_ranges_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ProxyError) as caught:
        read(document)
    assert caught.value.kind is ErrorKind.INVALID_REQUEST


class Heard:
    """An answer and the messages it sent; `over` are the ids that ended."""

    def __init__(self, *, stream: bool) -> None:
        self.messages: list[dict[str, Any]] = []
        self.over: list[str] = []
        self.answer = Answer(lambda data: self.messages.append(json.loads(data)), self.over.append, "r", stream=stream)


EVENTS = (ThinkingDelta("hm"), TextDelta("so"), TextDelta(' "x"'), ToolCall(0, "u", "f", '{"a":1}'))
USE = {"id": "u", "function": {"name": "f", "arguments": {"a": 1}}}


def test_a_stream_tells_each_kind_of_piece() -> None:
    heard = Heard(stream=True)
    heard.answer.routed(ROUTE)
    heard.answer.send_events(EVENTS)
    heard.answer.finish(OUTCOME)
    first, *tokens, last = heard.messages
    routing = first.pop("routing")
    assert (routing["backend"], routing["estimated_power_watts"]) == ("gpu", None)
    assert [first, *tokens] == [
        {"request_id": "r", "token": "", "thinking": "hm", "done": False},
        {"request_id": "r", "token": "so", "done": False},
        {"request_id": "r", "token": ' "x"', "done": False},
        {"request_id": "r", "token": "", "tool_calls": [USE], "done": False},
    ]
    assert (last["token"], last["done"], last["done_reason"]) == ("", True, "tool_calls")
    assert last["stats"]["prompt_tokens"] == 3
    assert last["stats"]["energy_wh"] is None
    assert heard.over == ["r"]


def test_a_whole_answer_has_all_pieces() -> None:
    heard = Heard(stream=False)
    heard.answer.routed(ROUTE)
    heard.answer.send_events(EVENTS[:2])
    heard.answer.send_events(EVENTS[2:])
    heard.answer.finish(OUTCOME)
    (message,) = heard.messages
    assert (message["token"], message["thinking"], message["tool_calls"]) == ('so "x"', "hm", [USE])


def test_an_error_is_the_end_and_says_what_helps() -> None:
    heard = Heard(stream=True)
    error = ProxyError(ErrorKind.OVERLOADED, "full", retry_after_s=0.5, nearest=("m:2b",), backend="gpu")
    heard.answer.fail(error)
    heard.answer.cancel()
    told = {"code": "overloaded", "message": "full", "retry_after_ms": 500, "nearest": ["m:2b"]}
    assert heard.messages == [{"request_id": "r", "error": told, "done": True, "backend": "gpu"}]
    assert heard.over == ["r"]
