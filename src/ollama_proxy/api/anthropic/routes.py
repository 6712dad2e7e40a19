"""Anthropic's API: the routes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ollama_proxy.api.anthropic.counting import CountAnswer, answer_estimate, estimate_tokens
from ollama_proxy.api.anthropic.errors import BadRequest, missing_model, name_request, write_error
from ollama_proxy.api.anthropic.listing import find_model, list_models, write_page
from ollama_proxy.api.anthropic.requests import Asked, has_messages, make_call, make_count_call, read_asked
from ollama_proxy.api.anthropic.typed import read_typed
from ollama_proxy.api.anthropic.writer import AnthropicWriter
from ollama_proxy.domain.call import Call, Need
from ollama_proxy.domain.caller import Caller
from ollama_proxy.domain.device import BackendView
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_answer import HttpAnswer
from ollama_proxy.net.later import answer_later

_JSON = b"application/json"
_MODEL_PREFIX = b"/v1/models/"
#: Ollama says so on streams, and on the errors of those who asked for one.
_NO_CACHE = b"Cache-Control: no-cache\r\n"
_BYTES_PER_TOKEN = 4


class AnthropicApi:
    """Routes of Anthropic's API over the service. Its list of models has the path that OpenAI's has, too: the header
    that every client of Anthropic's sends tells whose is meant.
    """

    root = b"/v1/messages"
    mark = b"anthropic-version"

    def __init__(self, service: Service) -> None:
        self._service = service
        self.routes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {
            b"/v1/messages": {b"POST": self._create},
            b"/v1/messages/count_tokens": {b"POST": self._count},
        }
        self.prefixes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {}
        self.marked: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {
            b"/v1/models": {b"GET": self._models},
            _MODEL_PREFIX: {b"GET": self._model},
        }

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in this dialect."""
        exchange.respond(*write_error(error, name_request(exchange)))

    # -- messages -----------------------------------------------------------------

    def _create(self, exchange: Exchange) -> None:
        shown_id = name_request(exchange)
        try:
            asked = read_asked(exchange)
            call = make_call(asked, exchange, exchange.request_id, self._service.now_s())
            self._check_model(call)
            limit = asked.facts.max_tokens
            if type(limit) is not int or limit <= 0:
                raise BadRequest("max_tokens is required and must be positive")
            if not has_messages(asked):
                raise BadRequest("messages is required")
            if asked.stream:
                exchange.fixed_lines += _NO_CACHE
            self._check_blank(call)
        except ProxyError as error:
            exchange.respond(*write_error(error, shown_id))
            return

        def make_writer() -> AnthropicWriter:
            estimate = call.prompt_bytes // _BYTES_PER_TOKEN
            return AnthropicWriter(call.model, shown_id, stream=call.stream, prompt_tokens=estimate)

        call.caller = exchange.caller
        answer = HttpAnswer(exchange, make_writer)
        answer.attach(self._service.submit(call, answer))

    def _check_model(self, call: Call) -> None:
        if not call.model and not self._service.name_default(call):
            raise BadRequest("model is required")

    def _check_blank(self, call: Call) -> None:
        """Ollama finds out later that a name is only blanks."""
        if call.model.isspace() and not self._service.name_default(call):
            raise ProxyError(ErrorKind.INVALID_REQUEST, "model is required")

    # -- counting -----------------------------------------------------------------

    def _count(self, exchange: Exchange) -> None:
        shown_id = name_request(exchange)
        try:
            asked = read_asked(exchange)
            call = make_count_call(asked, exchange, exchange.request_id, self._service.now_s())
            self._check_model(call)
            self._check_blank(call)
            if not has_messages(asked):
                raise BadRequest("messages is required")
            counted = self._is_counted(call.model, exchange.caller)
            if not counted:
                answer_estimate(exchange, _estimate(asked))
                return
        except ProxyError as error:
            exchange.respond(*write_error(error, shown_id))
            return
        call.caller = exchange.caller
        answer = CountAnswer(
            exchange, lambda: AnthropicWriter(call.model, shown_id, stream=False), lambda: _estimate(asked)
        )
        answer.attach(self._service.submit(call, answer))

    def _is_counted(self, model: str, caller: Caller) -> bool:
        """Whether a backend that serves the model counts tokens itself. Raises `ProxyError` where nobody serves it."""
        fleet = caller.see(self._service.fleet())
        holders = [view for view in fleet.backends if _serves(view, canonical_model(model))]
        if not holders:
            raise missing_model(model)
        return any(Need.COUNT in view.capabilities and not view.spec.stand_in_model for view in holders)

    # -- models -------------------------------------------------------------------

    def _models(self, exchange: Exchange) -> None:
        answer_later(exchange, self._list(exchange), "anthropic models", self.refuse)

    async def _list(self, exchange: Exchange) -> None:
        view = await self._service.refresh()
        if exchange.gone:
            return
        try:
            page = write_page(list_models(exchange.caller.see(view)), exchange.query)
        except ProxyError as error:
            self.refuse(exchange, error)
            return
        name_request(exchange)
        exchange.respond(200, _JSON, msgspec.json.encode(page) + b"\n")

    def _model(self, exchange: Exchange) -> None:
        answer_later(exchange, self._show(exchange), "anthropic model", self.refuse)

    async def _show(self, exchange: Exchange) -> None:
        wanted = exchange.path.removeprefix(_MODEL_PREFIX).decode("utf-8", "replace")
        view = await self._service.refresh()
        if exchange.gone:
            return
        entry = find_model(exchange.caller.see(view), wanted)
        if entry is None:
            self.refuse(exchange, missing_model(wanted))
            return
        name_request(exchange)
        exchange.respond(200, _JSON, msgspec.json.encode(entry) + b"\n")


def _serves(view: BackendView, model: str) -> bool:
    """Whether a backend answers requests for a model, as far as names go; without a list it may have any."""
    known = view.models is None or model in view.models or bool(view.spec.stand_in_model)
    return view.health.serves and known


def _estimate(asked: Asked) -> int:
    return estimate_tokens(read_typed(asked.body))
