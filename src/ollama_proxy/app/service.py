"""What the APIs ask for: `domain.ports.Service`. Here a call goes to the room that is for it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from ollama_proxy.app.caching.answer_cache import AnswerCache
from ollama_proxy.app.embeds.room import EmbedRoom
from ollama_proxy.app.placement import Placement
from ollama_proxy.app.requests.dispatch import Dispatcher
from ollama_proxy.app.retrieval.augment import retrieve_first
from ollama_proxy.app.upstreams.roster import Roster
from ollama_proxy.config.schema import Config
from ollama_proxy.domain.call import Call, Operation, RawHead, RawRequest
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.ports import AnswerSink, BodyRelay, ModelStore, Relay, RelaySink, Ticket, UploadSink
from ollama_proxy.domain.vectors import Retriever

_EMBED = Operation.EMBED


class ModelService:
    """The fleet as one server of models."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        roster: Roster,
        embeds: EmbedRoom,
        cache: AnswerCache | None,
        find_retriever: Callable[[], Retriever | None],
        config: Config,
    ) -> None:
        """`cache` is None where no answers are kept."""
        self._dispatcher = dispatcher
        self._roster = roster
        self._embeds = embeds
        self._cache = cache
        self._find_retriever = find_retriever
        self.adopt(config)

    def adopt(self, config: Config) -> None:
        """Serve by another configuration."""
        self._default_model = config.models.default
        self._placement = Placement(config.models.placement, config.routing.default_backend)

    def submit(self, call: Call, sink: AnswerSink) -> Ticket:
        if call.operation is _EMBED:
            return self._embeds.desk.submit(call, sink)
        if call.annotations.retrieve:
            return retrieve_first(call, sink, self._find_retriever(), self.submit)
        cache = self._cache
        if cache is not None and (call.annotations.cache_enabled or cache.has_defaults) and cache.is_asked(call):
            return cache.submit(call, sink)
        return self._dispatcher.submit(call, sink)

    def name_default(self, call: Call) -> bool:
        if self._default_model:
            call.model, call.named = self._default_model, False
        return bool(self._default_model)

    def relay(self, backend: str, request: RawRequest, sink: RelaySink) -> Relay:
        return self._roster.backends[backend].relay(request, sink)

    def upload(self, backend: str, head: RawHead, length: int | None, sink: UploadSink) -> BodyRelay:
        store = self._roster.backends[backend]
        if not isinstance(store, ModelStore):
            raise KeyError(backend)
        return store.upload(head, length, sink)

    def place(self, target: str) -> tuple[str, ...]:
        return self._placement.choose(self.fleet(), target)

    def fleet(self) -> FleetView:
        return self._roster.fleet.view()

    async def refresh(self, changed: Collection[str] = ()) -> FleetView:
        await self._roster.prober.refresh(changed)
        return self.fleet()

    def now_s(self) -> float:
        return self._dispatcher.clock()

    def make_request_id(self) -> str:
        return self._dispatcher.make_request_id()
