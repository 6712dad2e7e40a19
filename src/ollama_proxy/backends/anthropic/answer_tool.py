"""Structured output by a tool that has to be called: what it takes is the form, what it is called with the answer.

Anthropic's own word for it (`output_config.format`) is refused by older models and passed over by most other servers
of this API, and takes only part of JSON Schema: no object that may have more members, no limits. Tools that must be
called are everywhere, with any schema. And beside the client's own tools the model can still choose one of those.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from ollama_proxy.net.bodies.unreadable import UNREADABLE

_NAME = "json_answer"
_MEMBER = "answer"
_HELP = "Gives the answer to the user. Call it once, with the whole answer."


class AnswerTool(msgspec.Struct, frozen=True):
    """The tool for one request. `wrapped`: the form is no object, as inputs of tools must be, so it is put in one."""

    name: str
    schema: dict[str, Any]
    wrapped: bool

    def describe(self) -> dict[str, Any]:
        """The tool as requests name it."""
        return {"name": self.name, "description": _HELP, "input_schema": self.schema}

    def read(self, arguments: str) -> str:
        """The answer in a whole input; what was cut off stays as it is."""
        if not self.wrapped:
            return arguments
        try:
            document = msgspec.json.decode(arguments)
        except UNREADABLE:
            return arguments
        found = document.get(_MEMBER) if isinstance(document, dict) else document
        return msgspec.json.encode(found).decode()


def make_answer_tool(wanted: Any, taken: Collection[str]) -> AnswerTool:
    """The tool for a form: `"json"`, or a JSON schema. `taken` are the names of the client's own tools."""
    name = _NAME
    while name in taken:
        name += "_"
    if not isinstance(wanted, dict):
        return AnswerTool(name, {"type": "object"}, wrapped=False)
    if wanted.get("type") == "object" or ("type" not in wanted and "properties" in wanted):
        return AnswerTool(name, {"type": "object", **wanted}, wrapped=False)
    return AnswerTool(name, _wrap(wanted), wrapped=True)


def _wrap(schema: dict[str, Any]) -> dict[str, Any]:
    """An object around a form. Definitions move out, for references are written from the root."""
    inner = {key: value for key, value in schema.items() if key not in ("$defs", "definitions", "$schema")}
    outer: dict[str, Any] = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return {"type": "object", "properties": {_MEMBER: inner}, "required": [_MEMBER], **outer}
