"""What a request of this API is to Ollama, which decides how bodies are read that are no good."""

from __future__ import annotations

from ollama_proxy.net.bodies.go_json import GoType

_ANY = GoType("interface {}", "any")
_STRING = GoType("string", "string")
_MAYBE_STRING = GoType("string", "string", pointer=True)
_MAYBE_BOOL = GoType("bool", "bool", pointer=True)
_MAYBE_INT = GoType("int", "int", pointer=True)
_MAYBE_FLOAT = GoType("float64", "float", pointer=True)
_MAP = GoType("map[string]interface {}", "map", element=_ANY)
_TOOL = GoType(
    "openai.ResponsesTool",
    "struct",
    fields={
        "type": _STRING,
        "name": _STRING,
        "description": _MAYBE_STRING,
        "strict": _MAYBE_BOOL,
        "parameters": _MAP,
    },
)
_FORMAT = GoType(
    "openai.ResponsesTextFormat",
    "struct",
    fields={"type": _STRING, "name": _STRING, "schema": _ANY, "strict": _MAYBE_BOOL},
    pointer=True,
)
_REASONING = GoType(
    "openai.ResponsesReasoning",
    "struct",
    fields={"effort": _STRING, "generate_summary": _STRING, "summary": _STRING},
)
#: `input` has a reader of its own there, and here (`items.py`).
REQUEST = GoType(
    "openai.ResponsesRequest",
    "struct",
    fields={
        "model": _STRING,
        "background": GoType("bool", "bool"),
        "conversation": _ANY,
        "include": GoType("[]string", "slice", element=_STRING),
        "input": _ANY,
        "instructions": _STRING,
        "max_output_tokens": _MAYBE_INT,
        "reasoning": _REASONING,
        "temperature": _MAYBE_FLOAT,
        "text": GoType("openai.ResponsesText", "struct", fields={"format": _FORMAT}, pointer=True),
        "top_p": _MAYBE_FLOAT,
        "truncation": _MAYBE_STRING,
        "tools": GoType("[]openai.ResponsesTool", "slice", element=_TOOL),
        "stream": _MAYBE_BOOL,
    },
)
