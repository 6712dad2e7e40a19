"""Decisions on record: the latest, one in full, and the one that a request would get without being sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.domain.inquiry import Account, Inquiry, Question
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http_request import annotation_pairs, decode_body, read_annotations, read_body
from ollama_proxy.net.http_route import Route

_JSON = b"application/json"
_TEXT = b"text/plain; charset=utf-8"
_LIST = b"/proxy/decisions"
_ONE = b"/proxy/decisions/"
_SUPPOSE = b"/proxy/decide"
_MOST_LISTED = 1000
_LISTED = 50
_MOST_BACKENDS = 1000

Handler = Callable[[Exchange], None]


class Asked(msgspec.Struct):
    """The body of a what-if; the prompt itself or its size in bytes."""

    model: str
    prompt: str = ""
    prompt_bytes: int = 0
    max_tokens: int = 0
    embed: bool = False
    annotations: dict[str, Any] = {}
    without: list[str] = []
    cap_watts: float = 0.0
    mode: str = ""


_asked = msgspec.json.Decoder(Asked)


class DecisionApi:
    """The routes, over whoever can answer."""

    root = _LIST

    def __init__(self, inquiry: Inquiry) -> None:
        self._inquiry = inquiry
        # Who asked may read what was decided about it; the list tells of everybody's.
        self.routes: dict[bytes, dict[bytes, Handler]] = {
            _LIST: {b"GET": Route(self._list, "admin")},
            _SUPPOSE: {b"POST": self._suppose},
        }
        self.prefixes: dict[bytes, dict[bytes, Handler]] = {_ONE: {b"GET": self._read}}

    def refuse(self, exchange: Exchange, error: ProxyError) -> None:
        """Answer an error as a JSON object."""
        body = msgspec.json.encode({"error": error.message})
        exchange.respond(error.kind.http_status, _JSON, body + b"\n")

    def _list(self, exchange: Exchange) -> None:
        try:
            most = _read_limit(exchange.query)
        except ProxyError as error:
            self.refuse(exchange, error)
            return
        exchange.respond(200, _JSON, self._inquiry.list_decisions(most) + b"\n")

    def _read(self, exchange: Exchange) -> None:
        ident = exchange.path.removeprefix(_ONE).decode("utf-8", "replace")
        if self._hides(exchange):
            return
        account = self._inquiry.find_decision(ident, exchange.caller)
        if account is None:
            message = f"no decision {ident[:200]!r}: only the latest of your own are kept, until the proxy stops"
            self.refuse(exchange, ProxyError(ErrorKind.NOT_FOUND, message))
        else:
            _show(exchange, account)

    def _hides(self, exchange: Exchange) -> bool:
        """Whether whoever asks may not see all of the fleet, of which every decision tells; they are told so."""
        caller = exchange.caller
        if caller.sees_all:
            return False
        message = f"the key {caller.name} is for some models or backends; decisions tell of all"
        self.refuse(exchange, ProxyError(ErrorKind.PERMISSION_DENIED, message))
        return True

    def _suppose(self, exchange: Exchange) -> None:
        if self._hides(exchange):
            return
        try:
            _show(exchange, self._inquiry.suppose(_read_question(exchange)))
        except ProxyError as error:
            self.refuse(exchange, error)


def _show(exchange: Exchange, account: Account) -> None:
    accepted = exchange.header(b"accept", b"")
    if b"text/plain" in accepted and _JSON not in accepted:
        exchange.respond(200, _TEXT, account.as_text().encode("utf-8", "replace"))
    else:
        exchange.respond(200, _JSON, account.as_json() + b"\n")


def _read_limit(query: bytes) -> int:
    try:
        asked = parse_qs(query.decode("ascii"), max_num_fields=20).get("limit", [str(_LISTED)])[-1]
    except ValueError:
        asked = ""
    if not (asked.isascii() and asked.isdigit() and len(asked) < 10 and 1 <= int(asked) <= _MOST_LISTED):
        raise ProxyError(ErrorKind.INVALID_REQUEST, f"limit: expected a number from 1 to {_MOST_LISTED}")
    return int(asked)


def _read_question(exchange: Exchange) -> Question:
    """The question in a body, with annotations as every other request has them: in headers, or in the body."""
    asked = decode_body(_asked, read_body(exchange))
    if not asked.model.strip():
        raise ProxyError(ErrorKind.INVALID_REQUEST, "model is required")
    if asked.prompt_bytes < 0 or asked.max_tokens < 0 or len(asked.without) > _MOST_BACKENDS:
        raise ProxyError(ErrorKind.INVALID_REQUEST, "prompt_bytes and max_tokens are numbers from 0 on")
    wishes = dict(annotation_pairs(asked.annotations))
    if asked.cap_watts:
        wishes["max_power_watts"] = asked.cap_watts
    return Question(
        asked.model,
        asked.prompt_bytes or len(asked.prompt.encode("utf-8", "replace")),
        asked.max_tokens,
        asked.embed,
        read_annotations(exchange, wishes),
        tuple(asked.without),
        asked.mode,
    )
