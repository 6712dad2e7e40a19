"""Ollama's API: the routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ollama_proxy.api.ollama.catalogue import list_loaded, list_models, lowest_version, show_model
from ollama_proxy.api.ollama.management import Management
from ollama_proxy.api.ollama.requests import read_embed, read_embeddings, read_generation, read_show
from ollama_proxy.api.ollama.writer import OllamaWriter
from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_answer import HttpAnswer
from ollama_proxy.net.later import answer_later

JSON = b"application/json; charset=utf-8"


class OllamaApi:
    """Routes of Ollama's API over the service."""

    root = b"/api/"

    def __init__(self, service: Service) -> None:
        self._service = service
        management = Management(service, self.refuse)
        self.prefixes: dict[bytes, Mapping[bytes, Callable[[Exchange], None]]] = {**management.prefixes}
        self.routes: dict[bytes, Mapping[bytes, Callable[[Exchange], None]]] = {
            **management.routes,
            b"/": {b"GET": self._root, b"HEAD": self._root},
            b"/api/version": {b"GET": self._version, b"HEAD": self._version},
            b"/api/tags": {b"GET": self._tags, b"HEAD": self._tags},
            b"/api/ps": {b"GET": self._ps},
            b"/api/show": {b"POST": self._show},
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
        answer_later(exchange, self._list(exchange, list_loaded), "ollama ps", self.refuse)

    async def _list(self, exchange: Exchange, render: Callable[..., bytes]) -> None:
        view = await self._service.refresh()
        if not exchange.gone:
            exchange.respond(200, JSON, render(view))

    def _show(self, exchange: Exchange) -> None:
        local = self._show_here(exchange)
        if local is not None:
            exchange.respond(200, JSON, local)
        else:
            self._submit(exchange, lambda: read_show(exchange, exchange.request_id, self._service.now_s()))

    def _show_here(self, exchange: Exchange) -> bytes | None:
        """Details of a model that only servers without this route hold."""
        try:
            call = read_show(exchange, "", 0.0)
        except ProxyError:
            return None
        return show_model(self._service.fleet(), call.model)

    def _generate(self, exchange: Exchange) -> None:
        self._submit(
            exchange,
            lambda: read_generation(exchange, Operation.GENERATE, exchange.request_id, self._service.now_s()),
        )

    def _chat(self, exchange: Exchange) -> None:
        self._submit(
            exchange, lambda: read_generation(exchange, Operation.CHAT, exchange.request_id, self._service.now_s())
        )

    def _embed(self, exchange: Exchange) -> None:
        self._submit(exchange, lambda: read_embed(exchange, exchange.request_id, self._service.now_s()))

    def _embeddings(self, exchange: Exchange) -> None:
        self._submit(
            exchange, lambda: read_embeddings(exchange, exchange.request_id, self._service.now_s()), legacy=True
        )

    def _submit(self, exchange: Exchange, read: Callable[[], Call], *, legacy: bool = False) -> None:
        try:
            call = read()
            if (not call.model or call.model.isspace()) and not self._service.name_default(call):
                raise ProxyError(ErrorKind.MODEL_NOT_FOUND, "model '' not found")
        except ProxyError as error:
            self.refuse(exchange, error)
            return
        answer = HttpAnswer(
            exchange, lambda: OllamaWriter(call.model, call.operation, stream=call.stream, legacy=legacy)
        )
        answer.attach(self._service.submit(call, answer))
