"""The breakers of all backends, and who is kept out by them: at most half of those that hold a model.

Where more than that would be, the least bad stay in: a fleet that fails for a reason of its own must not be taken for
one that is not there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ollama_proxy.domain.device import KeptOut
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.fleet.breaker import Breaker, Phase

#: Failures in a row that open a breaker at the most, whatever is configured.
MOST_FAILURES = 5
#: For which no model is to blame.
WHOLE = ""
_NOBODY_THERE = (FailureKind.REFUSED, FailureKind.UNREACHABLE)


class Holder(msgspec.Struct, frozen=True, gc=False):
    """Who holds which models (as they are called there), and whether it serves at all."""

    backend: str
    models: frozenset[str]
    serves: bool


class Breakers:
    """By backend and model. Nothing is kept of those that do well."""

    def __init__(self, threshold: int) -> None:
        """So many failures in a row open one, `MOST_FAILURES` at the most."""
        self.threshold = threshold
        self._watched: dict[str, dict[str, Breaker]] = {}
        self._blamed: dict[str, str] = {}

    def __contains__(self, backend: str) -> bool:
        return backend in self._watched

    def __bool__(self) -> bool:
        return bool(self._watched)

    def forget(self, backend: str) -> None:
        """A backend has left, or another took its place."""
        self._watched.pop(backend, None)
        self._blamed.pop(backend, None)

    def failed(self, backend: str, model: str, failure: Failure, now_s: float) -> None:
        """A request for a model failed there, by the backend's fault."""
        gone, slow = failure.kind in _NOBODY_THERE, failure.kind is FailureKind.TIMEOUT
        self._find(backend, WHOLE if gone else model).failed(now_s, failure.public, at_once=gone or slow, slow=slow)
        # Failures of one model alone say nothing of the others.
        if self._blamed.get(backend, model) != model and not gone:
            self._find(backend, WHOLE).failed(now_s, failure.public)
        self._blamed[backend] = model

    def _find(self, backend: str, model: str) -> Breaker:
        watched = self._watched.setdefault(backend, {})
        breaker = watched.get(model)
        if breaker is None:
            breaker = watched[model] = Breaker(min(self.threshold, MOST_FAILURES))
        return breaker

    def succeeded(self, backend: str, model: str, now_s: float) -> None:
        """A request for a model was answered well."""
        watched = self._watched[backend]
        for name in (WHOLE, model):
            if name in watched:
                watched[name].succeeded(now_s)
        self._blamed.pop(backend, None)
        self._tidy(backend, now_s)

    def tried(self, backend: str, model: str, now_s: float) -> None:
        """A request for a model has been sent there."""
        watched = self._watched.get(backend, {})
        for name in (WHOLE, model):
            if name in watched:
                watched[name].tried(now_s)

    def move(self, now_s: float) -> None:
        """Time has passed."""
        for backend, watched in list(self._watched.items()):
            for breaker in watched.values():
                breaker.move(now_s)
            self._tidy(backend, now_s)

    def _tidy(self, backend: str, now_s: float) -> None:
        watched = self._watched[backend]
        for name in [name for name, breaker in watched.items() if breaker.is_forgotten(now_s)]:
            del watched[name]
        if not watched:
            self.forget(backend)

    def keep_out(self, holders: Iterable[Holder], now_s: float) -> dict[str, dict[str, KeptOut]]:
        """Who is kept out of what, by backend and model."""
        everybody = list(holders)
        wanted: dict[str, list[tuple[tuple[int, int, str], KeptOut]]] = {}
        for holder in everybody:
            if not holder.serves:
                continue
            for model, breaker in self._find_tripped(holder).items():
                kept = _describe(breaker, now_s)
                if kept is not None:
                    badness = (kept.most, -breaker.failures, holder.backend)
                    wanted.setdefault(model, []).append((badness, kept))
        found: dict[str, dict[str, KeptOut]] = {}
        for model, those in wanted.items():
            for (_, _, backend), kept in sorted(those)[: _count_spare(everybody, model)]:
                found.setdefault(backend, {})[model] = kept
        return found

    def _find_tripped(self, holder: Holder) -> Mapping[str, Breaker]:
        """By model: of its own breaker and the whole backend's, the one that lets fewer in."""
        watched = self._watched.get(holder.backend, {})
        whole = watched.get(WHOLE)
        found = {name: one for name, one in watched.items() if name != WHOLE and one.phase is not Phase.CLOSED}
        if whole is not None and whole.phase is not Phase.CLOSED:
            for name in holder.models:
                own = found.get(name)
                if own is None or own.phase is not Phase.OPEN:
                    found[name] = whole
        return found


def _describe(breaker: Breaker, now_s: float) -> KeptOut | None:
    most = breaker.most(now_s)
    if most is None:
        return None
    wait_s = breaker.wait_s(now_s)
    if most or not wait_s:
        told = f"breaker half-open after failures ({breaker.why}): {most} at once until it does well"
        return KeptOut(most, told)
    return KeptOut(0, f"breaker open ({breaker.why}), next try in {max(1, round(wait_s))} s", wait_s)


def _count_spare(holders: Sequence[Holder], model: str) -> int:
    """How many may be kept out of a model: half of those that hold it, less those that do not serve."""
    having = [one for one in holders if model in one.models]
    return max(0, len(having) // 2 - sum(not one.serves for one in having))
