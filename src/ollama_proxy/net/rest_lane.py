"""The translate lane for the rest of an answer that another backend has begun."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from ollama_proxy.domain.answer import AnswerEvent, Finished, Progress, TextDelta
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.domain.ports import AttemptSink
from ollama_proxy.net.translate_lane import DecodedAttempt, Decoder


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

    def take_over(self) -> Progress | None:
        """It never began."""
        return None


class SpaceCutter:
    """A decoder for servers that take no space at the end of what they go on from: the model then begins with it, and
    the client has it already."""

    def __init__(self, decoder: Decoder, space: str) -> None:
        """`space` is what was left out of the request."""
        self._decoder = decoder
        self._space = space

    @property
    def calling(self) -> bool:
        """As the decoder says."""
        return self._decoder.calling

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        """The events that `data` completes."""
        events = self._decoder.feed(data)
        return self._cut(events) if self._space and events else events

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        """The last events and the end."""
        events, finished = self._decoder.end()
        return self._cut(events) if self._space else events, finished

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        """As the decoder says."""
        return self._decoder.settle()

    def _cut(self, events: Sequence[AnswerEvent]) -> Sequence[AnswerEvent]:
        cut: list[AnswerEvent] = []
        for event in events:
            if isinstance(event, TextDelta) and self._space:
                event = TextDelta(self._cut_text(event.text))
                if not event.text:
                    continue
            cut.append(event)
        return cut

    def _cut_text(self, text: str) -> str:
        space = self._space
        same = 0
        while same < min(len(text), len(space)) and text[same] == space[same]:
            same += 1
        # Something else has begun, or there may be more of it in the next piece.
        self._space = space[same:] if same == len(text) else ""
        return text[same:]
