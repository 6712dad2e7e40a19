"""OpenAI's API: the routes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ollama_proxy.api.openai.catalogue import find_model, list_models
from ollama_proxy.api.openai.errors import handler_error, middleware_error, missing_model, write_error
from ollama_proxy.api.openai.passing import ROUTES as PASSED
from ollama_proxy.api.openai.passing import read_passed
from ollama_proxy.api.openai.requests import read_completion, read_embedding
from ollama_proxy.api.openai.writer import OpenAiWriter
from ollama_proxy.domain.call import Call, Operation
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_answer import HttpAnswer
from ollama_proxy.net.http_route import Route
from ollama_proxy.net.later import answer_later

_CHAT, _COMPLETE, _PASS = Operation.CHAT, Operation.COMPLETE, Operation.PASS
_JSON = b"application/json"
_MODEL_PREFIX = b"/v1/models/"


class OpenAiApi:
    """Routes of OpenAI's API over the service."""

    root = b"/v1/"

    def __init__(self, service: Service) -> None:
        self._service = service
        self.routes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {
            b"/v1/models": {b"GET": Route(self._models, "key")},
            b"/v1/chat/completions": {b"POST": self._chat},
            b"/v1/completions": {b"POST": self._plain},
            b"/v1/embeddings": {b"POST": self._embed},
            **{path: {b"POST": self._pass} for path in PASSED},
        }
        self.prefixes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {
            _MODEL_PREFIX: {b"GET": Route(self._model, "key")}
        }

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in this dialect."""
        status, content_type, body = write_error(error)
        exchange.respond(status, content_type, body)

    def _models(self, exchange: Exchange) -> None:
        answer_later(exchange, self._list(exchange), "openai models", self.refuse)

    async def _list(self, exchange: Exchange) -> None:
        view = await self._service.refresh()
        if not exchange.gone:
            # Ollama writes null where there are none, and clients of OpenAI's take that.
            document = {"object": "list", "data": list_models(exchange.caller.see(view)) or None}
            exchange.respond(200, _JSON, msgspec.json.encode(document) + b"\n")

    def _model(self, exchange: Exchange) -> None:
        answer_later(exchange, self._show(exchange), "openai model", self.refuse)

    async def _show(self, exchange: Exchange) -> None:
        wanted = exchange.path.removeprefix(_MODEL_PREFIX).decode("utf-8", "replace")
        view = await self._service.refresh()
        if exchange.gone:
            return
        entry = find_model(exchange.caller.see(view), wanted)
        if entry is not None:
            exchange.respond(200, _JSON, msgspec.json.encode(entry) + b"\n")
        elif wanted.isspace():
            self.refuse(exchange, handler_error("model is required"))
        else:
            self.refuse(exchange, missing_model(wanted))

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

    def _pass(self, exchange: Exchange) -> None:
        request_id = exchange.request_id
        try:
            call = read_passed(exchange, request_id, self._service.now_s())
        except ProxyError as error:
            _fail(exchange, error)
            return
        self._submit(exchange, call, lambda: OpenAiWriter(call.model, _PASS, request_id, stream=False))

    def _submit(self, exchange: Exchange, call: Call, make_writer: Callable[[], OpenAiWriter]) -> None:
        if (not call.model or call.model.isspace()) and not self._service.name_default(call):
            _fail(exchange, _refuse_nameless(call))
            return
        call.caller = exchange.caller
        answer = HttpAnswer(exchange, make_writer)
        answer.attach(self._service.submit(call, answer))


def _refuse_nameless(call: Call) -> ProxyError:
    """The refusal of a request that names no model, which Ollama gives in as many ways as it has routes."""
    if call.operation is _CHAT:
        return handler_error("model is required")
    if call.operation is _PASS:
        return middleware_error("model is required")
    return missing_model(call.model)


def _fail(exchange: Exchange, error: ProxyError) -> None:
    """Answer a request that nobody is asked."""
    HttpAnswer(exchange, lambda: OpenAiWriter("", _CHAT, exchange.request_id, stream=False)).fail(error)
