"""One request's life: attempts, retries, the end. A state machine without I/O, clock or dice.

```
DECIDING --opened--> WAITING --first_byte--> STREAMING --ended--> OVER
   ^                    |                        |
   +------failed--------+                        |
   +------broke, to go on behind what was sent---+--failed, left--> OVER
   +------made_way, for a more urgent request----+
```

After the first byte nothing is tried again: what the client holds cannot be taken back. Another backend may go on
behind it, where that can be done (`continuation`).
"""

from __future__ import annotations

import enum

from ollama_proxy.domain.decision import Refusal
from ollama_proxy.domain.errors import Failure, FailureKind, ProxyError
from ollama_proxy.lifecycle.errors import error_of_failures, error_of_refusal
from ollama_proxy.lifecycle.retry_budget import PER_S, SHARE

MAX_ATTEMPTS = 3


class State(enum.Enum):
    """Where a request stands."""

    DECIDING = "deciding"
    WAITING = "waiting"
    STREAMING = "streaming"
    OVER = "over"


# An enum's member costs a look-up through its metaclass; these are looked at several times a request.
_DECIDING, _WAITING, _STREAMING, _OVER = State.DECIDING, State.WAITING, State.STREAMING, State.OVER
_NOBODY: frozenset[str] = frozenset()
_COST_NOTHING = (FailureKind.REFUSED, FailureKind.UNREACHABLE)
_NO_MORE = f"; not tried again, since too much is: {SHARE:.0%} of requests and {PER_S:g} a second are the limit"


class Life:
    """The attempts of one request."""

    __slots__ = (
        "_excused",
        "_max_attempts",
        "attempts",
        "backend",
        "failures",
        "is_retry",
        "made_way_for",
        "resends",
        "state",
        "tried",
    )

    def __init__(self, max_attempts: int = MAX_ATTEMPTS) -> None:
        self._max_attempts = max_attempts
        self.state = _DECIDING
        self.tried = _NOBODY
        self.attempts = 0
        #: How often an attempt was sent once more over another connection.
        self.resends = 0
        #: How often it was broken off for somebody else.
        self.made_way_for = 0
        #: Attempts, and sendings, up to the last time, but for failures.
        self._excused = 0
        #: Whether the next attempt is made because others have failed.
        self.is_retry = False
        self.backend = ""
        self.failures: tuple[tuple[str, Failure], ...] = ()

    def opened(self, backend: str) -> None:
        """An attempt at `backend` is under way."""
        self.state = _WAITING
        self.attempts += 1
        self.is_retry = True
        self.backend = backend
        self.tried = self.tried | {backend} if self.tried else frozenset((backend,))

    def hedged(self, backend: str) -> None:
        """A second attempt is under way beside the first."""
        self.attempts += 1
        self.tried = self.tried | {backend}

    def first_byte(self) -> None:
        """The client gets the first byte of an answer."""
        self.state = _STREAMING

    def failed(self, failure: Failure, *, may_retry: bool = True) -> ProxyError | None:
        """The attempt failed: the error to end with, or None to decide again.

        Without `may_retry` there are too many attempts already; those that cost no backend any work are free.
        """
        streaming = self.state is _STREAMING
        self.failures = (*self.failures, (self.backend, failure))
        if streaming or not failure.kind.retryable or not self.may_try:
            self.state = _OVER
            return error_of_failures(self.failures)
        if not may_retry and failure.kind not in _COST_NOTHING:
            self.state = _OVER
            return _refuse_retry(error_of_failures(self.failures))
        self.state = _DECIDING
        return None

    def broke(self, failure: Failure) -> None:
        """The stream broke off, and somebody else is to go on behind it."""
        self.failures = (*self.failures, (self.backend, failure))
        self.state = _DECIDING

    def made_way(self) -> None:
        """The attempt was broken off for somebody else: nobody has failed, and it may go on where it was."""
        self.tried = self.tried - {self.backend}
        self._excused = self.attempts + self.resends - len(self.failures)
        self.made_way_for += 1
        self.is_retry = False
        self.state = _DECIDING

    @property
    def _used(self) -> int:
        """Attempts that count: neither those that made way, nor how often they were sent."""
        return self.attempts + self.resends - self._excused

    @property
    def may_try(self) -> bool:
        """Whether there is an attempt left."""
        return self._used < self._max_attempts

    @property
    def may_resend(self) -> bool:
        """Whether the attempt may be sent once more: also where nobody else is to be asked, for a connection may be
        closed at any time."""
        return self._used < max(2, self._max_attempts)

    def resent(self) -> None:
        """The attempt was sent once more, over another connection."""
        self.resends += 1

    def refused(self, refusal: Refusal) -> ProxyError:
        """Nobody can take it. After failed attempts the last failure tells the client more than an empty list."""
        self.state = _OVER
        if self.failures:
            return error_of_failures(self.failures, refusal)
        return error_of_refusal(refusal)

    def ended(self) -> None:
        """The answer is complete."""
        self.state = _OVER

    def left(self) -> bool:
        """The client has gone; whether there is still something to stop."""
        running = self.state is not _OVER
        self.state = _OVER
        return running


def _refuse_retry(error: ProxyError) -> ProxyError:
    """The same in our own words, which say why nobody else was asked."""
    error.message += _NO_MORE
    error.status, error.body, error.content_type = 0, b"", b""
    error.retry_after_s = max(1.0, error.retry_after_s)
    return error
