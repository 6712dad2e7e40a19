"""What the failure of an attempt is to the fleet, and to the request: another attempt, or its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_proxy.app.requests.attempt import OpenAttempt
from ollama_proxy.app.requests.continuing import tell_obstacle
from ollama_proxy.app.requests.lessons import learn_limit
from ollama_proxy.domain.answer import Progress
from ollama_proxy.domain.errors import Failure, FailureKind, ProxyError
from ollama_proxy.lifecycle.life import Life, State

if TYPE_CHECKING:
    from ollama_proxy.app.requests.errand import Errand

_FAILED_WITH_WORDS = 500


def read_progress(attempt: OpenAttempt, failure: Failure, life: Life) -> Progress | None:
    """How far a stream came that broke off, where somebody else might go on."""
    handle = attempt.handle
    if life.state is not State.STREAMING or handle is None or failure.told or not failure.kind.retryable:
        return None
    return handle.take_over()


def count_written(progress: Progress | None) -> int | None:
    """Tokens that an attempt has written which came so far; None where nobody knows."""
    return None if progress is None else progress.tokens


def is_doubtful(failure: Failure) -> bool:
    """Whether every server may say so to a request that is itself at fault."""
    return failure.kind is FailureKind.SERVER_ERROR and failure.status == _FAILED_WITH_WORDS and bool(failure.body)


def blame(errand: Errand, attempt: OpenAttempt, failure: Failure) -> Failure:
    """Book the failure as the backend's; what it is for the request."""
    owner = errand.owner
    backend, model = attempt.backend, attempt.decision.model
    owner.books.blame(backend, model, failure, owner.clock())
    if attempt.resent:
        # It was not the connection, then: the backend has failed it twice.
        owner.books.blame(backend, model, failure, owner.clock())
    if failure.kind is FailureKind.PROMPT_TOO_LONG:
        return learn_limit(owner, errand.request, backend, model, failure, errand.life.tried)
    return failure


def find_error(errand: Errand, failure: Failure) -> ProxyError | None:
    """The error to end with before the first byte of an attempt; None where the request is decided again."""
    owner, cut = errand.owner, errand.cut
    # What the client has already of an answer must not be in vain.
    may_retry = cut is not None or owner.retries.allows(owner.clock())
    error = errand.life.failed(failure, may_retry=may_retry)
    if error is not None and cut is not None:
        tell_obstacle(error, "no attempt is left" if failure.kind.retryable else "the request for the rest failed")
    return error
