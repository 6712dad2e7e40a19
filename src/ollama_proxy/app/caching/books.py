"""The books of answers that come from the cache: log, metrics, ledger, and what is on record of them.

What such an answer saves is what making it took, of the kind that figure was of. In the ledger its row has that as what
would have been spent without a cache, and 0 J as spent, so that sums of savings are right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ollama_proxy.app.requests.settlement import Books
from ollama_proxy.cache.entry import Entry
from ollama_proxy.cache.single_flight import without_energy
from ollama_proxy.cache.store import Holdings
from ollama_proxy.domain.answer import CacheNote, Outcome, Route
from ollama_proxy.domain.call import Call
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.energy.ledger.row import LedgerRow
from ollama_proxy.lifecycle.life import Life
from ollama_proxy.observability.decisions import Decisions, Served

#: What the ledger and the metrics call the backend of such answers.
BACKEND = "cache"
_MAX_MODEL_CHARS = 200
#: The life of a request that no backend was asked for.
_NOBODY = Life(0)
_NOBODY.backend = BACKEND


class CacheBooks(Collector):
    """Counts in memory, and tells the others."""

    def __init__(
        self,
        books: Books,
        decisions: Decisions,
        record: Callable[[LedgerRow], None],
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        """`record` takes rows of the ledger; `unix_clock` gives seconds since 1970."""
        self._books = books
        self._decisions = decisions
        self._record = record
        self.unix_clock = unix_clock
        #: By what became of a request that asked.
        self._requests = dict.fromkeys(("hit", "similar", "joined", "miss", "bypass"), 0)
        #: Joules that were not spent, by kind.
        self._saved: dict[str, float] = {}
        #: What the store held when somebody looked last.
        self.holdings = Holdings()

    def bypassed(self) -> None:
        """A request asked for the cache and cannot have it."""
        self._requests["bypass"] += 1

    def missed(self) -> None:
        """An answer is made, and kept if it can be."""
        self._requests["miss"] += 1

    def served(self, call: Call, entry: Entry, outcome: Outcome, note: CacheNote) -> Route:
        """A kept answer is given; where it comes from."""
        self._requests["hit" if note.similarity is None else "similar"] += 1
        age_s = note.age_s or 0.0
        reason = f"from the cache: {entry.backend} made it {age_s:.0f} s ago"
        if note.similarity is not None:
            reason += f", for a prompt of likeness {note.similarity:.4f}"
        decision_id = f"d-{call.request_id}-0"
        self._decisions.served.append(
            Served(
                decision_id,
                round(self.unix_clock(), 3),
                call.model[:_MAX_MODEL_CHARS],
                entry.backend,
                round(age_s, 3),
                entry.decision_id,
                entry.joules,
                entry.energy_kind if entry.joules is not None else "",
                note.similarity,
                call.caller.name,
            )
        )
        self._book(call, outcome, reason, entry.joules, entry.energy_kind)
        return Route(
            decision_id,
            entry.backend,
            reason,
            0.0,
            0,
            (),
            0,
            entry.energy_kind,
            entry.model,
            stand_in=False,
            cache=note,
        )

    def joined(self, call: Call, route: Route, outcome: Outcome) -> None:
        """A request was told the answer to an equal one that was under way."""
        self._requests["joined"] += 1
        reason = f"with an equal request that {route.backend} was answering"
        self._book(call, without_energy(outcome), reason, outcome.joules, outcome.energy_kind)

    def failed(self, call: Call, error: ProxyError) -> None:
        """The request that made the answer failed, and with it one that waited for the same."""
        self._books.failed(call, _NOBODY, error)

    def left(self, call: Call) -> None:
        """A client left while it waited for what another request was getting, or for a look into the store."""
        self._books.cancelled(call, _NOBODY)

    def _book(self, call: Call, outcome: Outcome, reason: str, saved_j: float | None, kind: str) -> None:
        if saved_j is not None:
            self._saved[kind] = self._saved.get(kind, 0.0) + saved_j
        self._books.served(call, BACKEND, outcome, reason)
        usage = outcome.finished.usage
        self._record(
            LedgerRow(
                call.request_id,
                self.unix_clock(),
                call.model[:_MAX_MODEL_CHARS],
                BACKEND,
                call.caller.name,
                call.way_in,
                "ok",
                usage.prompt_tokens,
                usage.output_tokens,
                0.0,
                0.0,
                0.0,
                kind,
                outcome.total_s,
                saved_j,
            )
        )

    def count(self) -> dict[str, object]:
        """For a page: what was asked, and what was saved."""
        return {
            "requests": dict(self._requests),
            "saved_joules": {kind: round(j, 3) for kind, j in self._saved.items()},
        }

    def collect(self) -> Iterable[Metric]:
        """What was counted, for the metrics page."""
        requests = CounterMetricFamily(
            "ollama_proxy_cache_requests",
            "Requests that asked for the cache, by what became of them",
            labels=["result"],
        )
        for result, count in self._requests.items():
            requests.add_metric([result], count)
        saved = CounterMetricFamily(
            "ollama_proxy_cache_saved_joules", "Energy that kept answers did not take again", labels=["kind"]
        )
        for kind, joules in self._saved.items():
            saved.add_metric([kind], joules)
        held = self.holdings
        size = GaugeMetricFamily("ollama_proxy_cache_bytes", "Answers that are kept, in bytes", value=held.size_bytes)
        entries = GaugeMetricFamily("ollama_proxy_cache_entries", "Answers that are kept", value=held.entries)
        evicted = CounterMetricFamily(
            "ollama_proxy_cache_evictions", "Answers that went for want of room", value=held.evicted
        )
        return requests, saved, size, entries, evicted
