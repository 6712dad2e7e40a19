"""Ollama's request types, as far as they decide what a body may hold and what is said when it holds something else."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.go_json import GoType, read_as
from ollama_proxy.net.bodies.go_syntax import GoError, NothingThere, fail, mend, quote, read_first, unquote

STRING = GoType("string", "string")
BOOL = GoType("bool", "bool")
MAYBE_BOOL = GoType("bool", "bool", pointer=True)
INT = GoType("int", "int")
INT32 = GoType("int32", "int", bits=32)
ANY = GoType("interface {}", "any")
STRINGS = GoType("[]string", "slice", element=STRING)
OPTIONS = GoType("map[string]interface {}", "map", element=ANY)
STRING_MAP = GoType("map[string]string", "map", element=STRING)
IMAGE = GoType("api.ImageData", "bytes", element=GoType("uint8", "uint", bits=8))
IMAGES = GoType("[]api.ImageData", "slice", element=IMAGE)

_EFFORTS = ("high", "medium", "low", "max")
_EFFORT_WORDS = ", ".join(f'"{effort}"' for effort in _EFFORTS)
_MAX_NS = 1 << 63
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "\N{MICRO SIGN}s": 1_000,
    "\N{GREEK SMALL LETTER MU}s": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?")
_UNIT = re.compile(r"[^.0-9]+")


def read_duration(text: str) -> int:
    """Nanoseconds of a duration such as `1h30m`. Raises `GoError`."""
    wrong = f"time: invalid duration {_quote_time(text)}"
    rest = text.removeprefix(text[0]) if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        fail(wrong)
    total = 0
    while rest:
        match = _PART.match(rest)
        assert match is not None
        whole, part = match.groups()
        if not whole and not part:
            fail(wrong)
        rest = rest[match.end() :]
        unit = _UNIT.match(rest)
        if int(whole[:20] or 0) > _MAX_NS:
            fail(wrong)
        if unit is None:
            fail(f"time: missing unit in duration {_quote_time(text)}")
        if unit.group() not in _UNITS:
            fail(f"time: unknown unit {_quote_time(unit.group())} in duration {_quote_time(text)}")
        scale = _UNITS[unit.group()]
        total += int(whole[:20] or 0) * scale + int(float(f"0.{part or 0}") * scale)
        if total > _MAX_NS or (total == _MAX_NS and text[:1] != "-"):
            fail(wrong)
        rest = rest[unit.end() :]
    return -total if text.startswith("-") else total


def _quote_time(text: str) -> str:
    """Text as Go's package `time` quotes it: what is not ASCII byte by byte."""
    out = []
    for char in text:
        if char >= "\x80" or char < " ":
            out += [f"\\x{byte:02x}" for byte in char.encode()]
        else:
            out.append("\\" + char if char in '"\\' else char)
    return '"' + "".join(out) + '"'


def _read_keep_alive(text: bytes) -> Any:
    value = read_as(text, ANY)
    if text.startswith(b'"'):
        value = unquote(text)
        read_duration(value)
    elif text.startswith((b"[", b"{", b"t", b"f")):
        kinds = {b"[": "[]interface {}", b"{": "map[string]interface {}"}
        fail(f"Unsupported type: '{kinds.get(text[:1], 'bool')}'")
    return value


def _read_think(text: bytes) -> Any:
    if text in (b"true", b"false"):
        return text == b"true"
    if not text.startswith(b'"'):
        fail(f"think must be a boolean or string ({_EFFORT_WORDS}, true, or false)")
    value = unquote(text)
    _check_effort(value)
    return value


def _check_effort(value: str) -> None:
    if value not in _EFFORTS:
        fail(f"invalid think value: {quote(value)} (must be {_EFFORT_WORDS}, true, or false)")


def check_effort(value: str) -> None:
    """Raises `ProxyError(INVALID_REQUEST)` for a word that is no effort, as reading the whole request would."""
    try:
        _check_effort(value)
    except GoError as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, str(error)) from None


def _read_raw(text: bytes) -> msgspec.Raw:
    return msgspec.Raw(mend(text))


def _read_message(text: bytes) -> Any:
    return read_as(text, _MESSAGE_FIELDS) or {}


def _read_ordered(text: bytes, kind: GoType) -> Any:
    """An object whose order counts; Ollama reads these with another library."""
    if text == b"null":
        return None
    node = read_first(text)
    if node.kind != "object":
        fail("Value looks like object, but can't find closing '}' symbol")
    return {
        unquote(key): read_as(text[item.start : item.end], kind)
        for key, item in zip(node.keys, node.items, strict=True)
    }


def _read_arguments(text: bytes) -> Any:
    return _read_ordered(text, ANY)


def _read_properties(text: bytes) -> Any:
    return _read_ordered(text, _PROPERTY)


def _read_property(text: bytes) -> Any:
    return read_as(text, _PROPERTY)


def _read_property_type(text: bytes) -> Any:
    return read_as(text, STRINGS if not text.startswith((b'"', b"n")) else STRING)


KEEP_ALIVE = GoType("api.Duration", "any", pointer=True, read=_read_keep_alive)
THINK = GoType("api.ThinkValue", "any", pointer=True, read=_read_think)
RAW = GoType("json.RawMessage", "any", read=_read_raw)
PROPERTIES = GoType("api.ToolPropertiesMap", "any", pointer=True, read=_read_properties)

