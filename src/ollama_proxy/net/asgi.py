"""A small bridge that runs an ordinary ASGI application behind our HTTP server, for everything that is not hot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .http1.exchange import Exchange
from .http1.server import Refuser
from .task import spawn

_log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
AsgiMessage = MutableMapping[str, Any]
AsgiApp = Callable[
    [Scope, Callable[[], Awaitable[AsgiMessage]], Callable[[AsgiMessage], Awaitable[None]]], Awaitable[None]
]


class AsgiBridge:
    """Serves exchanges through an ASGI application, one task each."""

    def __init__(self, app: AsgiApp, refuse: Refuser) -> None:
        self._app = app
        self._refuse = refuse

    def handle(self, exchange: Exchange) -> None:
        """Start the application on this exchange."""
        spawn(self._run(exchange), f"asgi {exchange.path.decode('latin-1')[:80]}")

    async def _run(self, exchange: Exchange) -> None:
        conversation = _Conversation(exchange)
        try:
            await self._app(_scope(exchange), conversation.receive, conversation.send)
        except Exception:  # noqa: BLE001  # a task root: the client gets an answer, the log the reason
            _log.exception("handler failed for %s", exchange.path.decode("latin-1")[:200])
            if exchange.started:
                exchange.abort()
            elif not exchange.gone:
                self._refuse(exchange, 500, "internal error")
            return
        if not exchange.started and not exchange.gone:
            _log.error("no answer came for %s", exchange.path.decode("latin-1")[:200])
            self._refuse(exchange, 500, "internal error")
        elif not exchange.ended:
            exchange.abort()


class _Conversation:
    """ASGI's two callables over one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._body_given = False
        self._gone = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._begun: AsgiMessage = {}
        exchange.on_disconnect = self._leave
        exchange.on_pause = self._writable.clear
        exchange.on_resume = self._writable.set

    def _leave(self) -> None:
        self._gone.set()
        self._writable.set()

    async def receive(self) -> AsgiMessage:
        if not self._body_given:
            self._body_given = True
            return {"type": "http.request", "body": self._exchange.body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: AsgiMessage) -> None:
        exchange = self._exchange
        if exchange.gone:
            return
        if message["type"] == "http.response.start":
            self._begun = message
            return
        if message["type"] != "http.response.body":
            return
        body = bytes(message.get("body", b""))
        more = bool(message.get("more_body", False))
        if not exchange.started:
            self._start(None if more else len(body))
        exchange.write(body)
        if not more:
            exchange.end()
            return
        await self._writable.wait()

    def _start(self, body_length: int | None) -> None:
        headers = [(bytes(name), bytes(value)) for name, value in self._begun.get("headers", ())]
        length = next((int(value) for name, value in headers if name.lower() == b"content-length"), body_length)
        content_type = next((value for name, value in headers if name.lower() == b"content-type"), b"")
        rest = [pair for pair in headers if pair[0].lower() not in (b"content-length", b"content-type")]
        self._exchange.start(int(self._begun["status"]), content_type, length, rest)


def _with_length(header: tuple[bytes, bytes], body: bytes) -> tuple[bytes, bytes]:
    return (header[0], b"%d" % len(body)) if header[0] == b"content-length" else header


def _scope(exchange: Exchange) -> Scope:
    host, _, port = exchange.peer.rpartition(":")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.0" if exchange.http10 else "1.1",
        "method": exchange.method.decode("ascii"),
        "scheme": "http",
        # The one normal path, by which it was decided who may ask; it is not read a second time.
        "path": exchange.path.decode("utf-8", "replace"),
        "raw_path": exchange.path,
        "query_string": exchange.query,
        "root_path": "",
        # Of equal heads on a connection, one is shared: its length is that of the first.
        "headers": [_with_length(header, exchange.body) for header in exchange.headers],
        "client": (host, int(port)) if port.isdigit() else None,
        "server": None,
        "caller": exchange.caller,
    }
