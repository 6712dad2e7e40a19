"""The semantic cache on a request's way: whether a prompt may have another's answer, its vector, what is like it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from ollama_proxy.cache.guards import MOST_CHARS, Anchors, find_anchors
from ollama_proxy.cache.key import without_prompt
from ollama_proxy.cache.meanings import Likeness, Meanings
from ollama_proxy.config.sections.cache import Semantic
from ollama_proxy.domain.call import Call, Generation
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.vectors import Embedder, EmbedWish, VectorSpace

_log = logging.getLogger(__name__)
#: What the ledger and the log call the requests for vectors.
WAY_IN = "semantic cache"


class Prompt(msgspec.Struct):
    """A prompt that may have another's answer; `vector` and its `space` once they are known."""

    text: str
    anchors: Anchors
    framed: Generation
    frame: bytes = b""
    space: VectorSpace | None = None
    vector: tuple[float, ...] = ()


class MeaningCache:
    """Prompts of this process's life; their answers lie in the store with all others."""

    def __init__(self, settings: Semantic, embedder: Callable[[], Embedder]) -> None:
        self._settings = settings
        self._embedder = embedder
        self._known = Meanings(settings.max_entries)
        self._failing = False

    def __len__(self) -> int:
        """How many prompts are remembered."""
        return len(self._known)

    def read(self, call: Call, asked: Generation) -> Prompt | None:
        """The prompt of a request, if it may have another's answer."""
        if call.annotations.cache_semantic is False or not self._has_one_turn(asked):
            return None
        text = asked.messages[-1].content if asked.messages else asked.prompt
        if not text or len(text) > MOST_CHARS:
            return None
        anchors = find_anchors(text)
        return Prompt(text, anchors, without_prompt(asked)) if anchors.is_english else None

    def _has_one_turn(self, asked: Generation) -> bool:
        """Whether there is nothing before the prompt that it may lean on."""
        if not asked.messages:
            return not asked.context
        *before, last = asked.messages
        if last.role != "user" or last.tool_uses:
            return False
        return self._settings.multi_turn or all(message.role == "system" for message in before)

    async def find(self, prompt: Prompt, caller: Caller) -> Likeness | None:
        """The prompt from before that means the same, if there is one; `prompt` has its vector then. Never raises."""
        # The caller's backends, and none of its limits: that the cache asks is not its doing.
        asker = Caller(caller.name, caller.permissions, backends=caller.backends)
        try:
            async with asyncio.timeout(self._settings.timeout_ms / 1000):
                wish = EmbedWish(WAY_IN, asker, keeps=True)
                found = await self._embedder().embed((prompt.text,), self._settings.model, wish)
        except (ProxyError, TimeoutError) as error:
            if not self._failing:
                _log.warning("the semantic cache has no vectors: %s", error or "they took too long")
            self._failing = True
            return None
        self._failing = False
        prompt.space, prompt.vector = found.space, found.vectors[0]
        threshold = self._settings.threshold
        return self._known.find(prompt.frame, prompt.space, prompt.vector, prompt.anchors, threshold)

    def keep(self, prompt: Prompt, key: bytes) -> None:
        """Its answer is kept under that key."""
        if prompt.space is not None:
            self._known.add(prompt.frame, prompt.space, prompt.vector, key, prompt.anchors)

    def drop(self, key: bytes) -> None:
        """That answer is gone."""
        self._known.drop(key)
