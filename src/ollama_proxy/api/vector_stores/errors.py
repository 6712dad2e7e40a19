"""Errors in OpenAI's form."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.http1.exchange import Exchange
from ollama_proxy.net.http1.status import retry_after

JSON = b"application/json"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
_BAD_KEY = "invalid_api_key"


def refuse(exchange: Exchange, error: ProxyError) -> None:
    """Answer an error."""
    status = error.kind.http_status
    code = _BAD_KEY if error.kind is ErrorKind.UNAUTHENTICATED else error.kind.value
    told = {"message": error.message, "type": _TYPES.get(status, "api_error"), "param": None, "code": code}
    headers = [retry_after(error.retry_after_s)] if error.retry_after_s else []
    exchange.respond(status, JSON, msgspec.json.encode({"error": told}) + b"\n", headers)


def invalid(message: str) -> ProxyError:
    """A request that cannot be served as it stands."""
    return ProxyError(ErrorKind.INVALID_REQUEST, message)
