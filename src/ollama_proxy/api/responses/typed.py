"""The whole request as every backend can understand it; read only when an attempt must translate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ollama_proxy.api.responses.errors import BadRequest
from ollama_proxy.api.responses.go_types import REQUEST
from ollama_proxy.api.responses.items import read_content, read_item, text_of
from ollama_proxy.domain.call import Generation, Message, Sampling, ToolUse
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.bodies.conversation_length import check_count
from ollama_proxy.net.bodies.go_syntax import GoError, read_first
from ollama_proxy.net.bodies.lenient_json import check_types
from ollama_proxy.net.bodies.unreadable import UNREADABLE, tell_unreadable
from ollama_proxy.net.http_request import decode_body

_LOGPROBS = "message.output_text.logprobs"
_CALL = "ResponsesFunctionCall"
_BAD_ARGUMENTS = "failed to parse function call arguments"
_EFFORTS: dict[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
}


class _Format(msgspec.Struct):
    type: str = "text"
    schema: Any = None
    # Nobody needs these but servers of OpenAI's chat completions, whose backend reads them; here they are checked.
    name: str | None = None
    strict: bool | None = None
    description: str | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Tool(msgspec.Struct):
    type: str = ""
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Request(msgspec.Struct):
    instructions: str | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_output_tokens: int | None = None
    reasoning: _Reasoning | None = None
    text: _Text | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    prompt: Any = None


_requests = msgspec.json.Decoder(_Request)


def read_typed(body: bytes, items: Sequence[bytes]) -> Generation:
    """The typed form of a request; `items` are those of earlier turns and its own. Raises `BadRequest`.

    OpenAI's defaults (temperature and top_p 1.0) are made explicit: other servers have others.
    """
    _check_length(items)
    try:
        request = _requests.decode(body)
    except UNREADABLE:
        request = _read_again(body)
    if request.prompt is not None:
        raise BadRequest("prompt templates are not supported", param="prompt", code="unsupported_parameter")
    messages = _read_messages(request.instructions, items)
    tools, choice = _choose_tools(request)
    return Generation(
        messages=tuple(messages),
        sampling=Sampling(
            num_predict=request.max_output_tokens,
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
        ),
        tools=tools,
        tool_choice=choice,
        parallel_tools=request.parallel_tool_calls,
        format=_read_format(request.text),
        think=_read_effort(request.reasoning),
        effort=_own_effort(request.reasoning),
        logprobs=bool(request.top_logprobs) or _LOGPROBS in (request.include or ()),
        top_logprobs=request.top_logprobs or 0,
    )


def _check_length(items: Sequence[bytes]) -> None:
    try:
        check_count(len(items), "input")
    except ProxyError as error:
        raise BadRequest(error.message, param="input") from None


def _read_again(body: bytes) -> _Request:
    """A request that is not what it should be, told in Ollama's words as far as it has any."""
    try:
        check_types(body, REQUEST)
        return decode_body(_requests, body)
    except ProxyError as error:
        raise BadRequest(error.message) from None


# -- the conversation ----------------------------------------------------------


def _read_messages(instructions: str | None, items: Sequence[bytes]) -> list[Message]:
    messages = [Message("system", instructions)] if instructions else []
    names: dict[str, str] = {}
    thinking = ""
    for index, raw in enumerate(items):
        item = read_item(raw, index)
        where = f"input[{index}]"
        match item["type"]:
            case "message":
                message = _read_message(item, where)
                if message.role == "assistant" and thinking:
                    message, thinking = msgspec.structs.replace(message, thinking=thinking), ""
                messages.append(message)
            case "reasoning":
                thinking = _read_reasoning(item, where)
            case "function_call":
                use = _read_call(item, where)
                names[use.id] = use.name
                messages, thinking = _with_call(messages, use, thinking), ""
            case "function_call_output":
                messages.append(_read_result(item, where, names))
            case "file_search_call":
                # What it found is in the answer that follows.
                continue
            case other:
                raise BadRequest(f'{where}: unknown input item type: "{str(other)[:100]}"')
    if not messages:
        raise BadRequest("input is required", param="input", code="missing_required_parameter")
    return messages


def _read_message(item: dict[str, Any], where: str) -> Message:
    text, images = read_content(item.get("content"), where, "content")
    role = text_of(item, "role", where) or "user"
    return Message("system" if role == "developer" else role, text, images=images)


