"""Input and output items: their plain form, and what is wrong with them, in the words of Ollama's `/v1` layer."""

from __future__ import annotations

import binascii
from typing import Any

import msgspec

from ollama_proxy.api.responses.errors import BadRequest
from ollama_proxy.net.bodies.go_syntax import GoError, mend, read_first
from ollama_proxy.net.bodies.unreadable import UNREADABLE, tell_unreadable
from ollama_proxy.net.http_request import decode_body

_GO_KINDS = {bool: "bool", int: "number", float: "number", str: "string", dict: "object", list: "array"}
#: What Go calls the types that only have a look at what something is.
_PART = 'struct { Type string "json:\\"type\\"" }'
_ITEM = 'struct { Type string "json:\\"type\\""; Role string "json:\\"role\\"" }'


class _Items(msgspec.Struct):
    output: list[msgspec.Raw] = []


_lists = msgspec.json.Decoder(list[msgspec.Raw])
_outputs = msgspec.json.Decoder(_Items)


def check_input(given: msgspec.Raw) -> None:
    """A text, a list, or nothing. Raises `BadRequest` at once, whoever would have answered."""
    if _first_byte(given) not in b'"[n':
        raise BadRequest(f"input must be a string or array: {_go_error(_kind_of(given))}")


def as_items(given: msgspec.Raw) -> tuple[bytes, ...]:
    """The input as items, each as JSON text; a text is a user's message."""
    if _first_byte(given) == b"[":
        return tuple(bytes(item) for item in decode_body(_lists, bytes(given)))
    text = _decode_loosely(bytes(given), "input")
    if not text:
        return ()
    content = [{"type": "input_text", "text": text}]
    return (msgspec.json.encode({"type": "message", "role": "user", "content": content}),)


def _first_byte(given: msgspec.Raw) -> bytes:
    return bytes(memoryview(given)[:1])


def _kind_of(given: msgspec.Raw) -> str:
    """What Go calls a value that is no text, no list and not null."""
    return {b"{": "object", b"t": "bool", b"f": "bool"}.get(_first_byte(given), "number")


def output_items(document: bytes) -> tuple[bytes, ...]:
    """The output items of a response object, each as JSON text."""
    return tuple(bytes(item) for item in _outputs.decode(document).output)


def is_search(item: bytes) -> bool:
    """Whether an item tells of a search in files, which no model reads."""
    return b'"file_search_call"' in item and read_item(item, 0)["type"] == "file_search_call"


def read_item(item: bytes, index: int) -> dict[str, Any]:
    """One item as a plain object, its type always set. Raises `BadRequest` that says which and why."""
    where = f"input[{index}]"
    try:
        read = _decode_loosely(item, where)
    except UNREADABLE as error:
        raise BadRequest(f"{where}: {tell_unreadable(error)}") from None
    if not isinstance(read, dict):
        raise BadRequest(f"{where}: {_cannot_read(read, _ITEM)}")
    if not read.get("type"):
        if not read.get("role"):
            raise BadRequest(f"{where}: input item missing required 'type' field")
        read["type"] = "message"
    return read


def _decode_loosely(value: bytes, where: str) -> Any:
    """A value; what is no text in its strings becomes U+FFFD, as Go reads it. Raises `BadRequest`, or `UNREADABLE`."""
    try:
        return msgspec.json.decode(value)
    except (UnicodeDecodeError, msgspec.DecodeError):
        try:
            read_first(value)
        except GoError as error:
            raise BadRequest(f"{where}: {error}") from None
        return msgspec.json.decode(mend(value))


def text_of(item: dict[str, Any], key: str, where: str, owner: str = "") -> str:
    """A member that is text, "" when it is not there; `owner` is Go's name of the item. Raises `BadRequest`."""
    value = item.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRequest(f"{where}: {_cannot_read(value, 'string', f'struct field {owner}.{key}')}")
    return value


def read_content(content: Any, where: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Text and base64 images of a `content` or `output`: a text, or a list of parts. Raises `BadRequest`."""
    if content is None or isinstance(content, str):
        return content or "", ()
    if not isinstance(content, list):
        raise BadRequest(f"{where}: {name} must be a string or array: {_cannot_read(content)}")
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(content):
        inner = f"{where}: {name}[{index}]"
        if not isinstance(part, dict):
            raise BadRequest(f"{inner}: {_cannot_read(part, _PART)}")
        match part.get("type"):
            case "input_text" | "output_text":
                texts.append(text_of(part, "text", inner, "ResponsesTextContent"))
            case "refusal":
                texts.append(text_of(part, "refusal", inner))
            case "input_image":
                if url := text_of(part, "image_url", inner, "ResponsesImageContent"):
                    images.append(_image(url))
            case "input_file":
                raise BadRequest("file inputs are not currently supported")
            case other:
                raise BadRequest(f"{inner}: unknown content type: {str(other or '')[:100]}")
    return "".join(texts), tuple(images)


def _image(url: str) -> str:
    """The base64 of a data URI. No URL found in a body is ever fetched."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise BadRequest("image URLs are not currently supported, please use base64 encoded data instead")
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except ValueError:
        raise BadRequest("invalid image input") from None
    return data


def _cannot_read(value: Any, target: str = "[]json.RawMessage", place: str = "value") -> str:
    return _go_error(_GO_KINDS.get(type(value), "value"), target, place)


def _go_error(kind: str, target: str = "[]json.RawMessage", place: str = "value") -> str:
    return f"json: cannot unmarshal {kind} into Go {place} of type {target}"
