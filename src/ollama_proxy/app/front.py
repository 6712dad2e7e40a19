"""The HTTP port's front: finds the handler of a path, and the dialect that answers when there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.asgi import AsgiApp, AsgiBridge
from ollama_proxy.net.http1.exchange import Exchange

Methods = Mapping[bytes, Callable[[Exchange], None]]

_KINDS = {
    404: ErrorKind.NOT_FOUND,
    405: ErrorKind.METHOD_NOT_ALLOWED,
    413: ErrorKind.TOO_LARGE,
    500: ErrorKind.INTERNAL,
}


class HttpApi(Protocol):
    """One dialect: its exact paths, and how it says no."""

    @property
    def routes(self) -> Mapping[bytes, Methods]:
        """Handlers by exact path and method."""

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error in this dialect."""


class Front:
    """Routes by exact path, then by prefix, then to the status pages."""

    def __init__(self, ollama: HttpApi, openai: HttpApi, prefixes: Mapping[bytes, Methods], pages: AsgiApp) -> None:
        self._ollama = ollama
        self._openai = openai
        self._pages = AsgiBridge(pages, self.refuse)
        self._routes: dict[bytes, Methods] = {**ollama.routes, **openai.routes}
        self._prefixes: Sequence[tuple[bytes, Methods]] = tuple(prefixes.items())

    def handle(self, exchange: Exchange) -> None:
        """Serve one exchange."""
        methods = self._routes.get(exchange.path) or self._find_prefix(exchange.path)
        if methods is None:
            self._serve_other(exchange)
            return
        handler = methods.get(exchange.method)
        if handler is None:
            allow = b", ".join(methods)
            exchange.respond(405, b"text/plain", b"405 method not allowed", [(b"Allow", allow)])
            return
        handler(exchange)

    def _find_prefix(self, path: bytes) -> Methods | None:
        for prefix, methods in self._prefixes:
            if path.startswith(prefix) and len(path) > len(prefix):
                return methods
        return None

    def _serve_other(self, exchange: Exchange) -> None:
        if exchange.path.startswith(b"/v1/"):
            path = exchange.path.decode("latin-1")[:200]
            self._openai.refuse(exchange, ProxyError(ErrorKind.NOT_FOUND, f"no such route: {path}"))
        elif exchange.path.startswith(b"/api/"):
            exchange.respond(404, b"text/plain", b"404 page not found")
        else:
            self._pages.handle(exchange)

    def refuse(self, exchange: Exchange, status: int, message: str) -> None:
        """A refusal from before any handler, in the dialect of the path and with the status of HTTP."""
        dialect = self._openai if exchange.path.startswith(b"/v1/") else self._ollama
        kind = _KINDS.get(status)
        if kind is not None and exchange.path.startswith((b"/v1/", b"/api/")):
            dialect.refuse(exchange, ProxyError(kind, message))
        else:
            exchange.respond(status, b"text/plain; charset=utf-8", message.encode() + b"\n")
