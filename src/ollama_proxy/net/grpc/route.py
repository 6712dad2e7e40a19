"""What a request's head means to gRPC: method, metadata, deadline, encoding. Read once for all equal heads."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from ollama_proxy.net.grpc.call import GrpcMethod, Metadata
from ollama_proxy.net.grpc.status import INTERNAL, UNIMPLEMENTED
from ollama_proxy.net.http2.head import RequestHead

_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
#: Metadata that is gRPC's or HTTP's own.
_RESERVED = frozenset((b"te", b"content-type", b"content-length", b"accept-encoding"))


@dataclass(frozen=True, slots=True)
class GrpcRoute:
    """Where a call goes. `refusal` is the code, the text and further trailers of a call that cannot be served."""

    method: GrpcMethod | None = None
    metadata: Metadata = ()
    timeout_s: float | None = None
    gzip: bool = False
    refusal: tuple[int, str, tuple[tuple[str, str], ...]] | None = None


def is_grpc(head: RequestHead) -> bool:
    """Whether a request is a gRPC call, as far as its head tells."""
    if head.method != b"POST":
        return False
    for name, value in head.fields:
        if name == b"content-type":
            kind = value.partition(b";")[0].strip()
            return kind in (b"application/grpc", b"application/grpc+proto")
    return False


def read_route(head: RequestHead, methods: Mapping[bytes, GrpcMethod], list_bytes: int) -> GrpcRoute:
    """The route of a call's head. `list_bytes` is the largest header list that is served."""
    if head.list_bytes > list_bytes:
        return GrpcRoute(refusal=(8, f"the metadata is larger than {list_bytes} bytes", ()))
    method = methods.get(head.path)
    if method is None:
        path = head.path[:200].decode("latin-1")
        return GrpcRoute(refusal=(UNIMPLEMENTED, f"unknown method {path}", ()))
    encoding, timeout_s = b"identity", None
    metadata: list[tuple[str, str | bytes]] = []
    for name, value in head.fields:
        if name == b"grpc-encoding":
            encoding = value
        elif name == b"grpc-timeout":
            timeout_s = read_timeout(value)
            if timeout_s is None:
                return GrpcRoute(refusal=(INTERNAL, f"malformed grpc-timeout {value[:20]!r}", ()))
        elif not name.startswith(b"grpc-") and name not in _RESERVED:
            metadata.append(read_field(name, value))
    if encoding not in (b"identity", b"gzip"):
        text = f"messages encoded with {encoding[:20].decode('latin-1')!r} cannot be read"
        return GrpcRoute(refusal=(UNIMPLEMENTED, text, (("grpc-accept-encoding", "identity,gzip"),)))
    return GrpcRoute(method, tuple(metadata), timeout_s, encoding == b"gzip")


def read_timeout(value: bytes) -> float | None:
    """Seconds of a `grpc-timeout`, or None when it is malformed."""
    unit = _UNITS_S.get(value[-1:])
    digits = value[:-1]
    if unit is None or not 1 <= len(digits) <= 8 or not digits.isdigit():
        return None
    return int(digits) * unit


def read_field(name: bytes, value: bytes) -> tuple[str, str | bytes]:
    """A header field as metadata: bytes where its name says so."""
    text = name.decode("ascii")
    if not name.endswith(b"-bin"):
        return text, value.decode("latin-1")
    try:
        return text, b",".join(b64decode(part + b"=" * (-len(part) % 4)) for part in value.split(b","))
    except binascii.Error:
        return text, b""
