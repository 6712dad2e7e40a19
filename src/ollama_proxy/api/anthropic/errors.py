"""Errors of Anthropic's API, in the words and forms of Ollama's own layer for it where that has the same error."""

from __future__ import annotations

from typing import Any

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.model_ref import parse_ref
from ollama_proxy.net.bodies.unpacking import PackedBodyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE
from ollama_proxy.net.http1.exchange import Exchange

JSON = b"application/json"
#: What a request is refused with before any model is looked for has a charset and no line end, as Ollama writes it.
_REFUSED = b"application/json; charset=utf-8"
_OVERLOADED = 529
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class BadRequest(ProxyError):
    """A request that cannot be served as it stands."""

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.INVALID_REQUEST, message)


def missing_model(model: str) -> ProxyError:
    """A model that nobody has, in Ollama's sentence."""
    try:
        parse_ref(model)
    except ProxyError as error:
        return error
    return ProxyError(ErrorKind.MODEL_NOT_FOUND, f"model '{model}' not found")


def name_request(exchange: Exchange) -> str:
    """Anthropic's form of the request's id, which goes out as a header, too: clients show it when something fails."""
    found = exchange.request_id if exchange.request_id.startswith("req_") else f"req_{exchange.request_id}"
    exchange.fixed_lines += b"request-id: %b\r\n" % found.encode("ascii")
    return found


def status_of(error: ProxyError) -> int:
    """The HTTP status of an error: Anthropic has one of its own for too much at once, and its clients come again."""
    return _OVERLOADED if error.kind is ErrorKind.OVERLOADED else error.kind.http_status


def write_error(error: ProxyError, request_id: str) -> tuple[int, bytes, bytes]:
    """Status, content type and body of an error; a refusal by a backend keeps the backend's own words."""
    status = status_of(error)
    if isinstance(error, PackedBodyError):
        return status, error.content_type, error.body
    if error.kind is ErrorKind.BACKEND_REFUSED:
        status = error.status or status
        if _is_ours(error.body):
            return status, error.content_type or JSON, error.body
    document = error_document(error, status, request_id)
    if isinstance(error, BadRequest):
        return status, _REFUSED, document
    return status, JSON, document + b"\n"


def error_document(error: ProxyError, status: int, request_id: str) -> bytes:
    """The object of an error."""
    found: dict[str, Any] = {"type": _TYPES.get(status, "api_error"), "message": error.message}
    return msgspec.json.encode({"type": "error", "error": found, "request_id": request_id})


class _Envelope(msgspec.Struct):
    type: str = ""
    error: dict[str, msgspec.Raw] | None = None


_envelopes = msgspec.json.Decoder(_Envelope)


def _is_ours(body: bytes) -> bool:
    """Whether a backend's refusal is in Anthropic's shape already."""
    try:
        envelope = _envelopes.decode(body)
    except UNREADABLE:
        return False
    return envelope.type == "error" and bool(envelope.error)
