"""What one side writes the other side reads: answers of each dialect through our writers and decoders, cut anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.api.ollama.writer import OllamaWriter
from ollama_proxy.api.openai.writer import OpenAiWriter
from ollama_proxy.backends.ollama.answers import AnswerDecoder, EmbedDecoder
from ollama_proxy.backends.openai.answers import choose_decoder
from ollama_proxy.domain.answer import (
    AnswerEvent,
    Embeddings,
    Finished,
    Outcome,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    Usage,
)
from ollama_proxy.domain.call import Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.lanes.translate_lane import Decoder
from ollama_proxy.net.lanes.upstream import DecodeError, UpstreamError

texts = st.text(min_size=1, max_size=12)
streams = st.lists(st.one_of(st.builds(TextDelta, texts), st.builds(ThinkingDelta, texts)), max_size=8)
calls = st.lists(st.builds(ToolCall, st.just(0), st.just("call_1"), st.just("f"), st.just('{"a":1}')), max_size=1)
cuts = st.lists(st.integers(1, 40), max_size=30)


def outcome(reason: str = "stop", output: int = 5) -> Outcome:
    finished = Finished(reason, Usage(prompt_tokens=7, output_tokens=output, decode_ns=10**9))
    return Outcome(finished, 0.1, 1.1, output, float(output), None, "unknown")


def feed(decoder: Decoder, data: bytes, sizes: list[int]) -> tuple[list[AnswerEvent], Finished | None]:
    """Give a decoder the bytes in pieces of these sizes, the rest at once."""
    events: list[AnswerEvent] = []
    for size in sizes:
        events += decoder.feed(data[:size])
        data = data[size:]
    events += decoder.feed(data)
    last, finished = decoder.end()
    return [*events, *last], finished


def joined(events: list[AnswerEvent]) -> tuple[str, str, list[ToolCall]]:
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    thinking = "".join(event.text for event in events if isinstance(event, ThinkingDelta))
    return text, thinking, [event for event in events if isinstance(event, ToolCall)]


@settings(max_examples=200, deadline=None)
@given(streams, calls, cuts, st.sampled_from((Operation.CHAT, Operation.GENERATE)), st.booleans())
def test_ollama_round_trip(
    stream: list[AnswerEvent], tools: list[AnswerEvent], sizes: list[int], operation: Operation, streamed: bool
) -> None:
    events = [*stream, *(tools if operation is Operation.CHAT else [])]
    writer = OllamaWriter("m", operation, stream=streamed)
    data = b"".join(writer.write_events([event]) for event in events)
    data += writer.write_end(outcome())
    assert not streamed or all(line.startswith(b"{") for line in data.splitlines())
    read, finished = feed(AnswerDecoder(), data, sizes)
    assert joined(read) == joined(events)
    assert finished is not None
    assert (finished.usage.prompt_tokens, finished.usage.output_tokens) == (7, 5)


@settings(max_examples=200, deadline=None)
@given(streams, calls, cuts, st.booleans())
def test_openai_round_trip(
    stream: list[AnswerEvent], tools: list[AnswerEvent], sizes: list[int], streamed: bool
) -> None:
    events = [*stream, *tools]
    writer = OpenAiWriter("m", Operation.CHAT, "id", stream=streamed, with_usage=True)
    data = b"".join(writer.write_events([event]) for event in events)
    data += writer.write_end(outcome("tool_calls" if tools else "length"))
    read, finished = feed(choose_decoder(Operation.CHAT, stream=streamed), data, sizes)
    assert joined(read) == joined(events)
    assert finished is not None
    assert finished.reason == ("tool_calls" if tools else "length")
    assert finished.usage.output_tokens == 5


def without_times(line: bytes) -> bytes:
    return re.sub(rb'(?<="created_at":")[0-9T:.-]{26}(?=Z")', b"now", line)


@given(st.text(max_size=8), texts, st.sampled_from((Operation.CHAT, Operation.GENERATE)))
def test_a_line_of_text_is_what_the_plain_encoding_writes(model: str, text: str, operation: Operation) -> None:
    line = OllamaWriter(model, operation, stream=True).write_events([TextDelta(text)])
    body = {"message": {"role": "assistant", "content": text}} if operation is Operation.CHAT else {"response": text}
    plain = {"model": model, "created_at": "nowZ", **body, "done": False}
    assert without_times(line) == msgspec.json.encode(plain) + b"\n"


@given(st.text(max_size=8), texts, st.sampled_from((Operation.CHAT, Operation.COMPLETE)))
def test_a_chunk_of_text_is_what_the_plain_encoding_writes(model: str, text: str, operation: Operation) -> None:
    chat = operation is Operation.CHAT
    writer = OpenAiWriter(model, operation, "x", stream=True)
    writer.write_events([TextDelta("first")])
    chunk = writer.write_events([TextDelta(text)])
    (created,) = re.findall(rb'"created":([0-9]+),', chunk)[:1]
    body = {"delta": {"content": text}} if chat else {"text": text}
    plain = {
        "id": "chatcmpl-x" if chat else "cmpl-x",
        "object": "chat.completion.chunk" if chat else "text_completion",
        "created": int(created),
        "model": model,
        "system_fingerprint": "fp_ollama",
        "choices": [{"index": 0, **body, "finish_reason": None}],
    }
    assert chunk == b"data: %b\n\n" % msgspec.json.encode(plain)


@given(st.lists(st.sampled_from((b"{}", b'{"response":"a"}', b'{"response":"b"}', b"", b"\r")), max_size=6), cuts)
def test_lines_of_ollama_read_the_same_however_cut(lines: list[bytes], sizes: list[int]) -> None:
    data = b"\n".join([*lines, b'{"done":true}\n'])
    assert feed(AnswerDecoder(), data, sizes) == feed(AnswerDecoder(), data, [1] * len(data))


_CHUNK = b'{"choices":[{"delta":{"content":"a"}}]}'
_EVENTS = (
    b"data: " + _CHUNK,
    b"data:" + _CHUNK,
    b"data: " + _CHUNK + b"\r",
    b": x",
    b"data: {}\ndata: ",
    b"data: {\r }",
)


@given(st.lists(st.sampled_from(_EVENTS), max_size=5), cuts)
def test_events_of_openai_read_the_same_however_cut(events: list[bytes], sizes: list[int]) -> None:
    data = b"\n\n".join([*events, b"data: [DONE]\n\n"])

    def read(pieces: list[int]) -> object:
        try:
            return feed(choose_decoder(Operation.CHAT, stream=True), data, pieces)
        except DecodeError:
            return "unreadable"

    assert read(sizes) == read([1] * len(data)) == read([len(event) + 2 for event in events])


@pytest.mark.parametrize("base64", [False, True])
def test_vectors_keep_their_order(base64: bool) -> None:
    vectors = ((0.5, 0.25), (0.125, 1.0))
    writer = OpenAiWriter("m", Operation.EMBED, "id", stream=False, base64=base64)
    writer.write_events([Embeddings(vectors)])
    body = writer.write_end(outcome(output=0))
    if not base64:
        events, _ = feed(choose_decoder(Operation.EMBED, stream=False), body, [])
        assert events == [Embeddings(vectors)]
    else:
        assert msgspec.json.decode(body)["data"][0]["embedding"] == "AAAAPwAAgD4="
    native = OllamaWriter("m", Operation.EMBED, stream=False)
    native.write_events([Embeddings(vectors)])
    assert feed(EmbedDecoder(), native.write_end(outcome(output=0)), [])[0] == [Embeddings(vectors)]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), cuts)
def test_decoders_raise_only_what_they_declare(data: bytes, sizes: list[int]) -> None:
    for decoder in (
        AnswerDecoder(),
        EmbedDecoder(),
        choose_decoder(Operation.CHAT, stream=True),
        choose_decoder(Operation.CHAT, stream=False),
        choose_decoder(Operation.EMBED, stream=False),
    ):
        try:
            feed(decoder, data, sizes)
        except (DecodeError, UpstreamError):
            continue


def test_an_error_inside_a_stream_is_the_upstreams() -> None:
    with pytest.raises(UpstreamError, match="boom"):
        AnswerDecoder().feed(b'{"error":"boom"}\n')
    with pytest.raises(UpstreamError, match="boom"):
        choose_decoder(Operation.CHAT, stream=True).feed(b'data: {"error":{"message":"boom"}}\n\n')


def test_a_stream_without_its_end_marker_has_no_end() -> None:
    assert feed(AnswerDecoder(), b'{"response":"a","done":false}\n', [])[1] is None
    open_end = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
    assert feed(choose_decoder(Operation.CHAT, stream=True), open_end, [])[1] is None


@pytest.mark.parametrize("body", [b"{}", b'{"response":"a","done":false}', b'{"message":{"content":"a"}}'])
def test_a_body_of_ollama_that_is_not_done_has_no_end(body: bytes) -> None:
    assert feed(AnswerDecoder(), body, [])[1] is None


@pytest.mark.parametrize("arguments", [b"[1]", b'"{}"', b"5"])
def test_a_call_of_ollama_without_an_object_is_none(arguments: bytes) -> None:
    use = b'{"function":{"name":"f","arguments":%b}}'
    line = b'{"message":{"tool_calls":[%b]},"done":true,"done_reason":"length"}\n'
    events, finished = feed(AnswerDecoder(), line % (use % arguments), [])
    assert events == []
    assert finished is not None
    assert finished.reason == "length"
    assert feed(AnswerDecoder(), line % (use % b"null"), [])[0] == [ToolCall(0, "", "f", "{}")]


@pytest.mark.parametrize(("reason", "told"), [("content_filter", "stop"), ("tool_calls", "stop"), ("load", "load")])
def test_ollama_knows_few_reasons_and_leaves_out_what_is_zero(reason: str, told: str) -> None:
    ended = Outcome(Finished(reason, Usage(output_tokens=0, load_ns=0)), 0.0, 0.0, 0, 0.0, None, "unknown")
    last = msgspec.json.decode(OllamaWriter("m", Operation.GENERATE, stream=True).write_end(ended))
    del last["created_at"]
    assert last == {"model": "m", "response": "", "done": True, "done_reason": told}


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_error_kind_is_rendered_in_each_dialect(kind: ErrorKind) -> None:
    error = ProxyError(kind, "what and why")
    for writer in (
        OllamaWriter("m", Operation.CHAT, stream=True),
        OpenAiWriter("m", Operation.CHAT, "id", stream=True),
    ):
        status, content_type, body = writer.write_error(error)
        assert 400 <= status < 600
        assert content_type.startswith(b"application/json")
        # Which model is missing is said in the one sentence that clients know.
        assert b"what and why" in body or (kind is ErrorKind.MODEL_NOT_FOUND and b"model 'm' not found" in body)
        assert b"what and why" in writer.write_error_event(error)


NO_TEXT = b"caf\xff"
TOO_DEEP = b"[" * 200_000
STREAM = partial(choose_decoder, Operation.CHAT, stream=True)
BODY = partial(choose_decoder, Operation.CHAT, stream=False)


@pytest.mark.parametrize(
    ("decoder", "data"),
    [
        (AnswerDecoder, b'{"response":"%b"}\n' % NO_TEXT),
        (AnswerDecoder, b'{"message":%b\n' % TOO_DEEP),
        (STREAM, b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % NO_TEXT),
        (STREAM, b'data: {"error":%b\n\n' % TOO_DEEP),
        (BODY, b'{"choices":[{"message":{"content":"%b"}}]}' % NO_TEXT),
        (BODY, b'{"error":%b' % TOO_DEEP),
    ],
    ids=["ollama text", "ollama depth", "stream text", "stream depth", "body text", "body depth"],
)
def test_what_is_no_text_or_too_deep_is_the_backends_fault(decoder: Callable[[], Decoder], data: bytes) -> None:
    with pytest.raises(DecodeError):
        feed(decoder(), data, [])
