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
from ollama_proxy.net.http_request import read_request_id
from ollama_proxy.net.task import spawn

_JSON = b"application/json"
_MODEL_PREFIX = b"/v1/models/"


class OpenAiApi:
    """Routes of OpenAI's API over the service."""

    root = b"/v1/"

    def __init__(self, service: Service) -> None:
        self._service = service
        self.routes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {
            b"/v1/models": {b"GET": self._models},
            b"/v1/chat/completions": {b"POST": lambda exchange: self._complete(exchange, Operation.CHAT)},
            b"/v1/completions": {b"POST": lambda exchange: self._complete(exchange, Operation.COMPLETE)},
            b"/v1/embeddings": {b"POST": self._embed},
        }
        self.prefixes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {_MODEL_PREFIX: {b"GET": self._model}}

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in this dialect."""
        status, content_type, body = write_error(error)
        exchange.respond(status, content_type, body)

    def refuse_path(self, exchange: Exchange) -> None:
        """Answer a path that nothing is at."""
        path = exchange.path.decode("latin-1")[:200]
        self.refuse(exchange, ProxyError(ErrorKind.NOT_FOUND, f"no such route: {path}"))

    def _models(self, exchange: Exchange) -> None:
        spawn(self._list(exchange, ""), "openai models")

    def _model(self, exchange: Exchange) -> None:
        spawn(
            self._list(exchange, exchange.path.removeprefix(_MODEL_PREFIX).decode("utf-8", "replace")), "openai model"
        )

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

    def _complete(self, exchange: Exchange, operation: Operation) -> None:
        def read(request_id: str) -> tuple[Call, OpenAiWriter]:
            call, with_usage = read_completion(exchange, operation, request_id, self._service.now_s())
            return call, OpenAiWriter(call.model, operation, request_id, stream=call.stream, with_usage=with_usage)

        self._submit(exchange, read)

    def _embed(self, exchange: Exchange) -> None:
        def read(request_id: str) -> tuple[Call, OpenAiWriter]:
            call, base64 = read_embedding(exchange, request_id, self._service.now_s())
            return call, OpenAiWriter(call.model, Operation.EMBED, request_id, stream=False, base64=base64)

        self._submit(exchange, read)

    def _submit(self, exchange: Exchange, read: Callable[[str], tuple[Call, OpenAiWriter]]) -> None:
        request_id = exchange.request_id or read_request_id(exchange) or self._service.make_request_id()
        try:
            call, writer = read(request_id)
            if not call.model.strip():
                raise ProxyError(ErrorKind.INVALID_REQUEST, "model is required")
        except ProxyError as error:
            empty = OpenAiWriter("", Operation.CHAT, request_id, stream=False)
            HttpAnswer(exchange, request_id, empty).fail(error)
            return
        answer = HttpAnswer(exchange, request_id, writer)
        answer.attach(self._service.submit(call, answer))


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
