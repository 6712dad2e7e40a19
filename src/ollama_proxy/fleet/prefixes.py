"""How much of a prompt a server holds already: llama.cpp and what is built on it keep the last prompt of each slot.

No text is kept. A prompt is cut into blocks, each of which gets a link: a hash of the block and of the link before it,
by Python's own keyed hash (SipHash, with a key that each process draws anew) from a secret on. Two prompts begin alike
as far as their links are equal. Links are made one by one, and no further than somebody may hold them.

What is held is a guess: others may ask the same server, and some servers keep nothing. So each answer that tells how
long its prompt took, or how much was cached, corrects what is expected of its backend the next time.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.domain.device import BackendSpec

#: Shorter bodies are not looked at: to read them again takes no time worth a look.
LEAST_BYTES = 2048
BLOCK_BYTES = 512
MOST_LINKS = 64
#: Kinds of servers that keep the prompts of their slots; what is paid for by the token has no slots.
_KEEPING_KINDS = ("ollama", "openai")
_WRITTEN = frozenset((Operation.GENERATE, Operation.CHAT, Operation.COMPLETE))
#: The share of one answer in the trust in a backend; with less trust than the least it is taken to hold nothing.
_SHARE, _LEAST_TRUST = 0.3, 0.05
#: Prompts kept of one model on one backend, and models.
_MOST_KEPT, _MOST_MODELS = 256, 256
_NOTHING: tuple[int, ...] = ()


class Prompt:
    """The links of one prompt, made as far as somebody asked."""

    __slots__ = ("_body", "links", "model", "most", "size_bytes")

    def __init__(self, body: bytes, model: str, first: int) -> None:
        self._body = body
        self.model = model
        self.size_bytes = len(body)
        self.links = [first]
        #: Links beside the first that there can be: whole blocks, and never the whole prompt.
        self.most = min(MOST_LINKS, (len(body) - 1) // BLOCK_BYTES)

    def link(self, place: int) -> int:
        """That of the block at a place, from 1 on."""
        links, body = self.links, self._body
        while len(links) <= place:
            end = len(links) * BLOCK_BYTES
            links.append(hash((links[-1], body[end - BLOCK_BYTES : end])))
        return links[place]

    def shares(self, kept: Sequence[int]) -> int:
        """How many blocks it has in common with the kept links, from the beginning."""
        most = min(self.most, len(kept) - 1)
        place = 0
        while place <= most and self.link(place) == kept[place]:
            place += 1
        return max(0, place - 1)

    def finish(self) -> Sequence[int]:
        """All links; the text is let go."""
        self.link(self.most)
        self._body = b""
        return self.links


class Kept:
    """What one slot holds: the links of its last prompt, none of one that is too short; `busy` while it works on it."""

    __slots__ = ("busy", "links")

    def __init__(self, links: Sequence[int]) -> None:
        self.links = links
        self.busy = True


class PrefixBook:
    """The last prompts of all slots, oldest first, by model and backend."""

    def __init__(self) -> None:
        self._secret = secrets.randbits(64)
        self._slots: dict[str, dict[str, list[Kept]]] = {}
        self._trust: dict[str, float] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no prompt is held anywhere, so that what comes next displaces nothing."""
        return not self._slots

    def read(self, call: Call, model: str) -> Prompt | None:
        """The prompt of a call if it is worth a look. `model` is its canonical name."""
        raw = call.raw
        if raw is None or len(raw.body) < LEAST_BYTES or call.operation not in _WRITTEN:
            return None
        # The same bytes mean something else to another model, and in another dialect.
        return Prompt(raw.body, model, hash((self._secret, model, call.way_in)))

    def find(self, prompt: Prompt, prompt_tokens: float) -> dict[str, float]:
        """Tokens of a prompt that backends probably hold; those that hold none are left out."""
        found = {}
        for backend, slots in self._slots.get(prompt.model, {}).items():
            trust = self._trust.get(backend, 1.0)
            if trust < _LEAST_TRUST:
                continue
            blocks = max([prompt.shares(one.links) for one in slots if not one.busy], default=0)
            if blocks:
                found[backend] = prompt_tokens * trust * blocks * BLOCK_BYTES / prompt.size_bytes
        return found

    def begin(self, spec: BackendSpec, model: str, prompt: Prompt | None, *, loads: bool) -> Kept | None:
        """A request has its slot: the one whose prompt is most like its own, else the one that was used longest ago.

        None for a backend that keeps nothing. `prompt` is None where it is too short to be looked at; `loads` says
        that the model was not in memory, so that nothing is left of earlier prompts.
        """
        if spec.kind not in _KEEPING_KINDS or spec.hardware == "cloud":
            return None
        backends = self._slots.get(model)
        if backends is None:
            if prompt is None:
                return None
            if len(self._slots) >= _MOST_MODELS:
                self._slots.clear()
            backends = self._slots[model] = {}
        slots = backends.setdefault(spec.id, [])
        if loads:
            slots.clear()
        _take_slot(slots, min(spec.slots, _MOST_KEPT), prompt)
        kept = Kept(_NOTHING if prompt is None else prompt.finish())
        slots.append(kept)
        return kept

    def learn(self, backend: str, held_tokens: float, saved_tokens: float) -> None:
        """So many tokens were expected to be held, and so many needed no reading."""
        trust = self._trust.get(backend, 1.0)
        share = min(1.0, max(0.0, saved_tokens * trust / held_tokens))
        self._trust[backend] = trust + _SHARE * (share - trust)


def _take_slot(slots: list[Kept], most: int, prompt: Prompt | None) -> None:
    """Make room for a prompt, as the server does."""
    idle = [one for one in slots if not one.busy]
    if prompt is not None and idle:
        likest = max(idle, key=lambda one: prompt.shares(one.links))
        if prompt.shares(likest.links):
            slots.remove(likest)
            return
    if len(slots) >= most:
        slots.remove(idle[0] if idle else slots[0])
