"""One attempt at an HTTP upstream: the request, the answer's head, error bodies and what they mean.

What becomes of the answer is the lane's: `fast_lane.py` hands bytes on as they came, `translate_lane.py` turns them
into events. Both tell exactly one end, and turn a clean end without the dialect's end marker into a failure.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime

from ollama_proxy.domain.answer import Progress
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import AttemptSink
from ollama_proxy.net.bodies.too_long import is_too_long
from ollama_proxy.net.endings.errors import error_text
from ollama_proxy.net.http1.client import Origin, OriginPool, Upload
from ollama_proxy.net.http1.exchange import Headers
from ollama_proxy.net.lanes.framing import EventTooLong

_MAX_ERROR_BYTES = 64 * 1024
_LONGEST_RETRY_S = 86_400.0
#: What Ollama answers with 500 although the request is at fault.
_FAULT_OF_REQUEST = re.compile(
    r'option ".*" must be of |invalid format: |invalid JSON schema in format|template: |'
    r"Failed to create new sequence: no input provided",
    re.DOTALL,
)


#: Where a server may mean the length of the prompt, and what is the client's to change.
_ABOUT_THE_REQUEST = (FailureKind.REJECTED, FailureKind.SERVER_ERROR)
_FAULTS_OF_REQUEST = (FailureKind.REJECTED, FailureKind.PROMPT_TOO_LONG)


class DecodeError(Exception):
    """The upstream's answer cannot be read."""


class UpstreamError(Exception):
    """The upstream reported an error inside its answer."""


class HttpAttempt(Upload):
    """What both lanes share: a request on its way whose answer it hears itself, the head, and error bodies."""

    takes_answers = True
    relayed = 0
    _status = 0
    _over = False
    _content_type = b""
    _retry_after_s = 0.0
    _error_body: bytearray | None = None

    def __init__(self, sink: AttemptSink) -> None:
        self._owner = sink

    @property
    def sink(self) -> HttpAttempt:
        return self

    def send(self, pool: OriginPool, request: bytes) -> HttpAttempt:
        """Send the request; answers come later."""
        self.request = request
        pool.start(self)
        return self

    def may_resend(self) -> bool:
        return self._owner.may_resend()

    def abort(self) -> None:
        self._over = True
        super().abort()

    def kept_bytes(self) -> int:
        """Bytes of the stream so far that are kept as they came."""
        return 0

    def read_kept(self) -> None:
        """Read them, and keep what they say."""

    def give_up_kept(self) -> None:
        """Keep nothing of it any more."""

    def wrote_plain_text(self) -> bool:
        """Whether what went on is text and nothing else, as far as it was read."""
        return False

    def take_over(self) -> Progress | None:
        """How far the stream came, that another may go on behind it; None where that cannot be told."""
        return None

    def on_response(self, status: int, headers: Headers) -> None:
        self._status = status
        index = dict(headers)
        self._content_type = index.get(b"content-type", b"")
        if status < 300:
            self._begin(index.get(b"content-length", b""))
        elif b"retry-after" in index:
            self._retry_after_s = read_retry_after(index[b"retry-after"], time.time())

    def on_body(self, data: bytes) -> None:
        if self._over:
            return
        if self._status >= 300:
            if self._error_body is None:
                self._error_body = bytearray()
            if len(self._error_body) < _MAX_ERROR_BYTES:
                self._error_body += data
            return
        try:
            self._take(data)
        except EventTooLong as error:
            self._fail_and_abort(Failure(FailureKind.GARBAGE, str(error)))
        except DecodeError as error:
            self._fail_and_abort(Failure(FailureKind.GARBAGE, f"unreadable answer: {error}"))
        except UpstreamError as error:
            self._fail_and_abort(failure_in_stream(str(error)))

    def on_answer(self, status: int, headers: Headers, body: bytes) -> None:
        self.on_response(status, headers)
        if body and not self.aborted:
            self.on_body(body)
        if not self.aborted:
            self.on_complete()

    def on_complete(self) -> None:
        if self._over:
            return
        if self._status >= 300:
            self._fail(self._status_failure())
            return
        try:
            self._end()
        except DecodeError as error:
            self._fail(Failure(FailureKind.GARBAGE, f"unreadable answer: {error}"))
        except UpstreamError as error:
            self._fail(failure_in_stream(str(error)))

    def on_error(self, failure: Failure) -> None:
        if not self._over:
            self._fail(failure)

    def _begin(self, length: bytes) -> None:
        raise AssertionError("a lane overrides this")

    def _take(self, data: bytes) -> None:
        raise AssertionError("a lane overrides this")

    def _end(self) -> None:
        raise AssertionError("a lane overrides this")

    def _fail(self, failure: Failure) -> None:
        self._over = True
        self._owner.on_failure(failure)

    def _fail_and_abort(self, failure: Failure) -> None:
        super().abort()
        self._fail(failure)

    def _status_failure(self) -> Failure:
        body = bytes(self._error_body or b"")
        text = error_text(body)
        message = f"HTTP {self._status}" + (f": {text}" if text else "")
        kind = failure_kind(self._status, text)
        if kind in _ABOUT_THE_REQUEST and is_too_long(text, body):
            kind = FailureKind.PROMPT_TOO_LONG
        # What the client did wrong is a 400 to it; Ollama's own words for it are known with their status.
        theirs = self._status < 500 or _FAULT_OF_REQUEST.match(text) is not None
        status = self._status if theirs or kind not in _FAULTS_OF_REQUEST else 400
        return Failure(kind, message, status, body, self._content_type, self._retry_after_s, quote=text)


