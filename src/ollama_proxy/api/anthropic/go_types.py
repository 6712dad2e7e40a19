"""What a request for a message is to Ollama, which decides how bodies are read that are no good."""

from __future__ import annotations

from ollama_proxy.net.bodies.go_json import GoType, Misfit, read_as
from ollama_proxy.net.bodies.go_syntax import GoError, read_first, unquote

_ANY = GoType("interface {}", "any")
_STRING = GoType("string", "string")
_BOOL = GoType("bool", "bool")
_INT = GoType("int", "int")
_MAYBE_STRING = GoType("string", "string", pointer=True)
_MAYBE_FLOAT = GoType("float64", "float", pointer=True)
_MAP = GoType("map[string]interface {}", "map", element=_ANY)


def _struct(name: str, pointer: bool = True, /, **fields: GoType) -> GoType:
    return GoType(f"anthropic.{name}", "struct", fields=fields, pointer=pointer)


_SOURCE = _struct("ImageSource", type=_STRING, media_type=_STRING, data=_STRING, url=_STRING)
_BLOCK = _struct(
    "ContentBlock",
    False,
    type=_STRING,
    text=_MAYBE_STRING,
    source=_SOURCE,
    id=_STRING,
    name=_STRING,
    input=_MAP,
    tool_use_id=_STRING,
    content=_ANY,
    is_error=_BOOL,
    thinking=_MAYBE_STRING,
    signature=_STRING,
)
_BLOCKS = GoType("[]anthropic.ContentBlock", "slice", element=_BLOCK)


def _read_message(text: bytes) -> None:
    """A turn has a reader of its own there, which tells nothing of where in it something is wrong."""
    node = read_first(text)
    if node.kind != "object":
        raise Misfit(node.kind, "struct { Role string; Content json.RawMessage }")
    members = {
        unquote(key).lower(): text[item.start : item.end] for key, item in zip(node.keys, node.items, strict=True)
    }
    content = members.get("content")
    read_as(members.get("role", b"null"), _STRING)
    if content is None:
        raise GoError("unexpected end of JSON input")
    if not content.startswith(b'"'):
        read_as(content, _BLOCKS)


_MESSAGE = GoType("anthropic.MessageParam", "struct", read=_read_message)
_TOOL = _struct("Tool", False, type=_STRING, name=_STRING, description=_STRING, input_schema=_ANY, max_uses=_INT)
REQUEST = _struct(
    "MessagesRequest",
    False,
    model=_STRING,
    max_tokens=_INT,
    messages=GoType("[]anthropic.MessageParam", "slice", element=_MESSAGE),
    system=_ANY,
    stream=_BOOL,
    temperature=_MAYBE_FLOAT,
    top_p=_MAYBE_FLOAT,
    top_k=GoType("int", "int", pointer=True),
    stop_sequences=GoType("[]string", "slice", element=_STRING),
    tools=GoType("[]anthropic.Tool", "slice", element=_TOOL),
    tool_choice=_struct("ToolChoice", type=_STRING, name=_STRING, disable_parallel_tool_use=_BOOL),
    thinking=_struct("ThinkingConfig", type=_STRING, budget_tokens=_INT),
    metadata=_struct("Metadata", user_id=_STRING),
    output_config=_struct("OutputConfig", effort=_STRING),
)
