"""Whether a meter is believed: one that falls silent at work loses it at once, one that is back earns it."""

from __future__ import annotations

#: A device at work for less than this may only just have been woken, its meter with it.
AWAKE_S = 0.5
#: So long a meter that is back must tell something new without a break.
BACK_S = 5.0


class Trust:
    """The state of one meter. A meter may be silent while nobody works: a card that sleeps is not asked."""

    def __init__(self) -> None:
        self.trusted = True
        self._fresh_since_s: float | None = None

    def look(self, now_s: float, *, stale: bool, busy_since_s: float | None) -> bool:
        """Whether it is believed now; `busy_since_s` is since when its devices have been at work, None while idle."""
        if stale:
            self._fresh_since_s = None
            if busy_since_s is not None and now_s - busy_since_s > AWAKE_S:
                self.trusted = False
        elif not self.trusted:
            if self._fresh_since_s is None:
                self._fresh_since_s = now_s
            self.trusted = now_s - self._fresh_since_s >= BACK_S
        return self.trusted
