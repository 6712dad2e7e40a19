"""Refusals and failures as the errors that end a request."""

from __future__ import annotations

from typing import assert_never

from ollama_proxy.domain.decision import Limit, Refusal, RefusalKind
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind, ProxyError


def error_of_refusal(refusal: Refusal) -> ProxyError:
    """The error of a decision that found nobody."""
    match refusal.kind:
        case RefusalKind.UNKNOWN_TARGET:
            kind = ErrorKind.INVALID_REQUEST
        case RefusalKind.NO_HEALTHY:
            kind = ErrorKind.NO_HEALTHY_BACKEND
        case RefusalKind.MODEL_NOWHERE:
            kind = ErrorKind.MODEL_NOT_FOUND
        case RefusalKind.LIMITS:
            kind = ErrorKind.LIMITS_EXCLUDE_ALL
        case _:
            assert_never(refusal.kind)
    return ProxyError(kind, refusal.message)


def error_of_failure(backend: str, failure: Failure, refusal: Refusal | None = None) -> ProxyError:
    """The error of a last failed attempt; with the refusal that followed, when nobody else could be asked."""
    others = _others(refusal, backend)
    message = f"backend {backend}: {failure.message}{others}"
    match failure.kind:
        case FailureKind.REJECTED:
            return ProxyError(
                ErrorKind.BACKEND_REFUSED,
                failure.message,
                backend=backend,
                status=failure.status,
                body=failure.body,
                content_type=failure.content_type,
            )
        case FailureKind.RATE_LIMITED:
            kind = ErrorKind.OVERLOADED
        case FailureKind.MODEL_MISSING:
            kind = ErrorKind.MODEL_NOT_FOUND
        case FailureKind.REFUSED | FailureKind.UNREACHABLE:
            kind = ErrorKind.NO_HEALTHY_BACKEND
            message = f"No healthy backends available: {backend}: {failure.message}{others}"
        case FailureKind.TIMEOUT | FailureKind.RESET | FailureKind.SERVER_ERROR | FailureKind.GARBAGE | FailureKind.CUT:
            kind = ErrorKind.BACKEND_FAILED
        case _:
            assert_never(failure.kind)
    if refusal is not None and any(rejection.limit is Limit.POWER for rejection in refusal.rejections):
        # Within a power limit an empty fleet is the limit's doing as well: say so, as without the attempt.
        kind = ErrorKind.LIMITS_EXCLUDE_ALL
    return ProxyError(kind, message, backend=backend, retry_after_s=failure.retry_after_s)


def _others(refusal: Refusal | None, backend: str) -> str:
    if refusal is None:
        return ""
    told = [
        f"{rejection.backend}: {rejection.detail}"
        for rejection in refusal.rejections
        if rejection.backend != backend and rejection.limit is not Limit.NOT_TARGET
    ]
    return "; " + "; ".join(told) if told else ""
