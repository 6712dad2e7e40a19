"""Operations of the document, written out from what the sources say in short.

    request:     Name, or {media type: schema}; `example` is its example
    answers:     {status: {text: description, media type: schema}}
    errors:      statuses whose body is the dialect's own error
    annotated:   true for what is routed: it takes the annotation headers and answers with the explanation
    rpc:         true for methods at the paths of gRPC: errors are Connect's, and gRPC-Web is taken as well

A schema is the name of a component, or `{lines: Name}` or `{events: Name}` for streams, or a schema written out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_STATUSES = {
    400: "The request cannot be served as it stands.",
    401: "A key is needed, and this one is none.",
    403: "Not allowed for this key or this origin.",
    404: "No such model or thing.",
    413: "The body is too large.",
    415: "Not in this content type.",
    429: "More than this key may have; `Retry-After` says when to ask again.",
    499: "The call was cancelled.",
    500: "A fault of the server.",
    501: "Not served.",
    502: "Every backend that was asked failed.",
    503: "No backend is there to ask, or too much is under way; `Retry-After` says when to ask again.",
    504: "The deadline has passed.",
    529: "Too much is under way; `Retry-After` says when to ask again.",
}
#: gRPC-Web has none of these: its errors are in the body of an answer with status 200.
_RPC_ERRORS = (400, 401, 403, 404, 413, 415, 429, 499, 500, 501, 503, 504)
_GRPC_WEB = {"application/grpc-web+proto": {"type": "string", "format": "binary"}}
_STREAMS = {"lines": "One JSON object a line", "events": "Server-sent events, their data JSON"}
_ECHO = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
#: Those that a decision may have led to, which their head then names.
_DECIDED = frozenset((400, 404, 429, 500, 502, 503, 504, 529))
_DECISION = {"X-Decision-ID": {"$ref": "#/components/headers/X-Decision-ID"}}


class Operations:
    """Those of one dialect. `error` is what its errors look like, `{media type: schema}`; error answers become
    components of the document."""

    def __init__(self, dialect: str, error: Json, components: Json) -> None:
        self._dialect = dialect
        self._error = error
        self._responses: Json = components.setdefault("responses", {})
        self._annotations = [{"$ref": f"#/components/parameters/{name}"} for name in components["parameters"]]
        self._explanation = {name: {"$ref": f"#/components/headers/{name}"} for name in components["headers"]}

    def write(self, short: Json) -> Json:
        """One operation."""
        annotated, rpc = short.get("annotated", False), short.get("rpc", False)
        found: Json = {"operationId": short["id"], "tags": [short["tag"]], "summary": short["summary"]}
        if "description" in short:
            found["description"] = short["description"]
        parameters = [*short.get("parameters", ()), *(self._annotations if annotated else ())]
        if parameters:
            found["parameters"] = parameters
        if "request" in short:
            found["requestBody"] = _write_request(short, _GRPC_WEB if rpc else {})
        found["responses"] = answers = {}
        for status, answer in short["answers"].items():
            headers = {**(self._explanation if annotated and status == 200 else _ECHO), **answer.get("headers", {})}
            answers[str(status)] = _write_answer({**answer, **(_GRPC_WEB if rpc else {})}, headers)
        for status in _RPC_ERRORS if rpc else short.get("errors", ()):
            answers[str(status)] = self._refer_to_error(status, rpc=rpc)
        return found

    def _refer_to_error(self, status: int, *, rpc: bool) -> Json:
        name = f"{'connect' if rpc else self._dialect}{status}"
        if name not in self._responses:
            error = {"application/json": "ConnectError"} if rpc else self._error
            headers = _ECHO | _DECISION if status in _DECIDED else _ECHO
            self._responses[name] = _write_answer({"text": _STATUSES[status], **error}, headers)
        return {"$ref": f"#/components/responses/{name}"}


def _write_request(short: Json, more: Json) -> Json:
    request = short["request"]
    media = {**(request if isinstance(request, dict) else {"application/json": request}), **more}
    content = {kind: {"schema": _write_schema(schema)} for kind, schema in media.items()}
    if "example" in short:
        next(iter(content.values()))["example"] = short["example"]
    return {"required": True, "content": content}


def _write_answer(answer: Mapping[str, Any], headers: Json) -> Json:
    content = {kind: {"schema": _write_schema(schema)} for kind, schema in answer.items() if "/" in kind}
    found: Json = {"description": answer["text"], "headers": headers}
    return {**found, "content": content} if content else found


def _write_schema(schema: Any) -> Json:
    if isinstance(schema, str):
        return {"$ref": f"#/components/schemas/{schema}"}
    for key, text in _STREAMS.items():
        if key in schema:
            name = schema[key]
            return {
                "type": "string",
                "description": f"{text}: `{name}`. {schema.get('text', '')}".rstrip(),
                "x-item-schema": {"$ref": f"#/components/schemas/{name}"},
            }
    found: Json = schema
    return found
