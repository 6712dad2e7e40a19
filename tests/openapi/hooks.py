"""What schemathesis must be told of our media types, and a check of its own for streams. Runs in its environment."""

from __future__ import annotations

import json
from functools import cache
from struct import pack
from typing import Any

import jsonschema_rs
import schemathesis

BINARY = ("application/proto", "application/grpc-web+proto", "application/connect+proto")
FRAMED = BINARY[1:]


@schemathesis.serializer(*BINARY)
def write_binary(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Any bytes, behind the prefix that most of these begin with: a flag and the size."""
    data = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    media_type = context.case.media_type or ""
    return pack(">BI", 0, len(data)) + data if media_type in FRAMED else data


@schemathesis.deserializer(*BINARY, "application/x-ndjson", "text/event-stream")
def read_text(context: schemathesis.DeserializationContext, response: schemathesis.Response) -> str:
    """The document calls these texts."""
    return response.content.decode("latin-1")


def read_items(media_type: str, text: str) -> list[Any]:
    if media_type == "application/x-ndjson":
        return [json.loads(line) for line in text.split("\n") if line]
    found = []
    for event in text.split("\n\n"):
        lines = event.split("\n")
        data = "\n".join(line[5:].removeprefix(" ") for line in lines if line.startswith("data:"))
        if data and data != "[DONE]":
            found.append(json.loads(data))
    return found


@cache
def make_validator(reference: str, document: str) -> jsonschema_rs.Validator:
    components = json.loads(document)["components"]
    return jsonschema_rs.validator_for({"$ref": reference, "components": components})


@schemathesis.check
def every_item_conforms(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """Each line or event of a stream is of the schema that the document has for it, or is an error."""
    media_type = response.headers.get("content-type", [""])[0].partition(";")[0]
    answers = case.operation.definition.raw["responses"]
    schema = answers.get(str(response.status_code), {}).get("content", {}).get(media_type, {}).get("schema", {})
    if "x-item-schema" not in schema or case.method == "HEAD":
        return
    document = json.dumps(case.operation.schema.raw_schema)
    validator = make_validator(schema["x-item-schema"]["$ref"], document)
    items = read_items(media_type, response.content.decode())
    assert items, "the stream is empty"
    for item in items:
        if "error" not in item:
            error = next(validator.iter_errors(item), None)
            assert error is None, f"{json.dumps(item)[:500]}: {error}"
