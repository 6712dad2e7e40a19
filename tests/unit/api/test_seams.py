"""A backend's own stream, cut behind any of its events and gone on with: it reads as if it were uncut."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest

from ollama_proxy.api.anthropic.writer import AnthropicWriter
from ollama_proxy.api.ollama.writer import OllamaWriter
from ollama_proxy.api.openai.writer import OpenAiWriter
from ollama_proxy.api.responses.writer import ResponsesWriter
from ollama_proxy.backends.anthropic.answers import StreamDecoder as AnthropicDecoder
from ollama_proxy.backends.ollama.answers import AnswerDecoder
from ollama_proxy.backends.openai.answers import StreamDecoder as OpenAiDecoder
from ollama_proxy.backends.openai.responses_stream import ResponsesDecoder
from ollama_proxy.domain.answer import AnswerEvent, Finished, Outcome, Progress, TextDelta, ThinkingDelta, Usage
from ollama_proxy.domain.call import Dialect, Operation
from ollama_proxy.net.endings import ENDINGS, EndReader
from ollama_proxy.net.http_answer import Writer
from ollama_proxy.net.lanes.fast_lane import RawAttempt
from ollama_proxy.net.lanes.framing import event_data
from ollama_proxy.net.lanes.translate_lane import Decoder

THOUGHTS, WORDS = ("Let", " me", " think."), ("One", " two", " three", " four")


class Client:
    """The sink of an attempt, as far as the fast lane needs one."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def on_head(self, status: int, content_type: bytes, length: int | None) -> None:
        pass

    def on_raw(self, data: bytes) -> None:
        self.pieces.append(data)

    def relay(self) -> None:
        pass


def _sse(document: dict[str, Any], *, named: bool = False) -> bytes:
    name = f"event: {document['type']}\n" if named else ""
    return f"{name}data: {json.dumps(document)}\n\n".encode()


def openai_stream(*, thinking: bool, with_usage: bool) -> list[bytes]:
    head = {"id": "chatcmpl-its-own", "object": "chat.completion.chunk", "created": 7, "model": "m"}

    def chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
        return _sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    usage = {"prompt_tokens": 5, "completion_tokens": len(WORDS), "total_tokens": 9}
    return [
        chunk({"role": "assistant", "content": ""}),
        *[chunk({"reasoning": word}) for word in (THOUGHTS if thinking else ())],
        *[chunk({"content": word}) for word in WORDS],
        chunk({}, "stop"),
        *([_sse({**head, "choices": [], "usage": usage})] if with_usage else []),
        b"data: [DONE]\n\n",
    ]


def anthropic_stream(*, thinking: bool) -> list[bytes]:
    message = {"id": "msg_its_own", "type": "message", "role": "assistant", "model": "m", "content": []}
    found = [{"type": "message_start", "message": {**message, "usage": {"input_tokens": 5, "output_tokens": 1}}}]
    blocks = [("thinking", "thinking", THOUGHTS)] if thinking else []
    for index, (kind, name, words) in enumerate([*blocks, ("text", "text", WORDS)]):
        found.append({"type": "content_block_start", "index": index, "content_block": {"type": kind, name: ""}})
        for word in words:
            found.append(
                {"type": "content_block_delta", "index": index, "delta": {"type": f"{name}_delta", name: word}}
            )
        if kind == "thinking":
            delta = {"type": "signature_delta", "signature": "s"}
            found.append({"type": "content_block_delta", "index": index, "delta": delta})
        found.append({"type": "content_block_stop", "index": index})
    found.append({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}})
    return [_sse(one, named=True) for one in [*found, {"type": "message_stop"}]]


def ollama_stream(*, thinking: bool) -> list[bytes]:
    head = {"model": "m", "created_at": "2026-01-01T00:00:00Z"}
    messages = [{"content": "", "thinking": word} for word in (THOUGHTS if thinking else ())]
    messages += [{"content": word} for word in WORDS]
    lines = [{**head, "message": {"role": "assistant", **one}, "done": False} for one in messages]
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 4}
    lines.append({**head, "message": {"role": "assistant", "content": ""}, **end})
    return [json.dumps(line).encode() + b"\n" for line in lines]


