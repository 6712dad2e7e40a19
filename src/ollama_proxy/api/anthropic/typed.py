"""The whole request as every backend can understand it; read only when an attempt must translate."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

import msgspec

from ollama_proxy.api.anthropic.blocks import Block, Source, Turn, join_text
from ollama_proxy.api.anthropic.errors import BadRequest
from ollama_proxy.api.anthropic.go_types import REQUEST
from ollama_proxy.domain.call import Generation, Message, Sampling, ToolUse
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.net.bodies.conversation_length import check_messages
from ollama_proxy.net.bodies.lenient_json import check_types
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.http_request import decode_body


class _Tool(msgspec.Struct):
    type: str | None = None
    name: str = ""
    description: str | None = None
    input_schema: dict[str, Any] | None = None


class _Choice(msgspec.Struct):
    type: str = ""
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class _Thinking(msgspec.Struct):
    type: str = ""


class _Format(msgspec.Struct):
    type: str = ""
    schema: Any = None


class _Output(msgspec.Struct):
    effort: str | None = None
    format: _Format | None = None


class _Request(msgspec.Struct):
    max_tokens: int = 0
    messages: list[Turn] | None = None
    system: str | list[Block] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: tuple[str, ...] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: _Output | None = None


_requests = msgspec.json.Decoder(_Request)
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "max", "max": "max"}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def read_typed(body: bytes) -> Generation:
    """The typed form of a request. What is not said is left to the model, as Ollama's own layer does.

    Raises `BadRequest` for what no other dialect can say.
    """
    _check_length(body)
    try:
        request = _requests.decode(body)
    except UNREADABLE:
        request = _read_again(body)
    choice = request.tool_choice or _Choice()
    output = request.output_config or _Output()
    return Generation(
        messages=tuple(_read_messages(request)),
        sampling=Sampling(
            num_predict=request.max_tokens,
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            stop=request.stop_sequences or None,
        ),
        tools=tuple(_function(tool) for tool in request.tools or ()),
        tool_choice=_read_choice(choice),
        parallel_tools=False if choice.disable_parallel_tool_use else None,
        format=_read_format(output.format),
        think=_read_thinking(request.thinking, output.effort),
    )


def _check_length(body: bytes) -> None:
    try:
        check_messages(body)
    except ProxyError as error:
        raise BadRequest(error.message) from None


def _read_again(body: bytes) -> _Request:
    """A request that is not what it should be, told in Ollama's words as far as it has any."""
    try:
        check_types(body, REQUEST)
        return decode_body(_requests, body)
    except ProxyError as error:
        raise BadRequest(error.message) from None


# -- the conversation ----------------------------------------------------------


def _read_messages(request: _Request) -> Iterator[Message]:
    system = join_text(request.system)
    if system:
        yield Message("system", system)
    names: dict[str, str] = {}
    for turn in request.messages or ():
        yield from _read_turn(turn, names)


def _read_turn(turn: Turn, names: dict[str, str]) -> Iterator[Message]:
    """One message as one or more: the results of tools come first, for they answer the turn before.

    `names` are those of the tools called so far, by the call's id.
    """
    if not isinstance(turn.content, list):
        yield Message(turn.role.lower(), turn.content or "")
        return
    text: list[str] = []
    thinking: list[str] = []
    images: list[str] = []
    uses: list[ToolUse] = []
    for block in turn.content:
        match block.type:
            case "text":
                text.append(block.text or "")
            case "image":
                images.append(_read_image(block.source))
            case "document" | "search_result":
                text.append(_read_document(block))
            case "tool_use" | "server_tool_use":
                use = _read_use(block)
                names[use.id] = use.name
                uses.append(use)
            case "thinking":
                thinking.append(block.thinking or "")
            case "tool_result" | "web_search_tool_result":
                yield _read_result(block, names)
    message = Message(turn.role.lower(), "".join(text), "".join(thinking), tuple(images), tuple(uses))
    if message.content or message.images or message.tool_uses or message.thinking:
        yield message


def _read_use(block: Block) -> ToolUse:
    for name in ("id", "name"):
        if not getattr(block, name):
            raise BadRequest(f"tool_use block missing required '{name}' field")
    arguments = bytes(block.input).decode("utf-8", "replace")
    if not arguments.startswith("{"):
        raise BadRequest("tool_use: input must be an object")
    return ToolUse(block.name, arguments, block.id)


def _read_result(block: Block, names: dict[str, str]) -> Message:
    content = block.content
    images: list[str] = []
    if isinstance(content, list):
        parts = []
        for part in content:
            if part.type == "image":
                images.append(_read_image(part.source))
            elif part.type in ("document", "search_result"):
                parts.append(_read_document(part))
            else:
                parts.append(part.text or "")
        text = "".join(parts)
    elif isinstance(content, dict):
        text = msgspec.json.encode(content).decode()
    else:
        text = content or ""
    # The other dialects have no word for a tool that failed.
    text = f"Error: {text}" if block.is_error else text
    return Message(
        "tool", text, images=tuple(images), tool_call_id=block.tool_use_id, tool_name=names.get(block.tool_use_id, "")
    )


def _read_image(source: Source | str | None) -> str:
    """The base64 of an image. No address found in a body is ever fetched."""
    if not isinstance(source, Source):
        raise BadRequest("invalid image source")
    if source.type != "base64":
        raise BadRequest(f"invalid image source type: {source.type[:100]}. Only base64 images are supported.")
    try:
        base64.b64decode(source.data, validate=True)
    except binascii.Error as error:
        raise BadRequest(f"invalid base64 image data: {error}") from None
    return source.data


def _read_document(block: Block) -> str:
    """The text of a document or a search result, with what it is called."""
    title, source = block.title or "", block.source
    if block.type == "search_result":
        text = join_text(block.content)
        title = " ".join(part for part in (title, source if isinstance(source, str) else "") if part)
    elif isinstance(source, Source) and source.type == "text":
        text = source.data
    elif isinstance(source, Source) and source.type == "content":
        text = join_text(source.content)
    else:
        raise BadRequest("document blocks: only those of plain text are supported by the chosen backend")
    head = "\n".join(part for part in (title, block.context or "") if part)
    return f"{head}\n{text}\n" if head else f"{text}\n"


# -- tools and form --------------------------------------------------------------


def _function(tool: _Tool) -> dict[str, Any]:
    if (tool.type or "custom") != "custom":
        raise BadRequest(f"tools: the chosen backend has no tool {tool.type!r:.100}")
    if not tool.name:
        raise BadRequest("tools: a tool has no name")
    function = {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.input_schema or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def _read_choice(choice: _Choice) -> Any:
    if choice.type == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return _CHOICES.get(choice.type)


def _read_format(wanted: _Format | None) -> Any:
    if wanted is None:
        return None
    if wanted.type != "json_schema" or not isinstance(wanted.schema, dict):
        raise BadRequest("output_config.format: expected json_schema with a schema")
    return wanted.schema


def _read_thinking(thinking: _Thinking | None, effort: str | None) -> bool | str | None:
    """`adaptive` leaves it to the model, as far as no effort is named."""
    if thinking is not None and thinking.type in ("enabled", "disabled"):
        return thinking.type == "enabled"
    return _EFFORTS.get((effort or "").strip().lower())
