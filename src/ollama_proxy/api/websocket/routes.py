"""The one route of the WebSocket API."""

from __future__ import annotations

from collections.abc import Callable

from ollama_proxy.api.websocket.session import Session
from ollama_proxy.domain.annotations import annotation_headers, parse_annotations
from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.websocket import WebSocketLimits, accept_upgrade

PATH = b"/v1/stream/ws"


class WebSocketApi:
    """`GET /v1/stream/ws`, an upgrade."""

    root = PATH

    def __init__(self, service: Service, limits: WebSocketLimits | None = None) -> None:
        self._service = service
        self._limits = limits or WebSocketLimits()
        self.routes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {PATH: {b"GET": self._open}}
        self.prefixes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {}

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error from before the upgrade."""
        exchange.respond(error.kind.http_status, b"text/plain; charset=utf-8", error.message.encode() + b"\n")

    def _open(self, exchange: Exchange) -> None:
        defaults = annotation_headers(exchange.headers)
        try:
            parse_annotations(defaults, source="header")
        except ProxyError as error:
            self.refuse(exchange, error)
            return
        caller = exchange.caller
        accept_upgrade(exchange, lambda socket: Session(self._service, socket, defaults, caller), self._limits)
