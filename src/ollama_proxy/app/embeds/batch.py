"""One request for many vectors, cut up over backends and joined in order.

Pieces are handed out as `routing.spread` finds best. Where the speed of a backend is not known yet it gets a small
piece first, and the rest is cut anew when that has told. A piece that fails goes to others that have the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

import msgspec

from ollama_proxy.app.embeds.join import join_outcomes, join_routes
from ollama_proxy.app.embeds.part import Part, PartSink, Vector, make_part, represent
from ollama_proxy.domain.answer import Embeddings, Outcome
from ollama_proxy.domain.call import Call, Embedding
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import AnswerSink, Ticket
from ollama_proxy.routing.spread import Lane, Piece, spread

#: The least that is worth a request of its own, in units (about bytes of text).
LEAST_UNITS = 512.0
#: Of its share, what a backend gets first whose speed nobody has seen.
_FIRST_SHARE = 0.1
#: No piece takes longer than this, that silence can be told from work.
_MOST_S = 60.0
#: What is overdue takes at least so much longer, as a share of what it has taken.
_OVERDUE = 0.1
#: Others may do better.
_ELSEWHERE = frozenset(
    (
        ErrorKind.BACKEND_FAILED,
        ErrorKind.NO_HEALTHY_BACKEND,
        ErrorKind.OVERLOADED,
        ErrorKind.RATE_LIMITED,
        ErrorKind.RATE_LIMITED,
        ErrorKind.MODEL_NOT_FOUND,
        ErrorKind.LIMITS_EXCLUDE_ALL,
    )
)


class Owner(Protocol):
    """Who has the batch."""

    def open_part(self, call: Call, sink: AnswerSink) -> Ticket:
        """Send a part on its way."""

    def find_lanes(self, call: Call, names: frozenset[str]) -> dict[str, Lane]:
        """Those of some backends that can take a piece now, by id, as they stand."""

    def is_known(self, backend: str, model: str) -> bool:
        """Whether it was seen how fast a backend makes vectors."""

    def is_idle(self, backend: str) -> bool:
        """Whether nothing runs there now."""

    def learn(self, backend: str, model: str, units: float, seconds: float) -> None:
        """A piece took so long that had the backend for itself."""

    def now_s(self) -> float:
        """Monotonic seconds."""

    def confirm(self, model: str, digest: str, names: Collection[str], told: Callable[[frozenset[str]], None]) -> None:
        """Tell, in a while, who of some backends has not those weights any more."""

    def batch_ended(self, call: Call, outcome: Outcome | None) -> None:
        """It is over, with its outcome if it ended well."""


class _Sent(msgspec.Struct, frozen=True):
    """A piece under way."""

    piece: Piece
    begun_s: float
    alone: bool
    ticket: Ticket | None = None


class Batch:
    """The ticket of its client. `names` are the backends that have the weights, of `digest`; "" for one that nobody
    tells."""

    def __init__(
        self,
        owner: Owner,
        call: Call,
        embedding: Embedding,
        weights: Sequence[float],
        names: frozenset[str],
        price_watts: float,
        sink: AnswerSink,
        digest: str,
    ) -> None:
        self.call = call
        self._digest = digest
        self._owner = owner
        self._embedding = embedding
        self._weights = weights
        self._names = names
        self._price_watts = price_watts
        self._sink = sink
        self._pending = list(range(len(weights)))
        self._sent: dict[str, _Sent] = {}
        self._vectors: list[Vector] = [()] * len(weights)
        self._parts: list[Part] = []
        #: Of each part, which texts it was for.
        self._places: list[Sequence[int]] = []
        self._opened = 0
        self._handing = self._again = False
        self._error: ProxyError | None = None
        self.over = False

    @property
    def size(self) -> int:
        """How many texts it has."""
        return len(self._weights)

    def start(self) -> None:
        """Hand out the first pieces."""
        self._hand_out()

    # -- the client's ticket -----------------------------------------------------

    def cancel(self) -> None:
        """The client has gone."""
        if not self.over:
            self._close(None)

    def pause(self) -> None:
        """Nothing is sent before all is there."""

    def resume(self) -> None:
        """As `pause`."""

    # -- pieces ------------------------------------------------------------------

    def _hand_out(self) -> None:
        """Give work to those that have none; end if there is nobody."""
        self._again = True
        if self._handing:
            # Somebody failed at once: whoever hands out looks again.
            return
        self._handing = True
        while self._again and self._pending and not self.over:
            self._again = False
            self._hand_out_once()
        self._handing = False
        if not self.over and self._pending and not self._sent:
            told = f"no backend is left for {len(self._pending)} of {len(self._weights)} texts"
            self._fail(self._error or ProxyError(ErrorKind.NO_HEALTHY_BACKEND, told))

    def _hand_out_once(self) -> None:
        """Cut what is left over those that can take it, those included that are at work on a piece."""
        lanes = self._owner.find_lanes(self.call, self._names)
        now_s = self._owner.now_s()
        busy = [_stand_behind(sent, now_s) for name, sent in self._sent.items() if name in self._names]
        idle = [lane for name, lane in lanes.items() if name not in self._sent]
        mine = self._pending
        pieces = spread([self._weights[place] for place in mine], [*busy, *idle], self._price_watts, LEAST_UNITS)
        for piece in pieces:
            if piece.lane.backend not in self._sent and not self.over:
                self._open(piece.lane, self._limit(piece, mine))

    def _limit(self, piece: Piece, mine: Sequence[int]) -> tuple[int, ...]:
        """The places of the batch that a piece is made of, as many as its backend gets at once."""
        places = tuple(mine[place] for place in piece.places)
        lane = piece.lane
        most = max(LEAST_UNITS, lane.can_do(lane.wait_s + lane.fixed_s + _MOST_S))
        if not self._owner.is_known(lane.backend, self.call.model):
            most = min(most, max(LEAST_UNITS, piece.units * _FIRST_SHARE))
        units, count = 0.0, 0
        for place in places:
            units += self._weights[place]
            count += 1
            if units >= most:
                break
        return places[:count]

    def _open(self, lane: Lane, places: tuple[int, ...]) -> None:
        backend = lane.backend
        self._opened += 1
        mine = set(places)
        self._pending = [place for place in self._pending if place not in mine]
        piece = Piece(lane, places, sum(self._weights[place] for place in places))
        embedding = msgspec.structs.replace(
            self._embedding, inputs=tuple([self._embedding.inputs[place] for place in places])
        )
        caller = represent(self.call.caller, backend)
        call = make_part(self.call, str(self._opened), embedding, caller)
        sent = self._sent[backend] = _Sent(piece, self._owner.now_s(), self._owner.is_idle(backend))
        sink = PartSink(len(places), self._on_done(piece), self._on_failed(piece))
        ticket = self._owner.open_part(call, sink)
        if self._sent.get(backend) is sent:
            self._sent[backend] = msgspec.structs.replace(sent, ticket=ticket)
        elif self.over:
            ticket.cancel()

    def _on_done(self, piece: Piece) -> Callable[[Part], None]:
        def done(part: Part) -> None:
            sent = self._sent.pop(piece.lane.backend, None)
            if self.over:
                return
            if sent is not None and sent.alone:
                self._learn(sent, part)
            dimensions = len(part.vectors[0])
            if self._parts and dimensions != len(self._parts[0].vectors[0]):
                told = f"{part.route.backend} gave vectors of {dimensions} dimensions, others of the same model of "
                told += f"{len(self._parts[0].vectors[0])}: they cannot be compared"
                self._fail(ProxyError(ErrorKind.BACKEND_FAILED, told, backend=part.route.backend))
                return
            self._parts.append(part)
            self._places.append(piece.places)
            for place, vector in zip(piece.places, part.vectors, strict=True):
                self._vectors[place] = vector
            if self._pending:
                self._hand_out()
            elif not self._sent:
                self._confirm()

        return done

    def _learn(self, sent: _Sent, part: Part) -> None:
        """How long the backend worked at it, by its own clock where it tells."""
        usage = part.outcome.finished.usage
        seconds = self._owner.now_s() - sent.begun_s
        if usage.total_ns:
            seconds = min(seconds, (usage.total_ns - (usage.load_ns or 0)) / 1e9)
        self._owner.learn(part.route.backend, self.call.model, sent.piece.units, seconds)

    def _on_failed(self, piece: Piece) -> Callable[[ProxyError], None]:
        def failed(error: ProxyError) -> None:
            backend = piece.lane.backend
            self._sent.pop(backend, None)
            if self.over:
                return
            if error.kind not in _ELSEWHERE:
                self._fail(error)
                return
            self._error = error
            self._names -= {backend}
            self._pending = sorted([*self._pending, *piece.places])
            self._hand_out()

        return failed

    def _confirm(self) -> None:
        """Put together what came from several only when all of them still have the weights that they were asked for."""
        names = {part.route.backend for part in self._parts}
        if len(self._parts) > 1 and self._digest:
            self._owner.confirm(self.call.model, self._digest, names, self._confirmed)
        else:
            self._finish()

    def _confirmed(self, changed: frozenset[str]) -> None:
        if self.over:
            return
        if not changed:
            self._finish()
            return
        name = min(changed)
        told = f"{name} was given other weights by that name, or cannot be asked for its models"
        self._error = ProxyError(ErrorKind.BACKEND_FAILED, told, backend=name)
        self._names -= changed
        kept = [part.route.backend not in changed for part in self._parts]
        self._pending = sorted(
            place for places, stays in zip(self._places, kept, strict=True) if not stays for place in places
        )
        self._parts = [part for part, stays in zip(self._parts, kept, strict=True) if stays]
        self._places = [places for places, stays in zip(self._places, kept, strict=True) if stays]
        self._hand_out()

    # -- the end -----------------------------------------------------------------

    def _finish(self) -> None:
        outcome = join_outcomes(self._parts, self._owner.now_s() - self.call.arrived_s)
        self._close(outcome)
        self._sink.routed(join_routes(self._parts))
        self._sink.send_events((Embeddings(tuple(self._vectors)),))
        self._sink.finish(outcome)

    def _fail(self, error: ProxyError) -> None:
        self._close(None)
        self._sink.fail(error)

    def _close(self, outcome: Outcome | None) -> None:
        self.over = True
        sent, self._sent = self._sent, {}
        for one in sent.values():
            if one.ticket is not None:
                one.ticket.cancel()
        self._owner.batch_ended(self.call, outcome)


def _stand_behind(sent: _Sent, now_s: float) -> Lane:
    """A lane that is at work on a piece of this batch, for what comes after it."""
    lane, units = sent.piece.lane, sent.piece.units
    gone_s = now_s - sent.begun_s
    left_s = max(lane.end_s(units) - gone_s, _OVERDUE * gone_s)
    return msgspec.structs.replace(lane, wait_s=left_s)
