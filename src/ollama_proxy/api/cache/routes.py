"""Kept answers: how many there are and what they saved; and letting go of them."""

from __future__ import annotations

from urllib.parse import parse_qs

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.names import canonical_model
from ollama_proxy.domain.ports import KeptAnswers
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_route import Route
from ollama_proxy.net.later import answer_later

_JSON = b"application/json"
_PATH = b"/proxy/cache"
_MEMBERS = ("model", "key", "older_than_seconds")
_MOST_SECONDS = 1e9


class CachePages:
    """One page, to be read and to be emptied; None where no answers are kept."""

    root = _PATH

    def __init__(self, kept: KeptAnswers | None) -> None:
        self._kept = kept
        self.routes = {_PATH: {b"GET": Route(self._show, "admin"), b"DELETE": Route(self._purge, "admin")}}
        self.prefixes: dict[bytes, dict[bytes, Route]] = {}

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error as a JSON object."""
        exchange.respond(error.kind.http_status, _JSON, msgspec.json.encode({"error": error.message}) + b"\n")

    def _show(self, exchange: Exchange) -> None:
        kept = self._find(exchange)
        if kept is not None:
            answer_later(exchange, self._tell(exchange, kept), "cache", self.refuse)

    async def _tell(self, exchange: Exchange, kept: KeptAnswers) -> None:
        found = await kept.describe()
        if not exchange.gone:
            exchange.respond(200, _JSON, msgspec.json.encode(found) + b"\n")

    def _purge(self, exchange: Exchange) -> None:
        kept = self._find(exchange)
        if kept is None:
            return
        try:
            model, key, older_than_s = _read_query(exchange.query)
        except ProxyError as error:
            self.refuse(exchange, error)
            return
        answer_later(exchange, self._let_go(exchange, kept, model, key, older_than_s), "cache purge", self.refuse)

    async def _let_go(
        self, exchange: Exchange, kept: KeptAnswers, model: str | None, key: str | None, older_than_s: float | None
    ) -> None:
        try:
            gone = await kept.let_go(model, key, older_than_s)
        except ProxyError as error:
            if not exchange.gone:
                self.refuse(exchange, error)
            return
        if not exchange.gone:
            exchange.respond(200, _JSON, msgspec.json.encode({"purged": gone}) + b"\n")

    def _find(self, exchange: Exchange) -> KeptAnswers | None:
        if self._kept is None:
            told = "no answers are kept: see `cache.enabled` in the configuration"
            self.refuse(exchange, ProxyError(ErrorKind.NOT_FOUND, told))
        return self._kept


def _read_query(query: bytes) -> tuple[str | None, str | None, float | None]:
    """Which answers are meant. A member that is not known is an error: whoever misspells one means not all."""
    try:
        asked = parse_qs(query.decode("ascii"), keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "the query cannot be read") from None
    for name in asked:
        if name not in _MEMBERS:
            told = f"{name[:40]!r} is not known; expected {', '.join(_MEMBERS)}"
            raise ProxyError(ErrorKind.INVALID_REQUEST, told)
    model = asked["model"][-1] if "model" in asked else None
    key = asked["key"][-1] if "key" in asked else None
    return canonical_model(model) if model is not None else None, key, _read_seconds(asked)


def _read_seconds(asked: dict[str, list[str]]) -> float | None:
    if "older_than_seconds" not in asked:
        return None
    try:
        seconds = float(asked["older_than_seconds"][-1])
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _MOST_SECONDS:
        raise ProxyError(
            ErrorKind.INVALID_REQUEST, f"older_than_seconds: expected a number from 0 to {_MOST_SECONDS:g}"
        )
    return seconds
