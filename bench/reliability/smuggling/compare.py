"""Where two readers differ. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from bench.reliability.smuggling.recorder import Read


def differ_behind_us(ours: Sequence[Read], theirs: Sequence[Read]) -> str:
    """We stand in front: whoever is behind may have fewer requests than we read, in our order, each with our body.

    Returns what is otherwise; "" when nothing is. Fewer, because the client may have left, or they refuse it.
    """
    rest = iter(ours)
    for read in theirs:
        if not any(_is_same(mine, read) for mine in rest):
            return f"behind us somebody read {read!r}, we read {list(ours)!r}"
    return ""


def _is_same(mine: Read, other: Read) -> bool:
    """Method, target and body; some servers make one slash of several, which moves no border."""
    return (mine[0], _slashes(mine[1]), mine[2]) == (other[0], _slashes(other[1]), other[2])


def _slashes(target: bytes) -> bytes:
    return re.sub(rb"/+", b"/", target)


def differ_before_us(logged: Counter[bytes], recorded: Counter[bytes]) -> list[bytes]:
    """We stand behind: no request may have left us that the server before us has not read. By target."""
    return [target for target, count in recorded.items() if count > logged[target]]
