"""Files become vectors: a job in the background, one step at a time, each kept before the next begins.

A file's stages are in the catalogue (`catalogue/work.py`). Whatever ends the program, the job goes on where it was: at
the first passage without a vector, or by writing a file into its index once more, which changes nothing that is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from ollama_proxy.domain.annotations import NO_ANNOTATIONS, Annotations
from ollama_proxy.domain.caller import ANYBODY, Caller
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.library import Store
from ollama_proxy.domain.vectors import Embedder, EmbedWish, VectorSpace
from ollama_proxy.net.task import spawn
from ollama_proxy.vectors.catalogue import files, stores, work
from ollama_proxy.vectors.catalogue.database import Catalogue
from ollama_proxy.vectors.catalogue.work import Task, Text
from ollama_proxy.vectors.chunking import cut
from ollama_proxy.vectors.index import Index, IndexProblem
from ollama_proxy.vectors.readers.child import read_safely
from ollama_proxy.vectors.readers.problem import Unreadable
from ollama_proxy.vectors.shelf import Shelf
from ollama_proxy.vectors.turns import Turns

_log = logging.getLogger(__name__)
_WAY_IN = "vector store ingest"
_PUBLISHED_AT_ONCE = 1000
_PAUSE_S = 5.0
#: How often it is looked what is over.
_IDLE_S = 60.0
_RETRY_S = (1.0, 2.0, 5.0, 15.0, 60.0)
#: Faults of the request itself, and bytes that are gone: asking again changes nothing.
_FINAL = frozenset(
    (
        *(ErrorKind.INVALID_REQUEST, ErrorKind.TOO_LARGE, ErrorKind.MODEL_NOT_FOUND, ErrorKind.PERMISSION_DENIED),
        *(ErrorKind.NOT_FOUND, ErrorKind.UNIMPLEMENTED, ErrorKind.BACKEND_REFUSED),
    )
)
#: Faults that may pass, but have not if so many attempts in a row end in them.
_LASTING = frozenset((ErrorKind.LIMITS_EXCLUDE_ALL, ErrorKind.BACKEND_FAILED))
_MOST_ATTEMPTS = len(_RETRY_S)


class IngestRules(msgspec.Struct, frozen=True):
    """How files are read: `target` as the annotation of that name, `batch` passages at a time."""

    target: str = ""
    batch: int = 64
    most_chars: int = 20_000_000


class _Aside(msgspec.Struct):
    """A store that cannot go on at the moment, by no fault of its files."""

    failures: int
    until_s: float
    why: str


class Ingest:
    """The job. Where one store cannot go on, the others do."""

    def __init__(
        self,
        catalogue: Catalogue,
        shelf: Shelf,
        index_of: Callable[[Store], Index],
        embedder: Embedder,
        now_s: Callable[[], float],
        rules: IngestRules,
        pause: Callable[[], str],
        caller_of: Callable[[str], Caller | None],
    ) -> None:
        """`pause` says why not to work now, "" to go on; `caller_of` is whose limits hold for an owner's files."""
        self._catalogue = catalogue
        self._shelf = shelf
        self._index_of = index_of
        self._embedder = embedder
        self._now_s = now_s
        self.rules = rules
        self._pause = pause
        self._caller_of = caller_of
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._aside: dict[int, _Aside] = {}
        self._turns = Turns()
        #: Why the job stands still, "" while it does not.
        self.waits_for = ""

    def wake(self) -> None:
        """There is something to do."""
        self._news.set()
        if self._task is None or self._task.done():
            self._task = spawn(self._run(), "read files into vector stores")

    async def stop(self) -> None:
        """End where it is; the next start goes on from there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            self._news.clear()
            try:
                worked = await self.step()
            except Exception:  # noqa: BLE001  # a catalogue that cannot be read, say: nothing can be done without it
                _log.exception("reading files into vector stores goes on in %.0f s", _PAUSE_S)
                await asyncio.sleep(_PAUSE_S)
                continue
            if not worked:
                await self._wait(self._find_rest())

    def _find_rest(self) -> float:
        """Seconds until a store may be tried again, it may go on, or it is looked what is over."""
        left_s = [one.until_s - self._now_s() for one in self._aside.values()]
        return min([_PAUSE_S if self.waits_for else _IDLE_S, *(one for one in left_s if one > 0)])

    def _set_aside(self, store: Store, error: Exception) -> None:
        """Leave a store alone for a while."""
        failures = self._aside[store.n].failures if store.n in self._aside else 0
        wait_s = _RETRY_S[min(failures, len(_RETRY_S) - 1)]
        known = isinstance(error, ProxyError | IndexProblem)
        why = _tell(store, error) if known else "internal error; the log of the proxy has more"
        self._aside[store.n] = _Aside(failures + 1, self._now_s() + wait_s, why)
        _log.warning(
            "reading files into store %s goes on in %.0f s: %s",
            store.id,
            wait_s,
            error,
            exc_info=None if known else error,
        )

    def why_aside(self, store_n: int) -> str:
        """What keeps the files of a store waiting, "" where nothing does."""
        return self._aside[store_n].why if store_n in self._aside else ""

    def _find_aside(self) -> list[int]:
        """The stores that are left alone now. When the clock was set back they are not for longer than ever meant."""
        now_s = self._now_s()
        return [n for n, one in self._aside.items() if now_s < one.until_s <= now_s + _RETRY_S[-1]]

    async def _wait(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        except TimeoutError:
            pass

    async def step(self) -> bool:
        """Do the next thing; whether there was any."""
        aside = self._find_aside()
        await self._clear_out(aside)
        why = self._pause()
        task = await self._next(aside, paused=bool(why))
        if task is None:
            resting = why and await self._next(aside, paused=False)
            self.waits_for = why if resting else next((self._aside[n].why for n in aside), "")
            return False
        store = await self._catalogue.run(stores.store_by_n, task.store_n)
        assert store is not None
        began_s = self._now_s()
        try:
            await self._do(task, store)
        except Exception as error:  # noqa: BLE001  # whatever one store trips over, the others go on
            self._set_aside(store, error)
        else:
            self._aside.pop(store.n, None)
            self.waits_for = ""
        self._turns.take(task.owner, store.n, self._now_s() - began_s)
        return True

    async def _next(self, aside: Sequence[int], *, paused: bool) -> Task | None:
        return await self._catalogue.run(work.next_task, self.rules.batch, aside, self._turns.place, paused=paused)

    async def _do(self, task: Task, store: Store) -> None:
        if task.stage == "leaving":
            await self._index_of(store).delete(stores.collection_of(store), [task.n])
            await self._catalogue.run(work.forget, task)
        elif task.stage == "publishing":
            await self._publish(task, store)
        else:
            await self._go_on(task, store)

    async def _clear_out(self, aside: Sequence[int]) -> None:
        """Delete what is over, or was asked to be deleted."""
        now_s = int(self._now_s())
        for ident in await self._catalogue.run(files.expired_files, now_s):
            await self._catalogue.run(files.remove_file, ident)
            await self._shelf.delete(ident)
        for store in await self._catalogue.run(stores.leaving_stores, now_s):
            if store.n in aside:
                continue
            try:
                await self._index_of(store).drop(stores.collection_of(store))
                await self._catalogue.run(stores.forget_store, store.n)
                self._turns.forget(store.n)
            except Exception as error:  # noqa: BLE001  # as below
                self._set_aside(store, error)
            else:
                self._aside.pop(store.n, None)

    async def _go_on(self, task: Task, store: Store) -> None:
        """One step of a file that is waiting: read it, or make some vectors, or begin to publish it."""
        try:
            if task.passages is None:
                await self._read(task)
                return
            if await self._catalogue.run(work.begin_publishing, task):
                await self._publish(task, store)
                return
            texts = await self._catalogue.run(work.next_texts, task, self.rules.batch, alone=False)
            try:
                await self._embed(task, store, texts)
            except ProxyError as error:
                if not self._is_final(error, store) or all(text.n == task.n for text in texts):
                    raise
                # One of several files is at fault: let this one stand or fall by itself.
                alone = await self._catalogue.run(work.next_texts, task, self.rules.batch, alone=True)
                await self._embed(task, store, alone)
        except Unreadable as error:
            await self._catalogue.run(work.fail, task, error.code, error.message)
        except ProxyError as error:
            if not self._is_final(error, store):
                raise
            await self._catalogue.run(work.fail, task, "server_error", error.message)

    def _is_final(self, error: ProxyError, store: Store) -> bool:
        failures = self._aside[store.n].failures if store.n in self._aside else 0
        return error.kind in _FINAL or (error.kind in _LASTING and failures >= _MOST_ATTEMPTS)

    async def _read(self, task: Task) -> None:
        content = await self._shelf.get(task.file)
        text = await read_safely(task.name, content, self.rules.most_chars)
        spans = await asyncio.to_thread(cut, text, task.chunking)
        await self._catalogue.run(work.keep_passages, task, text, spans)

    async def _embed(self, task: Task, store: Store, texts: Sequence[Text]) -> None:
        if not texts:
            return
        space = VectorSpace(store.model, store.digest, store.dimensions) if store.dimensions else None
        annotations = Annotations(target=self.rules.target) if self.rules.target else NO_ANNOTATIONS
        caller = ANYBODY if task.owner == ANYBODY.name else self._caller_of(task.owner)
        if caller is None:
            raise ProxyError(ErrorKind.UNAUTHENTICATED, "the key that brought the file is not valid any more")
        wish = EmbedWish(_WAY_IN, caller, annotations, space, keeps=True)
        made = await self._embedder.embed([text.text for text in texts], store.model, wish)
        found = made.space
        if not store.dimensions:
            await self._catalogue.run(stores.settle_space, store.n, found.model, found.digest, found.dimensions)
        await self._catalogue.run(work.keep_vectors, texts, made.vectors)

    async def _publish(self, task: Task, store: Store) -> None:
        try:
            await self._write(task, store)
        except IndexProblem as error:
            if not error.final:
                raise
            await self._catalogue.run(work.fail, task, "server_error", _tell(store, error))

    async def _write(self, task: Task, store: Store) -> None:
        """Write a file into its index: in pieces, seen by nobody before the last is there."""
        fresh = await self._catalogue.run(stores.store_by_n, store.n)
        index, name = self._index_of(store), stores.collection_of(store)
        await index.delete(name, [task.n])
        behind = 0
        while points := await self._catalogue.run(work.points_behind, task.n, behind, _PUBLISHED_AT_ONCE):
            assert fresh is not None
            await index.put(name, fresh.dimensions, points)
            behind = points[-1].id
        await self._catalogue.run(work.complete, task.n)


def _tell(store: Store, error: Exception) -> str:
    return f"{store.backend or 'embedded'}: {error}" if isinstance(error, IndexProblem) else str(error)
