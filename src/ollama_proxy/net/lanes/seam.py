"""What a server says again at the beginning of the rest of an answer, and the client has already."""

from __future__ import annotations

from typing import Protocol

#: A shorter text at the beginning of a stream may as well be meant.
_LEAST_ECHO = 16


class Cutter(Protocol):
    """Takes away from the beginning of a text that comes in pieces."""

    @property
    def is_done(self) -> bool:
        """Whether all that follows is new."""

    def feed(self, text: str) -> str:
        """What of the next piece is new, with what was held back before."""

    def rest(self) -> str:
        """What is held back at the end."""


def comes_back(sent: str) -> bool:
    """Whether a text comes back to its own beginning, so that what follows may be that once more, echo or not."""
    head = sent[:_LEAST_ECHO]
    return len(head) == _LEAST_ECHO and sent.find(head, 1) > 0


class EchoCutter:
    """Takes away what was sent before, all of it, for servers of which it is not known that they do not say it again.

    It holds back no more than what is still equal, and lets go of it when it turns out to be new. It is not for texts
    that come back to their beginning.
    """

    __slots__ = ("_held", "_sent")

    def __init__(self, sent: str) -> None:
        """`sent` is the text that the client has."""
        self._sent = sent if len(sent) >= _LEAST_ECHO else ""
        self._held = ""

    @property
    def is_done(self) -> bool:
        """Whether all that follows is new."""
        return not self._sent

    def feed(self, text: str) -> str:
        """What of the next piece is new, with what was held back before."""
        sent = self._sent
        if not sent:
            return text
        held = self._held + text
        if len(held) < len(sent) and sent.startswith(held):
            self._held = held
            return ""
        self._sent = self._held = ""
        return held.removeprefix(sent)

    def rest(self) -> str:
        """What is held back at the end of the stream: no echo, since it was not all of it."""
        held, self._held, self._sent = self._held, "", ""
        return held


class SpaceCutter:
    """Takes away the space at the end of what was sent, for servers that take no turn to go on from that ends in space.

    The model then begins with it.
    """

    __slots__ = ("_space",)

    def __init__(self, space: str) -> None:
        """`space` is what was left out of the request."""
        self._space = space

    @property
    def is_done(self) -> bool:
        """Whether all that follows is new."""
        return not self._space

    def feed(self, text: str) -> str:
        """What of the next piece is new."""
        space = self._space
        same = 0
        while same < min(len(text), len(space)) and text[same] == space[same]:
            same += 1
        # Something else has begun, or there may be more of it in the next piece.
        self._space = space[same:] if same == len(text) else ""
        return text[same:]

    def rest(self) -> str:
        """Nothing is held back."""
        return ""
