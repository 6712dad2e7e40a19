"""`/openapi.json` and `/docs`: two files of the package, read once."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.resources import files

from ollama_proxy.domain.errors import ProxyError
from ollama_proxy.domain.ports import Service
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_route import Route

_READS = (b"GET", b"HEAD")
_HTML = b"text/html; charset=utf-8"
_FRESH = (b"Cache-Control", b"no-cache")
_AS_TOLD = (b"X-Content-Type-Options", b"nosniff")


class OpenApiPages:
    """Both routes."""

    root = b"/openapi.json"

    def __init__(self, service: Service) -> None:
        document: dict[bytes, Callable[[Exchange], None]] = dict.fromkeys(_READS, Route(_send_document, "open"))
        page: dict[bytes, Callable[[Exchange], None]] = dict.fromkeys(_READS, Route(_send_page, "open"))
        self.routes = {self.root: document, b"/docs": page}
        self.prefixes: dict[bytes, dict[bytes, Callable[[Exchange], None]]] = {}

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error from before any handler."""
        exchange.respond(error.kind.http_status, b"text/plain; charset=utf-8", error.message.encode() + b"\n")


def _send_document(exchange: Exchange) -> None:
    # Tools on pages of other origins read it, too; there is nothing secret in it.
    exchange.respond(200, b"application/json", _read("openapi.json"), [_FRESH])


def _send_page(exchange: Exchange) -> None:
    exchange.respond(200, _HTML, _read("page.html"), [_FRESH, _AS_TOLD, (b"Content-Security-Policy", _policy())])


@cache
def _policy() -> bytes:
    """The page may run what is written in it and ask this server, and nobody may put it into a frame of theirs."""
    page = _read("page.html")
    return b"; ".join(
        (
            b"default-src 'none'",
            b"style-src " + _hash(page, b"style"),
            b"script-src " + _hash(page, b"script"),
            b"connect-src 'self'",
            b"base-uri 'none'",
            b"form-action 'none'",
            b"frame-ancestors 'none'",
        )
    )


def _hash(page: bytes, tag: bytes) -> bytes:
    text = page.partition(b"<%b>" % tag)[2].partition(b"</%b>" % tag)[0]
    return b"'sha256-%b'" % b64encode(sha256(text).digest())


@cache
def _read(name: str) -> bytes:
    return files("ollama_proxy.api.openapi").joinpath(name).read_bytes()
