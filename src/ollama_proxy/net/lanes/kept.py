"""What a client was sent, kept so that another backend can go on behind it: in as little room as may be."""

from __future__ import annotations

from collections.abc import Sequence

from ollama_proxy.domain.answer import AnswerEvent, TextDelta, ThinkingDelta

#: Nobody could read so much again in a prompt.
MOST_CHARS = 4 * 1024 * 1024


class Kept:
    """The events of a stream; pieces of one text are joined."""

    __slots__ = ("_events", "_open", "_pieces", "_reasoned", "chars", "tokens")

    def __init__(self) -> None:
        #: Counted by pieces, of which servers send one a token.
        self.tokens = 0
        self.chars = 0
        self._reasoned = False
        self._events: list[AnswerEvent] = []
        #: The pieces of the text that the next one goes on with, and what it is.
        self._pieces: list[str] = []
        self._open: type[TextDelta | ThinkingDelta] = TextDelta

    def add(self, events: Sequence[AnswerEvent]) -> None:
        """These went on too."""
        for event in events:
            if not isinstance(event, TextDelta | ThinkingDelta):
                self._close()
                self._events.append(event)
                continue
            self.tokens += 1
            self.chars += len(event.text)
            kind = event.__class__
            if kind is not self._open:
                self._close()
                self._open = kind
                self._reasoned = self._reasoned or kind is ThinkingDelta
            self._pieces.append(event.text)
            if isinstance(event, ThinkingDelta) and event.signature:
                self._close(event.signature)

    def _close(self, signature: str = "") -> None:
        pieces, self._pieces = self._pieces, []
        if pieces:
            text = "".join(pieces)
            self._events.append(TextDelta(text) if self._open is TextDelta else ThinkingDelta(text, signature))

    def join(self) -> None:
        """Hold the text so far in one piece."""
        self._pieces = ["".join(self._pieces)] if self._pieces else []

    @property
    def is_plain_text(self) -> bool:
        """Whether it is text, and no reasoning came before that."""
        return self.chars > 0 and not self._reasoned and not self._events

    def events(self) -> Sequence[AnswerEvent]:
        """All of them."""
        self._close()
        return self._events
