"""The translate lane for the rest of an answer that another backend has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Finished, Progress, TextDelta
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import AttemptSink
from ollama_proxy.net.lanes.seam import Cutter
from ollama_proxy.net.lanes.translate_lane import DecodedAttempt, Decoder


class RestOfAnswer(DecodedAttempt):
    """What a server refuses here is no fault of the request: others took it as it was, and still others may go on."""

    def _status_failure(self) -> Failure:
        failure = super()._status_failure()
        if failure.kind is not FailureKind.REJECTED:
            return failure
        return msgspec.structs.replace(failure, kind=FailureKind.UNABLE)


class UnableAttempt:
    """One that fails before anything is sent, in the next turn of the loop."""

    relayed = 0

    def __init__(self, sink: AttemptSink, why: str) -> None:
        """`why` is a clause for people."""
        failure = Failure(FailureKind.UNABLE, why)
        self._telling = asyncio.get_running_loop().call_soon(sink.on_failure, failure)

    def abort(self) -> None:
        """Say nothing."""
        self._telling.cancel()

    def pause(self) -> None:
        """Nothing is read."""

    def resume(self) -> None:
        """Nothing is read."""

    def kept_bytes(self) -> int:
        """Nothing is kept."""
        return 0

    def read_kept(self) -> None:
        """Nothing is kept."""

    def give_up_kept(self) -> None:
        """Nothing is kept."""

    def wrote_plain_text(self) -> bool:
        """Nothing was."""
        return False

    def take_over(self) -> Progress | None:
        """It never began."""
        return None


class CutDecoder:
    """A decoder whose text goes through a cutter."""

    def __init__(self, decoder: Decoder, cutter: Cutter) -> None:
        self._decoder = decoder
        self._cutter = cutter

    @property
    def calling(self) -> bool:
        """As the decoder says."""
        return self._decoder.calling

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        """The events that `data` completes."""
        return self._cut(self._decoder.feed(data))

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        """The last events, with what was held back, and the end."""
        return self._close(*self._decoder.end())

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        """As the decoder says."""
        return self._close(*self._decoder.settle())

    def _close(
        self, events: Sequence[AnswerEvent], finished: Finished | None
    ) -> tuple[Sequence[AnswerEvent], Finished | None]:
        last = self._cut(events)
        held = self._cutter.rest()
        return [*last, TextDelta(held)] if held else last, finished

    def _cut(self, events: Sequence[AnswerEvent]) -> Sequence[AnswerEvent]:
        if self._cutter.is_done:
            return events
        cut: list[AnswerEvent] = []
        for event in events:
            if not isinstance(event, TextDelta):
                cut.append(event)
            elif text := self._cutter.feed(event.text):
                cut.append(TextDelta(text))
        return cut
