"""What one request's prompt has in common with those before it, and what it leaves in a slot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from ollama_proxy.domain.call import Call
from ollama_proxy.domain.decision import Decision, RoutingRequest
from ollama_proxy.fleet.prefixes import LEAST_BYTES, Kept, PrefixBook, Prompt
from ollama_proxy.routing.affinity import count_held
from ollama_proxy.routing.speeds import LOADING_KINDS

if TYPE_CHECKING:
    from ollama_proxy.app.requests.dispatch import Dispatcher


class Reuse:
    """Of one request. `held_tokens` are those that the attempt under way probably finds held."""

    __slots__ = ("_book", "_kept", "_prompt", "_tokens", "held_tokens")

    def __init__(self, book: PrefixBook, prompt: Prompt | None, tokens: float) -> None:
        self._book = book
        self._prompt = prompt
        self._tokens = tokens
        self._kept: Kept | None = None
        self.held_tokens = 0.0

    def find_held(self) -> Mapping[str, float]:
        """Tokens of the prompt that backends hold now, by id."""
        return self._book.find(self._prompt, self._tokens) if self._prompt is not None else {}

    def look(self, request: RoutingRequest) -> RoutingRequest:
        """The request with what is held of it now."""
        return request if self._prompt is None else msgspec.structs.replace(request, held=self.find_held())

    def begin(self, decision: Decision, given: RoutingRequest, *, substitute: bool) -> None:
        """An attempt takes a slot."""
        one = decision.scored[0][1]
        self.held_tokens = count_held(given, one)
        prompt = None if substitute or one.stands_in else self._prompt
        loads = bool(one.load_s) and one.spec.kind in LOADING_KINDS
        self._kept = self._book.begin(one.spec, given.model, prompt, loads=loads)

    def end(self, *, failed: bool = False) -> None:
        """The attempt is over; what one leaves that failed is not known."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.busy = False
            if failed:
                kept.links = ()


def follow(owner: Dispatcher, call: Call, request: RoutingRequest) -> Reuse | None:
    """The look at a prompt; None where there is nothing to choose or to displace, as with nearly all short prompts."""
    book = owner.prefixes
    if book is None or request.embed or len(owner.backends) == 1:
        return None
    prompt = book.read(call, request.model) if call.prompt_bytes >= LEAST_BYTES else None
    return None if prompt is None and book.is_empty else Reuse(book, prompt, request.prompt_tokens)