def read_retry_after(value: bytes, unix_s: float) -> float:
    """Seconds of a `Retry-After` (RFC 9110, 10.2.3), a day at most; 0.0 for one that says nothing."""
    if value.isdigit():
        wait_s = float(value)
    else:
        try:
            wait_s = parsedate_to_datetime(value.decode("latin-1")).timestamp() - unix_s
        except (ValueError, OverflowError):
            return 0.0
    return min(max(0.0, wait_s), _LONGEST_RETRY_S)


def failure_in_stream(message: str) -> Failure:
    """An error that a server tells with status 200."""
    kind = FailureKind.PROMPT_TOO_LONG if is_too_long(message) else FailureKind.SERVER_ERROR
    return Failure(kind, message, quote=message)


def failure_kind(status: int, text: str) -> FailureKind:
    """What an HTTP status of an upstream means for the request (ollama-style 404s name a missing model)."""
    if status == 404:
        return FailureKind.MODEL_MISSING if "model" in text.lower() else FailureKind.REJECTED
    if status in (429, 529):
        # The second is Anthropic's word for overloaded.
        return FailureKind.RATE_LIMITED
    if status in (401, 403):
        return FailureKind.SERVER_ERROR
    # What a server does not do (501) is no illness of it, or one such request would have every server taken for ill.
    if status >= 500 and status != 501:
        return _kind_of_server_error(text)
    return FailureKind.GARBAGE if status < 400 else FailureKind.REJECTED


def _kind_of_server_error(text: str) -> FailureKind:
    # Ollama says 500 to several kinds of bad requests: asking again, or elsewhere, changes nothing.
    if _FAULT_OF_REQUEST.match(text):
        return FailureKind.REJECTED
    return FailureKind.RATE_LIMITED if "maximum pending requests exceeded" in text else FailureKind.SERVER_ERROR


def request_head(origin: Origin, method: bytes, path: bytes, headers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """The constant part of a request head, up to the value of Content-Length."""
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: " + origin.authority.encode("ascii")]
    lines += [b"%b: %b" % header for header in headers]
    return b"\r\n".join(lines) + b"\r\nContent-Length: "


def join_request(head: bytes, body: bytes) -> bytes:
    """A whole request from its constant head and its body."""
    return b"%b%d\r\n\r\n%b" % (head, len(body), body)
