"""One connection to an upstream, carrying one request at a time, its answer told to a sink as the bytes come in."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, cast

from ollama_proxy.domain.errors import Failure, FailureKind

from .answer_reader import AnswerReader, BadAnswer

if TYPE_CHECKING:
    from .client import OriginPool, ResponseSink, Upload

_log = logging.getLogger(__name__)

#: A connection that was closed before we used it says so within a round trip.
_STALE_S = 0.1


class UpstreamConnection(asyncio.Protocol):
    """The protocol object of one upstream connection."""

    __slots__ = (
        "_begun",
        "_carried_s",
        "_head_done",
        "_lost",
        "_paused",
        "_pool",
        "_reader",
        "_reused",
        "_sink",
        "_upload",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, pool: OriginPool) -> None:
        self._pool = pool
        self._reader = AnswerReader()
        self._upload: Upload | None = None
        self._sink: ResponseSink
        self._reused = False
        #: When the last request was sent, on a connection that had carried another before.
        self._carried_s = 0.0
        self._lost = False
        self._paused = False
        self._begun = False
        self._head_done = False

    def is_usable(self) -> bool:
        """Whether another request may be sent on it."""
        return not self._lost and self._upload is None and not self.transport.is_closing()

    @property
    def idle(self) -> bool:
        """Whether it carries nothing."""
        return self._upload is None

    def carry(self, upload: Upload, *, reused: bool) -> None:
        """Send a request."""
        self._upload = upload
        self._sink = upload.sink
        self._reused = reused
        if reused:
            self._carried_s = asyncio.get_running_loop().time()
        self._begun = self._head_done = False
        self._reader.begin()
        upload.attach(self)
        self.transport.write(upload.request)

    def write(self, data: bytes) -> None:
        """Send a further part of the request."""
        self.transport.write(data)

    @property
    def unsent_bytes(self) -> int:
        """What of the request waits to be sent."""
        return self.transport.get_write_buffer_size()

    def abort(self) -> None:
        """Drop the connection; whatever it carried hears nothing."""
        self._upload = None
        self._lost = True
        self.transport.abort()

    def pause(self) -> None:
        """Stop reading."""
        self._paused = True
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        self._paused = False
        if not self.transport.is_closing():
            self.transport.resume_reading()

    # -- transport callbacks -------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._pool.open += 1

    def data_received(self, data: bytes) -> None:
        upload = self._upload
        if upload is None:
            # Bytes nobody asked for must never become the start of the next answer.
            self._lost = True
            self.transport.abort()
            return
        chunked = self._reader.chunked
        try:
            if chunked is not None and (begin := chunked.find_chunk(data)):
                upload.on_chunk(data, begin)
            else:
                self._read(upload, data)
        except BadAnswer as error:
            self._break(FailureKind.GARBAGE, f"unreadable HTTP answer: {error}")
        except Exception:  # noqa: BLE001  # the root of an answer: a fault of ours must not look like the backend's
            _log.exception("an answer of %s could not be passed on", self._pool.origin.authority)
            self._break_by_us()

    def _read(self, upload: Upload, data: bytes) -> None:
        reader = self._reader
        if not self._head_done:
            self._begun = True
            rest = reader.read_head(data, of_head=upload.request.startswith(b"HEAD "))
            if reader.continued:
                upload.may_send()
                if self._upload is not upload:
                    return
            if rest is None:
                return
            self._head_done = True
            upload.request = b""  # sent, and never again: a long prompt is not kept for as long as its answer streams
            if upload.takes_answers and reader.ends_with(rest):
                upload.on_answer(reader.status, reader.fields, rest)
                if self._upload is upload:
                    self._let_go(upload)
                return
            self._sink.on_response(reader.status, reader.fields)
            data = rest
            if self._upload is not upload:
                return
        if data and (body := reader.read_body(data)):
            self._sink.on_body(body)
            if self._upload is not upload:
                return
        if reader.fault:
            self._break(FailureKind.GARBAGE, f"unreadable HTTP answer: {reader.fault}")
        elif reader.done:
            self._complete(upload)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self._upload is not None:
            self._upload.send_buffer(full=True)

    def resume_writing(self) -> None:
        if self._upload is not None:
            self._upload.send_buffer(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._pool.forget(self)
        upload, self._upload = self._upload, None
        if upload is None or upload.aborted:
            return
        upload.detach()
        if self._head_done and self._reader.by_close and exc is None:
            upload.sink.on_complete()
        elif self._reused and not self._begun and upload.attempts == 1 and self._is_stale() and upload.may_resend():
            # The server closed an idle connection as we used it: nothing was read of the request, a fresh one is safe.
            self._pool.start(upload)
        elif self._head_done:
            upload.sink.on_error(Failure(FailureKind.CUT, "connection lost in mid-answer"))
        else:
            upload.sink.on_error(Failure(FailureKind.RESET, "connection reset"))

    def _is_stale(self) -> bool:
        """Whether it went so soon after the request was sent that the server cannot have worked on it.

        Later than that the request may have been read: then it has failed, and whoever asked decides what to do.
        """
        return asyncio.get_running_loop().time() - self._carried_s < _STALE_S

    # -- ends ----------------------------------------------------------------

    def _complete(self, upload: Upload) -> None:
        sink = self._sink
        self._let_go(upload)
        sink.on_complete()

    def _let_go(self, upload: Upload) -> None:
        """The answer is whole: the connection waits for the next request, or closes."""
        self._upload = None
        del self._sink
        upload.detach()
        reader = self._reader
        if reader.surplus or upload.unsent:
            self._lost = True
            self.transport.abort()
        elif reader.keep_alive:
            if self._paused:
                self.resume()
            self._pool.release(self)
        else:
            self._lost = True
            self.transport.close()

    def _break(self, kind: FailureKind, message: str) -> None:
        upload, self._upload = self._upload, None
        self._lost = True
        self.transport.abort()
        if upload is not None and not upload.aborted:
            upload.detach()
            upload.sink.on_error(Failure(kind, message))

    def _break_by_us(self) -> None:
        try:
            self._break(FailureKind.OUR_FAULT, "internal error")
        except Exception:  # noqa: BLE001  # it failed already; it may fail at being told so
            _log.exception("nor could its failure be told")
