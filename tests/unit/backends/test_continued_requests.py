"""How servers of type openai and anthropic are asked for the rest of an answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from ollama_proxy.api.openai.typed import read_typed
from ollama_proxy.backends.anthropic.backend import AnthropicBackend
from ollama_proxy.backends.openai.backend import OpenAiBackend
from ollama_proxy.domain.answer import TextDelta
from ollama_proxy.domain.call import (
    Call,
    Continued,
    Dialect,
    Generation,
    Message,
    Need,
    Operation,
    RawHead,
    RawRequest,
    Sampling,
)
from ollama_proxy.domain.device import BackendSpec
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.net.http1.client import Origin

SPEC = BackendSpec("one", "openai", "one", "cpu")
CHAT = Generation(messages=(Message("user", "Tell me of the sea."),), sampling=Sampling(num_predict=7))
SEA = Continued("The sea is very deep", tokens=4)
FLAGS = {"add_generation_prompt": False, "continue_final_message": True}


class Pool:
    """A server with one model of somebody's, that keeps what it is sent."""

    origin = Origin("localhost", 1)

    def __init__(self, owner: str = "acme") -> None:
        self.sent: list[Any] = []
        self.uploads: list[Any] = []
        self._owner = owner

    def start(self, upload: Any) -> None:
        self.sent.append(json.loads(upload.request.partition(b"\r\n\r\n")[2]))
        self.uploads.append(upload)

    def send(self, request: bytes, sink: Any) -> Pool:
        models = {"data": [{"id": "m", "owned_by": self._owner}]}
        asyncio.get_running_loop().call_soon(self._tell, sink, json.dumps(models).encode())
        return self

    @staticmethod
    def _tell(sink: Any, body: bytes) -> None:
        sink.on_response(200, [(b"content-type", b"application/json")])
        sink.on_body(body)
        sink.on_complete()


