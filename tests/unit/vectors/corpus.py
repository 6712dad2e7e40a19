"""A library over a folder, with an embedder that anybody can follow: one number for each of a few words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import Attached, Chunking, Wanted
from ollama_proxy.domain.vectors import EmbedWish, Vectors, VectorSpace
from ollama_proxy.vectors.catalogue.database import Catalogue
from ollama_proxy.vectors.index import Index
from ollama_proxy.vectors.ingest import Ingest, IngestRules
from ollama_proxy.vectors.library import LibraryRules, VectorLibrary
from ollama_proxy.vectors.shelf import Shelf
from ollama_proxy.vectors.stores.embedded import EmbeddedIndex

WORDS = ("bread", "wine", "cheese", "river", "engine", "piano", "storm", "clock")
ANN = Caller("ann", frozenset(("infer",)))
BOB = Caller("bob", frozenset(("infer",)))


class WordEmbedder:
    """Counts words. `fault` is raised once for each call while it is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.sizes: list[int] = []
        self.fault: ProxyError | None = None
        self.space = VectorSpace("words", "sha256:1", len(WORDS))

    async def embed(self, texts: Sequence[str], model: str, wish: EmbedWish) -> Vectors:
        if self.fault is not None:
            raise self.fault
        if any("poison" in text for text in texts):
            raise ProxyError(ErrorKind.INVALID_REQUEST, "this text cannot be embedded")
        self.sizes.append(len(texts))
        self.asked += texts
        vectors = tuple(tuple(float(text.lower().count(word)) + 0.01 for word in WORDS) for text in texts)
        return Vectors(vectors, self.space, 0.5, "modelled", len(texts), ("npu",))

    async def space_of(self, model: str, wish: EmbedWish) -> VectorSpace:
        return self.space


class Shop:
    """One start of a library over a folder."""

    def __init__(self, folder: Path, index: Index | None = None, batch: int = 4) -> None:
        self.embedder = WordEmbedder()
        self.now_s = 1_000_000.0
        self.paused = ""
        self.callers: dict[str, Caller | None] = {}
        self.index: Index = index or EmbeddedIndex(folder / "vectors.sqlite", 1 << 20)
        self.catalogue = Catalogue(folder / "catalogue.sqlite")
        shelf = Shelf(folder / "files")
        clock: Callable[[], float] = lambda: self.now_s  # noqa: E731
        self.ingest = Ingest(
            self.catalogue,
            shelf,
            lambda store: self.index,
            self.embedder,
            clock,
            IngestRules(batch=batch, most_chars=100_000),
            lambda: self.paused,
            lambda owner: self.callers.get(owner, ANN),
        )
        rules = LibraryRules(1 << 20, 1 << 22, "", "", Chunking(16, 4))
        self.library = VectorLibrary(
            self.catalogue, shelf, lambda store: self.index, self.embedder, self.ingest, clock, rules
        )
        # Tests take the steps themselves.
        self.ingest.wake = lambda: None  # type: ignore[method-assign]

    async def work(self, most: int = 1000) -> None:
        """All there is to do, or so many steps."""
        for _ in range(most):
            if not await self.ingest.step():
                return

    async def bring(self, store: str, texts: dict[str, str | bytes], caller: Caller = ANN) -> list[Attached]:
        """Files by their names, put into a store."""
        found = []
        for name, text in texts.items():
            content = text if isinstance(text, bytes) else text.encode()
            file = await self.library.add_file(caller, name, "assistants", content, None)
            wanted = [Wanted(file.id, {"name": name, "size": len(content), "short": len(content) < 40})]
            found += (await self.library.attach(caller, store, wanted, batch=False))[0]
        return found

    async def close(self) -> None:
        await self.catalogue.close()
        await self.index.close()
