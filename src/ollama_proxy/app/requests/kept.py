"""What is kept of streams that may break off, within bounds: as it came, then only what it says, then nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

#: Bytes that one stream may keep as they came, and all of them together in whatever form.
MOST_KEPT_EACH = 256 * 1024
MOST_KEPT = 64 * 1024 * 1024


class Stream(Protocol):
    """An attempt that may keep what the client was sent; see `domain.ports.Attempt`."""

    def kept_bytes(self) -> int:
        """How much, nearly."""

    def read_kept(self) -> None:
        """Keep no more of it than what it says."""

    def give_up_kept(self) -> None:
        """Keep none of it: nobody goes on with the stream then."""


def bound_kept(streams: Iterable[Stream], most_each: int = MOST_KEPT_EACH, most: int = MOST_KEPT) -> None:
    """Read what long streams keep, and have the longest keep no more where all of them keep more than `most` bytes."""
    sizes: list[tuple[int, Stream]] = []
    for one in streams:
        size = one.kept_bytes()
        if size > most_each:
            one.read_kept()
            size = one.kept_bytes()
        sizes.append((size, one))
    excess = sum([size for size, _ in sizes]) - most
    if excess <= 0:
        return
    longest_first = [one for _, one in sorted(sizes, key=lambda pair: pair[0], reverse=True)]
    for lessen in (_read, _give_up):
        excess = _lessen(longest_first, lessen, excess)


def _lessen(streams: Iterable[Stream], lessen: Callable[[Stream], None], excess: int) -> int:
    """Have one after the other keep less until the excess is gone; what is left of it."""
    for one in streams:
        if excess <= 0:
            break
        before = one.kept_bytes()
        lessen(one)
        excess -= before - one.kept_bytes()
    return excess


def _read(stream: Stream) -> None:
    stream.read_kept()


def _give_up(stream: Stream) -> None:
    stream.give_up_kept()
