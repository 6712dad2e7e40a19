"""Conversations of more messages than are translated: refused in the dialect's words before any message is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ollama_proxy.api.anthropic import typed as anthropic
from ollama_proxy.api.anthropic.errors import BadRequest as AnthropicRefusal
from ollama_proxy.api.ollama import typed as ollama
from ollama_proxy.api.openai import typed as openai
from ollama_proxy.api.responses import typed as responses
from ollama_proxy.api.responses.errors import BadRequest as ResponsesRefusal
from ollama_proxy.domain.call import Generation, Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.conversation_length import MOST_MESSAGES, check_messages

MESSAGE = b'{"role":"user","content":"x"}'
Read = Callable[[bytes], Generation]


def _read_ollama(body: bytes) -> Generation:
    return ollama.read_typed(body, Operation.CHAT)


READERS = [
    pytest.param(ollama, _read_ollama, ProxyError, id="ollama"),
    pytest.param(openai, openai.read_typed, ProxyError, id="openai"),
    pytest.param(anthropic, anthropic.read_typed, AnthropicRefusal, id="anthropic"),
]


def chat(count: int, message: bytes = MESSAGE) -> bytes:
    return b'{"model":"m","max_tokens":5,"messages":[%b]}' % b",".join([message] * count)


@pytest.mark.parametrize(("module", "read", "refusal"), READERS)
def test_too_many_messages_are_refused_unread(
    module: Any, read: Read, refusal: type[ProxyError], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(read(chat(MOST_MESSAGES)).messages) == MOST_MESSAGES
    monkeypatch.setattr(module, "_requests", None)
    for count in (MOST_MESSAGES + 1, 600_000):
        with pytest.raises(refusal) as caught:
            read(chat(count))
        assert caught.value.kind is ErrorKind.INVALID_REQUEST
        assert caught.value.message == (
            f"messages: at most 10000 can be translated for the chosen backend, found {count}"
        )


def test_too_many_items_are_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    item = b'{"type":"message","role":"user","content":"x"}'
    assert len(responses.read_typed(b"{}", [item] * MOST_MESSAGES).messages) == MOST_MESSAGES
    monkeypatch.setattr(responses, "_requests", None)
    with pytest.raises(ResponsesRefusal, match=r"^input: at most 10000 ") as caught:
        responses.read_typed(b"{}", [item] * 600_000)
    assert caught.value.param == "input"


@pytest.mark.parametrize("message", [b"{}", b"1", MESSAGE])
def test_the_shortest_messages_are_counted(message: bytes) -> None:
    check_messages(chat(MOST_MESSAGES - 100, message))
    with pytest.raises(ProxyError):
        check_messages(chat(MOST_MESSAGES * 2, message))


@pytest.mark.parametrize(
    "body", [b"[" * 50_000, b'{"messages":"' + b"x" * 50_000 + b'"}', b"\xff" * 50_000, b" " * 50_000]
)
def test_what_cannot_be_counted_is_left_to_the_reader(body: bytes) -> None:
    check_messages(body)


def test_pictures_and_texts_of_any_length_do_not_count() -> None:
    long = msgspec.json.encode({"role": "user", "content": "[{},{}]," * 1_000_000})
    assert len(_read_ollama(chat(3, long)).messages) == 3
