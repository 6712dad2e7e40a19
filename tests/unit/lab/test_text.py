"""Made-up text and vectors: the same from every device, a limit only shortens, a stop string cuts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_proxy.domain.call import Generation, Message, Sampling
from ollama_proxy.lab.text import SyntheticText, ask_length, embed_text

MODEL = "qwen2.5:0.5b"


def write(prompt: str = "hi", seed: int = 1, model: str = MODEL, **more: Any) -> tuple[list[str], str]:
    sampling = more.pop("sampling", Sampling())
    return asyncio.run(SyntheticText(seed).write(model, Generation(prompt=prompt, sampling=sampling, **more)))


def test_same_seed_model_and_prompt_give_the_same_text() -> None:
    assert write() == write()


def test_seed_model_and_prompt_each_change_the_text() -> None:
    texts = ["".join(tokens) for tokens, _ in (write(), write(seed=2), write(model="llama3:7b"), write(prompt="ho"))]
    assert len(set(texts)) == 4


def test_history_of_a_chat_changes_the_text() -> None:
    first = write("", messages=(Message("user", "hi"),))
    longer = write("", messages=(Message("user", "hi"), Message("assistant", "hello"), Message("user", "more")))
    assert first != longer


@settings(max_examples=40, deadline=None)
@given(prompt=st.text(max_size=40), limit=st.integers(1, 20))
def test_a_limit_gives_the_beginning_of_the_whole_text(prompt: str, limit: int) -> None:
    whole, _ = write(prompt)
    cut, reason = write(prompt, sampling=Sampling(num_predict=limit))
    assert cut == whole[:limit]
    assert reason == "length"


@pytest.mark.parametrize("limit", [0, -1, -2])
def test_no_limit_in_any_spelling_is_no_limit(limit: int) -> None:
    assert write(sampling=Sampling(num_predict=limit)) == write()


def test_a_limit_above_the_natural_length_sets_the_length() -> None:
    whole, _ = write()
    longer, reason = write(sampling=Sampling(num_predict=200))
    assert longer[: len(whole)] == whole
    assert (len(longer), reason) == (200, "stop")


@given(tokens=st.integers(1, 3000))
@settings(max_examples=20, deadline=None)
def test_a_prompt_may_say_how_long_its_answer_is(tokens: int) -> None:
    words, reason = write(f"Tell me. {ask_length(tokens)} Now.")
    assert (len(words), reason) == (tokens, "stop")


def test_a_limit_ends_an_answer_whose_prompt_says_more() -> None:
    words, reason = write(ask_length(40), sampling=Sampling(num_predict=10))
    assert (len(words), reason) == (10, "length")
    words, reason = write(ask_length(10), sampling=Sampling(num_predict=40))
    assert (len(words), reason) == (10, "stop")


@pytest.mark.parametrize(("said", "tokens"), [("[[answer tokens: 0]]", 1), ("[[answer tokens: 9999]]", 8192)])
def test_a_length_out_of_bounds_is_the_nearest_within(said: str, tokens: int) -> None:
    assert len(write(said)[0]) == tokens


def test_a_stop_string_ends_the_text_before_it_even_across_tokens() -> None:
    whole = "".join(write()[0])
    middle = len(whole) // 2
    stop = whole[middle : middle + 9]
    tokens, reason = write(sampling=Sampling(stop=(stop,)))
    assert "".join(tokens) == whole[: whole.index(stop)]
    assert all(tokens)
    assert reason == "stop"


def test_the_earliest_of_several_stop_strings_wins_and_empty_ones_do_nothing() -> None:
    whole = "".join(write()[0])
    early, late = whole[10:18], whole[-8:]
    tokens, _ = write(sampling=Sampling(stop=("", late, early)))
    assert "".join(tokens) == whole[: whole.index(early)]


def test_a_format_gives_valid_json() -> None:
    tokens, reason = write(format="json")
    assert json.loads("".join(tokens))
    assert reason == "stop"


def test_a_limit_holds_with_a_format_too() -> None:
    tokens, reason = write(format="json", sampling=Sampling(num_predict=2))
    assert (len(tokens), reason) == (2, "length")


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=200), st.integers(1, 600))
def test_vectors_are_of_length_one_and_repeatable(text: str, dimensions: int) -> None:
    vector = embed_text(text, dimensions)
    assert len(vector) == dimensions
    assert sum(value * value for value in vector) == pytest.approx(1)
    assert vector == embed_text(text, dimensions)


def test_different_texts_have_different_vectors() -> None:
    assert embed_text("one", 8) != embed_text("two", 8)
