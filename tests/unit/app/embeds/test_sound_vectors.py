"""Vectors that nothing can be compared with are no answer."""

from __future__ import annotations

import math

import pytest

from ollama_proxy.app.embeds.embedder import is_sound


@pytest.mark.parametrize("vector", [(), (0.0, 0.0), (math.inf, 1.0), (-math.inf,), (math.nan, 1.0), (1e39, 0.0)])
def test_what_32_bits_do_not_hold_or_says_nothing_is_not_sound(vector: tuple[float, ...]) -> None:
    assert not is_sound(vector)


@pytest.mark.parametrize("vector", [(1.0,), (0.0, -1e-30), (1e37, -1e37)])
def test_small_and_large_numbers_are(vector: tuple[float, ...]) -> None:
    assert is_sound(vector)
