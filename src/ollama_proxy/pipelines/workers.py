"""What the engine needs done: ports, so that it knows neither backends nor clocks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import msgspec

from ollama_proxy.domain.annotations import Annotations
from ollama_proxy.domain.pipelines import PipelineWish
from ollama_proxy.domain.vectors import Passage, Search
from ollama_proxy.pipelines.account import Account
from ollama_proxy.pipelines.stages import Options

T = TypeVar("T")


class Errand(msgspec.Struct, frozen=True):
    """For which stage of which run something is done, under which annotations."""

    wish: PipelineWish
    stage: str
    annotations: Annotations
    #: Work is told here as it is done, and when it is broken off.
    account: Account


class Writing(msgspec.Struct, frozen=True):
    """What a model is asked to write, and when it is told to stop: after so many tokens or joules more (0: never)."""

    prompt: str
    system: str
    model: str
    options: Options
    most_tokens: int = 0
    most_joules: float = 0.0


class Workers(Protocol):
    """All raise `ProxyError`. Cancelling the wait ends the work."""

    async def write(self, errand: Errand, writing: Writing, told: Callable[[str], None]) -> str:
        """The whole text; pieces are told as they come."""

    async def embed(self, errand: Errand, text: str, model: str) -> tuple[float, ...]:
        """The vector of a text."""

    async def retrieve(self, errand: Errand, search: Search) -> tuple[Passage, ...]:
        """Passages of a store."""

    async def rerank(self, errand: Errand, query: str, texts: Sequence[str], model: str, most: int) -> tuple[int, ...]:
        """The places of the best texts, the best first."""

    async def within(self, seconds: float, work: Awaitable[T]) -> T:
        """Wait for so long at most (0: for ever). Raises `TimeoutError`."""

    def now_s(self) -> float:
        """Monotonic seconds."""

    def unix_s(self) -> float:
        """Seconds since 1970."""
