"""gRPC's status codes in the words and the HTTP statuses that other ways to carry a call have for them."""

from __future__ import annotations

OK = 0
CANCELLED = 1
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
INTERNAL = 13
UNAUTHENTICATED = 16

#: Name and HTTP status of each code, by number: google/rpc/code.proto, which Connect shares but for one word.
_CODES = (
    ("OK", 200),
    ("CANCELLED", 499),
    ("UNKNOWN", 500),
    ("INVALID_ARGUMENT", 400),
    ("DEADLINE_EXCEEDED", 504),
    ("NOT_FOUND", 404),
    ("ALREADY_EXISTS", 409),
    ("PERMISSION_DENIED", 403),
    ("RESOURCE_EXHAUSTED", 429),
    ("FAILED_PRECONDITION", 400),
    ("ABORTED", 409),
    ("OUT_OF_RANGE", 400),
    ("UNIMPLEMENTED", 501),
    ("INTERNAL", 500),
    ("UNAVAILABLE", 503),
    ("DATA_LOSS", 500),
    ("UNAUTHENTICATED", 401),
)
_UNKNOWN = 2
CODE_NAMES = tuple(name for name, _ in _CODES)


def code_name(code: int) -> str:
    """`NOT_FOUND`; a number that is no code is `UNKNOWN`."""
    return _CODES[code if 0 <= code < len(_CODES) else _UNKNOWN][0]


def code_status(code: int) -> int:
    """The HTTP status of a code."""
    return _CODES[code if 0 <= code < len(_CODES) else _UNKNOWN][1]


def connect_name(code: int) -> str:
    """`not_found`: Connect writes them small, and `canceled` with one l."""
    return "canceled" if code == CANCELLED else code_name(code).lower()
