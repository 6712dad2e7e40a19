"""Answers of OpenAI-compatible servers, each with its own habits, as the events that all of them mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_proxy.api.openai.writer import OpenAiWriter
from ollama_proxy.backends.openai.answers import choose_decoder
from ollama_proxy.backends.openai.backend import CAPABILITIES
from ollama_proxy.backends.openai.probe import is_llama_cpp, read_abilities, read_models
from ollama_proxy.backends.openai.requests import as_stream
from ollama_proxy.domain.answer import AnswerEvent, Finished, Outcome, Route, TextDelta, ThinkingDelta, ToolCall, Usage
from ollama_proxy.domain.call import Message, Need, Operation, ToolUse
from ollama_proxy.domain.ports import ProbeError
from ollama_proxy.domain.tool_ids import with_ids
from ollama_proxy.net.bodies.unpacking import MAX_UNPACKED_BYTES, PackedBodyError, unpack_zstd
from ollama_proxy.net.endings.errors import error_in_tail
from ollama_proxy.net.endings.openai import read_openai_body, read_openai_tail
from ollama_proxy.net.lanes.upstream import DecodeError, UpstreamError

Read = tuple[list[AnswerEvent], Finished | None]


def stream(*chunks: dict[str, Any], done: bool = True) -> Read:
    data = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    decoder = choose_decoder(Operation.CHAT, stream=True)
    events = list(decoder.feed(data + (b"data: [DONE]\n\n" if done else b"")))
    last, finished = decoder.end()
    return [*events, *last], finished


def whole(document: dict[str, Any]) -> Read:
    decoder = choose_decoder(Operation.CHAT, stream=False)
    decoder.feed(json.dumps(document).encode())
    events, finished = decoder.end()
    return list(events), finished


def delta(reason: str | None = None, **members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": members, "finish_reason": reason}]}


TOKEN = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": [98]}]}


def test_both_names_of_reasoning_are_read() -> None:
    events, _ = stream(delta(reasoning="a"), delta(reasoning_content="b"), delta(content="c"), delta("stop"))
    assert events == [ThinkingDelta("a"), ThinkingDelta("b"), TextDelta("c")]


def test_a_stream_without_its_marker_has_no_end() -> None:
    assert stream(delta("stop", content="a"), done=False)[1] is None


@pytest.mark.parametrize("chunk", [{"error": {"message": "broken"}}, {"error": "broken"}])
def test_an_error_among_the_events_is_one(chunk: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError, match="broken"):
        stream(delta(content="a"), chunk)


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_server_that_gave_up_has_not_answered(reason: str) -> None:
    with pytest.raises(UpstreamError, match=reason):
        stream(delta(content="a"), delta(reason))


@pytest.mark.parametrize(
    ("said", "meant"),
    [("max_tokens", "length"), ("tool_calls", "stop"), ("eos", "stop"), ("length", "length")],
)
def test_ends_have_one_name(said: str, meant: str) -> None:
    finished = stream(delta(said))[1]
    assert finished is not None
    assert finished.reason == meant


def test_a_stop_string_is_told() -> None:
    finished = stream({"choices": [{"delta": {}, "finish_reason": "stop", "stop_reason": "END"}]})[1]
    assert finished == Finished("stop", Usage(), "END")


def test_servers_without_usage_are_counted_by_events() -> None:
    finished = stream(delta(content="a"), delta(reasoning="b"), delta(content=""), delta("stop"))[1]
    assert finished is not None
    assert finished.usage == Usage(output_tokens=2, counted_events=True)


def test_cached_tokens_are_told() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}
    for finished in (
        stream(delta("stop"), {"choices": [], "usage": usage})[1],
        whole({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": usage})[1],
        read_openai_body(json.dumps({"usage": usage}).encode()),
        read_openai_tail(b"data: %b\n\ndata: [DONE]\n\n" % json.dumps({"choices": [], "usage": usage}).encode()),
    ):
        assert finished is not None
        assert (finished.usage.prompt_tokens, finished.usage.cached_tokens) == (9, 4)


def test_only_the_first_of_several_choices_is_told() -> None:
    choices = [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "yes"}}]
    assert stream({"choices": choices}, delta("stop"))[0] == [TextDelta("yes")]


@pytest.mark.parametrize("numbered", [True, False])
def test_parallel_calls_are_told_apart(numbered: bool) -> None:
    def part(index: int, **more: Any) -> dict[str, Any]:
        return {**({"index": index} if numbered else {"index": 0}), **more}

    first = part(0, id="c1", function={"name": "f", "arguments": '{"a":'})
    rest = part(0, function={"arguments": "1}"})
    second = part(1, id="c2", function={"name": "g", "arguments": ""})
    events, finished = stream(
        delta(tool_calls=[first]), delta(tool_calls=[rest]), delta("tool_calls", tool_calls=[second])
    )
    assert events == [ToolCall(0, "c1", "f", '{"a":1}'), ToolCall(1, "c2", "g", "{}")]
    assert finished is not None
    assert finished.reason == "tool_calls"


def call(arguments: str, index: int = 0) -> dict[str, Any]:
    return {"index": index, "id": f"c{index}", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize("arguments", ['{"path":"/tm', "[1]", "null", '{"x":NaN}', '{"a":1},"done":true', "no"])
@pytest.mark.parametrize(("said", "meant"), [("length", "length"), ("tool_calls", "stop"), ("stop", "stop")])
def test_a_call_without_whole_arguments_is_none(arguments: str, said: str, meant: str) -> None:
    message = {"content": "", "tool_calls": [call(arguments)]}
    for events, finished in (
        stream(delta(tool_calls=[call(arguments)]), delta(said)),
        whole({"choices": [{"message": message, "finish_reason": said}]}),
    ):
        assert events == []
        assert finished is not None
        assert finished.reason == meant


def test_a_whole_call_beside_a_broken_one_stays() -> None:
    events, finished = stream(delta(tool_calls=[call('{"a":'), call('{"b":\n1}', 1)]), delta("function_call"))
    assert events == [ToolCall(0, "c1", "f", '{"b":1}')]
    assert finished is not None
    assert finished.reason == "tool_calls"


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [{}]},
        {"choices": [{"message": {"content": ""}}]},
        {"choices": [{"message": None, "finish_reason": None}]},
        {"choices": [{"message": {"content": "half"}, "finish_reason": None}]},
        {"choices": [{"text": "half", "finish_reason": None}]},
        {"error": {"message": "boom"}},
    ],
)
def test_a_body_without_an_answer_is_none(document: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError):
        whole(document)


@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": "a"}},
        {"message": {"content": "a"}, "finish_reason": ""},
        {"text": "a", "finish_reason": "stop"},
        {"message": {"content": "a"}, "finish_reason": "stop"},
    ],
)
def test_servers_may_leave_the_reason_out(choice: dict[str, Any]) -> None:
    events, finished = whole({"choices": [choice]})
    assert events == [TextDelta("a")]
    assert finished == Finished("stop", Usage())


def test_an_empty_answer_is_one() -> None:
    for answer in (
        whole({"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}),
        stream(delta(role="assistant"), delta("stop"), {"choices": [], "usage": None}),
    ):
        assert answer == ([], Finished("stop", Usage()))


@pytest.mark.parametrize("chunks", [(), ({"choices": []},), ({"choices": [], "usage": {"prompt_tokens": 1}},)])
def test_a_marker_alone_is_no_answer(chunks: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(DecodeError, match="no answer"):
        stream(*chunks)


@pytest.mark.parametrize(
    "logprobs",
    [
        {"content": [{**TOKEN, "id": 5}]},
        {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -1.5}], "text_offset": [0]},
    ],
)
def test_log_probabilities_are_read_in_both_forms(logprobs: dict[str, Any]) -> None:
    expected = [TextDelta("a", (TOKEN,))]
    assert stream({"choices": [{"delta": {"content": "a"}, "logprobs": logprobs}]}, delta("stop"))[0] == expected
    assert whole({"choices": [{"text": "a", "logprobs": logprobs, "finish_reason": "stop"}]})[0] == expected


def test_an_error_with_status_200_is_no_answer() -> None:
    assert read_openai_body(b'{"error":{"message":"broken"}}') is None
    assert read_openai_body(b'{"error":null,"choices":[]}') is not None


def test_a_marker_behind_an_error_ends_nothing() -> None:
    tail = b'data: {"choices":[]}\n\ndata: {"error":{"message":"broken"}}\n\ndata: [DONE]\n\n'
    assert read_openai_tail(tail) is None
    assert error_in_tail(tail) == "broken"
    said = b'data: {"choices":[{"delta":{"content":"\\"error\\""},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    assert read_openai_tail(said) == Finished("stop", Usage())
    assert not error_in_tail(said)


# -- what goes up ------------------------------------------------------------------


def test_results_of_calls_without_ids_find_their_calls() -> None:
    turns = (
        Message("assistant", tool_uses=(ToolUse("f", "{}"), ToolUse("g", "{}"), ToolUse("f", "{}"))),
        Message("tool", "1", tool_name="g"),
        Message("tool", "2", tool_name="f"),
        Message("tool", "3"),
        Message("assistant", tool_uses=(ToolUse("f", "{}", "mine"),)),
        Message("tool", "4", tool_call_id="mine"),
        Message("user", "thanks"),
    )
    told = list(with_ids(turns))
    assert [use.id for use in told[0].tool_uses] == ["call_1", "call_2", "call_3"]
    assert [turn.tool_call_id for turn in told[1:4]] == ["call_2", "call_1", "call_3"]
    assert told[4:] == list(turns[4:])


def test_a_raw_request_becomes_a_stream_with_all_it_asks_for() -> None:
    document = json.loads(as_stream(b'{"model":"m","grammar":"x","stream":false}'))
    assert document == {"model": "m", "grammar": "x", "stream": True, "stream_options": {"include_usage": True}}


# -- what a server says of itself ---------------------------------------------------


def test_lists_tell_owner_and_time() -> None:
    body = b'{"data":[{"id":"A","created":1700000000,"owned_by":"llamacpp","meta":{"n_ctx":8,"size":5}},{"id":"b"}]}'
    models = read_models(body)
    first, second = models["a:latest"], models["b:latest"]
    assert (first.owner, first.modified_at, first.context_length, first.size_bytes) == (
        "llamacpp",
        "2023-11-14T22:13:20Z",
        8,
        5,
    )
    assert (second.owner, second.modified_at) == ("", "")
    assert is_llama_cpp(models)
    with pytest.raises(ProbeError):
        read_models(b'{"data":[5]}')


@pytest.mark.parametrize(
    ("body", "sees", "hears"),
    [
        (b'{"modalities":{"vision":true,"audio":true}}', True, True),
        (b'{"modalities":{"vision":false,"audio":false}}', False, False),
        (b'{"modalities":{}}', False, False),
        (b"{}", True, False),
        (b"no", True, False),
    ],
)
def test_llama_cpp_tells_what_its_model_takes(body: bytes, sees: bool, hears: bool) -> None:
    able = read_abilities(body, CAPABILITIES)
    assert (Need.IMAGES in able, Need.AUDIO in able) == (sees, hears)


@pytest.mark.parametrize("takes", [True, False])
def test_llama_cpp_tells_whether_its_template_takes_tools(takes: bool) -> None:
    body = b'{"chat_template_caps":{"supports_tools":%b}}' % (b"true" if takes else b"false")
    assert (Need.TOOLS in read_abilities(body, CAPABILITIES)) is takes


# -- what the writer makes of it -----------------------------------------------------


def outcome(reason: str = "stop") -> Outcome:
    finished = Finished(reason, Usage(prompt_tokens=7, output_tokens=2, cached_tokens=3))
    return Outcome(finished, 0.1, 1.1, 2, 2.0, None, "unknown")


def written(operation: Operation, *events: AnswerEvent, reason: str = "stop") -> dict[str, Any]:
    writer = OpenAiWriter("m", operation, "id", stream=False)
    writer.routed(Route("d", "box", "why", 0, 1, (), 1, "unknown", "m"))
    writer.write_events(events)
    document: dict[str, Any] = json.loads(writer.write_end(outcome(reason)))
    return document


def test_a_chat_tells_all_there_is() -> None:
    document = written(Operation.CHAT, ThinkingDelta("hm"), TextDelta("a", (TOKEN,)), ToolCall(0, "", "f", "{}"))
    (choice,) = document["choices"]
    assert choice["message"]["reasoning"] == "hm"
    assert choice["logprobs"] == {"content": [TOKEN]}
    assert choice["message"]["tool_calls"][0]["id"].startswith("call_")
    assert choice["finish_reason"] == "tool_calls"
    assert document["system_fingerprint"] == "fp_box"
    assert document["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}


def test_completions_have_log_probabilities_side_by_side() -> None:
    (choice,) = written(Operation.COMPLETE, TextDelta("a", (TOKEN,)), TextDelta("a", (TOKEN,)))["choices"]
    assert choice["logprobs"] == {
        "tokens": ["a", "a"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"b": -1.5}, {"b": -1.5}],
        "text_offset": [0, 1],
    }


def test_reasons_of_other_dialects_are_stop() -> None:
    assert written(Operation.CHAT, reason="load")["choices"][0]["finish_reason"] == "stop"


# -- packed bodies ---------------------------------------------------------------------


def test_packed_bodies_are_unpacked_and_no_further_than_they_may() -> None:
    zstd = pytest.importorskip("backports.zstd")
    assert unpack_zstd(zstd.compress(b"a") + zstd.compress(b"b")) == b"ab"
    for data, text in (
        (zstd.compress(bytes(MAX_UNPACKED_BYTES + 1)), "too large"),
        (zstd.compress(bytes(9))[:-3], "unexpected EOF"),
        (b"\x28\xb5", "unexpected EOF"),
        (b"plain", "magic number mismatch"),
    ):
        with pytest.raises(PackedBodyError, match=text):
            unpack_zstd(data)
