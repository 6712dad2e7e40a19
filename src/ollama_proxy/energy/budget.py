"""An energy budget by the hour: what was spent in the last sixty minutes, and when there will be something left."""

from __future__ import annotations

from ollama_proxy.domain.call import COST_NOTHING, Call, Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.window import Window

_HOUR_S = 3600.0


class HourlyBudget:
    """Joules of the last hour against a limit. The clock is handed in and must not go back; 0 Wh is no limit."""

    def __init__(self, watt_hours: float) -> None:
        self.limit_j = watt_hours * 3600.0
        self._window = Window(self.limit_j, _HOUR_S)

    def change(self, watt_hours: float) -> None:
        """Another limit. What was spent under the one before stays spent."""
        self.limit_j = self._window.limit = watt_hours * 3600.0

    def spend(self, joules: float | None, now_s: float) -> None:
        """A request has taken this much; None where nobody knows."""
        self._window.spend(joules or 0.0, now_s)

    def wait_s(self, now_s: float) -> float:
        """Seconds until something may be spent again; 0 while there is something left."""
        return self._window.wait_s(now_s)

    def refuse(self, call: Call, now_s: float) -> ProxyError | None:
        """What is said to a call for which nothing is left of the hour; None where there is, or it takes nothing."""
        wait_s = self.wait_s(now_s)
        # Nothing to read: a model is to be loaded or unloaded.
        is_empty = call.operation in (Operation.GENERATE, Operation.CHAT) and not call.prompt_bytes
        if not wait_s or is_empty or call.operation in COST_NOTHING:
            return None
        told = f"the energy budget of {self.limit_j / 3600:g} Wh an hour is spent; there is more in {wait_s:.0f} s"
        return ProxyError(ErrorKind.OVERLOADED, told, retry_after_s=wait_s)

    def spent_wh(self, now_s: float) -> float:
        """Of the last hour."""
        return self._window.spent_at(now_s) / 3600.0
