"""JSON Schemas of Ollama's request types, from the tables that their bodies are read by."""

from __future__ import annotations

from typing import Any

from ollama_proxy.api.ollama import go_types
from ollama_proxy.net.bodies.go_json import GoType

Schema = dict[str, Any]

REQUESTS = {
    "OllamaGenerateRequest": go_types.GENERATE,
    "OllamaChatRequest": go_types.CHAT,
    "OllamaEmbedRequest": go_types.EMBED,
    "OllamaEmbeddingsRequest": go_types.EMBEDDINGS,
    "OllamaShowRequest": go_types.SHOW,
    "OllamaCopyRequest": go_types.COPY,
    "OllamaDeleteRequest": go_types.DELETE,
    "OllamaPullRequest": go_types.PULL,
    "OllamaPushRequest": go_types.PUSH,
    "OllamaCreateRequest": go_types.CREATE,
}
#: Types that are read by a function of their own.
_SPECIAL: dict[str, Schema] = {
    "api.Duration": {
        "type": ["string", "number"],
        "description": "A duration such as `5m`, or seconds.",
        "default": "5m",
    },
    "api.ThinkValue": {"enum": [True, False, "low", "medium", "high", "max"]},
    "api.Message": {"$ref": "#/components/schemas/OllamaMessage"},
    "api.ToolPropertiesMap": {"type": "object"},
    "api.ToolProperty": {"type": "object"},
    "api.PropertyType": {"type": ["string", "array"], "items": {"type": "string"}},
    "api.ToolCallFunctionArguments": {"type": "object"},
    "json.RawMessage": {"type": ["string", "object"], "description": "`json`, or a JSON Schema."},
}
_INTEGERS = {32: {"type": "integer", "format": "int32"}, 64: {"type": "integer", "format": "int64"}}
_PLAIN: dict[str, Schema] = {
    "string": {"type": "string"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "contentEncoding": "base64"},
    "any": {},
}


def make_schema(kind: GoType) -> Schema:
    """The schema of a type. Members may be left out or null; those it does not know pass."""
    if kind.read is not None:
        return dict(_SPECIAL[kind.name])
    if kind.kind == "struct":
        return {"type": "object", "properties": {name: make_schema(field) for name, field in kind.fields.items()}}
    if kind.kind in ("slice", "map"):
        assert kind.element is not None
        inner = make_schema(kind.element)
        return {"type": "array", "items": inner} if kind.kind == "slice" else _object_of(inner)
    return dict(_INTEGERS[kind.bits] if kind.kind == "int" else _PLAIN[kind.kind])


def _object_of(inner: Schema) -> Schema:
    return {"type": "object", "additionalProperties": inner} if inner else {"type": "object"}
