"""The text of a Word document (ECMA-376): paragraphs and tables of its body, notes included."""

from __future__ import annotations

import io
import zipfile
import zlib
from xml.parsers import expat

from ollama_proxy.vectors.readers.problem import Unreadable

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "
_MC = "http://schemas.openxmlformats.org/markup-compatibility/2006 "
_BODY = "word/document.xml"
_NOTES = ("word/footnotes.xml", "word/endnotes.xml")
_PARAGRAPH, _RUN, _TEXT = f"{_W}p", f"{_W}r", f"{_W}t"
#: What each piece of a run that is no text stands for.
_SIGNS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
#: One thing said several times, for programs that know more or less of it: the first is for those that know most.
_EITHER = f"{_MC}AlternateContent"
#: XML is some times longer than the text in it; what is longer than that holds something else.
_XML_PER_CHAR = 40
_LEAST_XML = 1_000_000
#: Tables in tables and boxes in them take some twenty each.
_MOST_DEPTH = 512


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
    return data


def _text_of(xml: bytes) -> str:
    part = _Part()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = part.begin
    parser.EndElementHandler = part.end
    parser.CharacterDataHandler = part.say
    parser.StartDoctypeDeclHandler = part.refuse_types
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise Unreadable("invalid_file", f"the document is damaged: {error}") from None
    except (LookupError, ValueError) as error:  # the parser's words for codes that it does not know or cannot read
        told = f"the document's XML is neither UTF-8 nor UTF-16: {error}"
        raise Unreadable("invalid_file", told) from None
    return "\n".join(part.lines).strip()


class _Part:
    """What has been read of one: each element is looked at once, however they are nested."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._open: list[str] = []
        #: The pieces of the paragraphs that are open: a box in a paragraph has paragraphs of its own.
        self._paragraphs: list[list[str]] = []
        #: Of each open choice, whether one of it was read.
        self._chosen: list[bool] = []
        #: How deep what is left out began, 0 outside of it.
        self._out = 0

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self._open[-1] if self._open else ""
        self._open.append(tag)
        if len(self._open) > _MOST_DEPTH:
            raise Unreadable("invalid_file", f"the document is nested more than {_MOST_DEPTH} deep")
        if self._out:
            return
        if parent == _EITHER:
            if self._chosen[-1]:
                self._out = len(self._open)
            self._chosen[-1] = True
        elif tag == _EITHER:
            self._chosen.append(False)
        elif tag == _PARAGRAPH:
            self._paragraphs.append([])
        elif parent == _RUN and tag in _SIGNS and self._paragraphs:
            self._paragraphs[-1].append(_SIGNS[tag])

    def end(self, tag: str) -> None:
        if self._out:
            if self._out == len(self._open):
                self._out = 0
        elif tag == _EITHER:
            self._chosen.pop()
        elif tag == _PARAGRAPH:
            self.lines.append("".join(self._paragraphs.pop()))
        self._open.pop()

    def say(self, text: str) -> None:
        if self._open[-1] == _TEXT and self._paragraphs and not self._out:
            self._paragraphs[-1].append(text)

    def refuse_types(self, *_: object) -> None:
        # Word writes none; entities that grow are the only reason for one.
        raise Unreadable("invalid_file", "the document's XML defines a document type")
