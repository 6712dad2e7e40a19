"""Answers to bytes and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.cache.entry import Entry, gather, may_be_kept, read_entry, write_entry
from ollama_proxy.domain.answer import AnswerEvent, Embeddings, Finished, TextDelta, ThinkingDelta, ToolCall, Usage

EVENTS = st.lists(
    st.one_of(
        st.builds(TextDelta, st.text(max_size=5)),
        st.builds(ThinkingDelta, st.text(max_size=5), st.sampled_from(["", "sig"])),
        st.builds(ToolCall, st.integers(0, 3), st.text(max_size=3), st.text(max_size=3), st.just("{}")),
    ),
    max_size=8,
)


def keep(events: list[AnswerEvent], **fields: object) -> Entry | None:
    parts = gather(events)
    assert parts is not None
    entry = Entry(parts, Finished("stop", Usage(1, 2)), "b", "m", 5.0, None, "unknown", 0.5, "d-1", **fields)  # type: ignore[arg-type]
    return read_entry(write_entry(entry))


def tell(events: list[AnswerEvent]) -> list[tuple[str, str]]:
    """What is said, piece borders aside."""
    found: list[tuple[str, str]] = []
    for event in events:
        kind = type(event).__name__
        said = repr(event) if isinstance(event, ToolCall) else getattr(event, "text", "")
        if found and found[-1][0] == kind and kind != "ToolCall":
            found[-1] = (kind, found[-1][1] + said)
        elif said:
            found.append((kind, said))
    return found


@given(EVENTS)
def test_what_was_said_comes_back(events: list[AnswerEvent]) -> None:
    entry = keep(events)
    assert entry is not None
    assert tell(entry.events()) == tell([one for one in events if getattr(one, "text", "x")])
    signatures = "".join(one.signature for one in events if isinstance(one, ThinkingDelta))
    assert "".join(one.signature for one in entry.events() if isinstance(one, ThinkingDelta)) == signatures


@given(st.binary(max_size=60))
def test_other_bytes_are_no_answer(data: bytes) -> None:
    assert read_entry(data) is None


def test_half_an_answer_is_none() -> None:
    entry = keep([TextDelta("text")])
    assert entry is not None
    data = write_entry(entry)
    assert all(read_entry(data[:size]) is None for size in range(len(data)))


@pytest.mark.parametrize(
    ("events", "reason", "kept"),
    [
        ([TextDelta("x")], "stop", True),
        ([TextDelta("x")], "length", True),
        ([ToolCall(0, "c", "f", "{}")], "tool_calls", True),
        ([TextDelta("x")], "tool_calls", False),
        ([TextDelta("x")], "content_filter", False),
        ([], "stop", False),
        ([TextDelta("")], "stop", False),
    ],
)
def test_what_may_be_kept(events: list[AnswerEvent], reason: str, kept: bool) -> None:
    parts = gather(events)
    assert parts is not None
    assert may_be_kept(Finished(reason), parts) is kept


def test_vectors_and_probabilities_are_not() -> None:
    assert gather([Embeddings(((1.0,),))]) is None
    assert gather([TextDelta("x", ({"token": "x"},))]) is None
