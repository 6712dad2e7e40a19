"""The HTTP port's front: finds the handler of a path, and the dialect that answers when there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.asgi import AsgiApp, AsgiBridge
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import read_request_id

Methods = Mapping[bytes, Callable[[Exchange], None]]

_KINDS = {
    404: ErrorKind.NOT_FOUND,
    405: ErrorKind.METHOD_NOT_ALLOWED,
    413: ErrorKind.TOO_LARGE,
    500: ErrorKind.INTERNAL,
}


class HttpApi(Protocol):
    """One dialect: where it lives, its paths, and how it says no."""

    #: Every path below it belongs to this dialect.
    root: bytes

    @property
    def routes(self) -> Mapping[bytes, Methods]:
        """Handlers by exact path and method."""

    @property
    def prefixes(self) -> Mapping[bytes, Methods]:
        """Handlers of everything that begins so and goes on."""

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in this dialect."""

    def refuse_path(self, exchange: Exchange) -> None:
        """Answer a path below the root that nothing is at."""


class Front:
    """Routes by exact path, then by prefix, then to the dialect of the path, then to the status pages."""

    def __init__(self, apis: Sequence[HttpApi], pages: AsgiApp, make_request_id: Callable[[], str]) -> None:
        self._apis = apis
        self._make_request_id = make_request_id
        self._pages = AsgiBridge(pages, self.refuse)
        self._routes = {path: methods for api in apis for path, methods in api.routes.items()}
        self._prefixes = [entry for api in apis for entry in api.prefixes.items()]

    def handle(self, exchange: Exchange) -> None:
        """Serve one exchange."""
        self._name(exchange)
        methods = self._routes.get(exchange.path) or self._find_prefix(exchange.path)
        if methods is None:
            api = self._find_api(exchange.path)
            if api is None:
                self._pages.handle(exchange)
            else:
                api.refuse_path(exchange)
            return
        handler = methods.get(exchange.method)
        if handler is None:
            allow = b", ".join(methods)
            exchange.respond(405, b"text/plain", b"405 method not allowed", [(b"Allow", allow)])
            return
        handler(exchange)

    def _name(self, exchange: Exchange) -> None:
        """Give the request its id, the client's own where it sent a good one, and echo it whatever the answer."""
        exchange.request_id = request_id = read_request_id(exchange) or self._make_request_id()
        exchange.fixed_lines = b"X-Request-ID: %b\r\n" % request_id.encode("ascii")

    def _find_prefix(self, path: bytes) -> Methods | None:
        for prefix, methods in self._prefixes:
            if path.startswith(prefix) and len(path) > len(prefix):
                return methods
        return None

    def _find_api(self, path: bytes) -> HttpApi | None:
        return next((api for api in self._apis if path.startswith(api.root)), None)

    def refuse(self, exchange: Exchange, status: int, message: str) -> None:
        """A refusal from before any handler, in the dialect of the path and with the status of HTTP."""
        if not exchange.request_id:
            self._name(exchange)
        api = self._find_api(exchange.path)
        kind = _KINDS.get(status)
        if api is not None and kind is not None:
            api.refuse(exchange, ProxyError(kind, message))
        else:
            exchange.respond(status, b"text/plain; charset=utf-8", message.encode() + b"\n")
