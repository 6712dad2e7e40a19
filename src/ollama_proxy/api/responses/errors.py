"""Errors of the Responses API, in OpenAI's shape and with the statuses of Ollama's own `/v1` layer."""

from __future__ import annotations

import msgspec

from ollama_proxy.domain.errors import ErrorKind, ProxyError
from ollama_proxy.net.bodies.model_ref import parse_ref
from ollama_proxy.net.bodies.unpacking import PackedBodyError
from ollama_proxy.net.endings.errors import error_text

_JSON = b"application/json"
#: What a request is refused with before any model is looked for has a charset and no line end, as Ollama writes it.
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
#: These have no code in this API, because clients compare the bytes; the others keep our own word for what happened.
_WITHOUT_CODE = frozenset((ErrorKind.INVALID_REQUEST, ErrorKind.MODEL_NOT_FOUND, ErrorKind.BACKEND_REFUSED))


class BadRequest(ProxyError):
    """A request that cannot be served as it stands; `param` and `code` as OpenAI names them, "" for null."""

    def __init__(self, message: str, *, param: str = "", code: str = "") -> None:
        super().__init__(ErrorKind.INVALID_REQUEST, message)
        self.param = param
        self.code = code


class NotStored(ProxyError):
    """There is no response of that id, for this caller."""

    def __init__(self, ident: str) -> None:
        super().__init__(ErrorKind.NOT_FOUND, f"Response with id '{ident[:200]}' not found.")


def missing_model(model: str) -> ProxyError:
    """A model that nobody has, in the sentence that clients look for."""
    try:
        parse_ref(model)
    except ProxyError as error:
        return error
    return ProxyError(ErrorKind.MODEL_NOT_FOUND, f"model '{model}' not found")


def write_error(error: ProxyError) -> tuple[int, bytes, bytes]:
    """Status, content type and body; a refusal by a backend keeps the backend's own words."""
    status = error.kind.http_status
    if isinstance(error, PackedBodyError):
        return status, error.content_type, error.body
    if error.kind is ErrorKind.BACKEND_REFUSED:
        status = error.status or status
        if error.body.lstrip().startswith(b'{"error":{'):
            return status, error.content_type or _JSON, error.body
        error.message = error_text(error.body) or error.message
    document = msgspec.json.encode({"error": describe_error(error, status)})
    if isinstance(error, BadRequest):
        return status, _REFUSED, document
    return status, _JSON, document + b"\n"


def describe_error(error: ProxyError, status: int) -> dict[str, str | None]:
    """The members of an error: message, type, param, code."""
    param = code = ""
    if isinstance(error, BadRequest):
        param, code = error.param, error.code
    elif error.kind not in _WITHOUT_CODE and not isinstance(error, NotStored):
        code = "invalid_api_key" if error.kind is ErrorKind.UNAUTHENTICATED else error.kind.value
    kind = "invalid_request_error" if isinstance(error, NotStored) else _TYPES.get(status, "api_error")
    return {"message": error.message, "type": kind, "param": param or None, "code": code or None}


def failure_code(error: ProxyError) -> str:
    """OpenAI's word for a response that broke off."""
    return "rate_limit_exceeded" if error.kind is ErrorKind.RATE_LIMITED else "server_error"
