"""What goes up to a backend for a typed call: all that was asked for, under the backend's names, and nothing else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ollama_proxy.backends.ollama import requests as ollama
from ollama_proxy.backends.openai import requests as openai
from ollama_proxy.domain.call import Call, Dialect, Embedding, Generation, Message, Operation, Sampling, ToolUse

GENERATE, CHAT, COMPLETE, EMBED = Operation.GENERATE, Operation.CHAT, Operation.COMPLETE, Operation.EMBED
ALL_SAMPLING = Sampling(5, 0.5, 0.25, 3, 0.125, 7, ("a", "b"), 1.5, 2.5, 3.5, 99)
TURNS = (
    Message("user", "look", images=("/9j/x",)),
    Message("assistant", thinking="hm", tool_uses=(ToolUse("f", '{"a":1}', "c1"), ToolUse("g", ""))),
    Message("tool", "9", tool_call_id="c1", tool_name="f"),
)
TOOL = {"type": "function", "function": {"name": "f"}}


def make_call(typed: Generation | Embedding, operation: Operation, dialect: Dialect, *, stream: bool) -> Call:
    return Call("r", dialect, operation, "m", stream, 0.0, lambda: typed)


def plain(document: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(document))


def to_ollama(
    typed: Generation | Embedding, operation: Operation = GENERATE, *, stream: bool = False
) -> tuple[bytes, Any]:
    path, document = ollama.encode_request(make_call(typed, operation, Dialect.OPENAI, stream=stream), "n")
    return path, plain(document)


def to_openai(
    typed: Generation | Embedding,
    operation: Operation = CHAT,
    dialect: Dialect = Dialect.OPENAI,
    *,
    stream: bool = False,
) -> tuple[bytes, Any]:
    path, document = openai.encode_request(make_call(typed, operation, dialect, stream=stream), "n", stream=stream)
    return path, plain(document)


@pytest.mark.parametrize("stream", [False, True])
def test_ollama_gets_nothing_that_was_not_asked_for(stream: bool) -> None:
    expected = {"model": "n", "stream": stream, "prompt": ""}
    assert to_ollama(Generation(), stream=stream) == (b"/api/generate", expected)
    assert to_ollama(Generation(), CHAT, stream=stream) == (
        b"/api/chat",
        {"model": "n", "stream": stream, "messages": []},
    )


def test_ollama_gets_all_of_a_prompt() -> None:
    typed = Generation(
        prompt="p",
        suffix="s",
        system="y",
        template="t",
        raw=True,
        images=("i",),
        context=(1, 2),
        sampling=ALL_SAMPLING,
        format="json",
        think=False,
        keep_alive=0,
        logprobs=True,
        top_logprobs=2,
    )
    path, document = to_ollama(typed)
    assert path == b"/api/generate"
    assert document == {
        **{"model": "n", "stream": False, "prompt": "p", "suffix": "s", "system": "y", "template": "t", "raw": True},
        **{"images": ["i"], "context": [1, 2], "format": "json", "think": False, "keep_alive": 0},
        **{"logprobs": True, "top_logprobs": 2},
        "options": {
            **{"num_predict": 5, "temperature": 0.5, "top_p": 0.25, "top_k": 3, "min_p": 0.125, "seed": 7},
            **{"stop": ["a", "b"], "repeat_penalty": 1.5, "presence_penalty": 2.5, "frequency_penalty": 3.5},
            "num_ctx": 99,
        },
    }


def test_options_that_only_ollama_knows_win() -> None:
    sampling = Sampling(temperature=0.5, extra={"mirostat": 2, "temperature": 0})
    assert to_ollama(Generation(sampling=sampling))[1]["options"] == {"mirostat": 2, "temperature": 0}


@pytest.mark.parametrize(("choice", "tools"), [(None, [TOOL]), ("auto", [TOOL]), ("none", None)])
def test_ollama_gets_all_of_a_chat(choice: Any, tools: Any) -> None:
    path, document = to_ollama(Generation(messages=TURNS, tools=(TOOL,), tool_choice=choice))
    assert (path, document.get("tools")) == (b"/api/chat", tools)
    calls = [
        {"id": "c1", "function": {"name": "f", "arguments": {"a": 1}}},
        {"id": "", "function": {"name": "g", "arguments": {}}},
    ]
    assert document["messages"] == [
        {"role": "user", "content": "look", "images": ["/9j/x"]},
        {"role": "assistant", "content": "", "thinking": "hm", "tool_calls": calls},
        {"role": "tool", "content": "9", "tool_name": "f", "tool_call_id": "c1"},
    ]


def test_ollama_embeds() -> None:
    assert to_ollama(Embedding(("x",)), EMBED) == (b"/api/embed", {"model": "n", "input": ["x"]})
    whole = Embedding(("x", "y"), 8, False, "5m", {"num_ctx": 2})
    more = {"dimensions": 8, "truncate": False, "keep_alive": "5m", "options": {"num_ctx": 2}}
    assert to_ollama(whole, EMBED)[1] == {"model": "n", "input": ["x", "y"], **more}


def test_openai_gets_nothing_that_was_not_asked_for() -> None:
    messages = [{"role": "user", "content": ""}]
    assert to_openai(Generation()) == (b"/chat/completions", {"model": "n", "messages": messages})
    assert to_openai(Generation(), COMPLETE) == (b"/completions", {"model": "n", "prompt": ""})
    streamed = {"model": "n", "stream": True, "stream_options": {"include_usage": True}, "messages": messages}
    assert to_openai(Generation(), stream=True)[1] == streamed


def test_openai_gets_ollamas_defaults_for_its_clients() -> None:
    for dialect in (Dialect.OLLAMA, Dialect.COMPUTE):
        document = to_openai(Generation(prompt="p", system="y"), GENERATE, dialect)[1]
        assert (document["temperature"], document["top_p"]) == (0.8, 0.9)
        assert document["messages"] == [{"role": "system", "content": "y"}, {"role": "user", "content": "p"}]
    assert to_openai(Generation(sampling=Sampling(top_p=0.0)), CHAT, Dialect.OLLAMA)[1]["top_p"] == 0.0


def test_openai_gets_all_sampling_it_knows() -> None:
    path, document = to_openai(Generation(prompt="p", raw=True, sampling=ALL_SAMPLING))
    assert path == b"/completions"
    assert document == {
        **{"model": "n", "prompt": "p", "max_tokens": 5, "temperature": 0.5, "top_p": 0.25, "top_k": 3, "min_p": 0.125},
        **{"seed": 7, "stop": ["a", "b"], "repeat_penalty": 1.5, "presence_penalty": 2.5, "frequency_penalty": 3.5},
    }
    unlimited = Generation(sampling=Sampling(num_predict=-1, seed=-1, stop=()))
    assert to_openai(unlimited, COMPLETE)[1] == {"model": "n", "prompt": ""}


def test_openai_gets_all_of_a_chat() -> None:
    document = to_openai(Generation(messages=TURNS, tools=(TOOL,), tool_choice="none"))[1]
    assert (document["tools"], document["tool_choice"]) == ([TOOL], "none")
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/x"}},
    ]
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    assert document["messages"] == [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": calls},
        {"role": "tool", "content": "9", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize(
    ("typed", "member", "value"),
    [
        (Generation(format="json"), "response_format", {"type": "json_object"}),
        (
            Generation(format={"type": "object"}),
            "response_format",
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
        ),
        (Generation(think="low"), "reasoning_effort", "low"),
        (Generation(think="max"), "reasoning_effort", "high"),
        (Generation(think=True), "reasoning_effort", "medium"),
        (Generation(think=False), "reasoning_effort", None),
        (Generation(think=False), "chat_template_kwargs", None),
        (Generation(logprobs=True, top_logprobs=2), "top_logprobs", 2),
        (Generation(logprobs=True), "logprobs", True),
        (Generation(top_logprobs=2), "top_logprobs", None),
        (Generation(think="low", effort="minimal"), "reasoning_effort", "minimal"),
        (Generation(think=False, effort="none"), "reasoning_effort", "none"),
        (Generation(sampling=Sampling(5), limits_completion=True), "max_completion_tokens", 5),
        (Generation(sampling=Sampling(5), limits_completion=True), "max_tokens", None),
    ],
)
def test_openai_has_other_names_for_wishes(typed: Generation, member: str, value: Any) -> None:
    assert to_openai(typed)[1].get(member) == value


def test_words_of_another_dialect_stay_the_nearest_that_all_know() -> None:
    typed = Generation(think="low", effort="minimal")
    assert to_openai(typed, dialect=Dialect.RESPONSES)[1]["reasoning_effort"] == "low"
    assert to_ollama(typed)[1]["think"] == "low"


@pytest.mark.parametrize(("think", "effort"), [(True, None), (False, None), ("high", "high")])
def test_where_the_template_thinks_it_is_switched_there(think: bool | str, effort: str | None) -> None:
    call = make_call(Generation(think=think), CHAT, Dialect.OLLAMA, stream=False)
    document = plain(openai.encode_request(call, "n", stream=False, thinks_by_template=True)[1])
    assert document["chat_template_kwargs"] == {"enable_thinking": bool(think)}
    assert document.get("reasoning_effort") == effort


def test_openai_embeds() -> None:
    assert to_openai(Embedding(("x",)), EMBED) == (b"/embeddings", {"model": "n", "input": ["x"]})
    assert to_openai(Embedding(("x",), 8), EMBED)[1]["dimensions"] == 8
