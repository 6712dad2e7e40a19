"""The lane for the rest of an answer: what a refusal means there, and the space that one server leaves to the model."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.answer import AnswerEvent, Finished, TextDelta
from ollama_proxy.domain.errors import Failure, FailureKind
from ollama_proxy.net.lanes.rest_lane import CutDecoder, RestOfAnswer, UnableAttempt
from ollama_proxy.net.lanes.seam import Cutter, EchoCutter, SpaceCutter

texts = st.text(alphabet=" \nab", max_size=8)


class Pieces:
    """A decoder whose bytes are its text."""

    calling = False

    def feed(self, data: bytes) -> Sequence[AnswerEvent]:
        return [TextDelta(data.decode())] if data else ()

    def end(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        return [TextDelta("\n")], Finished()

    def settle(self) -> tuple[Sequence[AnswerEvent], Finished | None]:
        return (), None


class Sink:
    """Hears how an attempt ends."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    def on_failure(self, failure: Failure) -> None:
        self.failures.append(failure)


def read(cutter: Cutter, pieces: Sequence[str]) -> str:
    decoder = CutDecoder(Pieces(), cutter)
    events = [event for piece in pieces for event in decoder.feed(piece.encode())] + list(decoder.end()[0])
    return "".join([event.text for event in events if isinstance(event, TextDelta)])


@given(space=st.text(alphabet=" \n", max_size=4), rest=texts, cuts=st.lists(st.integers(0, 12), max_size=4))
def test_space_that_the_client_has_is_cut_however_it_comes(space: str, rest: str, cuts: list[int]) -> None:
    whole = f"{space}x{rest}"
    places = sorted({min(cut, len(whole)) for cut in (0, *cuts, len(whole))})
    pieces = [whole[begin:end] for begin, end in itertools.pairwise(places)]
    assert read(SpaceCutter(space), pieces) == f"x{rest}\n"


@pytest.mark.parametrize(
    ("space", "pieces", "expected"),
    [
        (" ", ["more"], "more\n"),
        ("", ["  more"], "  more\n"),
        (" ", ["\n", " more"], "\n more\n"),
        ("  ", [" ", "more ", " "], "more  \n"),
        ("\n", [], ""),
    ],
)
def test_anything_else_is_the_models_own(space: str, pieces: list[str], expected: str) -> None:
    assert read(SpaceCutter(space), pieces) == expected


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["The sea is wide and deep", ", and"], ", and\n"),
        (["The sea is wide", " and deep, and"], ", and\n"),
        (["The sea is", " blue"], "The sea is blue\n"),
        (["The sea is wide"], "The sea is wide\n"),
        ([" and", " cold"], " and cold\n"),
    ],
)
def test_an_echo_is_cut_and_a_beginning_of_one_is_not(pieces: list[str], expected: str) -> None:
    assert read(EchoCutter("The sea is wide and deep"), pieces) == expected


def test_who_is_unable_says_so_in_a_turn_of_its_own() -> None:
    async def open_one() -> None:
        sink: Any = Sink()
        UnableAttempt(sink, "why")
        assert sink.failures == []
        await asyncio.sleep(0)
        assert sink.failures == [Failure(FailureKind.UNABLE, "why")]
        UnableAttempt(sink, "why").abort()
        await asyncio.sleep(0)
        assert len(sink.failures) == 1

    asyncio.run(open_one())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, FailureKind.UNABLE),
        (422, FailureKind.UNABLE),
        (429, FailureKind.RATE_LIMITED),
        (500, FailureKind.SERVER_ERROR),
    ],
)
def test_a_refusal_is_about_the_server(status: int, kind: FailureKind) -> None:
    sink: Any = Sink()
    RestOfAnswer(sink, Pieces()).on_answer(status, (), b'{"error":{"message":"the last turn is no user\'s"}}')
    assert [(one.kind, one.kind.retryable) for one in sink.failures] == [(kind, True)]
