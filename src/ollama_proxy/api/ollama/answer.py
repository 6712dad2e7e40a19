"""The answer to a native request, with a second look at those whose model is not found."""

from __future__ import annotations

from collections.abc import Callable

from ollama_proxy.api.ollama.writer import OllamaWriter
from ollama_proxy.domain.call import Call
from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.ports import Ticket
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_answer import HttpAnswer, hint_fields

_NOT_FOUND = ErrorKind.MODEL_NOT_FOUND
#: Gets the exchange and the call of a request whose model nobody has, and answers.
OnMissing = Callable[[Exchange, Call], None]


class NativeAnswer(HttpAnswer):
    """An `AnswerSink` that leaves its exchange to `on_missing` when the model is not found."""

    __slots__ = ("_call", "_given_away", "_on_missing")

    def __init__(self, exchange: Exchange, call: Call, on_missing: OnMissing | None, *, legacy: bool = False) -> None:
        super().__init__(exchange, lambda: OllamaWriter(call.model, call.operation, stream=call.stream, legacy=legacy))
        self._call = call
        self._on_missing = on_missing
        self._given_away = False

    def attach(self, ticket: Ticket) -> None:
        if not self._given_away:
            super().attach(ticket)

    def fail(self, error: ProxyError) -> None:
        on_missing, exchange = self._on_missing, self._exchange
        if error.kind is _NOT_FOUND and on_missing is not None and not exchange.started:
            self._given_away = True
            exchange.fixed_lines += b"".join([b"%b: %b\r\n" % field for field in hint_fields(error)])
            exchange.on_disconnect = exchange.on_pause = exchange.on_resume = None
            on_missing(exchange, self._call)
        else:
            super().fail(error)
