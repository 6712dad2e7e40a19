"""The blocks of a message's content, as far as routing has to know which kinds there are."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ollama_proxy.net.bodies.unreadable import UNREADABLE


class Source(msgspec.Struct):
    """Where the data of an image or a document is: in `data`, behind `url`, or in `content` as text."""

    type: str = ""
    media_type: str = ""
    data: str = ""
    url: str = ""
    content: str | list[Block] | None = None


class Block(msgspec.Struct):
    """One block of any kind. `content` is that of a tool's result; `source` is an address in search results."""

    type: str = ""
    text: str | None = None
    source: Source | str | None = None
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    tool_use_id: str = ""
    content: str | list[Block] | dict[str, msgspec.Raw] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    title: str | None = None
    context: str | None = None


class Turn(msgspec.Struct):
    """One message. Its content may be null, and must be there."""

    content: str | list[Block] | None
    role: str = ""


_turns = msgspec.json.Decoder(list[Turn])
#: Words that a block's type may be; only when one of them is there at all are the blocks read for routing.
_TELLING = (b'"image"', b'"document"', b'"search_result"')


class Kinds(msgspec.Struct):
    """What there is among the blocks that not every server can take."""

    images: bool = False
    remote_images: bool = False
    documents: bool = False
    #: Documents and search results that are plain text.
    texts: bool = False


_NOTHING = Kinds()


def find_kinds(body: bytes, messages: msgspec.Raw) -> Kinds:
    """Look through the messages of a request; nothing is found in what cannot be read."""
    if not any(word in body for word in _TELLING):
        return _NOTHING
    try:
        turns = _turns.decode(messages)
    except UNREADABLE:
        return _NOTHING
    found = Kinds()
    for turn in turns:
        for block in _all_blocks(turn.content):
            _note(block, found)
    return found


def _note(block: Block, found: Kinds) -> None:
    where = block.source.type if isinstance(block.source, Source) else ""
    if block.type == "image":
        found.images = True
        found.remote_images = found.remote_images or where != "base64"
    elif block.type == "search_result" or (block.type == "document" and where in ("text", "content")):
        found.texts = True
    elif block.type == "document":
        found.documents = True


def _all_blocks(content: object) -> Iterator[Block]:
    for block in content if isinstance(content, list) else ():
        yield block
        if block.type == "tool_result":
            yield from _all_blocks(block.content)


def join_text(content: object) -> str:
    """The text in a content of any form; blocks of other kinds have none."""
    if isinstance(content, str):
        return content
    return "".join(block.text or "" for block in content if block.type == "text") if isinstance(content, list) else ""
