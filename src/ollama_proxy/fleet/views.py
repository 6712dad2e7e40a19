"""The immutable view of all backends, of which only that of a backend that changed is made anew, when somebody looks.

Nothing is done for each backend of a large fleet but copying a tuple.
"""

from __future__ import annotations

from collections.abc import Iterable

from ollama_proxy.domain.device import BackendView, FleetView, Moves
from ollama_proxy.fleet.record import Record

#: Changes written down before the list is begun anew, and readers have to look through all backends once.
MOST_MOVES = 4096


class Views:
    """By place, in the order of the configuration. Whoever changes a record says so here."""

    __slots__ = ("_moves", "_records", "_shown", "_shown_at", "_version", "_view", "placed")

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = records
        self._version = 0
        self._view: FleetView | None = None
        #: The backends by place, and their views as they were when somebody looked last, which was at this version.
        self.placed: list[Record] = []
        self._shown: list[BackendView] = []
        self._shown_at = 0
        self._moves = Moves(0)

    def begin_anew(self, records: Iterable[Record]) -> None:
        """Not the same backends as before: the places mean others now, and are given when somebody looks."""
        self._records = records
        self._view = None
        self._version += 1
        self._moves = Moves(self._version)
        self._shown = []

    def touch(self, record: Record) -> None:
        """More than a backend's load has changed."""
        record.refresh()
        self.move(record)

    def move(self, record: Record) -> None:
        """A backend is not what it was."""
        self._view = None
        self._version += 1
        self._moves.places.append(record.place)

    def look(self) -> FleetView:
        """The backends at this moment."""
        view = self._view
        if view is None:
            shown, placed = self._shown, self.placed
            if not shown:
                shown = self._show_all()
            for place in self._moves.places[self._shown_at - self._moves.since :]:
                record = placed[place]
                shown[place] = record.now or record.look()
            if len(self._moves.places) > MOST_MOVES:
                self._moves = Moves(self._version)
            self._shown_at = self._version
            view = self._view = FleetView(self._version, tuple(shown), (), self._moves)
        return view

    def _show_all(self) -> list[BackendView]:
        """Give out the places, and look at everybody."""
        self.placed = list(self._records)
        for place, record in enumerate(self.placed):
            record.place = place
        self._shown = [record.now or record.look() for record in self.placed]
        self._shown_at = self._version
        return self._shown
