"""JSON Schemas of the messages of `compute.v1` in proto3 JSON, with the comments of the contract."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

Schema = dict[str, Any]

_TYPES = FieldDescriptorProto
_SCALARS: dict[int, Schema] = {
    _TYPES.TYPE_STRING: {"type": "string"},
    _TYPES.TYPE_BOOL: {"type": "boolean"},
    _TYPES.TYPE_FLOAT: {"type": "number", "format": "float"},
    _TYPES.TYPE_INT32: {"type": "integer", "format": "int32"},
    # JSON numbers lose digits above 2**53.
    _TYPES.TYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"},
}
#: Numbers of the fields that lead to messages, and from them to their fields, in paths of source locations.
_MESSAGES, _FIELDS = 4, 2


def compile_contract(proto: Path) -> FileDescriptorProto:
    """The contract with its comments. Needs protoc, which is in the development environment."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "contract.bin"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto}", "--include_source_info"]
        subprocess.run([*command, f"--descriptor_set_out={out}", "compute/v1/compute.proto"], check=True)
        return FileDescriptorSet.FromString(out.read_bytes()).file[0]


def make_schemas(contract: FileDescriptorProto) -> dict[str, Schema]:
    """One schema a message, by its name with `Compute` in front."""
    comments = {
        tuple(location.path): (location.leading_comments or location.trailing_comments).strip()
        for location in contract.source_code_info.location
    }
    return {
        f"Compute{message.name}": _make_message(message, comments, (_MESSAGES, index))
        for index, message in enumerate(contract.message_type)
    }


def _make_message(message: DescriptorProto, comments: dict[tuple[int, ...], str], path: tuple[int, ...]) -> Schema:
    maps = {entry.name: entry for entry in message.nested_type if entry.options.map_entry}
    properties = {
        field.json_name: _describe(_make_field(field, maps), comments.get((*path, _FIELDS, index), ""))
        for index, field in enumerate(message.field)
    }
    return _describe({"type": "object", "properties": properties}, comments.get(path, ""))


def _make_field(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> Schema:
    name = field.type_name.rpartition(".")[2]
    if name in maps:
        return {"type": "object", "additionalProperties": _make_one(maps[name].field[1])}
    one = _make_one(field)
    return {"type": "array", "items": one} if field.label == _TYPES.LABEL_REPEATED else one


def _make_one(field: FieldDescriptorProto) -> Schema:
    if field.type == _TYPES.TYPE_MESSAGE:
        return {"$ref": f"#/components/schemas/Compute{field.type_name.rpartition('.')[2]}"}
    return dict(_SCALARS[field.type])


def _describe(schema: Schema, comment: str) -> Schema:
    text = " ".join(comment.split())
    return {**schema, "description": text} if text else schema
