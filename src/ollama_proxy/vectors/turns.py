"""Whose turn it is at the one job that reads files: whoever had least of its time. Pure."""

from __future__ import annotations

#: What a turn counts at least and at most, where a clock stands still or was set.
_LEAST_S, _MOST_S = 0.001, 600.0


class Turns:
    """Owners share the time equally, and an owner's stores take turns. Who comes anew has no credit from before."""

    def __init__(self) -> None:
        #: The start of the last turn, on a clock that runs as fast as anybody is served; where each owner's last ended.
        self._now_s = 0.0
        self._ends_s: dict[str, float] = {}
        self._count = 0
        self._stores: dict[int, int] = {}

    def place(self, owner: str, store_n: int) -> tuple[float, ...]:
        """The least of these has its turn."""
        return self._begin(owner), self._stores.get(store_n, 0)

    def take(self, owner: str, store_n: int, took_s: float) -> None:
        """A turn that is over."""
        self._now_s = self._begin(owner)
        self._ends_s = {one: end_s for one, end_s in self._ends_s.items() if end_s > self._now_s}
        self._ends_s[owner] = self._now_s + min(max(took_s, _LEAST_S), _MOST_S)
        self._count += 1
        self._stores[store_n] = self._count

    def forget(self, store_n: int) -> None:
        """A store that is gone."""
        self._stores.pop(store_n, None)

    def _begin(self, owner: str) -> float:
        return max(self._now_s, self._ends_s.get(owner, 0.0))
