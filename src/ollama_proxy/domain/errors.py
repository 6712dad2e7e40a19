"""Errors of a request, and failures of one attempt at a backend.

An error knows its kind and where it happened; each API renders it in its own dialect from those two alone.
"""

from __future__ import annotations

import enum
import re

import msgspec


class ErrorKind(enum.Enum):
    """What went wrong with a request, in words that every dialect can express."""

    INVALID_REQUEST = "invalid_request"
    TOO_LARGE = "too_large"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MODEL_NOT_FOUND = "model_not_found"
    NO_HEALTHY_BACKEND = "no_healthy_backend"
    LIMITS_EXCLUDE_ALL = "limits_exclude_all"
    #: There is no room here for anybody; it passes.
    OVERLOADED = "overloaded"
    #: This client, or the backend's account, has had what it may.
    RATE_LIMITED = "rate_limited"
    DEADLINE = "deadline"
    BACKEND_FAILED = "backend_failed"
    BACKEND_REFUSED = "backend_refused"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"

    @property
    def http_status(self) -> int:
        """The status of this kind in every HTTP dialect."""
        return _HTTP_STATUS[self]


_HTTP_STATUS = {
    ErrorKind.INVALID_REQUEST: 400,
    ErrorKind.TOO_LARGE: 413,
    ErrorKind.UNAUTHENTICATED: 401,
    ErrorKind.PERMISSION_DENIED: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.METHOD_NOT_ALLOWED: 405,
    ErrorKind.MODEL_NOT_FOUND: 404,
    ErrorKind.NO_HEALTHY_BACKEND: 503,
    # As gRPC's FAILED_PRECONDITION: the request is refused as it stands, and asking again changes nothing.
    ErrorKind.LIMITS_EXCLUDE_ALL: 400,
    ErrorKind.OVERLOADED: 503,
    ErrorKind.RATE_LIMITED: 429,
    ErrorKind.DEADLINE: 504,
    ErrorKind.BACKEND_FAILED: 502,
    ErrorKind.BACKEND_REFUSED: 400,
    ErrorKind.UNIMPLEMENTED: 501,
    ErrorKind.INTERNAL: 500,
}


class ProxyError(Exception):
    """A request that ends without a full answer.

    `status`, `body` and `content_type` are set when a backend refused the request itself, or when all that were asked
    failed with the same answer: an API of the same dialect passes them on as they came. `told` says that the client has
    read of it in the stream already.
    `quotes` are what of the message a backend has written: it may repeat the request, and is for whoever asked alone.
    `nearest` are names of models that resemble one that was not found. `decision_id` names the decision that it came
    of, as `X-Decision-ID` does; "" where none was taken.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        *,
        backend: str = "",
        status: int = 0,
        body: bytes = b"",
        content_type: bytes = b"",
        retry_after_s: float = 0.0,
        told: bool = False,
        nearest: tuple[str, ...] = (),
        quotes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.backend = backend
        self.status = status
        self.body = body
        self.content_type = content_type
        self.retry_after_s = retry_after_s
        self.told = told
        self.nearest = nearest
        self.quotes = quotes
        self.decision_id = ""

    @property
    def public(self) -> str:
        """The message as logs and pages may show it."""
        return _leave_out(self.message, self.quotes)


class FailureKind(enum.Enum):
    """How one attempt at one backend ended badly."""

    REFUSED = "connection refused"
    UNREACHABLE = "unreachable"
    RESET = "connection reset"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate limited"
    SERVER_ERROR = "server error"
    MODEL_MISSING = "model missing"
    REJECTED = "request rejected"
    PROMPT_TOO_LONG = "prompt too long"
    GARBAGE = "unreadable answer"
    CUT = "answer cut off"
    #: A well server that cannot do this one thing, as it found out only when it was asked.
    UNABLE = "unable to do it"
    OUR_FAULT = "internal error"

    @property
    def retryable(self) -> bool:
        """Whether another backend may do better: a request that is itself at fault fails everywhere."""
        return self not in (FailureKind.REJECTED, FailureKind.OUR_FAULT)

    @property
    def blames_backend(self) -> bool:
        """Whether the backend's health should suffer for it."""
        return self not in _BLAMELESS


_BLAMELESS = frozenset(
    (
        FailureKind.REJECTED,
        FailureKind.PROMPT_TOO_LONG,
        FailureKind.MODEL_MISSING,
        FailureKind.RATE_LIMITED,
        FailureKind.UNABLE,
        FailureKind.OUR_FAULT,
    )
)


class Failure(msgspec.Struct, frozen=True):
    """One failed attempt: its kind, a clause for people, and what the backend said.

    `quote` is what of the clause the backend has written: it may repeat the request.
    """

    kind: FailureKind
    message: str
    status: int = 0
    body: bytes = b""
    content_type: bytes = b""
    retry_after_s: float = 0.0
    #: The client has it already, in the backend's own words.
    told: bool = False
    quote: str = ""

    @property
    def public(self) -> str:
        """The clause as others than the client may read it."""
        return _leave_out(self.message, (self.quote,))


#: What servers say of themselves and of no request: whoever runs them has to know it.
_OF_ITSELF = re.compile(
    r"out of memory|requires more system memory|runner process (?:has )?(?:terminated|no longer running)|CUDA error"
    r"|maximum pending requests exceeded|overloaded|failed to load model|error loading model|rate limit|quota"
    r"|invalid api key|unauthorized|timed out|unexpected EOF|connection refused",
    re.IGNORECASE,
)


def _leave_out(message: str, quotes: tuple[str, ...]) -> str:
    """Without quotes, but for words of theirs that are no request's."""
    for quote in quotes:
        if quote:
            known = _OF_ITSELF.search(quote)
            told = known[0] if known else ""
            message = message.replace(f": {quote}", f": {told}" if told else "").replace(quote, told or "an error")
    return message
