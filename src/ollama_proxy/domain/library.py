"""Files that were brought here and the stores that they are searched in: words, and what an API may ask for.

Whoever brings something owns it: it is there for its owner and for keys that may run the proxy, and for nobody else.
Times are unix seconds, None where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from .caller import Caller

#: What a file in a store may be known by.
Attributes = Mapping[str, str | float | bool]
#: What no name of an attribute may have: JSON writes it in another form, in which filters would not find it.
UNNAMEABLE = re.compile(r'["\\\x00-\x1f]')


class KeptFile(msgspec.Struct, frozen=True):
    """A file as it was brought."""

    id: str
    owner: str
    name: str
    purpose: str
    bytes: int
    created_s: int
    expires_s: int | None = None


class Counts(msgspec.Struct, frozen=True):
    """Files of a store or of a batch, by how far they are."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.in_progress + self.completed + self.failed + self.cancelled


class Store(msgspec.Struct, frozen=True):
    """A vector store. `backend` is where its vectors lie, `model` what makes them; `digest` and `dimensions` are "" and
    0 until the first vector is there. It is over `expire_days` after it was last used, None for never."""

    n: int
    id: str
    owner: str
    name: str
    description: str
    metadata: Mapping[str, str]
    created_s: int
    active_s: int
    expire_days: int | None
    backend: str
    model: str
    digest: str
    dimensions: int
    counts: Counts = Counts()
    bytes: int = 0

    @property
    def expires_s(self) -> int | None:
        """When it is over, unless it is used before."""
        return None if self.expire_days is None else self.active_s + self.expire_days * 86400


class Chunking(msgspec.Struct, frozen=True):
    """How a text is cut into passages, in tokens; `overlap` of one passage are the first of the next."""

    size: int
    overlap: int


class Attached(msgspec.Struct, frozen=True):
    """A file in a store. `status` is `in_progress`, `completed`, `failed` or `cancelled`; `done` of `passages` have
    their vectors, None before the file was read."""

    n: int
    store: str
    file: str
    name: str
    batch: str | None
    status: str
    error_code: str
    error: str
    attributes: Attributes
    chunking: Chunking
    created_s: int
    bytes: int
    done: int = 0
    passages: int | None = None


class Batch(msgspec.Struct, frozen=True):
    """Files that were put into a store by one request."""

    id: str
    store: str
    created_s: int
    status: str
    counts: Counts


class Page(msgspec.Struct, frozen=True):
    """What part of a list is asked for; `after` and `before` are ids. Newest first unless `ascending`."""

    limit: int = 20
    ascending: bool = False
    after: str = ""
    before: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """A file that is to be put into a store; `chunking` None for the store's own."""

    file: str
    attributes: Attributes = {}
    chunking: Chunking | None = None


#: How much the two rankings of a search count unless it says so. With equal weights words pulled up passages that only
#: share a word with the question: both texts that were measured did better by meaning alone (docs/vectors.md).
DENSE_WEIGHT, TEXT_WEIGHT = 1.0, 0.2


class Query(msgspec.Struct, frozen=True):
    """A search in a store. `filters` as OpenAI writes them; `dense` and `text` are the weights of the two rankings."""

    texts: tuple[str, ...]
    most: int = 10
    filters: Mapping[str, Any] | None = None
    least_score: float = 0.0
    ranker: str = "auto"
    dense: float = DENSE_WEIGHT
    text: float = TEXT_WEIGHT


class Hit(msgspec.Struct, frozen=True):
    """A passage that was found; `score` from 0 to 1. `start` and `end` count characters of the file's text."""

    file: str
    name: str
    score: float
    text: str
    start: int
    end: int
    attributes: Attributes = {}


class Library(Protocol):
    """All methods raise `ProxyError`; `NOT_FOUND` for what is not there for this caller."""

    @property
    def max_file_bytes(self) -> int:
        """The most bytes of one file."""

    async def add_file(self, caller: Caller, name: str, purpose: str, content: bytes, keep_s: int | None) -> KeptFile:
        """Keep a file, for `keep_s` seconds if that is not None."""

    async def file(self, caller: Caller, file: str) -> KeptFile:
        """One file."""

    async def files(self, caller: Caller, purpose: str, page: Page) -> tuple[Sequence[KeptFile], bool]:
        """Some files, and whether there are more behind them."""

    async def content(self, caller: Caller, file: str) -> bytes:
        """A file's bytes."""

    async def delete_file(self, caller: Caller, file: str) -> None:
        """Delete a file, from all stores too."""

    async def add_store(self, caller: Caller, made: Mapping[str, Any]) -> Store:
        """A new store: `name`, `description`, `metadata`, `expire_days` and `model`, as far as given."""

    async def store(self, caller: Caller, store: str) -> Store:
        """One store."""

    async def stores(self, caller: Caller, page: Page) -> tuple[Sequence[Store], bool]:
        """Some stores, and whether there are more behind them."""

    async def change_store(self, caller: Caller, store: str, changes: Mapping[str, Any]) -> Store:
        """Another `name`, `metadata` or `expire_days`."""

    async def delete_store(self, caller: Caller, store: str) -> None:
        """Delete a store; its files stay."""

    async def attach(
        self, caller: Caller, store: str, wanted: Sequence[Wanted], *, batch: bool
    ) -> tuple[Sequence[Attached], str]:
        """Put files into a store; they are read in the background. The id of their batch, if they are one."""

    async def attached(self, caller: Caller, store: str, file: str) -> Attached:
        """A file in a store."""

    async def attachments(
        self, caller: Caller, store: str, status: str, batch: str, page: Page
    ) -> tuple[Sequence[Attached], bool]:
        """Some files of a store, of one status or batch where those are given, and whether there are more."""

    async def set_attributes(self, caller: Caller, store: str, file: str, attributes: Attributes) -> Attached:
        """Other attributes."""

    async def detach(self, caller: Caller, store: str, file: str) -> None:
        """Take a file out of a store; it stays among the files."""

    async def passages(self, caller: Caller, store: str, file: str) -> Sequence[str]:
        """The text that was read of a file, in pieces that do not overlap."""

    async def batch(self, caller: Caller, store: str, batch: str) -> Batch:
        """How far a batch is."""

    async def cancel_batch(self, caller: Caller, store: str, batch: str) -> Batch:
        """Read no more of its files."""

    async def search(self, caller: Caller, store: str, query: Query) -> Sequence[Hit]:
        """The passages that fit best, best first."""
