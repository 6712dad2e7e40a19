"""Questions about decisions: those that were taken, and those that would be."""

from __future__ import annotations

from typing import Protocol

import msgspec

from .annotations import NO_ANNOTATIONS, Annotations
from .caller import Caller


class Question(msgspec.Struct, frozen=True):
    """A request that is not sent. `prompt_bytes` is the size of its prompt in UTF-8, `max_tokens` 0 without a limit.

    `without` are ids of backends that are taken to be absent, `mode` an efficiency mode other than the one in force.
    """

    model: str
    prompt_bytes: int = 0
    max_tokens: int = 0
    embed: bool = False
    annotations: Annotations = NO_ANNOTATIONS
    without: tuple[str, ...] = ()
    mode: str = ""


class Account(Protocol):
    """A decision, to be shown in one of two ways."""

    def as_json(self) -> bytes:
        """The whole record: one JSON object."""

    def as_text(self) -> str:
        """The same for people, in plain text."""


class Inquiry(Protocol):
    """What the pages about decisions may ask for."""

    def list_decisions(self, most: int) -> bytes:
        """At `most` so many of the latest decisions, newest first, in short: `{"decisions": [...]}`."""

    def find_decision(self, ident: str, caller: Caller) -> Account | None:
        """One of the latest decisions, by its id: of the caller's own, or of all for who runs the proxy."""

    def suppose(self, question: Question) -> Account:
        """What would be decided now. Raises `ProxyError` for a backend or a mode that is not there."""
