"""Answers that were given, for a while: what `previous_response_id` and retrieval refer to.

Bounded in number, bytes and age, in memory, gone with the process. Ids that we make are random. Servers that speak this
API themselves make their own: Ollama's are one of a million, so two answers may come by the same. An id that was given
twice stands for neither, since going on with somebody else's conversation is worse than not going on.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import msgspec

#: What an entry takes besides its bytes, and a reference to each item.
_ENTRY_BYTES = 512
_ITEM_BYTES = 64


class StoreLimits(msgspec.Struct, frozen=True):
    """How much is kept: entries, bytes in all, seconds."""

    entries: int = 1000
    bytes: int = 64 * 1024 * 1024
    ttl_s: float = 86400.0


class StoredResponse(msgspec.Struct, frozen=True):
    """One answer: its object and the items it was made from and consists of, each as JSON text.

    `history` is everything that went before, earlier turns included, so that one entry is enough to go on from.
    """

    id: str
    document: bytes
    history: tuple[bytes, ...] = ()
    output: tuple[bytes, ...] = ()
    previous: str = ""

    def size(self) -> int:
        """Bytes that it is counted with. What turns share is counted for each: a bound errs on the safe side."""
        items = self.history + self.output
        return _ENTRY_BYTES + len(self.document) + sum(map(len, items)) + _ITEM_BYTES * len(items)


class _Kept(msgspec.Struct, frozen=True):
    #: None for an id that was given twice.
    response: StoredResponse | None
    until_s: float
    size: int


class ResponseStore:
    """Answers by caller and id; the oldest make room."""

    def __init__(self, limits: StoreLimits, clock: Callable[[], float]) -> None:
        """`clock` is monotonic seconds."""
        self._limits = limits
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """Bytes kept, as they are counted."""
        return self._size

    def put(self, caller: str, response: StoredResponse) -> bool:
        """Keep an answer; whether it was. One that is larger than the whole store is not."""
        key = (caller, response.id)
        self._drop_old()
        twice = key in self._kept
        self._take(key)
        size = _ENTRY_BYTES if twice else response.size()
        if not self._limits.entries or size > self._limits.bytes:
            return False
        self._kept[key] = _Kept(None if twice else response, self._clock() + self._limits.ttl_s, size)
        self._size += size
        while len(self._kept) > self._limits.entries or self._size > self._limits.bytes:
            self._take(next(iter(self._kept)))
        return not twice

    def get(self, caller: str, ident: str) -> StoredResponse | None:
        """The answer of that id that this caller got."""
        kept = self._kept.get((caller, ident))
        return kept.response if kept is not None and kept.until_s > self._clock() else None

    def delete(self, caller: str, ident: str) -> bool:
        """Forget an answer; whether there was one."""
        found = self.get(caller, ident) is not None
        if found:
            self._take((caller, ident))
        return found

    def _take(self, key: tuple[str, str]) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept.size

    def _drop_old(self) -> None:
        """Entries are in the order of their age, so the first that is young enough ends the search."""
        now_s = self._clock()
        while self._kept:
            key = next(iter(self._kept))
            if self._kept[key].until_s > now_s:
                return
            self._take(key)