def cut(events: Sequence[bytes], make_decoder: Callable[[], Decoder], ending: tuple[EndReader, EndReader]) -> Progress:
    """How far the fast lane says that the stream came."""
    kind = b"application/x-ndjson" if events[0].startswith(b"{") else b"text/event-stream"
    attempt = RawAttempt(Client(), *ending, None, make_decoder)  # type: ignore[arg-type]
    attempt.on_response(200, [(b"content-type", kind)])
    for event in events:
        attempt.on_body(event)
    progress = attempt.take_over()
    assert progress is not None
    return progress


def go_on(writer: Writer, progress: Progress, *, thinking: bool) -> bytes:
    """What is sent behind the seam: all that is missing, and the end."""
    writer.write_events([*progress.events, *progress.rest])
    writer.take_over(progress)
    thought = "".join([one.text for one in progress.events if isinstance(one, ThinkingDelta)])
    said = "".join([one.text for one in progress.events if isinstance(one, TextDelta)])
    rest: list[AnswerEvent] = []
    if thinking and not said and len(thought) < len("".join(THOUGHTS)):
        rest.append(ThinkingDelta("".join(THOUGHTS).removeprefix(thought)))
    if len(said) < len("".join(WORDS)):
        rest.append(TextDelta("".join(WORDS).removeprefix(said)))
    text = b"".join([writer.write_events((one,)) for one in rest])
    finished = progress.finished or Finished("stop", Usage(5, 4))
    return text + writer.write_end(Outcome(finished, 0.0, 0.0, 4, 0.0, None, ""))


def data_of(stream: bytes) -> list[Any]:
    return [one if one == b"[DONE]" else json.loads(one) for one in event_data(stream)]


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize("with_usage", [False, True])
def test_openai(thinking: bool, with_usage: bool) -> None:
    events = openai_stream(thinking=thinking, with_usage=with_usage)
    for place in range(1, len(events)):
        progress = cut(events[:place], OpenAiDecoder, ENDINGS[Dialect.OPENAI])
        writer = OpenAiWriter("m", Operation.CHAT, "r1", stream=True, with_usage=with_usage)
        found = data_of(b"".join(events[:place]) + go_on(writer, progress, thinking=thinking))
        assert found.pop() == b"[DONE]"
        assert b"[DONE]" not in found
        assert {one["id"] for one in found} == {"chatcmpl-its-own"}
        choices = [one["choices"][0] for one in found if one["choices"]]
        assert "".join([one["delta"].get("content", "") for one in choices]) == "".join(WORDS)
        assert sum("role" in one["delta"] for one in choices) == 1
        assert [one["finish_reason"] for one in choices if one["finish_reason"]] == ["stop"]
        assert choices[-1]["finish_reason"] == "stop"
        told = [one["usage"] for one in found if "usage" in one]
        assert len(told) == with_usage
        # What nobody told is absent, not zero.
        assert all(one.get("prompt_tokens", 5) == 5 and one["completion_tokens"] for one in told)


@pytest.mark.parametrize("thinking", [False, True])
def test_anthropic(thinking: bool) -> None:
    events = anthropic_stream(thinking=thinking)
    for place in range(1, len(events)):
        progress = cut(events[:place], AnthropicDecoder, ENDINGS[Dialect.ANTHROPIC])
        found = data_of(
            b"".join(events[:place]) + go_on(AnthropicWriter("m", "r1", stream=True), progress, thinking=thinking)
        )
        assert [one["type"] for one in found if one["type"].startswith("message")] == [
            "message_start",
            "message_delta",
            "message_stop",
        ]
        texts, opened, closed = "", [], []
        for one in found:
            if one["type"] == "content_block_start":
                assert len(opened) == len(closed) == one["index"]
                opened.append(one["content_block"]["type"])
            elif one["type"] == "content_block_stop":
                assert one["index"] == len(closed) == len(opened) - 1
                closed.append(one["index"])
            elif one["type"] == "content_block_delta":
                assert one["index"] == len(closed)
                texts += one["delta"].get("text", "")
        assert texts == "".join(WORDS)
        assert len(opened) == len(closed)


