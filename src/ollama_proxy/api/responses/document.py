"""The response object: what the request asked for, echoed, and what became of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.answer import Usage
from ollama_proxy.net.bodies.unreadable import UNREADABLE


class _Echo(msgspec.Struct):
    """Members of a request that come back in its response as they were."""

    instructions: Any = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    truncation: Any = None
    parallel_tool_calls: Any = None
    text: Any = None
    top_p: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    top_logprobs: Any = None
    temperature: Any = None
    reasoning: Any = None
    max_output_tokens: Any = None
    max_tool_calls: Any = None
    store: Any = None
    service_tier: Any = None
    metadata: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None


_echoes = msgspec.json.Decoder(_Echo)
_PLAIN_TEXT = {"format": {"type": "text"}}


def make_id(kind: str) -> str:
    """An id that nobody can guess: `resp_`, `msg_`, `rs_` or `fc_` and 48 hexadecimal digits."""
    return f"{kind}_{secrets.token_hex(24)}"


def new_response(body: bytes, model: str, previous: str, tools: Sequence[Any] = ()) -> dict[str, Any]:
    """The object of an answer that has not begun; its members stand in the order in which Ollama writes them.

    `tools` are those that were used for it here.
    """
    try:
        echo = _echoes.decode(body)
    except UNREADABLE:
        echo = _Echo()
    return {
        "id": make_id("resp"),
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "incomplete_details": None,
        "model": model,
        "previous_response_id": previous or None,
        "instructions": echo.instructions or None,
        "output": [],
        "error": None,
        "tools": [*tools, *(_echo_tool(tool) for tool in echo.tools or () if _is_function(tool))],
        "tool_choice": _or(echo.tool_choice, "auto"),
        "truncation": _or(echo.truncation, "disabled"),
        "parallel_tool_calls": _or(echo.parallel_tool_calls, True),
        "text": echo.text if isinstance(echo.text, dict) and echo.text.get("format") else _PLAIN_TEXT,
        "top_p": _or(echo.top_p, 1),
        "presence_penalty": _or(echo.presence_penalty, 0),
        "frequency_penalty": _or(echo.frequency_penalty, 0),
        "top_logprobs": _or(echo.top_logprobs, 0),
        "temperature": _or(echo.temperature, 1),
        "reasoning": echo.reasoning,
        "usage": None,
        "max_output_tokens": echo.max_output_tokens,
        "max_tool_calls": echo.max_tool_calls,
        "store": echo.store is not False,
        "background": False,
        "service_tier": _or(echo.service_tier, "default"),
        "metadata": _or(echo.metadata, {}),
        "safety_identifier": echo.safety_identifier,
        "prompt_cache_key": echo.prompt_cache_key,
    }


def describe_usage(usage: Usage) -> dict[str, Any]:
    """Token counts in this API's members; what a backend did not count is 0, and what it broke off before is absent."""
    if usage.is_partial:
        told = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.output_tokens}
        return {name: value for name, value in told.items() if value is not None}
    taken, made = usage.prompt_tokens or 0, usage.output_tokens or 0
    return {
        "input_tokens": taken,
        "output_tokens": made,
        "total_tokens": taken + made,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens or 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def _is_function(tool: Any) -> bool:
    """The others were not offered to the model, and so are not in the answer."""
    return isinstance(tool, dict) and tool.get("type") == "function"


def _echo_tool(tool: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "name": "", "description": None, "strict": None, "parameters": None, **tool}


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
