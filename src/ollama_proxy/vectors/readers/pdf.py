"""The text of a PDF document, by pypdf."""

from __future__ import annotations

import io
import logging

from ollama_proxy.vectors.readers.problem import Unreadable

_MOST_PAGES = 20_000


def read_pdf(content: bytes, most_chars: int) -> str:
    """The text of its pages. Raises `Unreadable`."""
    try:
        from pypdf import PdfReader  # noqa: PLC0415  # an extra
        from pypdf.errors import PyPdfError  # noqa: PLC0415
    except ImportError:
        raise Unreadable("unsupported_file", "PDF needs pypdf here: install ollama-compute-proxy[vectors]") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        document = PdfReader(io.BytesIO(content))
        if document.is_encrypted and not document.decrypt(""):
            raise Unreadable("invalid_file", "the document is encrypted; save it without a password")
        return _read_pages(document, most_chars)
    except Unreadable:
        raise
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError) as error:
        # Damaged documents trip pypdf in many ways; that is the document's fault, and its end here.
        raise Unreadable("invalid_file", f"the document is damaged: {str(error)[:200]}") from None
    except NotImplementedError as error:
        raise Unreadable("invalid_file", f"the document has a part of a kind that is not read: {error}") from None
    except Exception as error:
        if type(error).__name__ != "DependencyError":
            raise
        if "cryptography" in str(error).lower():
            raise Unreadable("invalid_file", "the document is encrypted; save it without a password") from None
        raise Unreadable("invalid_file", f"the document has a part of a kind that is not read: {error}") from None


def _read_pages(document: object, most_chars: int) -> str:
    pages = document.pages  # type: ignore[attr-defined]  # an extra's type, unknown without it
    if len(pages) > _MOST_PAGES:
        raise Unreadable("invalid_file", f"the document has more than {_MOST_PAGES} pages")
    found, chars = [], 0
    for page in pages:
        text = page.extract_text()
        chars += len(text)
        if chars > most_chars:
            raise Unreadable("invalid_file", f"the file has more than {most_chars} characters of text")
        found.append(text.strip())
    return "\n\n".join(filter(None, found))
