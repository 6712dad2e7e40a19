"""Attempts that outlast whoever asked: prompts that a server reads on, and what still runs at backends that left."""

from __future__ import annotations

from ollama_proxy.fleet.record import Record
from ollama_proxy.fleet.running import Running

#: Servers that read a prompt to its end, and load a model, although whoever asked has gone.
READ_ON_KINDS = ("ollama",)
#: Who has less left to read is done when it is looked at next.
_LEAST_LINGER_S = 1.0


def read_on(record: Record, running: Running | None, until_s: float, now_s: float) -> bool:
    """Whether a prompt that nobody waits for any more is read on until then, so that its load stays as long."""
    if record.spec.kind not in READ_ON_KINDS or record.emulated or until_s - now_s < _LEAST_LINGER_S:
        return False
    if running is not None:
        running.abandon(until_s)
        record.forecast.forget()
    record.lingering.append((until_s, running))
    return True


def take_read(record: Record, now_s: float) -> list[Running | None]:
    """Those that have been read by now; they linger no longer."""
    over = [running for until_s, running in record.lingering if until_s <= now_s]
    record.lingering = [one for one in record.lingering if one[0] > now_s]
    return over


class Ghosts:
    """Attempts that still run on backends that left; one of the same id that joins must not be billed for them."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._left)

    def leave(self, record: Record) -> None:
        """A backend leaves with all that runs there."""
        left = record.in_flight - len(record.lingering)
        if left:
            self._left[record.spec.id] = self._left.get(record.spec.id, 0) + left

    def lay(self, backend: str, record: Record | None, running: Running | None) -> bool:
        """Whether an attempt that is over was one of them, and not at the backend that has the id now."""
        if backend not in self._left or (record is not None and running in record.running):
            return False
        self._left[backend] -= 1
        if not self._left[backend]:
            del self._left[backend]
        return True
