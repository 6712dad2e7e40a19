"""The text of a web page: what a reader would see, a line for each block."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from ollama_proxy.vectors.readers.problem import Unreadable

#: The head is not among them: what it may have is hidden by itself, and its end may be left out.
_HIDDEN = frozenset(("script", "style", "template", "noscript", "svg"))
_SHOWN = frozenset(("title",))
_BLOCKS = frozenset(
    (
        *("address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "fieldset", "figure", "footer"),
        *("form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section"),
        *("table", "title", "tr", "ul"),
    )
)
_CELLS = frozenset(("td", "th"))
_SPACES = re.compile(r"[ \t\f\v\xa0]+")
_LINES = re.compile(r" *\n *")
_GAPS = re.compile(r"\n{3,}")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden: list[str] = []
        self._shown = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SHOWN:
            self._shown += 1
        elif tag in _HIDDEN:
            self._hidden.append(tag)
        if tag in _BLOCKS:
            self.pieces.append("\n")
        elif tag in _CELLS:
            self.pieces.append("\t")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SHOWN:
            self._shown = max(0, self._shown - 1)
        elif tag in self._hidden:
            # Whatever was left open inside of it ends with it.
            del self._hidden[self._hidden.index(tag) :]
        if tag in _BLOCKS:
            self.pieces.append("\n")
        elif tag == "body":
            self._hidden.clear()

    def handle_data(self, data: str) -> None:
        if self._shown or not self._hidden:
            self.pieces.append(data)


def read_html(text: str) -> str:
    """What the page says; nothing in it is run or fetched. Raises `Unreadable`."""
    page = _Page()
    try:
        page.feed(text)
        page.close()
    except (AssertionError, ValueError) as error:  # the parser's words for marked sections and numbers out of order
        raise Unreadable("invalid_file", f"the page cannot be read: {error}") from None
    found = _SPACES.sub(" ", "".join(page.pieces))
    return _GAPS.sub("\n\n", _LINES.sub("\n", found)).strip()
