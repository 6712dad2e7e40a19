"""Cutting texts that have too many tokens: never too little, never within a word, and nothing that fits."""

from __future__ import annotations

from ollama_proxy.backends.embedded.wordpiece import WordPieces

PIECES = WordPieces(["the", "cat", "##s", "sat", "un", "##believ", "##able", "!", "日", "cafe", "c", "##a", "##t"])


def test_what_fits_stays_as_it_is() -> None:
    text = "the  cats sat!"
    assert PIECES.clip(text, 5) == text
    assert PIECES.clip(text, 100) == text
    assert PIECES.clip("Thé CATS", 3) == "Thé CATS"


def test_it_is_cut_in_front_of_the_word_that_is_too_much() -> None:
    assert PIECES.clip("the cats sat!", 4) == "the cats sat"
    assert PIECES.clip("the cats sat!", 2) == "the"
    assert PIECES.clip("the unbelievable cat", 3) == "the"
    assert PIECES.clip("the unbelievable cat", 4) == "the unbelievable"
    assert PIECES.clip("日日日日日日日", 3) == "日日日"
    assert PIECES.clip("!!!!!!", 4) == "!!!!"


def test_a_word_that_cannot_be_put_together_is_one_token_and_a_monster_one_a_letter() -> None:
    assert PIECES.clip("xyz the cat", 2) == "xyz the"
    assert PIECES.clip("x" * 200 + " cat", 150) == ""
