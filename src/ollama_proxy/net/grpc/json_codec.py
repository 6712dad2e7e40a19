"""Messages of one method in proto3 JSON, for clients that do not speak protobuf's binary form."""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from ollama_proxy.net.bodies.unreadable import UNREADABLE, tell_unreadable
from ollama_proxy.net.grpc.inflate import BadMessage
from ollama_proxy.net.grpc.status import INVALID_ARGUMENT


class JsonCodec:
    """Both directions of a method. Fields have their lowerCamelCase names; their original ones are read as well."""

    def __init__(self, method: MethodDescriptor) -> None:
        self._request: type[Message] = GetMessageClass(method.input_type)
        self._response: type[Message] = GetMessageClass(method.output_type)

    def read(self, body: bytes) -> bytes:
        """The binary form of a request. Raises `BadMessage` that names the field; unknown fields pass."""
        try:
            document = msgspec.json.decode(body)
        except UNREADABLE as error:
            raise BadMessage(INVALID_ARGUMENT, f"invalid JSON: {tell_unreadable(error)}") from None
        return self.read_document(document)

    def read_document(self, document: Any) -> bytes:
        """As `read`, of decoded JSON."""
        if not isinstance(document, dict):
            raise BadMessage(INVALID_ARGUMENT, "invalid request: expected a JSON object")
        message = self._request()
        try:
            json_format.ParseDict(document, message, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise BadMessage(INVALID_ARGUMENT, f"invalid request: {_shorten(str(error))}") from None
        return message.SerializeToString()

    def write(self, message: bytes, *, every_field: bool = False) -> bytes:
        """A response in JSON; `every_field` shows those at zero, too."""
        return msgspec.json.encode(
            json_format.MessageToDict(
                self._response.FromString(message), always_print_fields_with_no_presence=every_field
            )
        )


def _shorten(text: str) -> str:
    """The parser quotes what it cannot read, whole."""
    return text if len(text) <= 300 else text[:297] + "..."
