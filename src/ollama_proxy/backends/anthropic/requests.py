"""Typed calls as requests for a message.

What this API has no word for and an answer makes sense without is left out: `seed`, `min_p` and the penalties. What
it cannot do at all (log probabilities, several choices, raw prompts and the like) never comes here: it is no
capability of this kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from ollama_proxy.backends.anthropic.answer_tool import AnswerTool, make_answer_tool
from ollama_proxy.domain.call import Generation, Message, Sampling
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.tool_ids import with_ids
from ollama_proxy.net.bodies.image_type import image_type
from ollama_proxy.net.bodies.unreadable import UNREADABLE

#: Tokens to think with at each effort; the first is the least that Anthropic takes.
_LEAST_BUDGET = 1024
_BUDGETS = {"low": _LEAST_BUDGET, "medium": 4096, "high": 16384, "max": 32768}
_USUAL_BUDGET = 4096
_NO_ID = re.compile(r"[^a-zA-Z0-9_-]")


class _Asked(msgspec.Struct, omit_defaults=True):
    model: str
    messages: list[_Turn]
    max_tokens: int
    system: str = ""
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: tuple[str, ...] = ()
    tools: list[dict[str, Any]] = []
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None


class _Turn(msgspec.Struct):
    role: str
    content: list[dict[str, Any]]


def encode_request(typed: Generation, model: str, *, stream: bool, max_tokens: int) -> tuple[bytes, AnswerTool | None]:
    """The body, and the tool through which the answer comes where it has to have a form.

    `max_tokens` is for requests without a limit of their own: this API has no answer without one. Raises `ProxyError`
    for a conversation with nothing to answer, which it has not either.
    """
    messages = typed.messages or (Message("user", typed.prompt, images=typed.images),)
    system = [typed.system, *(message.content for message in messages if _is_system(message))]
    document = _Asked(model, _encode_turns(messages), max_tokens)
    document.system = "\n\n".join(text for text in system if text)
    if all(map(_is_system, messages)) and document.system.strip():
        # Nobody says anything: what the model is told is then what it answers.
        document.messages, document.system = [_Turn("user", list(_text(document.system)))], ""
    if not document.messages:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "messages: there is no text to answer")
    document.stream = stream
    answer_tool = _fill_tools(document, typed)
    _fill_sampling(document, typed.sampling)
    _fill_thinking(document, typed)
    return msgspec.json.encode(document), answer_tool


# -- the conversation ----------------------------------------------------------


def _is_system(message: Message) -> bool:
    return message.role in ("system", "developer")


def _encode_turns(messages: Sequence[Message]) -> list[_Turn]:
    """Turns of user and assistant by turns, which strict servers insist on; empty ones are refused, so left out.

    Raises `ProxyError` where the last is an empty one of the user's.
    """
    turns: list[_Turn] = []
    said = list(with_ids([message for message in messages if not _is_system(message)]))
    for message in said:
        blocks = list(_encode_message(message))
        role = "assistant" if message.role == "assistant" else "user"
        if not blocks:
            if message is said[-1] and role == "user":
                # Without it the turn before would be an answer to go on from.
                raise ProxyError(ErrorKind.INVALID_REQUEST, "messages: the last message is empty")
            continue
        if turns and turns[-1].role == role:
            turns[-1].content += blocks
        else:
            turns.append(_Turn(role, blocks))
    if turns and turns[-1].role == "assistant" and turns[-1].content[-1]["type"] == "text":
        # An answer to go on from must not end in blanks.
        turns[-1].content[-1]["text"] = turns[-1].content[-1]["text"].rstrip() or "."
    return turns


def _encode_message(message: Message) -> Iterator[dict[str, Any]]:
    """What the model thought is not said again: without its signature nobody takes it."""
    if message.role == "tool" and message.tool_call_id:
        content = [*_text(message.content), *map(_image, message.images)]
        yield {"type": "tool_result", "tool_use_id": _as_id(message.tool_call_id), "content": content}
        return
    yield from map(_image, message.images)
    yield from _text(message.content)
    for use in message.tool_uses:
        yield {"type": "tool_use", "id": _as_id(use.id), "name": use.name, "input": _read_object(use.arguments)}


def _text(text: str) -> Iterator[dict[str, Any]]:
    if text.strip():
        yield {"type": "text", "text": text}


def _image(image: str) -> dict[str, Any]:
    source = {"type": "base64", "media_type": f"image/{image_type(image)}", "data": image}
    return {"type": "image", "source": source}


def _as_id(ident: str) -> str:
    return _NO_ID.sub("_", ident)


def _read_object(arguments: str) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(arguments or "{}")
    except UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}


# -- tools and form --------------------------------------------------------------


def _fill_tools(document: _Asked, typed: Generation) -> AnswerTool | None:
    document.tools = [_encode_tool(tool) for tool in typed.tools]
    choice = _encode_choice(typed.tool_choice) if document.tools else None
    answer_tool = None
    if typed.format is not None and (choice or {}).get("type") != "tool":
        answer_tool = make_answer_tool(typed.format, {str(tool.get("name")) for tool in document.tools})
        own = bool(document.tools) and choice != {"type": "none"}
        document.tools.append(answer_tool.describe())
        choice = {"type": "any"} if own else {"type": "tool", "name": answer_tool.name}
    if document.tools and typed.parallel_tools is False and choice != {"type": "none"}:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    document.tool_choice = choice
    return answer_tool


def _encode_tool(tool: Any) -> dict[str, Any]:
    function = tool.get("function") if isinstance(tool, dict) else None
    function = function if isinstance(function, dict) else {}
    found = {"name": function.get("name", ""), "input_schema": function.get("parameters") or {"type": "object"}}
    if function.get("description"):
        found["description"] = function["description"]
    return found


def _encode_choice(choice: Any) -> dict[str, Any] | None:
    if isinstance(choice, dict):
        function = choice.get("function")
        return {"type": "tool", "name": function.get("name", "") if isinstance(function, dict) else ""}
    return {"required": {"type": "any"}, "none": {"type": "none"}}.get(choice)


# -- sampling --------------------------------------------------------------------


def _fill_sampling(document: _Asked, sampling: Sampling) -> None:
    """What is this API's own default stays out; newer models take one of temperature and top_p, not both."""
    limit = sampling.num_predict
    if limit is not None and limit > 0:
        document.max_tokens = limit
    temperature, top_p = sampling.temperature, sampling.top_p
    if temperature is not None and temperature != 1:
        document.temperature = min(max(temperature, 0.0), 1.0)
    elif top_p is not None and top_p != 1:
        document.top_p = top_p
    document.top_k = sampling.top_k if sampling.top_k is not None and sampling.top_k > 0 else None
    # Blank ones are refused.
    document.stop_sequences = tuple(stop for stop in sampling.stop or () if stop.strip())


def _fill_thinking(document: _Asked, typed: Generation) -> None:
    """Think as asked, unless that is refused: with a tool that must be called, and in the middle of calling tools, for
    then the thoughts from before would have to come along, signed.

    The limit is meant for the answer: where it is smaller than what thinking may take, it is added to that.
    """
    think = typed.think
    if think is False:
        document.thinking = {"type": "disabled"}
    if not think or _is_forced(document.tool_choice) or _calls_tools(document.messages):
        return
    budget = _BUDGETS.get(think, _USUAL_BUDGET) if isinstance(think, str) else _USUAL_BUDGET
    limit = document.max_tokens
    if limit <= budget:
        budget = _LEAST_BUDGET if limit <= _LEAST_BUDGET else limit - 1
        document.max_tokens = limit + budget if limit <= _LEAST_BUDGET else limit
    document.thinking = {"type": "enabled", "budget_tokens": budget}
    document.temperature = document.top_p = document.top_k = None


def _is_forced(choice: dict[str, Any] | None) -> bool:
    return choice is not None and choice["type"] in ("any", "tool")


def _calls_tools(turns: Sequence[_Turn]) -> bool:
    return bool(turns) and any(block["type"] == "tool_result" for block in turns[-1].content)