def _read_reasoning(item: dict[str, Any], where: str) -> str:
    """What the model thought: kept whole by servers that do not really encrypt it, else as far as it was shown."""
    kept = text_of(item, "encrypted_content", where)
    if kept:
        return kept
    parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
    return "".join(text_of(part, "text", where) for part in parts if isinstance(part, dict))


def _read_call(item: dict[str, Any], where: str) -> ToolUse:
    arguments = text_of(item, "arguments", where, _CALL) or "{}"
    try:
        document = msgspec.json.decode(arguments)
    except UNREADABLE as error:
        raise BadRequest(f"{_BAD_ARGUMENTS}: {_syntax_fault(arguments) or tell_unreadable(error)}") from None
    if not isinstance(document, dict):
        raise BadRequest(f"{_BAD_ARGUMENTS}: Value looks like object, but can't find closing '}}' symbol")
    ident = text_of(item, "call_id", where, _CALL) or text_of(item, "id", where, _CALL)
    return ToolUse(text_of(item, "name", where, _CALL), arguments, ident)


def _syntax_fault(text: str) -> str:
    """What Go finds wrong with JSON text; nothing when it is what stands behind the first value."""
    try:
        read_first(text.encode())
    except GoError as error:
        return str(error)
    return ""


def _with_call(messages: list[Message], use: ToolUse, thinking: str) -> list[Message]:
    """A call belongs to the assistant's turn in front of it; several calls are one turn."""
    last = messages[-1] if messages else None
    if last is None or last.role != "assistant":
        return [*messages, Message("assistant", thinking=thinking, tool_uses=(use,))]
    thought = thinking or last.thinking
    return [*messages[:-1], msgspec.structs.replace(last, tool_uses=(*last.tool_uses, use), thinking=thought)]


def _read_result(item: dict[str, Any], where: str, names: dict[str, str]) -> Message:
    text, images = read_content(item.get("output"), where, "output")
    ident = text_of(item, "call_id", where)
    return Message("tool", text, images=images, tool_call_id=ident, tool_name=names.get(ident, ""))


# -- tools and form --------------------------------------------------------------


def _choose_tools(request: _Request) -> tuple[tuple[Any, ...], Any]:
    """Functions in the shape of chat completions, and the choice among them.

    Tools that only OpenAI's servers have (web search and the like) are an offer nobody here can take up, so they are
    left out; who insists on one is refused.
    """
    if any(tool.type == "custom" for tool in request.tools or ()):
        # The request describes it itself and waits to be called by it; as a function it would be another tool.
        raise BadRequest('tools: the chosen backend has no tools of type "custom"', param="tools")
    functions = [_function(tool) for tool in request.tools or () if tool.type == "function"]
    choice = request.tool_choice
    if not isinstance(choice, dict):
        return tuple(functions), choice
    match choice.get("type"):
        case "function":
            name = choice.get("name")
            if not any(one["function"]["name"] == name for one in functions):
                raise BadRequest(f"tool_choice: there is no function {str(name)[:100]!r} among the tools")
            return tuple(functions), {"type": "function", "function": {"name": name}}
        case "allowed_tools":
            allowed = {one.get("name") for one in choice.get("tools") or () if isinstance(one, dict)}
            kept = tuple(one for one in functions if one["function"]["name"] in allowed)
            return kept, choice.get("mode")
        case other:
            raise BadRequest(f"tool_choice: no backend has the tool {str(other)[:100]!r}", param="tool_choice")


def _function(tool: _Tool) -> dict[str, Any]:
    if not tool.name:
        raise BadRequest("a function among the tools has no name", param="tools")
    function: dict[str, Any] = {"name": tool.name, "description": tool.description or ""}
    function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _read_format(text: _Text | None) -> Any:
    wanted = text.format if text is not None else None
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return "json"
    if wanted.type == "json_schema" and isinstance(wanted.schema, dict):
        return wanted.schema
    raise BadRequest("text.format: expected text, json_object, or json_schema with a schema", param="text.format")


def _read_effort(reasoning: _Reasoning | None) -> bool | str | None:
    effort = reasoning.effort if reasoning is not None else None
    if not effort:
        return None
    found = _EFFORTS.get(effort)
    if found is None:
        known = '"high", "medium", "low", "max", or "none"'
        raise BadRequest(f'invalid reasoning value: "{effort[:100]}" (must be {known})')
    return found


def _own_effort(reasoning: _Reasoning | None) -> str:
    """The effort where other dialects have no such word."""
    effort = reasoning.effort if reasoning is not None else None
    return effort if effort and _EFFORTS.get(effort) != effort else ""