#: `anyOf` holds more of its kind, which a frozen type can only name through a reader.
_NESTED_PROPERTY = GoType("api.ToolProperty", "any", read=_read_property)
_PROPERTY = GoType(
    "api.ToolProperty",
    "struct",
    fields={
        "anyOf": GoType("[]api.ToolProperty", "slice", element=_NESTED_PROPERTY),
        "type": GoType("api.PropertyType", "any", read=_read_property_type),
        "items": ANY,
        "description": STRING,
        "enum": GoType("[]interface {}", "slice", element=ANY),
        "properties": PROPERTIES,
        "required": STRINGS,
    },
)
_PARAMETERS = GoType(
    "api.ToolFunctionParameters",
    "struct",
    fields={"type": STRING, "$defs": ANY, "items": ANY, "required": STRINGS, "properties": PROPERTIES},
)
_TOOL_FUNCTION = GoType(
    "api.ToolFunction", "struct", fields={"name": STRING, "description": STRING, "parameters": _PARAMETERS}
)
_TOOL = GoType("api.Tool", "struct", fields={"type": STRING, "items": ANY, "function": _TOOL_FUNCTION})
TOOLS = GoType("api.Tools", "slice", element=_TOOL)

_CALLED = GoType(
    "api.ToolCallFunction",
    "struct",
    fields={
        "index": INT,
        "name": STRING,
        "arguments": GoType("api.ToolCallFunctionArguments", "any", read=_read_arguments),
    },
)
_TOOL_CALLS = GoType(
    "[]api.ToolCall",
    "slice",
    element=GoType("api.ToolCall", "struct", fields={"id": STRING, "function": _CALLED}),
)
_MESSAGE_FIELDS = GoType(
    "api.Alias",
    "struct",
    fields={
        "role": STRING,
        "content": STRING,
        "thinking": STRING,
        "images": IMAGES,
        "tool_calls": _TOOL_CALLS,
        "tool_name": STRING,
        "tool_call_id": STRING,
    },
)
MESSAGES = GoType("[]api.Message", "slice", element=GoType("api.Message", "any", read=_read_message))


def _request(go_name: str, /, **fields: GoType) -> GoType:
    return GoType(f"api.{go_name}", "struct", fields=fields)


_GENERATION = {
    "stream": MAYBE_BOOL,
    "format": RAW,
    "keep_alive": KEEP_ALIVE,
    "options": OPTIONS,
    "think": THINK,
    "truncate": MAYBE_BOOL,
    "shift": MAYBE_BOOL,
    "_debug_render_only": BOOL,
    "logprobs": BOOL,
    "top_logprobs": INT,
}
GENERATE = _request(
    "GenerateRequest",
    model=STRING,
    prompt=STRING,
    suffix=STRING,
    system=STRING,
    template=STRING,
    context=GoType("[]int", "slice", element=INT),
    raw=BOOL,
    images=IMAGES,
    width=INT32,
    height=INT32,
    steps=INT32,
    **_GENERATION,
)
CHAT = _request("ChatRequest", model=STRING, messages=MESSAGES, tools=TOOLS, **_GENERATION)
EMBED = _request(
    "EmbedRequest",
    model=STRING,
    input=ANY,
    keep_alive=KEEP_ALIVE,
    truncate=MAYBE_BOOL,
    dimensions=INT,
    options=OPTIONS,
)
EMBEDDINGS = _request("EmbeddingRequest", model=STRING, prompt=STRING, keep_alive=KEEP_ALIVE, options=OPTIONS)
SHOW = _request("ShowRequest", model=STRING, system=STRING, template=STRING, verbose=BOOL, options=OPTIONS, name=STRING)
COPY = _request("CopyRequest", source=STRING, destination=STRING)
DELETE = _request("DeleteRequest", model=STRING, name=STRING)
PULL = _request(
    "PullRequest", model=STRING, insecure=BOOL, username=STRING, password=STRING, stream=MAYBE_BOOL, name=STRING
)
PUSH = _request(
    "PushRequest", model=STRING, insecure=BOOL, username=STRING, password=STRING, stream=MAYBE_BOOL, name=STRING
)
CREATE = GoType(
    "api.CreateRequest",
    "struct",
    fields={
        **dict.fromkeys(("model", "quantize", "from", "remote_host", "template", "system"), STRING),
        **dict.fromkeys(("renderer", "parser", "requires", "name", "quantization"), STRING),
        "stream": MAYBE_BOOL,
        "files": STRING_MAP,
        "adapters": STRING_MAP,
        "license": ANY,
        "parameters": OPTIONS,
        "messages": MESSAGES,
        "info": OPTIONS,
    },
)


def read_request(body: bytes, kind: GoType) -> dict[str, Any]:
    """A body as one of the requests above: what is there, by the names of the table.

    Raises `ProxyError(INVALID_REQUEST)` in Ollama's words.
    """
    try:
        found: dict[str, Any] = read_as(body, kind) or {}
    except NothingThere:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "missing request body") from None
    except GoError as error:
        raise ProxyError(ErrorKind.INVALID_REQUEST, str(error)) from None
    return found
