"""What a file is, by its content first and its name second, and its text."""

from __future__ import annotations

import re
from pathlib import PurePath

from ollama_proxy.vectors.readers.docx import read_docx
from ollama_proxy.vectors.readers.html import read_html
from ollama_proxy.vectors.readers.pdf import read_pdf
from ollama_proxy.vectors.readers.problem import Unreadable
from ollama_proxy.vectors.readers.tables import read_csv, read_json

#: Spaces are no tokens, so that passages could hold any number of them.
_MOST_GAP = 64
_GAPS = re.compile(rf"\s{{{_MOST_GAP + 1},}}")
_PDF = b"%PDF-"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_BINARY = {".pdf": "a PDF document", ".docx": "a Word document"}
_PAGES = (".html", ".htm", ".xhtml")
_TABLES = {".csv": ",", ".tsv": "\t"}
_PARSED = (*_PAGES, *_TABLES, ".json")
_PROMISES = frozenset((*_BINARY, *_PARSED, ".txt", ".md"))
_DOCX_PART = b"word/"


def read_text(name: str, content: bytes, most_chars: int) -> str:
    """The text of a file. Raises `Unreadable` with a clause for whoever brought it."""
    if not content.strip():
        raise Unreadable("invalid_file", "the file is empty")
    text = _read(PurePath(name).suffix.lower(), content, most_chars)
    if len(text) > most_chars:
        raise Unreadable("invalid_file", f"the file has more than {most_chars} characters of text")
    if not text.strip():
        scanned = "; scanned pages have to be recognised first" if content.startswith(_PDF) else ""
        raise Unreadable("invalid_file", f"no text was found in the file{scanned}")
    return _GAPS.sub(_shorten, text)


def _shorten(gap: re.Match[str]) -> str:
    return gap.group()[:_MOST_GAP]


def _read(suffix: str, content: bytes, most_chars: int) -> str:
    if content.startswith(_PDF):
        _hold(suffix, ".pdf")
        return read_pdf(content, most_chars)
    if content.startswith(_ZIP):
        if suffix == ".docx" or _DOCX_PART in content:
            _hold(suffix, ".docx")
            return read_docx(content, most_chars)
        raise Unreadable("unsupported_file", "archives are not read; bring the files in it one by one")
    if suffix in _BINARY:
        raise Unreadable("invalid_file", f"the name ends in {suffix}, but this is not {_BINARY[suffix]}")
    text = decode(content)
    if suffix in _TABLES:
        return read_csv(text, _TABLES[suffix], most_chars)
    if suffix in _PAGES:
        return read_html(text)
    return read_json(text, most_chars) if suffix == ".json" else text


def _hold(suffix: str, kind: str) -> None:
    """Refuse a document whose name promises something else; other names promise nothing."""
    if suffix != kind and suffix in _PROMISES:
        raise Unreadable("invalid_file", f"the name ends in {suffix}, but this is {_BINARY[kind]}")


def decode(content: bytes) -> str:
    """A text file's text: UTF-8, or UTF-16 that says so. Raises `Unreadable`."""
    coding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = content.decode(coding)
    except UnicodeDecodeError as error:
        told = f"byte {error.start} is not {coding.removesuffix('-sig').upper()}"
        raise Unreadable("unsupported_file", f"this is not a text, a PDF or a Word document: {told}") from None
    if "\0" in text:
        raise Unreadable("unsupported_file", "this is not a text: it has zero bytes in it")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def needs_child(name: str, content: bytes) -> bool:
    """Whether a file is read by a process of its own: whatever is packed, parsed or large may not hold up anybody."""
    parsed = PurePath(name).suffix.lower() in _PARSED
    return parsed or len(content) > _QUICK_BYTES or content.startswith((_PDF, *_ZIP))


_QUICK_BYTES = 256 * 1024
