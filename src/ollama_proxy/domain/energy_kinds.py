"""How figures of energy come about, and what a sum of several is."""

from __future__ import annotations

from collections.abc import Iterable

#: Those last that say least.
_KINDS = ("measured", "apportioned", "modelled", "configured", "emulated", "unknown")


def join_kinds(kinds: Iterable[str]) -> str:
    """The kind of a sum of figures: as good as the least of them; `unknown` for none."""
    return max(kinds, key=lambda kind: _KINDS.index(kind) if kind in _KINDS else len(_KINDS), default="unknown")
