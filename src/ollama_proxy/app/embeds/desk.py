"""Where requests for vectors come in: who may answer them, and whether one alone does or several share the work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any

from ollama_proxy.app.deferred import Deferred
from ollama_proxy.app.embeds.batch import LEAST_UNITS, Batch
from ollama_proxy.app.embeds.builtin import BuiltinVectors
from ollama_proxy.app.embeds.counts import EmbedCounts
from ollama_proxy.app.embeds.gather import Gatherer
from ollama_proxy.app.embeds.part import restrict, without_limit
from ollama_proxy.app.embeds.remembered import Remembered
from ollama_proxy.app.embeds.spaces import Holders, Spaces
from ollama_proxy.app.embeds.vector_store import VectorStore, make_keys
from ollama_proxy.app.requests.job import Job
from ollama_proxy.domain.answer import Outcome
from ollama_proxy.domain.call import Call, Embedding
from ollama_proxy.domain.caller import ANYBODY
from ollama_proxy.domain.decision import Refusal, RoutingRequest
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import AnswerSink, Ticket
from ollama_proxy.domain.vectors import VectorSpace
from ollama_proxy.fleet.embed_speeds import EmbedSpeeds, weigh
from ollama_proxy.net.task import spawn
from ollama_proxy.routing.decide import decide, price_of_seconds
from ollama_proxy.routing.limits import find_model
from ollama_proxy.routing.prospect import Prospect
from ollama_proxy.routing.spread import Lane, spread

if TYPE_CHECKING:
    from ollama_proxy.app.requests.dispatch import Dispatcher

#: A prior tells seconds a token; a token is about so many bytes.
_BYTES_PER_TOKEN = 4.0
#: Marks of as many texts as nobody asks for at once: read into objects they take forty times their bytes.
_MOST_QUOTES = 200_000
#: How much later than predicted the last piece may be of a batch that has to be in time.
_SPARE = 1.25


class EmbedDesk:
    """Takes requests for vectors before the dispatcher does."""

    def __init__(
        self, dispatcher: Dispatcher, builtin: BuiltinVectors | None, look_anew: Callable[[str], Awaitable[bool]]
    ) -> None:
        """`builtin` is the model of our own, for when nobody has one of its name; `look_anew` asks a backend what it
        has now, and tells whether it said so."""
        self._dispatcher = dispatcher
        self._look_anew = look_anew
        self._builtin = builtin
        self.spaces = Spaces()
        self.speeds = EmbedSpeeds()
        #: Whether batches are shared over backends.
        self.splits = True
        self.gatherer = Gatherer(self, 0.0)
        #: Vectors that were made before, and who may have them: those that ask, all that do not forbid it, nobody.
        self.store = VectorStore(0)
        self.remembers = "never"
        self.counts = EmbedCounts(lambda: self.store.size_bytes)

    def submit(self, call: Call, sink: AnswerSink, space: VectorSpace | None = None) -> Ticket:
        """Begin with a request for vectors; `space` is that of vectors which it has to go with."""
        builtin = self._builtin
        model = canonical_model(call.model)
        if builtin is not None and builtin.is_called(model) and builtin.is_wanted and self._has_nobody(call, model):
            return Deferred(self._submit_behind(builtin.ready(), call, sink, space), "a request waits")
        try:
            holders = self._find_holders(call, space)
        except ProxyError as error:
            return self._refuse(call, sink, error)
        if _is_shredded(call):
            return self._send(call, sink, holders)
        remembered = self._remember(call, holders) if self._may_remember(call) else None
        if remembered is None:
            return self._begin(call, sink, holders)
        self.counts.kept += remembered.found
        if not remembered.is_whole:
            remembered.ask(
                lambda rest, into: self._begin(rest, into, holders),
                sink,
                lambda names, told: self.confirm(call.model, holders.digest, names, told),
                lambda: self.submit(call, sink, space),
            )
        elif self.let_in(call, sink):
            self.batch_ended(call, remembered.answer(sink, self.now_s()))
        return remembered

    async def _submit_behind(
        self, what: Coroutine[Any, Any, None], call: Call, sink: AnswerSink, space: VectorSpace | None
    ) -> Ticket:
        await what
        return self.submit(call, sink, space)

    def _may_remember(self, call: Call) -> bool:
        """Whether vectors that are kept may answer a request: as it says, or as configured."""
        wish = call.annotations.cache_enabled
        return self.remembers != "never" and (wish is True or (wish is None and self.remembers == "always"))

    def _remember(self, call: Call, holders: Holders) -> Remembered | None:
        """What is known of a request; None for one that cannot be read, or whose weights nobody can tell."""
        if not holders.digest:
            return None
        try:
            embedding = call.typed()
        except ProxyError:
            return None
        if not isinstance(embedding, Embedding) or not embedding.inputs or not all(embedding.inputs):
            return None
        keys = make_keys(call.caller.name, canonical_model(call.model), holders.digest, embedding)
        return Remembered(call, embedding, keys, self.store)

    def _begin(self, call: Call, sink: AnswerSink, holders: Holders) -> Ticket:
        """Share, gather or send a request that has to be asked."""
        batch = self._cut_up(call, sink, holders) if self.splits and call.prompt_bytes >= 2 * LEAST_UNITS else None
        if batch is None:
            wishes = call.annotations
            hurried = wishes.latency_critical or wishes.max_latency_ms
            if self.gatherer.window_s and not hurried and self._is_busy(call, holders):
                single = _read_single(call)
                if single is not None:
                    return self.gatherer.add(call, single, holders.allowed, sink)
            return self._send(call, sink, holders)
        if self.let_in(call, sink):
            self.counts.spread += batch.size
            batch.start()
        return batch

    def _send(self, call: Call, sink: AnswerSink, holders: Holders) -> Ticket:
        """Ask one of the holders for all of it."""
        call.caller = restrict(call.caller, holders.allowed)
        return self._dispatcher.submit(call, sink)

    def let_in(self, call: Call, sink: AnswerSink) -> bool:
        """Whether the limits of a request's key allow it as a whole; tells its client if not."""
        refusal = self._dispatcher.take_on(call) if call.caller is not ANYBODY else None
        if refusal is not None:
            self._refuse(call, sink, refusal)
        return refusal is None

    def _is_busy(self, call: Call, holders: Holders) -> bool:
        """Whether all who could take it have as much to do as they do at once."""
        model, allowed, own = canonical_model(call.model), holders.allowed, call.caller.backends
        able = [
            view
            for view in self._dispatcher.view().backends
            if view.health.serves
            and (allowed is None or view.spec.id in allowed)
            and (own is None or view.spec.id in own)
            and find_model(view, model) is not None
        ]
        return bool(able) and all(view.in_flight >= view.spec.slots for view in able)

    def gathered(self, texts: int) -> None:
        """So many went as one request."""
        self.counts.gathered += texts

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something in a moment."""
        asyncio.get_running_loop().call_later(seconds, what)

    def _has_nobody(self, call: Call, model: str) -> bool:
        """Whether a request's model is nobody's, and it means no certain backend."""
        fleet = self._dispatcher.view()
        return not call.annotations.target and all(
            one.spec.stand_in_model or find_model(one, model) is None for one in fleet.backends
        )

    def _find_holders(self, call: Call, space: VectorSpace | None) -> Holders:
        """Who may answer. Raises `ProxyError` where only other weights could."""
        model, fleet = canonical_model(call.model), self._dispatcher.view()
        holders = self.spaces.find(model, fleet, space)
        if call.annotations.target and holders.allowed is not None:
            self.spaces.check_target(model, call.annotations.target, fleet, holders)
        return holders

    def _refuse(self, call: Call, sink: AnswerSink, error: ProxyError) -> Ticket:
        job = Job(self._dispatcher, call, sink)
        job.refuse(error)
        return job

    def _cut_up(self, call: Call, sink: AnswerSink, holders: Holders) -> Batch | None:
        """The request as a batch; None where one backend does best alone, or it cannot be read."""
        lanes = self.find_lanes(call, holders.allowed)
        if len(lanes) < 2:
            return None
        try:
            embedding = call.typed()
        except ProxyError:
            # The backend complains about it, in its own words.
            return None
        if not isinstance(embedding, Embedding) or len(embedding.inputs) < 2 or not all(embedding.inputs):
            return None
        weights = [float(weigh(text)) for text in embedding.inputs]
        price_watts = price_of_seconds(call.annotations, self._dispatcher.policy)
        pieces = spread(weights, list(lanes.values()), price_watts, LEAST_UNITS)
        limit_s = call.annotations.max_latency_ms / 1000
        late = limit_s and _SPARE * max(piece.lane.end_s(piece.units) for piece in pieces) > limit_s
        if len(pieces) < 2 or late:
            # Where not even all of them are in time, the request is decided like any other.
            return None
        return Batch(self, call, embedding, weights, frozenset(lanes), price_watts, sink, holders.digest)

    async def find_changed(self, model: str, digest: str, names: Collection[str]) -> frozenset[str]:
        """Those of some backends that do not say, asked now, that they have those weights by that name; nobody where
        no digest is told."""
        if not digest or not names:
            return frozenset()
        answered = dict(zip(names, await asyncio.gather(*map(self._look_anew, names)), strict=True))
        views = {view.spec.id: view for view in self._dispatcher.view().backends}
        facts = {name: find_model(views[name], model) if name in views else None for name in names}
        return frozenset(
            [name for name, one in facts.items() if one is None or one.digest != digest or not answered[name]]
        )

    # -- what a batch asks -------------------------------------------------------

    def open_part(self, call: Call, sink: AnswerSink) -> Ticket:
        """Send a part on its way."""
        return self._dispatcher.submit(call, sink)

    def find_lanes(self, call: Call, names: frozenset[str] | None) -> dict[str, Lane]:
        """Those of some backends (None for all) that can take a piece now, by id, as they stand."""
        dispatcher, allowed = self._dispatcher, call.caller.backends
        if names is not None:
            allowed = names if allowed is None else names & allowed
        model = canonical_model(call.model)
        request = RoutingRequest(
            model,
            call.model,
            call.needs,
            # Who would be late with all of it may be in time with a part.
            without_limit(call.annotations),
            dispatcher.prompts.expect(model, call.prompt_bytes),
            embed=True,
            allowed=allowed,
        )
        verdict = decide(request, dispatcher.view(), dispatcher.policy)
        if isinstance(verdict, Refusal) or verdict.stand_in:
            return {}
        lanes = [self._make_lane(one, wait_s, model) for _, one, wait_s, *_ in verdict.scored]
        return {lane.backend: lane for lane in lanes}

    def _make_lane(self, one: Prospect, wait_s: float, model: str) -> Lane:
        """What a backend promises: by what was seen of its vectors, else by what is known of its reading of prompts."""
        speed = self.speeds.find(one.backend, model)
        token_s = one.s_per_prompt_token
        watts = one.prompt_token_j / token_s
        if speed is None:
            unit_s = token_s / _BYTES_PER_TOKEN
            return Lane(one.backend, wait_s + one.load_s, one.overhead_s, unit_s, one.fixed_j, watts * unit_s)
        unit_s = speed.s_per_unit
        return Lane(one.backend, wait_s + one.load_s, speed.fixed_s, unit_s, speed.fixed_s * watts, watts * unit_s)

    def is_known(self, backend: str, model: str) -> bool:
        """Whether it was seen how fast a backend makes vectors."""
        return self.speeds.find(backend, canonical_model(model)) is not None

    def is_idle(self, backend: str) -> bool:
        """Whether nothing runs there now."""
        return not self._dispatcher.fleet_state.look(backend).in_flight

    def learn(self, backend: str, model: str, units: float, seconds: float) -> None:
        """A piece took so long that had the backend for itself."""
        self.speeds.learn(backend, canonical_model(model), units, seconds)

    def now_s(self) -> float:
        """Monotonic seconds."""
        return self._dispatcher.clock()

    def confirm(self, model: str, digest: str, names: Collection[str], told: Callable[[frozenset[str]], None]) -> None:
        """Tell, in a while, who of some backends has not those weights any more."""

        async def look() -> None:
            told(await self.find_changed(canonical_model(model), digest, names))

        spawn(look(), "ask whose vectors they are")

    def batch_ended(self, call: Call, outcome: Outcome | None) -> None:
        """Give back what the whole had taken of its key's limits; its tokens are what its parts were told."""
        quota = call.caller.quota
        if quota is None or not call.counted:
            return
        call.counted = False
        if outcome is not None:
            quota.settle(call.prompt_bytes, outcome.finished.usage.prompt_tokens, 0, self.now_s())
        quota.leave()


def _read_single(call: Call) -> Embedding | None:
    """The request, if it is for the vector of one text and can be read."""
    try:
        embedding = call.typed()
    except ProxyError:
        return None
    one = isinstance(embedding, Embedding) and len(embedding.inputs) == 1 and bool(embedding.inputs[0])
    return embedding if one and isinstance(embedding, Embedding) else None


def _is_shredded(call: Call) -> bool:
    """Whether a body holds so many texts that it goes on as it came, unread; looked for in its bytes."""
    body = call.raw.body if call.raw is not None else b""
    return len(body) > _MOST_QUOTES and body.count(b'"') > _MOST_QUOTES
