"""OpenAI's API: the routes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ollama_proxy.api.openai.requests import read_completion, read_embedding
from ollama_proxy.api.openai.writer import OpenAiWriter, write_error
from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.domain.device import FleetView
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_answer import HttpAnswer
from ollama_proxy.net.later import answer_later

_CHAT, _COMPLETE = Operation.CHAT, Operation.COMPLETE
_JSON = b"application/json"
_MODEL_PREFIX = b"/v1/models/"


class OpenAiApi:
    """Routes of OpenAI's API over the service."""

    root = b"/v1/"

    def __init__(self, service: Service) -> None:
        self._service = service
        self.routes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {
            b"/v1/models": {b"GET": self._models},
            b"/v1/chat/completions": {b"POST": self._chat},
            b"/v1/completions": {b"POST": self._plain},
            b"/v1/embeddings": {b"POST": self._embed},
        }
        self.prefixes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {_MODEL_PREFIX: {b"GET": self._model}}

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in this dialect."""
        status, content_type, body = write_error(error)
        exchange.respond(status, content_type, body)

    def _models(self, exchange: Exchange) -> None:
        answer_later(exchange, self._list(exchange, ""), "openai models", self.refuse)

    def _model(self, exchange: Exchange) -> None:
        wanted = exchange.path.removeprefix(_MODEL_PREFIX).decode("utf-8", "replace")
        answer_later(exchange, self._list(exchange, wanted), "openai model", self.refuse)

    async def _list(self, exchange: Exchange, wanted: str) -> None:
        view = await self._service.refresh()
        if exchange.gone:
            return
        entries = _list_entries(view)
        if not wanted:
            exchange.respond(
                200, _JSON, msgspec.json.encode({"object": "list", "data": list(entries.values())}) + b"\n"
            )
            return
        entry = entries.get(canonical_model(wanted))
        if entry is None:
            self.refuse(exchange, ProxyError(ErrorKind.MODEL_NOT_FOUND, f"model '{wanted[:200]}' not found"))
        else:
            exchange.respond(200, _JSON, msgspec.json.encode(entry) + b"\n")

    def _chat(self, exchange: Exchange) -> None:
        self._complete(exchange, _CHAT)

    def _plain(self, exchange: Exchange) -> None:
        self._complete(exchange, _COMPLETE)

    def _complete(self, exchange: Exchange, operation: Operation) -> None:
        request_id = exchange.request_id
        try:
            call, with_usage = read_completion(exchange, operation, request_id, self._service.now_s())
        except ProxyError as error:
            _fail(exchange, error)
            return
        self._submit(
            exchange,
            call,
            lambda: OpenAiWriter(call.model, operation, request_id, stream=call.stream, with_usage=with_usage),
        )

    def _embed(self, exchange: Exchange) -> None:
        request_id = exchange.request_id
        try:
            call, base64 = read_embedding(exchange, request_id, self._service.now_s())
        except ProxyError as error:
            _fail(exchange, error)
            return
        self._submit(
            exchange, call, lambda: OpenAiWriter(call.model, Operation.EMBED, request_id, stream=False, base64=base64)
        )

    def _submit(self, exchange: Exchange, call: Call, make_writer: Callable[[], OpenAiWriter]) -> None:
        if (not call.model or call.model.isspace()) and not self._service.name_default(call):
            _fail(exchange, ProxyError(ErrorKind.INVALID_REQUEST, "model is required"))
            return
        answer = HttpAnswer(exchange, make_writer)
        answer.attach(self._service.submit(call, answer))


def _fail(exchange: Exchange, error: ProxyError) -> None:
    """Answer a request that nobody is asked."""
    HttpAnswer(exchange, lambda: OpenAiWriter("", Operation.CHAT, exchange.request_id, stream=False)).fail(error)


def _list_entries(view: FleetView) -> dict[str, dict[str, object]]:
    """One entry a model name over all serving backends."""
    found: dict[str, dict[str, object]] = {}
    for backend in view.backends:
        if not backend.health.serves:
            continue
        for name, facts in (backend.models or {}).items():
            entry = {"id": facts.name, "object": "model", "created": 0, "owned_by": backend.id}
            found.setdefault(name, entry)
    return found
