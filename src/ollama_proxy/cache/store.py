"""Where kept answers lie: what each store promises, and by what it decides who must go.

A store never holds up the event loop, and raises nothing but `NotPurged`: what it cannot find in time, or at all, it
has not.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

import msgspec

#: Beside its bytes an answer takes so much, nearly, in indices and names.
OVERHEAD_BYTES = 256
#: An answer of unknown energy is worth as much as if so many watts had been drawn for its time.
_GUESSED_WATTS = 1.0
#: No single answer takes more than this share of a store.
_LARGEST_SHARE = 0.125


class Item(msgspec.Struct, frozen=True):
    """One answer to be kept. `owner` is the name of the API key it was made for, "" for anybody; `model` the name that
    was asked for; `worth_j` the joules that it saves each time; `digest` that of the weights, by which other names get
    the answer as well, "" where only that name does."""

    key: bytes
    data: bytes
    model: str
    owner: str
    made_unix_s: float
    worth_j: float
    digest: str = ""

    @property
    def size_bytes(self) -> int:
        """What it takes of the store's bound."""
        return len(self.data) + OVERHEAD_BYTES


class Which(msgspec.Struct, frozen=True):
    """Which answers are meant: of a model, of a key's name, made at that time or before; None for all. `digests` are
    those of the model: what was made for another name of the same weights is given for it, too."""

    model: str | None = None
    owner: str | None = None
    made_until_unix_s: float | None = None
    digests: frozenset[str] = frozenset()

    def takes(self, model: str, digest: str, owner: str, made_unix_s: float) -> bool:
        """Whether an answer is one of them."""
        return (
            (self.model is None or model == self.model or digest in self.digests)
            and (self.owner is None or owner == self.owner)
            and (self.made_until_unix_s is None or made_unix_s <= self.made_until_unix_s)
        )


class NotPurged(Exception):
    """A purge that could not be done, or not to its end: answers that were meant may be found again. Says why."""


class Holdings(msgspec.Struct, frozen=True):
    """What a store holds, and how many it has let go of for want of room. `problem` says why it is out of use;
    `near_bytes` are those of answers that are held in this process as well."""

    entries: int = 0
    size_bytes: int = 0
    evicted: int = 0
    problem: str = ""
    near_bytes: int = 0


class Bounds(msgspec.Struct, frozen=True):
    """`max_bytes` of all answers with their overhead; seconds after which an answer is too old."""

    max_bytes: int
    ttl_s: float

    def takes(self, item: Item) -> bool:
        """Whether there could be room for it."""
        return self.has_room(item.size_bytes)

    def has_room(self, size_bytes: int) -> bool:
        """Whether there could be room for an answer of so many bytes."""
        return size_bytes <= self.max_bytes * _LARGEST_SHARE


class Found(msgspec.Struct, frozen=True):
    """The bytes of an answer, and the seconds after which it is too old."""

    data: bytes
    left_s: float


class Keeper(Protocol):
    """Keeps answers by their keys. When there is no room, those go that save the fewest joules a byte, counted with how
    often they were found; what was found long ago counts for less with each that goes."""

    @property
    def secret(self) -> bytes | None:
        """What keys are made with: the same for all that are to find each other's answers. None while the store is out
        of use, or not yet in use."""

    async def open(self) -> None:
        """Begin."""

    def keep(self, item: Item) -> None:
        """Keep an answer, if there is room for it, in place of one of the same key."""

    async def purge(self, which: Which) -> int:
        """Let go of some answers; how many. Raises `NotPurged` where that could not be done."""

    async def measure(self) -> Holdings:
        """What is held."""

    def relieve(self) -> None:
        """This process is short of memory: hold less of it."""

    async def close(self) -> None:
        """The end; what was to be kept is."""


class Store(Keeper, Protocol):
    """What requests look into."""

    def find(self, key: bytes) -> bytes | Awaitable[bytes | None] | None:
        """The bytes of an answer that is not too old; None where there is none."""


class FarStore(Keeper, Protocol):
    """Keeps answers outside of this process, where others change them as well; `near.NearStore` stands in front."""

    def fetch(self, key: bytes) -> Awaitable[Found | None] | None:
        """An answer that is not too old; None where there is none."""

    async def count_changes(self, times: dict[bytes, int]) -> int | None:
        """How many times answers were purged or put in another's place, by anybody; None where nobody knows. `times`
        says how often answers were found elsewhere since the last call, for the order in which they go."""


def find_worth(joules: float | None, seconds: float) -> float:
    """What finding an answer saves, in joules, measured or else guessed from its time."""
    return joules if joules is not None else seconds * _GUESSED_WATTS


def rank(item_worth_j: float, size_bytes: int, times: int, floor: float) -> float:
    """The order in which answers go, the least first. `floor` is the rank of the last one that went, so that an answer
    which nobody has asked for of late falls behind those that came since."""
    return floor + item_worth_j * times / size_bytes
