"""Which bodies the typed form tells in full."""

from typing import Any

import msgspec
import pytest

from ollama_proxy.cache.members import find_loss
from ollama_proxy.domain.call import Call, Dialect, Generation, Need, Operation, RawHead, RawRequest


def lose(dialect: Dialect, body: bytes, **fields: Any) -> str:
    raw = RawRequest(RawHead(b"POST", b"/"), body)
    return find_loss(Call("r", dialect, Operation.CHAT, "m", False, 0.0, Generation, raw=raw, **fields))


SAID = [
    (Dialect.OLLAMA, {"messages": [{"role": "user", "content": "x", "images": []}], "options": {"mirostat": 1}}),
    (Dialect.OLLAMA, {"prompt": "x", "keep_alive": "5m", "truncate": True, "format": {"type": "object"}}),
    (Dialect.OPENAI, {"messages": [{"role": "user", "content": "x", "name": "n"}], "n": 1, "user": "u", "stop": None}),
    (Dialect.OPENAI, {"prompt": "x", "best_of": 1, "echo": False, "logit_bias": {}, "service_tier": "auto"}),
    (Dialect.ANTHROPIC, {"messages": [], "max_tokens": 5, "thinking": {"type": "disabled"}, "metadata": {}}),
    (Dialect.RESPONSES, {"input": "x", "include": [], "truncation": "disabled", "store": False}),
]
LOST = [
    (Dialect.OLLAMA, {"prompt": "x", "truncate": False}, "truncate"),
    (Dialect.OPENAI, {"messages": [], "n": 2}, "n"),
    (Dialect.OPENAI, {"messages": [], "logit_bias": {"1": 5}}, "logit_bias"),
    (Dialect.OPENAI, {"messages": [{"role": "assistant", "content": "x", "prefix": True}]}, "prefix"),
    (Dialect.OPENAI, {"messages": [], "Temperature": 0}, "Temperature"),
    (Dialect.ANTHROPIC, {"messages": [], "thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
    (Dialect.RESPONSES, {"input": "x", "truncation": "auto"}, "truncation"),
    (Dialect.RESPONSES, {"input": "x", "include": ["message.output_text.logprobs"]}, "include"),
]


@pytest.mark.parametrize(("dialect", "body"), SAID)
def test_nothing_is_lost(dialect: Dialect, body: dict[str, Any]) -> None:
    assert lose(dialect, msgspec.json.encode(body)) == ""


@pytest.mark.parametrize(("dialect", "body", "member"), LOST)
def test_the_member_is_named(dialect: Dialect, body: dict[str, Any], member: str) -> None:
    assert lose(dialect, msgspec.json.encode(body)) == f"only its server can read the member {member!r}"


def test_needs_that_only_a_server_has() -> None:
    assert "several choices" in lose(Dialect.OPENAI, b"{}", wants=frozenset({Need.CHOICES}))
    assert "documents" in lose(Dialect.ANTHROPIC, b"{}", needs=frozenset({Need.GENERATE, Need.DOCUMENTS}))


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b'{"messages": [1]}', b'{"messages": {}}', b'{"a": ' * 3000])
def test_what_cannot_be_read_goes_past(body: bytes) -> None:
    assert lose(Dialect.OPENAI, body)
