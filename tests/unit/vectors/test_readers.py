"""Files of all kinds, good and bad."""

from __future__ import annotations

import asyncio
import io
import resource
import zipfile

import pypdf
import pytest
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from ollama_proxy.vectors.readers.child import read_safely
from ollama_proxy.vectors.readers.kinds import needs_child, read_text
from ollama_proxy.vectors.readers.problem import Unreadable

MOST = 200_000
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
MC = "http://schemas.openxmlformats.org/markup-compatibility/2006"


def make_pdf(text: str = "The river rose.", password: str = "", packed: str = "") -> bytes:
    writer = pypdf.PdfWriter()
    page = writer.add_blank_page(300, 300)
    font = {"/Type": "/Font", "/Subtype": "/Type1", "/BaseFont": "/Helvetica"}
    fonts = DictionaryObject({NameObject(key): NameObject(value) for key, value in font.items()})
    page[NameObject("/Resources")] = DictionaryObject(
        {NameObject("/Font"): DictionaryObject({NameObject("/F1"): fonts})}
    )
    stream = DecodedStreamObject()
    stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode())
    if packed:
        stream[NameObject("/Filter")] = NameObject(packed)
    page[NameObject("/Contents")] = stream
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def make_docx(body: str, *, declared: str = "", **parts: bytes) -> bytes:
    out = io.BytesIO()
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    names = f'xmlns:w="{W}" xmlns:mc="{MC}"'
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"{head}<w:document {names}><w:body>{body}</w:body></w:document>")
        for name, data in parts.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_a_pdf_is_read_in_a_process_of_its_own() -> None:
    assert asyncio.run(read_safely("a.pdf", make_pdf(), MOST)) == "The river rose."
    # A name that promises nothing does not matter.
    assert read_text("a", make_pdf(), MOST) == read_text("a.part", make_pdf(), MOST) == "The river rose."


def test_a_word_document_has_paragraphs_tables_and_breaks() -> None:
    body = (
        "<w:p><w:r><w:t>One</w:t><w:tab/><w:t>two</w:t></w:r></w:p>"
        "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>cell</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
        "<w:p><w:r><w:t>last</w:t><w:br/><w:t>line</w:t></w:r></w:p>"
    )
    assert asyncio.run(read_safely("a.docx", make_docx(body), MOST)) == "One\ttwo\ncell\nlast\nline"


def test_a_box_of_text_comes_once_and_stops_of_tabs_are_no_tabs() -> None:
    box = "<w:txbxContent><w:p><w:r><w:t>in a box</w:t></w:r></w:p></w:txbxContent>"
    either = f"<mc:AlternateContent><mc:Choice>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"
    body = f"<w:p><w:pPr><w:tabs><w:tab/></w:tabs></w:pPr><w:r>{either}</w:r><w:r><w:t>round it</w:t></w:r></w:p>"
    assert read_text("a.docx", make_docx(body), MOST) == "in a box\nround it"


def test_a_word_document_in_an_older_code_is_read() -> None:
    declared = make_docx("<w:p><w:r><w:t>caf&#233;</w:t></w:r></w:p>", declared="windows-1252")
    assert read_text("a.docx", declared, MOST) == "café"


def test_paragraphs_in_paragraphs_are_looked_at_once() -> None:
    nested = "<w:p>" * 500 + "<w:r><w:t>x</w:t></w:r>" + "</w:p>" * 500
    assert read_text("a.docx", make_docx(nested), MOST).strip() == "x"


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.txt", "né\r\nb".encode(), "né\nb"),
        ("a.txt", b"\xef\xbb\xbfmarked", "marked"),
        ("a.txt", "wide".encode("utf-16"), "wide"),
        ("a.py", b"print(1)\n", "print(1)\n"),
        ("a.HTML", b"<script>x</script><b>a</b> b<br>c<style>y</style><td>d", "a b\nc d"),
        ("a.html", b"<head><title>T</title><meta></head><p>x&lt;y", "T\n\nx<y"),
        ("a.html", b"<head><title>T</title><style>y</style><body><h1>x</h1><p>y</body>", "T\n\nx\n\ny"),
        ("a.html", b"<head><title>T</title><script>y</script><p>x", "T\n\nx"),
        ("a.json", b'{"a": {"b": [1, true, null]}, "c": "d"}', "a.b[0]: 1\na.b[1]: True\n\nc: d\n"),
        ("a.csv", b"n,v\nx,1\ny,\n", "n: x, v: 1\n\nn: y"),
        ("a.tsv", b"n\tv\nx\t1\t2\n", "n: x, v: 1, column 3: 2"),
    ],
)
def test_texts_are_read(name: str, content: bytes, text: str) -> None:
    assert read_text(name, content, MOST) == text


DOCTYPE = f'<!DOCTYPE x [<!ENTITY a "aaaa">]><w:document xmlns:w="{W}"/>'.encode()
BOMB = make_docx("<w:p><w:r><w:t>" + "a" * 30_000_000 + "</w:t></w:r></w:p>")
ZIP = io.BytesIO()
with zipfile.ZipFile(ZIP, "w") as _archive:
    _archive.writestr("notes.txt", "hello")
