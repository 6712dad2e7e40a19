"""The rest of an answer, asked for in the client's own words: its request as it came, with what was sent at its end."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.domain.call import Call, Continued, Generation, Sampling
from ollama_proxy.net.bodies.open_turn import find_untold_option, leave_open

#: Options that the typed form can be told with; others are Ollama's own.
_TOLD = frozenset(Sampling.__struct_fields__) - {"extra"}
_LIMITS = ("max_tokens", "max_completion_tokens")


def add_sent(body: bytes, sent: Continued, model: str, left: int) -> dict[str, Any]:
    """The request for what is missing, within `left` tokens (0 = unlimited), as a stream that tells its usage.

    What the client did not say stays unsaid, for the first part was written by the server's own defaults.
    """
    document: dict[str, Any] = msgspec.json.decode(body)
    document["model"], document["stream"] = model, True
    options = document.get("stream_options")
    document["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    for name in _LIMITS:
        if left and document.get(name) is not None:
            document[name] = left
    least = document.get("min_tokens")
    if isinstance(least, int):
        document["min_tokens"] = max(0, least - sent.tokens)
    if document.get("messages"):
        document["messages"] = _leave_open(document["messages"], sent)
        # llama.cpp and vLLM: leave the last turn open, and say nothing of it again.
        document["add_generation_prompt"], document["continue_final_message"] = False, True
    else:
        document["prompt"] = _add_to_prompt(document.get("prompt"), sent.text, echo=bool(document.pop("echo", False)))
    return document


def _add_to_prompt(prompt: Any, text: str, *, echo: bool) -> str:
    """The prompt, which is one text, and what was sent; where a server has said the prompt again that is both."""
    asked = str(prompt[0] if isinstance(prompt, list) else prompt or "")
    return text if echo and text.startswith(asked) else asked + text


def _leave_open(messages: list[dict[str, Any]], sent: Continued) -> list[dict[str, Any]]:
    """As `open_turn.leave_open`, of messages as they came."""
    last = messages[-1]
    own = last if last.get("role") == "assistant" and not last.get("tool_calls") else None
    turn: dict[str, Any] = {**(own or {"role": "assistant"})}
    turn["content"] = _add_to_content(turn.get("content"), sent.text)
    if sent.thinking:
        turn["reasoning_content"] = (turn.get("reasoning_content") or "") + sent.thinking
    return [*(messages[:-1] if own else messages), turn]


def _add_to_content(content: Any, text: str) -> Any:
    if not isinstance(content, list):
        return (content or "") + text
    last = content[-1] if content else {}
    if last.get("type") == "text":
        return [*content[:-1], {**last, "text": (last.get("text") or "") + text}]
    return [*content, {"type": "text", "text": text}]


def find_open_text(call: Call, sent: Continued) -> str:
    """The text of the turn that is left open."""
    typed = call.typed()
    assert isinstance(typed, Generation)
    return leave_open(typed.messages, sent)[-1].content


def find_untold(call: Call, sent: Continued) -> str:
    """What of a request these servers cannot be told in the typed form, as a clause; "" for nothing."""
    typed = call.typed()
    assert isinstance(typed, Generation)
    if typed.suffix:
        return "'suffix' cannot be carried over"
    return sent.untold or find_untold_option(typed.sampling, _TOLD)