@pytest.mark.parametrize("thinking", [False, True])
def test_ollama(thinking: bool) -> None:
    events = ollama_stream(thinking=thinking)
    for place in range(1, len(events)):
        progress = cut(events[:place], AnswerDecoder, ENDINGS[Dialect.OLLAMA])
        writer = OllamaWriter("m", Operation.CHAT, stream=True)
        found = [
            json.loads(line)
            for line in (b"".join(events[:place]) + go_on(writer, progress, thinking=thinking)).splitlines()
        ]
        assert "".join([one["message"]["content"] for one in found]) == "".join(WORDS)
        assert [one["done"] for one in found] == [False] * (len(found) - 1) + [True]


def responses_stream(*, thinking: bool) -> list[bytes]:
    writer = ResponsesWriter(json.dumps({"model": "m", "input": "hi", "stream": True}).encode(), "m", stream=True)
    events = [*[ThinkingDelta(word) for word in (THOUGHTS if thinking else ())], *[TextDelta(word) for word in WORDS]]
    text = b"".join([writer.write_events((one,)) for one in events])
    text += writer.write_end(Outcome(Finished("stop", Usage(5, 4)), 0.0, 0.0, 4, 0.0, None, ""))
    return [block + b"\n\n" for block in text.split(b"\n\n") if block]


@pytest.mark.parametrize("thinking", [False, True])
def test_responses(thinking: bool) -> None:
    events = responses_stream(thinking=thinking)
    whole = [one["type"] for one in data_of(b"".join(events)) if not one["type"].endswith(".delta")]
    for place in range(1, len(events)):
        progress = cut(events[:place], ResponsesDecoder, ENDINGS[Dialect.RESPONSES])
        writer = ResponsesWriter(b'{"model": "m", "input": "hi"}', "m", stream=True)
        found = data_of(b"".join(events[:place]) + go_on(writer, progress, thinking=thinking))
        assert [one["sequence_number"] for one in found] == list(range(len(found)))
        assert [one["type"] for one in found if not one["type"].endswith(".delta")] == whole
        deltas = [one["delta"] for one in found if one["type"] == "response.output_text.delta"]
        assert "".join(deltas) == "".join(WORDS)
        first, last = found[0]["response"], found[-1]["response"]
        assert (first["id"], first["created_at"]) == (last["id"], last["created_at"])
        begun = [one["item"]["id"] for one in found if one["type"] == "response.output_item.added"]
        assert [item["id"] for item in last["output"]] == begun
        assert {one["item_id"] for one in found if "item_id" in one} == set(begun)
        assert last["output"][-1]["content"][0]["text"] == "".join(WORDS)


@pytest.mark.parametrize(
    ("writer", "usage", "told"),
    [
        (OpenAiWriter("m", Operation.CHAT, "r1", stream=True, with_usage=True), Usage(None, 4), [4]),
        (OpenAiWriter("m", Operation.CHAT, "r1", stream=True, with_usage=True), Usage(), []),
        (AnthropicWriter("m", "r1", stream=True), Usage(None, 4), [4]),
        (AnthropicWriter("m", "r1", stream=True), Usage(7), [7]),
        (ResponsesWriter(b'{"model": "m", "input": "hi"}', "m", stream=True), Usage(None, 4), [4]),
    ],
)
def test_counts_that_a_server_broke_off_before_are_absent(writer: Writer, usage: Usage, told: list[int]) -> None:
    writer.write_events((TextDelta("One"),))
    counted = msgspec.structs.replace(usage, counted_events=True)
    end = data_of(writer.write_end(Outcome(Finished("stop", counted), 0.0, 0.0, 4, 0.0, None, "")))
    events = [one for one in end if one != b"[DONE]"]
    found = [one.get("usage") or one.get("response", {}).get("usage") or {} for one in events]
    assert [value for usages in found for value in usages.values()] == told