class Sink:
    """What an attempt told."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.text = ""

    def on_failure(self, failure: Failure) -> None:
        self.failures.append(failure)

    def on_events(self, events: list[Any]) -> None:
        self.text += "".join([event.text for event in events if isinstance(event, TextDelta)])


def make_call(sent: Continued, typed: Generation = CHAT, operation: Operation = Operation.CHAT) -> Call:
    return Call("r1", Dialect.OPENAI, operation, "m", True, 0.0, lambda: typed, continued=sent)


def ask(pool: Pool, call: Call, backend: Any = None, answer: Sequence[str] = ()) -> Sink:
    """What comes of a call at a server that was probed, and answers with these pieces."""

    async def go_through() -> Sink:
        sink: Any = Sink()
        server = backend or OpenAiBackend(SPEC, pool)  # type: ignore[arg-type]
        await server.probe(1.0)
        server.open(call, "m", sink)
        await asyncio.sleep(0)
        for piece in answer:
            pool.uploads[0].on_response(200, [(b"content-type", b"text/event-stream")])
            delta = {"choices": [{"index": 0, "delta": {"content": piece}}]}
            pool.uploads[0].on_body(b"data: %b\n\n" % json.dumps(delta).encode())
        return sink  # type: ignore[no-any-return]

    return asyncio.run(go_through())


def test_the_last_turn_is_left_open() -> None:
    pool = Pool("llamacpp")
    ask(pool, make_call(Continued("The sea ", tokens=2)))
    asked = pool.sent[0]
    assert asked["messages"][-1] == {"role": "assistant", "content": "The sea "}
    assert {name: asked[name] for name in FLAGS} == FLAGS
    assert (asked["max_tokens"], asked["stream"]) == (7, True)


def test_a_completion_goes_on_behind_its_prompt() -> None:
    pool = Pool("vllm")
    call = make_call(Continued("The sea"), Generation(prompt="Say: "), Operation.COMPLETE)
    ask(pool, call)
    assert pool.sent[0]["prompt"] == "Say: The sea"
    assert not FLAGS.keys() & pool.sent[0].keys()


def test_llama_cpp_is_told_what_was_thinking() -> None:
    pool = Pool("llamacpp")
    ask(pool, make_call(Continued("", "It asks", 2)))
    assert pool.sent[0]["messages"][-1] == {"role": "assistant", "content": "", "reasoning_content": "It asks"}


def test_nobody_else_is_sent_thoughts() -> None:
    pool = Pool("vllm")
    sink = ask(pool, make_call(Continued("The sea", "It asks", 2)))
    assert [one.kind for one in sink.failures] == [FailureKind.UNABLE]
    assert pool.sent == []


def ask_unknown(sent: Continued, typed: Generation = CHAT, answer: Sequence[str] = ()) -> Sink:
    """What comes of the same at a server of which nobody knows whether it says an open turn again."""
    pool: Any = Pool()
    return ask(pool, make_call(sent, typed), OpenAiBackend(SPEC, pool, capabilities=("continuation",)), answer)


def test_what_some_servers_say_again_is_cut() -> None:
    assert ask_unknown(SEA, answer=["The sea is", " very deep, and wide"]).text == ", and wide"
    begun = Generation(messages=(*CHAT.messages, Message("assistant", "Well: ")))
    assert ask_unknown(SEA, begun, ["Well: The sea is very deep", ", and wide"]).text == ", and wide"


@pytest.mark.parametrize("owner", ["vllm", "llamacpp"])
def test_nothing_is_cut_where_nothing_is_said_again(owner: str) -> None:
    """An answer may repeat itself."""
    laughter = ["ha ha ha ha ha ha ", "ha ha ha ha"]
    sink = ask(Pool(owner), make_call(Continued("ha ha ha ha ha ha ", tokens=6)), answer=laughter)
    assert sink.text == "".join(laughter)


def test_nobody_goes_on_with_a_text_that_repeats_itself_whose_echo_could_not_be_told() -> None:
    sink = ask_unknown(Continued("ha ha ha ha ha ha ha ", tokens=7))
    assert [one.kind for one in sink.failures] == [FailureKind.UNABLE]
    assert "repeats itself" in sink.failures[0].message


# -- in the client's own words ----------------------------------------------------


def make_raw_call(sent: str, document: dict[str, Any], operation: Operation = Operation.CHAT, left: int = 0) -> Call:
    path = b"/v1/completions" if operation is Operation.COMPLETE else b"/v1/chat/completions"
    body = json.dumps(document).encode()
    raw = RawRequest(RawHead(b"POST", path), body)
    call = make_call(Continued(sent, tokens=2, raw=raw), read_typed(body), operation)
    return msgspec.structs.replace(call, max_tokens=left)


def test_all_that_the_client_said_is_said_again_and_nothing_else() -> None:
    pool = Pool("vllm")
    turn = {"role": "user", "content": [{"type": "text", "text": "Tell"}, {"type": "text", "text": "me"}]}
    document = {"model": "x", "messages": [turn], "logit_bias": {"5": -1}, "min_tokens": 9, "max_tokens": 12}
    ask(pool, make_raw_call("The sea", {**document, "stream": True}, left=10))
    assert pool.sent == [
        {
            **document,
            **FLAGS,
            "model": "m",
            "messages": [turn, {"role": "assistant", "content": "The sea"}],
            "min_tokens": 7,
            "max_tokens": 10,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


@pytest.mark.parametrize(
    ("own", "whole"),
    [
        ("Well: ", "Well: The sea"),
        (None, "The sea"),
        ([{"type": "text", "text": "Well: "}], [{"type": "text", "text": "Well: The sea"}]),
    ],
)
def test_an_answer_that_the_client_began_stays_one_turn(own: Any, whole: Any) -> None:
    pool = Pool("llamacpp")
    begun = [{"role": "user", "content": "Tell"}, {"role": "assistant", "content": own}]
    ask(pool, make_raw_call("The sea", {"messages": begun}))
    assert pool.sent[0]["messages"] == [begun[0], {"role": "assistant", "content": whole}]


def test_it_stays_one_turn_in_other_dialects_too() -> None:
    pool = Pool("vllm")
    ask(pool, make_call(Continued("The sea", tokens=2), Generation(messages=(Message("assistant", "Well: "),))))
    assert pool.sent[0]["messages"] == [{"role": "assistant", "content": "Well: The sea"}]


@pytest.mark.parametrize("sent", ["Say: The sea", "The sea"])
def test_a_prompt_that_was_said_again_is_not_doubled(sent: str) -> None:
    pool = Pool("vllm")
    ask(pool, make_raw_call(sent, {"prompt": "Say: ", "echo": True}, Operation.COMPLETE))
    assert pool.sent[0]["prompt"] == "Say: The sea"
    assert "echo" not in pool.sent[0]


@pytest.mark.parametrize(
    ("sampling", "member"),
    [(Sampling(min_p=0.1), ""), (Sampling(extra={"mirostat": 1}), "mirostat"), (Sampling(extra={"num_gpu": 1}), "")],
)
def test_options_that_the_next_server_has_not_are_not_dropped(sampling: Sampling, member: str) -> None:
    sink = ask(Pool("llamacpp"), make_call(Continued("The sea", tokens=2), Generation("Tell", sampling=sampling)))
    assert [one.message for one in sink.failures] == ([f"'{member}' cannot be carried over"] if member else [])


def test_who_can_only_be_told_the_typed_form_is_not_asked_what_that_would_lose() -> None:
    sink = ask(Pool("llamacpp"), make_call(Continued("The sea", tokens=2, untold="'x' cannot be carried over")))
    assert [one.message for one in sink.failures] == ["'x' cannot be carried over"]


def test_before_the_first_token_the_request_goes_out_as_it_came() -> None:
    pool = Pool("vllm")
    call = make_raw_call("", {"model": "m", "messages": [], "grammar": "root ::= x"})
    assert call.continued is not None
    call = msgspec.structs.replace(call, raw=call.continued.raw, continued=None, begun=True)
    sink = ask(pool, call, answer=["The sea"])
    assert pool.sent == [{"model": "m", "messages": [], "grammar": "root ::= x"}]
    assert sink.text == "The sea"


@pytest.mark.parametrize(
    ("owner", "words", "able"),
    [
        ("llamacpp", (), True),
        ("vllm", (), True),
        ("openai", (), False),
        ("acme", (), False),
        ("acme", ("continuation",), True),
    ],
)
def test_who_can(owner: str, words: tuple[str, ...], able: bool) -> None:
    pool: Any = Pool(owner)
    backend = OpenAiBackend(SPEC, pool, capabilities=words)
    found = asyncio.run(backend.probe(1.0)).capabilities or backend.capabilities
    assert (Need.CONTINUATION in found) is able


# -- type anthropic --------------------------------------------------------------


def ask_anthropic(pool: Pool, sent: Continued, typed: Generation = CHAT) -> Sink:
    server: Any = pool
    return ask(pool, make_call(sent, typed), AnthropicBackend(SPEC, server, continues=True))


def test_only_where_it_is_said_that_its_models_go_on() -> None:
    pool: Any = Pool()
    assert Need.CONTINUATION not in AnthropicBackend(SPEC, pool).capabilities
    assert Need.CONTINUATION in AnthropicBackend(SPEC, pool, continues=True).capabilities


def test_a_last_turn_ends_in_no_space_and_what_follows_does_not_repeat_it() -> None:
    pool = Pool()
    sink = ask_anthropic(pool, Continued("The sea \n", tokens=2), Generation(messages=CHAT.messages, think=True))
    asked = pool.sent[0]
    assert asked["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "The sea"}]}
    assert "thinking" not in asked
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " \nis wide "}}
    upload = pool.uploads[0]
    upload.on_response(200, [(b"content-type", b"text/event-stream")])
    upload.on_body(b"event: content_block_delta\ndata: %b\n\n" % json.dumps(delta).encode())
    assert sink.text == "is wide "


def test_thoughts_of_others_prove_nothing() -> None:
    pool = Pool()
    assert [one.kind for one in ask_anthropic(pool, Continued("", "It asks", 2)).failures] == [FailureKind.UNABLE]
    ask_anthropic(pool, Continued("The sea", "It asks", 2))
    assert [block["type"] for block in pool.sent[0]["messages"][-1]["content"]] == ["text"]


def test_space_alone_is_no_turn() -> None:
    pool = Pool()
    ask_anthropic(pool, Continued("\n"))
    assert [turn["role"] for turn in pool.sent[0]["messages"]] == ["user"]


@pytest.mark.parametrize("sent", [Continued("The sea", tokens=2, untold="'x' cannot be carried over"), SEA])
def test_what_this_api_has_no_word_for_is_not_dropped(sent: Continued) -> None:
    sink = ask_anthropic(Pool(), sent, Generation("Tell", sampling=Sampling(min_p=0.1)))
    assert [one.message for one in sink.failures] == [sent.untold or "'min_p' cannot be carried over"]


def test_options_that_change_nothing_may_be_dropped() -> None:
    plain = Sampling(presence_penalty=0, frequency_penalty=0.0, repeat_penalty=1, seed=4, num_ctx=2048)
    assert ask_anthropic(Pool(), SEA, Generation("Tell", sampling=plain)).failures == []


def test_before_its_first_token_this_api_too_is_asked_in_the_clients_own_words() -> None:
    pool: Any = Pool()
    document = {"model": "m", "max_tokens": 9, "messages": [], "output_format": {"type": "x"}}
    raw = RawRequest(RawHead(b"POST", b"/v1/messages"), json.dumps(document).encode())
    call = msgspec.structs.replace(make_call(SEA), dialect=Dialect.ANTHROPIC, raw=raw, continued=None, begun=True)
    sink = ask(pool, call, AnthropicBackend(SPEC, pool))
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "The sea"}}
    pool.uploads[0].on_response(200, [(b"content-type", b"text/event-stream")])
    pool.uploads[0].on_body(b"event: content_block_delta\ndata: %b\n\n" % json.dumps(delta).encode())
    assert (pool.sent, sink.text) == ([document], "The sea")
