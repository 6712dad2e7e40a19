"""What the APIs ask of files and stores (`domain/library.py`), over catalogue, shelf, indices and the job."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import (
    Attached,
    Attributes,
    Batch,
    Chunking,
    Hit,
    KeptFile,
    Page,
    Query,
    Store,
    Wanted,
)
from ollama_proxy.domain.vectors import Embedder, Vectors
from ollama_proxy.vectors.catalogue import attachments, expiry, files, lookup, stores
from ollama_proxy.vectors.catalogue.database import Catalogue
from ollama_proxy.vectors.index import Index
from ollama_proxy.vectors.ingest import Ingest
from ollama_proxy.vectors.search import Reranker, Searcher
from ollama_proxy.vectors.shelf import Shelf

#: How exactly it is known when a store was used last.
_TOUCHED_S = 60


class LibraryRules(msgspec.Struct, frozen=True):
    """Limits, and what a new store is like unless it says otherwise."""

    max_file_bytes: int
    max_owner_bytes: int
    backend: str
    model: str
    chunking: Chunking


def make_id(kind: str) -> str:
    """An id that nobody can guess: a word such as `file-` or `vs_`, and 24 hexadecimal digits."""
    return kind + secrets.token_hex(12)


class VectorLibrary:
    """The library."""

    def __init__(
        self,
        catalogue: Catalogue,
        shelf: Shelf,
        index_of: Callable[[Store], Index],
        embedder: Embedder,
        ingest: Ingest,
        now_s: Callable[[], float],
        rules: LibraryRules,
        reranker: Reranker | None = None,
    ) -> None:
        """Without a `reranker`, or while that is not there, results are in the order of their ranks."""
        self._catalogue = catalogue
        self._shelf = shelf
        self._ingest = ingest
        self._now_s = now_s
        self.rules = rules
        self._searcher = Searcher(catalogue, index_of, embedder, reranker)

    @property
    def max_file_bytes(self) -> int:
        return self.rules.max_file_bytes

    def _now(self) -> int:
        return int(self._now_s())

    # -- files -----------------------------------------------------------------------

    async def add_file(self, caller: Caller, name: str, purpose: str, content: bytes, keep_s: int | None) -> KeptFile:
        if len(content) > self.rules.max_file_bytes:
            told = f"the file has {len(content)} bytes; {self.rules.max_file_bytes} are allowed (vectors.max_file_mb)"
            raise ProxyError(ErrorKind.TOO_LARGE, told)
        most_bytes = self.rules.max_owner_bytes
        await self._catalogue.run(files.check_room, caller.name, len(content), most_bytes)
        now_s = self._now()
        expires_s = None if keep_s is None else now_s + keep_s
        file = KeptFile(make_id("file-"), caller.name, name, purpose, len(content), now_s, expires_s)
        await self._shelf.put(file.id, content)
        try:
            await self._catalogue.run(files.add_file, file, most_bytes)
        except ProxyError:  # others have come meanwhile
            await self._shelf.delete(file.id)
            raise
        return file

    async def file(self, caller: Caller, file: str) -> KeptFile:
        return await self._catalogue.run(files.find_file, caller, file, self._now())

    async def files(self, caller: Caller, purpose: str, page: Page) -> tuple[Sequence[KeptFile], bool]:
        return await self._catalogue.run(files.list_files, caller, purpose, page, self._now())

    async def content(self, caller: Caller, file: str) -> bytes:
        return await self._shelf.get((await self.file(caller, file)).id)

    async def delete_file(self, caller: Caller, file: str) -> None:
        found = await self.file(caller, file)
        # In this order, so that a full disk has room for the second.
        await self._shelf.delete(found.id)
        await self._catalogue.run(files.remove_file, found.id)
        self._ingest.wake()

    # -- stores ----------------------------------------------------------------------

    async def add_store(self, caller: Caller, made: Mapping[str, Any]) -> Store:
        now_s, rules = self._now(), self.rules
        store = Store(
            n=0,
            id=make_id("vs_"),
            owner=caller.name,
            name=made.get("name", ""),
            description=made.get("description", ""),
            metadata=made.get("metadata", {}),
            created_s=now_s,
            active_s=now_s,
            expire_days=made.get("expire_days"),
            backend=rules.backend,
            model=made.get("model") or rules.model,
            digest="",
            dimensions=0,
        )
        return await self._catalogue.run(stores.add_store, store)

    async def store(self, caller: Caller, store: str, *, by_name: bool = False) -> Store:
        return await self._catalogue.run(expiry.after, self._now(), stores.find_store, caller, store, by_name=by_name)

    async def stores(self, caller: Caller, page: Page) -> tuple[Sequence[Store], bool]:
        return await self._catalogue.run(expiry.after, self._now(), stores.list_stores, caller, page)

    async def change_store(self, caller: Caller, store: str, changes: Mapping[str, Any]) -> Store:
        found = await self.store(caller, store)
        return await self._catalogue.run(stores.change_store, found, changes)

    async def delete_store(self, caller: Caller, store: str) -> None:
        found = await self.store(caller, store)
        await self._catalogue.run(stores.leave_store, found.n)
        self._ingest.wake()

    # -- files in stores ---------------------------------------------------------------

    async def attach(
        self, caller: Caller, store: str, wanted: Sequence[Wanted], *, batch: bool
    ) -> tuple[Sequence[Attached], str]:
        found = await self.store(caller, store)
        for one in wanted:
            await self.file(caller, one.file)
        ident = make_id("vsfb_") if batch else ""
        made = await self._catalogue.run(attachments.attach, found, wanted, self.rules.chunking, ident, self._now())
        self._ingest.wake()
        return made, ident

    async def attached(self, caller: Caller, store: str, file: str) -> Attached:
        found = await self.store(caller, store)
        return self._explain(found, await self._catalogue.run(attachments.find_attached, found, file))

    def _explain(self, store: Store, attached: Attached) -> Attached:
        """With what it waits for, where its store cannot go on at the moment."""
        why = self._ingest.why_aside(store.n) if attached.status == "in_progress" else ""
        return msgspec.structs.replace(attached, error_code="server_error", error=why) if why else attached

    async def attachments(
        self, caller: Caller, store: str, status: str, batch: str, page: Page
    ) -> tuple[Sequence[Attached], bool]:
        found = await self.store(caller, store)
        listed, more = await self._catalogue.run(attachments.list_attached, found, status, batch, page)
        return [self._explain(found, one) for one in listed], more

    async def set_attributes(self, caller: Caller, store: str, file: str, attributes: Attributes) -> Attached:
        found = await self.store(caller, store)
        return await self._catalogue.run(attachments.set_attributes, found, file, attributes)

    async def detach(self, caller: Caller, store: str, file: str) -> None:
        found = await self.store(caller, store)
        await self._catalogue.run(attachments.leave, found, file)
        self._ingest.wake()

    async def passages(self, caller: Caller, store: str, file: str) -> Sequence[str]:
        found = await self.store(caller, store)
        attached = await self._catalogue.run(attachments.find_attached, found, file)
        return await self._catalogue.run(lookup.read_passages, found, attached.n)

    async def batch(self, caller: Caller, store: str, batch: str) -> Batch:
        found = await self.store(caller, store)
        return await self._catalogue.run(attachments.find_batch, found, batch)

    async def cancel_batch(self, caller: Caller, store: str, batch: str) -> Batch:
        found = await self.store(caller, store)
        return await self._catalogue.run(attachments.cancel_batch, found, batch)

    # -- search ----------------------------------------------------------------------

    async def search(self, caller: Caller, store: str, query: Query) -> Sequence[Hit]:
        found = await self.store(caller, store)
        hits, _ = await self._search(found, query, caller, NO_ANNOTATIONS)
        return hits

    async def find(
        self, caller: Caller, store: str, query: Query, annotations: Annotations
    ) -> tuple[Sequence[Hit], Vectors | None]:
        """As `search`, in a store of that id or that name, and what embedding the query took."""
        found = await self.store(caller, store, by_name=True)
        return await self._search(found, query, caller, annotations)

    async def _search(
        self, store: Store, query: Query, caller: Caller, annotations: Annotations
    ) -> tuple[Sequence[Hit], Vectors | None]:
        found = await self._searcher.search(store, query, caller, annotations)
        if self._now() - store.active_s >= _TOUCHED_S:
            # A full disk is no reason not to read.
            with contextlib.suppress(ProxyError):
                await self._catalogue.run(stores.touch_store, store.n, self._now())
        return found