OTHER = io.BytesIO()
with zipfile.ZipFile(OTHER, "w") as _archive:
    _archive.writestr("word/document.xml", DOCTYPE)


@pytest.mark.parametrize(
    ("name", "content", "code", "told"),
    [
        ("a.txt", b"", "invalid_file", "empty"),
        ("a.txt", b" \n\t", "invalid_file", "empty"),
        ("a.txt", b"\xff\xfe\xfa", "unsupported_file", "not a text"),
        ("a.txt", b"latin \xe9", "unsupported_file", "byte 6 is not UTF-8"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "unsupported_file", "not a text"),
        ("a.txt", b"a\0b", "unsupported_file", "zero bytes"),
        ("a.pdf", b"hello", "invalid_file", "not a PDF"),
        ("a.docx", b"hello", "invalid_file", "not a Word"),
        ("a.docx", make_pdf(), "invalid_file", "this is a PDF"),
        ("a.txt", make_pdf(), "invalid_file", "this is a PDF"),
        ("a.html", make_pdf(), "invalid_file", "this is a PDF"),
        ("a.pdf", make_docx("x"), "invalid_file", "this is a Word"),
        ("a.md", make_docx("x"), "invalid_file", "this is a Word"),
        ("a.json", b"{'a': 1}", "invalid_file", "not JSON"),
        ("a.json", b"[" * 5000, "invalid_file", "JSON"),
        ("a.csv", b"a\n" + b"x" * 2_000_000, "invalid_file", "line 2"),
        ("a.txt", b"x" * 300_000, "invalid_file", "more than 200000 characters"),
        ("a.html", b"<script>only</script>", "invalid_file", "no text"),
        ("a.zip", ZIP.getvalue(), "unsupported_file", "archives"),
        ("a.docx", ZIP.getvalue(), "invalid_file", "no word/document.xml"),
        ("a.docx", OTHER.getvalue(), "invalid_file", "document type"),
        ("a.docx", make_docx("<w:p>"), "invalid_file", "damaged"),
        ("a.docx", make_docx("x")[:-30], "invalid_file", "damaged"),
        ("a.docx", make_docx("<w:p>" * 600 + "</w:p>" * 600), "invalid_file", "nested more than 512 deep"),
        ("a.docx", make_docx("x", declared="gb2312"), "invalid_file", "neither UTF-8 nor UTF-16: multi-byte"),
        ("a.docx", make_docx("x", declared="foo"), "invalid_file", "neither UTF-8 nor UTF-16: unknown encoding"),
        ("a.docx", BOMB, "invalid_file", "unpacks to more than"),
        ("a.pdf", make_pdf(password="secret"), "invalid_file", "encrypted"),
        ("a.pdf", make_pdf()[:120], "invalid_file", "damaged"),
        ("a.pdf", make_pdf(" "), "invalid_file", "no text was found in the file; scanned"),
        ("a.json", b"{}", "invalid_file", "no text was found in the file$"),
        ("a.pdf", make_pdf(packed="/FooDecode"), "invalid_file", "a kind that is not read: .*FooDecode"),
        ("a.pdf", make_pdf(packed="/JBIG2Decode"), "invalid_file", "a kind that is not read: .*jbig2"),
    ],
)
def test_bad_files_say_what_is_wrong(name: str, content: bytes, code: str, told: str) -> None:
    with pytest.raises(Unreadable, match=told) as caught:
        read_text(name, content, MOST)
    assert caught.value.code == code


def test_the_child_says_why_as_well() -> None:
    with pytest.raises(Unreadable, match="unpacks to more than"):
        asyncio.run(read_safely("a.docx", BOMB, MOST))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", b"<html><p>Hello<![foo bar]>x"),
        ("a.html", b"<p>&#" + b"9" * 5000 + b";"),
        ("a.json", b'{"' + b"n" * 20_000 + b'": [' + b"1," * 20_000 + b"1]}"),
        ("a.csv", b"n" * 20_000 + b"\n" + b"1\n" * 15_000),
        ("a.tsv", b"n" * 20_000 + b"\n" + b"1\n" * 15_000),
    ],
)
def test_odd_text_is_refused_for_what_it_is_and_nothing_grows_beyond_its_bound(name: str, content: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Unreadable) as caught:
        read_text(name, content, MOST)
    assert caught.value.code == "invalid_file"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000


@pytest.mark.parametrize("name", ["a.html", "a.htm", "a.json", "a.csv"])
def test_whatever_is_parsed_is_read_by_a_process_of_its_own(name: str) -> None:
    assert needs_child(name, b"x")
    assert not needs_child("a.md", b"x")


def test_gaps_are_bounded() -> None:
    assert (
        read_text("a.txt", b"a" + b" " * 100_000 + b"b" + b" \n" * 20 + b"c", MOST)
        == "a" + " " * 64 + "b" + " \n" * 20 + "c"
    )
