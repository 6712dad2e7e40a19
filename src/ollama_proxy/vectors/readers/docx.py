"""The text of a Word document (ECMA-376): paragraphs and tables of its body, notes included."""

from __future__ import annotations

import io
import zipfile
import zlib
from xml.etree import ElementTree

from ollama_proxy.vectors.readers.problem import Unreadable

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_BODY = "word/document.xml"
_NOTES = ("word/footnotes.xml", "word/endnotes.xml")
#: What each piece of text inside of a paragraph stands for.
_SIGNS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
#: XML is some times longer than the text in it; what is longer than that holds something else.
_XML_PER_CHAR = 40
_LEAST_XML = 1_000_000


def read_docx(content: bytes, most_chars: int) -> str:
    """The document's text. Raises `Unreadable`."""
    limit = max(_LEAST_XML, most_chars * _XML_PER_CHAR)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = set(archive.namelist())
            if _BODY not in names:
                raise Unreadable("invalid_file", "this is not a Word document: it has no word/document.xml")
            parts = [_unpack(archive, name, limit) for name in (_BODY, *_NOTES) if name in names]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        if "encrypted" in str(error) or "password" in str(error):
            raise Unreadable("invalid_file", "the document is encrypted; save it without a password") from None
        raise Unreadable("invalid_file", f"the document is damaged: {error}") from None
    return "\n".join(filter(None, map(_text_of, parts)))


def _unpack(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A part, read no further than anybody would want: what its head says of its length may be a lie."""
    with archive.open(name) as part:
        data = part.read(limit + 1)
    if len(data) > limit:
        raise Unreadable("invalid_file", f"{name} unpacks to more than {limit} bytes")
    if b"<!DOCTYPE" in data:
        # Word writes none; entities that grow are the only reason for one.
        raise Unreadable("invalid_file", f"{name} defines a document type")
    return data


def _text_of(xml: bytes) -> str:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as error:
        raise Unreadable("invalid_file", f"the document is damaged: {error}") from None
    return "\n".join(map(_line, root.iter(f"{_W}p"))).strip()


def _line(paragraph: ElementTree.Element) -> str:
    pieces = []
    for piece in paragraph.iter():
        if piece.tag == f"{_W}t":
            pieces.append(piece.text or "")
        elif piece.tag in _SIGNS:
            pieces.append(_SIGNS[piece.tag])
    return "".join(pieces)
