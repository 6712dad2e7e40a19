"""Ollama's API: the routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ollama_proxy.api.ollama.answer import NativeAnswer, OnMissing
from ollama_proxy.api.ollama.catalogue import list_loaded, list_models, lowest_version, show_model
from ollama_proxy.api.ollama.management import Management
from ollama_proxy.api.ollama.refusals import (
    CHATS,
    EMBEDS,
    EMBEDS_ONE,
    GENERATES,
    SHOWS,
    RouteWords,
    look_closer,
    missing,
)
from ollama_proxy.api.ollama.relaying import PassedAnswer
from ollama_proxy.api.ollama.requests import (
    asks_for_nothing,
    is_unload,
    read_chat,
    read_embed,
    read_embeddings,
    read_generate,
    read_show,
)
from ollama_proxy.api.ollama.residence import answer_here, is_held_by, ollama_ids, unload
from ollama_proxy.api.ollama.writer import JSON, OllamaWriter
from ollama_proxy.domain.call import Call, Need, Operation
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_answer import HttpAnswer
from ollama_proxy.net.http_route import Route
from ollama_proxy.net.later import answer_later

#: What only an Ollama can do.
_NATIVE = frozenset((Need.SHOW,))


class OllamaApi:
    """Routes of Ollama's API over the service."""

    root = b"/api/"

    def __init__(self, service: Service) -> None:
        self._service = service
        management = Management(service, self.refuse)
        self.prefixes: dict[bytes, Mapping[bytes, Callable[[Exchange], None]]] = {**management.prefixes}
        self.routes: dict[bytes, Mapping[bytes, Callable[[Exchange], None]]] = {
            **management.routes,
            # Clients look here whether anybody is there.
            b"/": {b"GET": Route(self._root, "open"), b"HEAD": Route(self._root, "open")},
            b"/api/version": {b"GET": Route(self._version, "key"), b"HEAD": Route(self._version, "key")},
            b"/api/tags": {b"GET": Route(self._tags, "key"), b"HEAD": Route(self._tags, "key")},
            b"/api/ps": {b"GET": Route(self._ps, "key")},
            b"/api/show": {b"POST": Route(self._show, "key")},
            b"/api/generate": {b"POST": self._generate},
            b"/api/chat": {b"POST": self._chat},
            b"/api/embed": {b"POST": self._embed},
            b"/api/embeddings": {b"POST": self._embeddings},
        }

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in this dialect."""
        HttpAnswer(exchange, lambda: OllamaWriter("", Operation.CHAT, stream=False)).fail(error)

    def _root(self, exchange: Exchange) -> None:
        exchange.respond(200, b"text/plain; charset=utf-8", b"Ollama is running")

    def _version(self, exchange: Exchange) -> None:
        exchange.respond(200, JSON, b'{"version":"%b"}' % lowest_version(self._service.fleet()).encode("ascii"))

    def _tags(self, exchange: Exchange) -> None:
        answer_later(exchange, self._list(exchange, list_models), "ollama tags", self.refuse)

    def _ps(self, exchange: Exchange) -> None:
        answer_later(exchange, self._list(exchange, list_loaded, anew=True), "ollama ps", self.refuse)

    async def _list(self, exchange: Exchange, render: Callable[[FleetView], bytes], *, anew: bool = False) -> None:
        """`anew` for what changes with every request, so that everybody is asked, however lately they were."""
        view = await self._service.refresh(ollama_ids(self._service.fleet()) if anew else ())
        if not exchange.gone:
            exchange.respond(200, JSON, render(exchange.caller.see(view)))

    def _show(self, exchange: Exchange) -> None:
        call = self._read(exchange, read_show, SHOWS)
        if call is None:
            return
        local = show_model(exchange.caller.see(self._service.fleet()), call.model)
        if local is not None:
            exchange.respond(200, JSON, local)
        else:
            self._submit(exchange, call, self._miss_show)

    def _generate(self, exchange: Exchange) -> None:
        call = self._read(exchange, read_generate, GENERATES)
        if call is not None:
            self._submit_generation(exchange, call, self._miss_generate)

    def _chat(self, exchange: Exchange) -> None:
        call = self._read(exchange, read_chat, CHATS)
        if call is not None:
            self._submit_generation(exchange, call, self._miss_chat)

    def _embed(self, exchange: Exchange) -> None:
        call = self._read(exchange, read_embed, EMBEDS)
        if call is not None:
            self._submit(exchange, call, self._miss_embed)

    def _embeddings(self, exchange: Exchange) -> None:
        call = self._read(exchange, read_embeddings, EMBEDS_ONE)
        if call is not None:
            self._submit(exchange, call, self._miss_embeddings, legacy=True)

    def _read(self, exchange: Exchange, read: Callable[[Exchange, str, float], Call], words: RouteWords) -> Call | None:
        """The call; None when its request was refused."""
        try:
            call = read(exchange, exchange.request_id, self._service.now_s())
        except ProxyError as error:
            self.refuse(exchange, error)
            return None
        if (not call.model or call.model.isspace()) and not self._service.name_default(call):
            self._miss(exchange, call, words)
            return None
        return call

    def _submit(self, exchange: Exchange, call: Call, on_missing: OnMissing | None, *, legacy: bool = False) -> None:
        call.caller = exchange.caller
        answer = NativeAnswer(exchange, call, on_missing, legacy=legacy)
        answer.attach(self._service.submit(call, answer))

    def _see(self, exchange: Exchange) -> FleetView:
        """The fleet as far as it is there for whoever asks."""
        return exchange.caller.see(self._service.fleet())

    # -- nothing to do: load and unload -----------------------------------------

    def _submit_generation(self, exchange: Exchange, call: Call, on_missing: OnMissing | None) -> None:
        if not asks_for_nothing(call):
            self._submit(exchange, call, on_missing)
        elif is_unload(call) and not call.annotations.target and len(ollama_ids(self._see(exchange))) > 1:
            answer_later(exchange, self._unload(exchange, call, on_missing), "ollama unload", self.refuse)
        else:
            self._reside(exchange, call, on_missing)

    async def _unload(self, exchange: Exchange, call: Call, on_missing: OnMissing | None) -> None:
        if not await unload(self._service, exchange, call):
            self._reside(exchange, call, on_missing)

    def _reside(self, exchange: Exchange, call: Call, on_missing: OnMissing | None) -> None:
        """Let one backend load the model, or unload it: an Ollama, where one has it."""
        view = self._see(exchange)
        if is_held_by(view, call.model, ollama=False):
            if not is_held_by(view, call.model, ollama=True):
                answer_here(exchange, call, "unload" if is_unload(call) else "load")
                return
            call.needs |= _NATIVE
        self._submit(exchange, call, on_missing)

    # -- models that are not there ------------------------------------------------

    def _miss_generate(self, exchange: Exchange, call: Call) -> None:
        self._miss(exchange, call, GENERATES)

    def _miss_chat(self, exchange: Exchange, call: Call) -> None:
        self._miss(exchange, call, CHATS)

    def _miss_embed(self, exchange: Exchange, call: Call) -> None:
        self._miss(exchange, call, EMBEDS)

    def _miss_embeddings(self, exchange: Exchange, call: Call) -> None:
        self._miss(exchange, call, EMBEDS_ONE)

    def _miss_show(self, exchange: Exchange, call: Call) -> None:
        self._miss(exchange, call, SHOWS)

    def _miss(self, exchange: Exchange, call: Call, words: RouteWords) -> None:
        """Nobody has the model as it was written: try what else the name may mean, or say so as Ollama does."""
        assert call.raw is not None
        try:
            name, ref = look_closer(words, exchange.body, call.model)
        except ProxyError as error:
            self.refuse(exchange, error)
            return
        view = self._see(exchange)
        clouds = ollama_ids(view) if ref.source == "cloud" else ()
        if clouds:
            PassedAnswer(exchange, self._service, clouds[0], self.refuse, changes=False).send(call.raw)
        elif canonical_model(ref.shortest) == canonical_model(call.model) or ref.source == "cloud":
            self.refuse(exchange, missing(words, name, ref))
        else:
            # Not looked for again under yet another name.
            call.model = ref.shortest
            last = NotThere(self.refuse, missing(words, name, ref))
            if call.operation in (Operation.GENERATE, Operation.CHAT):
                self._submit_generation(exchange, call, last)
            else:
                self._submit(exchange, call, last, legacy=words is EMBEDS_ONE)


class NotThere:
    """Says that a model is not there, and looks no further."""

    def __init__(self, refuse: Callable[[Exchange, ProxyError], None], error: ProxyError) -> None:
        self._refuse = refuse
        self._error = error

    def __call__(self, exchange: Exchange, call: Call) -> None:
        """Answer the request."""
        self._refuse(exchange, self._error)
