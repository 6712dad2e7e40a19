"""The port `Embedder` over the desk: what rooms inside the proxy ask for is an ordinary request, with key and bill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from ollama_proxy.app.embeds.desk import EmbedDesk
from ollama_proxy.app.embeds.part import Part, PartSink
from ollama_proxy.domain.call import Call, Dialect, Embedding, Need, Operation
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.vectors import EmbedWish, Vectors, VectorSpace
from ollama_proxy.routing.limits import find_model

_EMBED = frozenset((Need.EMBED,))
#: Of the sizes of a vector's numbers. What is not a number is in no order.
_MOST_SUM = 3e38
_A_WORD = ("space",)


class DeskEmbedder:
    """Turns texts into vectors."""

    def __init__(
        self,
        desk: EmbedDesk,
        fleet: Callable[[], FleetView],
        make_request_id: Callable[[], str],
        default_model: Callable[[], str],
    ) -> None:
        """`default_model` is what is asked for where nobody says; "" where there is none."""
        self._desk = desk
        self._fleet = fleet
        self._make_request_id = make_request_id
        self._default_model = default_model

    async def embed(self, texts: Sequence[str], model: str, wish: EmbedWish) -> Vectors:
        if not texts:
            return Vectors((), await self.space_of(model, wish), 0.0, "unknown", 0, ())
        if not all(texts):
            place = next(place for place, text in enumerate(texts) if not text)
            raise ProxyError(
                ErrorKind.INVALID_REQUEST, f"text {place} of {len(texts)} is empty; there is no vector of it"
            )
        model = model or self._default_model()
        if not model:
            told = "no model to embed with is named, and there is no default; set embeddings.default_model"
            raise ProxyError(ErrorKind.INVALID_REQUEST, told)
        before = self._fleet()
        part = await self._ask(self._make_call(tuple(texts), model, wish), wish.space)
        if wish.keeps:
            await self._confirm(part, before)
        return self._describe(part, wish.space)

    async def space_of(self, model: str, wish: EmbedWish) -> VectorSpace:
        if wish.space is not None:
            return wish.space
        return (await self.embed(_A_WORD, model, wish)).space

    def _make_call(self, texts: tuple[str, ...], model: str, wish: EmbedWish) -> Call:
        embedding = Embedding(texts, wish.dimensions)
        return Call(
            self._make_request_id(),
            Dialect.COMPUTE,
            Operation.EMBED,
            model,
            False,
            self._desk.now_s(),
            lambda: embedding,
            wish.annotations,
            _EMBED,
            sum(len(text.encode("utf-8", "replace")) for text in texts),
            way_in=wish.way_in,
            caller=wish.caller,
        )

    async def _ask(self, call: Call, space: VectorSpace | None) -> Part:
        answer: asyncio.Future[Part] = asyncio.get_running_loop().create_future()

        def done(part: Part) -> None:
            if not answer.done():
                answer.set_result(part)

        def failed(error: ProxyError) -> None:
            if not answer.done():
                answer.set_exception(error)

        embedding = call.typed()
        assert isinstance(embedding, Embedding)
        ticket = self._desk.submit(call, PartSink(len(embedding.inputs), done, failed), space)
        try:
            return await answer
        finally:
            if not answer.done() or answer.cancelled():
                ticket.cancel()

    async def _confirm(self, part: Part, before: FleetView) -> None:
        """Raises `ProxyError` where a server has not the weights any more that it had when it was asked."""
        model, backend = canonical_model(part.route.model), part.route.backend
        digest = self._find_digest(backend, model, before)
        # What came from several, or was kept, has been looked after.
        names = [one.spec.id for one in before.backends if one.spec.id == backend]
        if await self._desk.find_changed(model, digest, names):
            told = f"{backend} was given other weights by the name {model!r} while it made vectors, or cannot be asked "
            told += "for its models any more: nobody knows whose vectors they are, and they are not kept"
            raise ProxyError(ErrorKind.BACKEND_FAILED, told, backend=backend)

    def _describe(self, part: Part, wanted: VectorSpace | None) -> Vectors:
        """What came, with its space. Raises `ProxyError` where that is not the one wished for after all."""
        route, outcome = part.route, part.outcome
        backends = tuple(route.backend.split(","))
        model = canonical_model(route.model)
        if not all(map(is_sound, part.vectors)) or len(set(map(len, part.vectors))) > 1:
            told = f"{backends[0]} gave vectors of {model} that are empty, zero, not finite or of different lengths"
            raise ProxyError(ErrorKind.BACKEND_FAILED, told, backend=backends[0])
        space = VectorSpace(model, self._find_digest(backends[0], model, self._fleet()), len(part.vectors[0]))
        if wanted is not None and wanted.dimensions != space.dimensions:
            told = f"{backends[0]} gave vectors of {space.dimensions} dimensions, and those of {model} that are kept "
            told += f"have {wanted.dimensions}: they cannot be compared"
            raise ProxyError(ErrorKind.BACKEND_FAILED, told, backend=backends[0])
        tokens = outcome.finished.usage.prompt_tokens
        return Vectors(part.vectors, space, outcome.joules, outcome.energy_kind, tokens, backends)

    def _find_digest(self, backend: str, model: str, fleet: FleetView) -> str:
        view = next((one for one in fleet.backends if one.spec.id == backend), None)
        if view is None:
            # They were kept, and of the weights that answer for the name.
            return self._desk.spaces.find(model, fleet).digest
        facts = find_model(view, model)
        return facts.digest if facts is not None else ""


def is_sound(vector: Sequence[float]) -> bool:
    """Whether there is something to compare: numbers that are not all zero, and that 32 bits can hold."""
    return 0 < sum(map(abs, vector)) < _MOST_SUM
