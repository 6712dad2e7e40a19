"""Refusals and failures as the errors that end a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from ollama_proxy.domain.decision import Limit, Refusal, RefusalKind
from ollama_proxy.domain.errors import ErrorKind, Failure, FailureKind, ProxyError

_TOO_LONG = FailureKind.PROMPT_TOO_LONG


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
        case RefusalKind.BUSY:
            kind = ErrorKind.OVERLOADED
        case _:
            assert_never(refusal.kind)
    return ProxyError(kind, refusal.message, nearest=refusal.nearest, retry_after_s=refusal.retry_after_s)


def error_of_failures(failures: Sequence[tuple[str, Failure]], refusal: Refusal | None = None) -> ProxyError:
    """The error after failed attempts, each as (backend, failure); the last one decides the kind.

    `refusal` is the decision that followed when nobody else could be asked. A prompt that is too long for one says
    nothing of the others, so that it decides only where all said so.
    """
    backend, failure = next((one for one in reversed(failures) if one[1].kind is not _TOO_LONG), failures[-1])
    if failure.kind in (FailureKind.REJECTED, _TOO_LONG):
        return ProxyError(
            ErrorKind.BACKEND_REFUSED,
            failure.message,
            backend=backend,
            status=failure.status,
            body=failure.body,
            content_type=failure.content_type,
            quotes=(failure.quote,),
        )
    kind = _kind_of(failure.kind, refusal)
    told = "; ".join([*(f"{name}: {one.message}" for name, one in failures), *_others(failures, refusal)])
    start = "No healthy backends available" if kind is ErrorKind.NO_HEALTHY_BACKEND else "no backend could answer"
    return ProxyError(
        kind,
        f"{start}: {told}",
        backend=backend,
        retry_after_s=failure.retry_after_s,
        told=failure.told,
        quotes=tuple([one.quote for _, one in failures]),
        **_words_of_all(failures),
    )


def _words_of_all(failures: Sequence[tuple[str, Failure]]) -> dict[str, Any]:
    """The answer of the backends where all that were asked gave the same."""
    _, last = failures[-1]
    if not last.body or any((one.status, one.body) != (last.status, last.body) for _, one in failures):
        return {}
    return {"status": last.status, "body": last.body, "content_type": last.content_type}


def _kind_of(failure: FailureKind, refusal: Refusal | None) -> ErrorKind:
    match failure:
        case FailureKind.RATE_LIMITED:
            return ErrorKind.RATE_LIMITED
        case FailureKind.MODEL_MISSING:
            return ErrorKind.MODEL_NOT_FOUND
        case FailureKind.REJECTED | FailureKind.PROMPT_TOO_LONG:
            return ErrorKind.BACKEND_REFUSED
        case FailureKind.REFUSED | FailureKind.UNREACHABLE:
            return _kind_of_silence(refusal)
        case (
            FailureKind.TIMEOUT
            | FailureKind.RESET
            | FailureKind.SERVER_ERROR
            | FailureKind.GARBAGE
            | FailureKind.CUT
            | FailureKind.UNABLE
        ):
            return ErrorKind.BACKEND_FAILED
        case FailureKind.OUR_FAULT:
            return ErrorKind.INTERNAL
        case _:
            assert_never(failure)


def _kind_of_silence(refusal: Refusal | None) -> ErrorKind:
    """Nothing listens there; what that means depends on why nobody else was asked."""
    if refusal is not None and refusal.kind is RefusalKind.NO_HEALTHY:
        return ErrorKind.NO_HEALTHY_BACKEND
    if refusal is not None and refusal.kind is RefusalKind.LIMITS:
        return ErrorKind.LIMITS_EXCLUDE_ALL
    return ErrorKind.BACKEND_FAILED


def _others(failures: Sequence[tuple[str, Failure]], refusal: Refusal | None) -> list[str]:
    """Why each backend that was not asked could not be."""
    asked = {name for name, _ in failures}
    return [
        f"{rejection.backend}: {rejection.detail}"
        for rejection in (refusal.rejections if refusal else ())
        if rejection.backend not in asked and rejection.limit is not Limit.NOT_TARGET
    ]
