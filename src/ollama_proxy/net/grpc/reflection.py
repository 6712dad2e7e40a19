"""gRPC server reflection, v1 and v1alpha: the two have the same fields and numbers, so one handler serves both.

The few messages are read and written by field number here; no generated code is needed for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

from ollama_proxy.net.grpc.call import GrpcCall

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
REFLECTION_METHODS = tuple(f"/{service}/ServerReflectionInfo" for service in SERVICES)
_REQUEST_FIELDS = {1: "host", 3: "file_by_filename", 4: "file_containing_symbol", 7: "list_services"}
_NOT_FOUND = 5
_INVALID = 3


class Reflection:
    """Answers reflection requests for the services that are to be seen."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = tuple(sorted((*services, *SERVICES)))
        # A pool of our own: the process's is anybody's, and somebody may bring the real descriptors of reflection.
        self._pool = descriptor_pool.DescriptorPool()
        known = descriptor_pool.Default()
        for service in services:
            for file in reversed(_gather(known.FindFileContainingSymbol(service))):
                self._pool.AddSerializedFile(file.serialized_pb)
        for name in SERVICES:
            self._pool.Add(_describe_service(name))

    def serve(self, call: GrpcCall) -> None:
        """Answer each message of a call as it comes."""
        call.on_message = lambda request: call.send_message(self.answer(request))
        call.on_half_close = call.finish

    def answer(self, request: bytes) -> bytes:
        """One response message for one request message."""
        fields = dict(_read_fields(request))
        host = fields.get(1, b"")
        return _field(1, host) + _field(2, request) + self._answer(fields)

    def _answer(self, fields: dict[int, bytes]) -> bytes:
        if 7 in fields:
            return _field(6, b"".join(_field(1, _field(1, name.encode())) for name in self._services))
        try:
            if 3 in fields:
                return _files(self._pool.FindFileByName(fields[3].decode()))
            if 4 in fields:
                return _files(self._find_symbol(fields[4].decode()))
        except (KeyError, UnicodeDecodeError):
            return _error(_NOT_FOUND, "symbol or file not found")
        if 5 in fields or 6 in fields:
            return _error(_NOT_FOUND, "there are no extensions")
        return _error(_INVALID, "unknown reflection request")

    def _find_symbol(self, symbol: str) -> FileDescriptor:
        """The file of a symbol. The pool does not find methods by name: they are looked for in their service."""
        try:
            found: FileDescriptor = self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            owner = self._pool.FindServiceByName(service)
            if method not in owner.methods_by_name:
                raise
            return owner.file
        return found


def _describe_service(service: str) -> FileDescriptorProto:
    """The descriptor of a reflection service; its two messages are described as far as clients print them."""
    package, _, name = service.rpartition(".")
    file = FileDescriptorProto(name=f"{package.replace('.', '/')}/reflection.proto", package=package, syntax="proto3")
    request = file.message_type.add(name="ServerReflectionRequest")
    for number, field in _REQUEST_FIELDS.items():
        request.field.add(name=field, number=number, type=FieldDescriptorProto.TYPE_STRING, label=1)
    answer = file.message_type.add(name="ServerReflectionResponse")
    answer.field.add(name="valid_host", number=1, type=FieldDescriptorProto.TYPE_STRING, label=1)
    method = file.service.add(name=name).method.add(name="ServerReflectionInfo")
    method.input_type = f".{package}.ServerReflectionRequest"
    method.output_type = f".{package}.ServerReflectionResponse"
    method.client_streaming = method.server_streaming = True
    return file


def _files(file: FileDescriptor) -> bytes:
    """A file and everything it imports, each once."""
    return _field(4, b"".join(_field(1, _with_json_names(one)) for one in _gather(file)))


def _gather(file: FileDescriptor) -> list[FileDescriptor]:
    """A file and everything it imports, each once and before what it imports."""
    found: dict[str, FileDescriptor] = {}
    waiting = [file]
    while waiting:
        one = waiting.pop()
        found.pop(one.name, None)
        found[one.name] = one
        waiting.extend(one.dependencies)
    return list(found.values())


def _with_json_names(file: FileDescriptor) -> bytes:
    """The file's descriptor with the JSON name of every field.

    Python's generated code leaves them out, and clients that print JSON by reflection then show the wrong names.
    """
    proto = FileDescriptorProto.FromString(file.serialized_pb)
    waiting = list(proto.message_type)
    while waiting:
        message = waiting.pop()
        waiting.extend(message.nested_type)
        for field in message.field:
            field.json_name = field.json_name or _camel_case(field.name)
    return proto.SerializeToString()


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _error(code: int, message: str) -> bytes:
    return _field(7, b"\x08" + bytes([code]) + _field(2, message.encode()))


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The length-delimited fields of a message; what cannot be read ends it."""
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        if key & 7 == 2:
            length, position = _read_varint(message, position)
            yield key >> 3, message[position : position + length]
            position += length
        elif key & 7 == 0:
            _, position = _read_varint(message, position)
        else:
            return


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while position < len(message):
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128 or shift > 63:
            break
        shift += 7
    return value, position
