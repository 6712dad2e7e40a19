"""What answers teach of the lengths of the next: shrinkage to the more general, forgetting, when tables are made."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.lengths import MOST_TOKENS, Lengths, make_typical_lengths
from ollama_proxy.fleet.lengths import LengthBook, PromptRatio

CHAT = ("m:1b", "ollama", "ann")


def taught(*tokens: int, kind: tuple[str, str, str] = CHAT, book: LengthBook | None = None) -> LengthBook:
    book = book or LengthBook()
    for one in tokens:
        book.learn(*kind, one)
    return book


def fit_of(found: Lengths, tokens: float) -> float:
    """The share of answers near a length."""
    return found.share_within(tokens * 1.3) - found.share_within(tokens / 1.3)


def test_before_any_answer_the_typical_is_expected() -> None:
    assert LengthBook().expect(*CHAT) is make_typical_lengths()


def test_many_answers_of_a_length_are_what_is_expected() -> None:
    found = taught(*[40] * 400).expect(*CHAT)
    assert found.mean() == pytest.approx(40, rel=0.25)
    assert fit_of(found, 40) > 0.9


def test_few_answers_move_what_is_expected_a_little() -> None:
    typical = make_typical_lengths()
    once = taught(2000).expect(*CHAT)
    often = taught(*[2000] * 20).expect(*CHAT)
    assert typical.mean() < once.mean() < often.mean() < 2000
    # Each of the four kinds leans on its parent as on twenty answers: one answer is 1 - (20/21)^4 of the last.
    assert pytest.approx(0.177, abs=1e-3) == 1 - (20 / 21) ** 4
    assert fit_of(once, 2000) == pytest.approx(0.177 + fit_of(typical, 2000), abs=0.05)


def test_a_new_caller_is_expected_to_be_like_the_others() -> None:
    book = taught(*[30] * 300, kind=("m:1b", "ollama", "ann"))
    for kind in (("m:1b", "ollama", "bob"), ("m:1b", "openai", "ann"), ("x:7b", "ollama", "ann")):
        assert fit_of(book.expect(*kind), 30) > 0.9


def test_kinds_are_told_apart_once_they_are_known() -> None:
    book = taught(*[20] * 200, kind=("m:1b", "ollama", "ann"))
    taught(*[3000] * 200, kind=("m:1b", "ollama", "bob"), book=book)
    assert book.expect("m:1b", "ollama", "ann").mean() < 200
    assert book.expect("m:1b", "ollama", "bob").mean() > 1500


def test_a_kind_with_few_answers_follows_what_its_parent_learns() -> None:
    """Its table was made when nobody knew better; the twenty answers that it leans on are others' by now."""
    book = taught(1000)
    before = book.expect(*CHAT).mean()
    taught(*[20] * 400, kind=("m:1b", "ollama", "bob"), book=book)
    assert book.expect(*CHAT).mean() < before / 2


def test_old_answers_count_half_after_five_hundred() -> None:
    book = taught(*[4000] * 5000, *[16] * 500)
    assert fit_of(book.expect(*CHAT), 4000) == pytest.approx(0.5, abs=0.04)
    taught(*[16] * 500, book=book)
    assert fit_of(book.expect(*CHAT), 4000) == pytest.approx(0.25, abs=0.04)


def test_a_table_lasts_until_enough_has_changed() -> None:
    book = taught(*[100] * 1000)
    first = book.expect(*CHAT)
    assert book.expect(*CHAT) is first
    taught(*[100] * 15, book=book)
    assert book.expect(*CHAT) is first
    taught(100, book=book)
    assert book.expect(*CHAT) is not first


def test_weights_that_have_grown_too_large_are_scaled_back() -> None:
    """The newest answer weighs 2^(n / 500): 1e12 after some 20,000."""
    book = taught(*[4000] * 19_900)
    taught(*[16] * 300, book=book)
    found = book.expect(*CHAT)
    assert fit_of(found, 4000) == pytest.approx(2 ** (-300 / 500), abs=0.05)
    assert all(weight >= 0 for weight in found.weights)


def test_names_that_clients_make_up_do_not_fill_the_memory() -> None:
    book = taught(*[30] * 300)
    for number in range(5000):
        book.expect(f"m{number}", "ollama", "")
    assert len(book._chains) <= 4096
    assert fit_of(book.expect("unseen", "ollama", ""), 30) > 0.9


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 10**7), max_size=60))
def test_any_answers_give_a_distribution(lengths: list[int]) -> None:
    found = taught(*lengths).expect(*CHAT)
    assert 0 < found.mean() <= MOST_TOKENS
    assert found.variance() >= 0


# -- tokens a byte -----------------------------------------------------------------


def test_prompts_of_a_size_are_reckoned_with_what_was_reported() -> None:
    ratio = PromptRatio()
    before = ratio.expect("m:1b", 1000)
    ratio.learn("m:1b", 1000, 400)
    assert ratio.expect("m:1b", 500) == pytest.approx(200)
    assert ratio.expect("x:7b", 1000) == before
    for _ in range(60):
        ratio.learn("m:1b", 1000, 200)
    assert ratio.expect("m:1b", 1000) == pytest.approx(200, rel=0.02)


def test_short_and_absurd_prompts_teach_little() -> None:
    ratio = PromptRatio()
    before = ratio.expect("m:1b", 1000)
    ratio.learn("m:1b", 20, 60)
    ratio.learn("m:1b", 1000, 0)
    ratio.learn("m:1b", 1000, -5)
    assert ratio.expect("m:1b", 1000) == before
    ratio.learn("m:1b", 1000, 10**9)
    assert ratio.expect("m:1b", 1000) == 1000
