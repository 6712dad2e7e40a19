"""Errors of OpenAI's API, in the very words and forms of Ollama's own `/v1` layer where that has the same error."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.go_syntax import quote
from ollama_proxy.net.bodies.model_ref import parse_ref
from ollama_proxy.net.bodies.unpacking import PackedBodyError
from ollama_proxy.net.bodies.unreadable import UNREADABLE

JSON = b"application/json"
#: What a request is refused with before any model is looked for has a charset and no line end.
_REFUSED = b"application/json; charset=utf-8"
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
#: Ollama has these, and writes no code; the others keep our own word for what happened.
_WITHOUT_CODE = frozenset((ErrorKind.INVALID_REQUEST, ErrorKind.MODEL_NOT_FOUND, ErrorKind.BACKEND_REFUSED))
#: OpenAI's own word, which clients look for.
_BAD_KEY = "invalid_api_key"


def middleware_error(message: str) -> ProxyError:
    """A request refused for its form."""
    return ProxyError(ErrorKind.INVALID_REQUEST, message)


def handler_error(message: str) -> ProxyError:
    """A request refused for what it names."""
    return ProxyError(ErrorKind.INVALID_REQUEST, message, content_type=JSON)


def missing_model(model: str, *, embed: bool = False) -> ProxyError:
    """A model that nobody has, in the sentence that clients look for."""
    try:
        parse_ref(model)
    except ProxyError as error:
        return handler_error(error.message)
    text = f"model {quote(model)} not found, try pulling it first" if embed and model else f"model '{model}' not found"
    return ProxyError(ErrorKind.MODEL_NOT_FOUND, text)


def write_error(error: ProxyError) -> tuple[int, bytes, bytes]:
    """Status, content type and body of an error; a refusal by a backend keeps the backend's own words."""
    status = error.kind.http_status
    if isinstance(error, PackedBodyError):
        return status, error.content_type, error.body
    if error.kind is ErrorKind.BACKEND_REFUSED:
        status = error.status or status
        if _is_ours(error.body):
            return status, error.content_type or JSON, error.body
    document = error_document(error, status)
    if error.kind is ErrorKind.INVALID_REQUEST and not error.content_type:
        return status, _REFUSED, document
    return status, JSON, document + b"\n"


class _Envelope(msgspec.Struct):
    error: dict[str, msgspec.Raw] | None = None


_envelopes = msgspec.json.Decoder(_Envelope)


def _is_ours(body: bytes) -> bool:
    """Whether a backend's refusal is in OpenAI's shape already."""
    try:
        return bool(_envelopes.decode(body).error)
    except UNREADABLE:
        return False


def error_document(error: ProxyError, status: int) -> bytes:
    """The object of an error."""
    code = _BAD_KEY if error.kind is ErrorKind.UNAUTHENTICATED else error.kind.value
    document = {
        "message": error.message,
        "type": _TYPES.get(status, "api_error"),
        "param": None,
        "code": None if error.kind in _WITHOUT_CODE else code,
    }
    return msgspec.json.encode({"error": document})
