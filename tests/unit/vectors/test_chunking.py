"""Texts in passages."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ollama_proxy.domain.library import Chunking
from ollama_proxy.vectors.chunking import count_tokens, cut

TEXTS = st.text(st.sampled_from("ab cdefgh1234.,!\n\n 好é_"), max_size=400)
SIZES = st.integers(2, 40)


@given(text=TEXTS, size=SIZES, part=st.floats(0, 0.5))
def test_nothing_is_left_out_and_nothing_is_too_long(text: str, size: int, part: float) -> None:
    spans = cut(text, Chunking(size, int(size * part)))
    told = 0
    for span in spans:
        assert 0 <= span.start < span.end <= len(text)
        assert count_tokens(text[span.start : span.end]) <= size + 1
        # What lies between two passages are spaces only.
        assert not text[told : span.start].strip()
        told = max(told, span.end)
    assert not count_tokens(text[told:])
    assert [span.start for span in spans] == sorted({span.start for span in spans})


def test_neighbours_share_what_was_asked_for_and_end_at_sentences() -> None:
    text = " ".join(f"Word{one} word word word word." for one in range(60))
    spans = cut(text, Chunking(60, 12))
    pieces = [text[span.start : span.end] for span in spans]
    assert all(piece.endswith(".") for piece in pieces)
    for one, other in itertools.pairwise(spans):
        assert count_tokens(text[other.start : one.end]) == 12


def test_a_text_that_fits_is_one_passage() -> None:
    [span] = cut("\n A short text.\n", Chunking(100, 20))
    assert (span.start, span.end) == (0, 15)
    assert cut("", Chunking(100, 20)) == []
    assert cut(" \n ", Chunking(100, 20)) == []
