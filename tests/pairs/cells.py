"""The cells of the pair table: client dialects, upstream servers, and what is asked of each pair."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from tests.pairs.conversation import (
    PIXEL,
    TOOL_NAME,
    Ask,
    Client,
    Got,
    ask_anthropic,
    ask_compute,
    ask_ollama,
    ask_openai,
    ask_responses,
)

CLIENTS: dict[str, Client] = {
    "ollama": ask_ollama,
    "openai": ask_openai,
    "responses": ask_responses,
    "anthropic": ask_anthropic,
    "compute": ask_compute,
}


@dataclass(frozen=True)
class Server:
    """An upstream: its kind in the configuration, whether it is real, its model for tools and text, for thinking."""

    kind: str
    real: bool
    model: str
    thinker: str = ""


SERVERS = {
    "Ollama": Server("ollama", real=True, model="smollm2:135m", thinker="think:135m"),
    "llama.cpp": Server("openai", real=True, model="smollm2:135m", thinker="smollm2:135m"),
    "lab ollama": Server("ollama", real=False, model="qwen2.5:0.5b", thinker="qwen2.5:0.5b"),
    "lab openai": Server("openai", real=False, model="qwen2.5:0.5b", thinker="qwen2.5:0.5b"),
    "lab anthropic": Server("anthropic", real=False, model="qwen2.5:0.5b", thinker="qwen2.5:0.5b"),
}

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "warm": {"type": "boolean"}},
    "required": ["city", "warm"],
    "additionalProperties": False,
}
_TOOL_PROMPT = "What is the weather in Oslo?"
#: The lab calls a tool that the prompt names; the tiny model does what its template showed it.
LAB_HINT = f" Use {TOOL_NAME}."
#: How each dialect says that the limit of tokens ended an answer, that the model did, and that it calls a tool.
LENGTH = {"length", "max_tokens", "done"}
STOPPED = {"stop", "end_turn", "stop_sequence", "completed", "done"}
CALLED = {"stop", "tool_calls", "tool_use", "completed"}


@dataclass(frozen=True)
class Feature:
    """A question and what has to be true of its answer. `emulated_only`: no model that runs here can do it."""

    ask: Ask
    check: Callable[[Got], None]
    thinks: bool = False
    emulated_only: bool = False


def _check_text(got: Got) -> None:
    assert got.text.strip()
    assert got.reason in LENGTH | STOPPED
    assert got.output_tokens > 0


def _check_limit(got: Got) -> None:
    # Ollama's own Responses layer calls a cut answer completed, and what it says passes as it came.
    assert got.reason in LENGTH | {"completed"}, got
    assert 0 < got.output_tokens <= 4


def _check_call(got: Got) -> None:
    assert [name for name, _ in got.calls] == [TOOL_NAME], got
    assert isinstance(got.calls[0][1], dict)
    assert got.reason in CALLED


def _check_after_tool(got: Got) -> None:
    assert got.text.strip()
    assert not got.calls


def _check_image(got: Got) -> None:
    size = len(PIXEL.rstrip("=")) * 3 // 4
    assert f"Saw images of {size} bytes" in got.text, got


def _check_schema(got: Got) -> None:
    answer = json.loads(got.text)
    assert set(answer) == {"city", "warm"}
    assert isinstance(answer["warm"], bool)


def _check_thinking(got: Got) -> None:
    assert got.thinking.strip(), got
    assert got.text.strip()


FEATURES = {
    "text": Feature(Ask(), _check_text),
    "limit": Feature(Ask("Tell a long story.", max_tokens=4), _check_limit),
    "tools": Feature(Ask(_TOOL_PROMPT, tool=True, max_tokens=80), _check_call),
    "tool result": Feature(Ask(_TOOL_PROMPT, answered_tool=True), _check_after_tool),
    "images": Feature(Ask("What is this?", image=True), _check_image, emulated_only=True),
    "structured output": Feature(Ask("Describe Paris as JSON.", schema=SCHEMA, max_tokens=200), _check_schema),
    "thinking": Feature(Ask("Which colour is grass?", think=True, max_tokens=120), _check_thinking, thinks=True),
}
#: What a dialect has no words for.
WORDLESS = {
    "compute": {"tools", "tool result", "images", "structured output", "thinking"},
    "responses": {"stop sequences"},
}


def is_asked(server: Server, feature: str) -> bool:
    """Whether a server can be asked for a feature: a real one must have a model that can do it."""
    about = FEATURES.get(feature)
    if about is None or not server.real:
        return True
    return not about.emulated_only and (not about.thinks or bool(server.thinker))
